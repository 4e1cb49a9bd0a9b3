// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// The rows of the table that have a number beside them.
const (
	rowInstall       = "requests for one install (base and istiod)"
	rowInstallWrites = "of these, writes"
	rowDeployed      = "from the first request until istiod's Deployment is created"
	rowNoop          = "requests for a reconcile that changes nothing"
	rowNoopWrites    = "writes of a reconcile that changes nothing"
)

// churnPods is how many injected pods come and go; restPods is how many pods the memory per pod is measured with.
const (
	churnPods = 300
	restPods  = 3000
)

type bench struct {
	env    *framework.Env
	report *report

	installed, installedWrites, looked, lookedWrites int
	deployed                                         time.Duration
}

// install applies one MeshInstallation and counts what the operator asked for until it is Ready.
func (b *bench) install(ctx context.Context) error {
	audit, err := b.env.Audit(ctx)
	if err != nil {
		return err
	}
	mesh := framework.Mesh("default", framework.Istio129)
	if err := b.env.Client.Create(ctx, mesh); err != nil {
		return err
	}
	if _, err := b.env.WaitReady(ctx, mesh.Name); err != nil {
		return err
	}
	events, err := audit.Stop(ctx, func(framework.AuditEvent) bool { return true })
	if err != nil {
		return err
	}
	applied := slices.IndexFunc(events, func(e framework.AuditEvent) bool {
		return e.ObjectRef.Resource == "meshinstallations" && e.Verb == "create"
	})
	if applied < 0 {
		return errors.New("the audit log holds no creation of the installation")
	}
	if b.deployed, err = untilDeployed(events, events[applied].Received); err != nil {
		return err
	}
	events = slices.DeleteFunc(events, func(e framework.AuditEvent) bool { return !framework.OperatorRequests(e) })
	b.installed, b.installedWrites = len(events), writes(events)
	b.report.add(rowInstall, "< 80", strconv.Itoa(b.installed))
	b.report.add(rowInstallWrites, "", strconv.Itoa(b.installedWrites))
	b.report.add(rowDeployed, "< 0.5 s", b.deployed.Round(time.Millisecond).String())
	return nil
}

// untilDeployed is how long after start istiod's Deployment was written first.
func untilDeployed(events []framework.AuditEvent, start time.Time) (time.Duration, error) {
	for _, e := range events {
		if e.ObjectRef.Resource == "deployments" && e.ObjectRef.Name == "istiod-1-29-1" && e.Write() {
			return e.Received.Sub(start), nil
		}
	}
	return 0, errors.New("the audit log holds no creation of istiod's Deployment")
}

func writes(events []framework.AuditEvent) int {
	n := 0
	for _, e := range events {
		if e.Write() {
			n++
		}
	}
	return n
}

// noop makes every controller look at the mesh again, by an annotation that means nothing to it.
func (b *bench) noop(ctx context.Context) error {
	audit, err := b.env.Audit(ctx)
	if err != nil {
		return err
	}
	for _, kind := range []string{"meshinstallation/default", "meshrevision/1-29-1"} {
		if _, err := b.env.Kubectl(ctx, "annotate", kind, fmt.Sprintf("example.com/looked-at=%d", time.Now().UnixNano())); err != nil {
			return err
		}
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	events, err := audit.Stop(ctx, func(e framework.AuditEvent) bool { return framework.OperatorRequests(e) && !marker(e) })
	if err != nil {
		return err
	}
	for _, e := range events {
		fmt.Println("  ", e.Verb, e.ObjectRef.Resource, e.ObjectRef.Name, e.ObjectRef.Subresource)
	}
	b.looked, b.lookedWrites = len(events), writes(events)
	b.report.add(rowNoop, "0", strconv.Itoa(b.looked))
	b.report.add(rowNoopWrites, "0", strconv.Itoa(b.lookedWrites))
	return nil
}

// markers are one object of each controller that keeps some; settle deletes them, and they come back.
var markers = map[string]string{"mutatingwebhookconfigurations": "istio-revision-tag-default", "horizontalpodautoscalers": "istiod-1-29-1"}

func marker(e framework.AuditEvent) bool { return markers[e.ObjectRef.Resource] == e.ObjectRef.Name }

// settle waits until the operator has certainly handled the events before it: what is deleted afterwards is back.
func (b *bench) settle(ctx context.Context) error {
	for _, o := range []client.Object{
		&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "istio-revision-tag-default"}},
		&autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istiod-1-29-1"}},
	} {
		if err := b.env.Client.Delete(ctx, o); err != nil {
			return err
		}
		err := b.env.WaitFor(ctx, o.GetName()+" to be back", func(ctx context.Context) (bool, string, error) {
			return true, "", b.env.Client.Get(ctx, client.ObjectKeyFromObject(o), o)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// podChurn creates injected pods that no node takes, and deletes them again.
func (b *bench) podChurn(ctx context.Context) error {
	const namespace = "churn"
	if err := b.enrolled(ctx, namespace); err != nil {
		return err
	}
	audit, err := b.env.Audit(ctx)
	if err != nil {
		return err
	}
	if err := b.createPods(ctx, namespace, churnPods); err != nil {
		return err
	}
	var injected corev1.PodList
	if err := b.env.Client.List(ctx, &injected, client.InNamespace(namespace)); err != nil {
		return err
	}
	for _, pod := range injected.Items {
		if len(pod.Spec.InitContainers)+len(pod.Spec.Containers) < 2 {
			return fmt.Errorf("pod %s was not injected", pod.Name)
		}
	}
	if err := b.env.Client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(namespace), client.GracePeriodSeconds(0)); err != nil {
		return err
	}
	if err := b.env.WaitFor(ctx, "all pods to be gone", func(ctx context.Context) (bool, string, error) {
		var left corev1.PodList
		err := b.env.Client.List(ctx, &left, client.InNamespace(namespace))
		return len(left.Items) == 0, fmt.Sprint(len(left.Items), " left"), err
	}); err != nil {
		return err
	}
	events, err := audit.Stop(ctx, framework.OperatorRequests)
	if err != nil {
		return err
	}
	counts := slices.DeleteFunc(slices.Clone(events), func(e framework.AuditEvent) bool {
		return e.ObjectRef.Resource != "meshinstallations" || e.ObjectRef.Subresource != "status"
	})
	b.report.add(fmt.Sprintf("requests while %d injected pods were created and deleted", churnPods), "0", strconv.Itoa(len(events)-len(counts)))
	b.report.add("coalesced writes of the counts meanwhile", "", strconv.Itoa(len(counts)))
	return b.deleteNamespace(ctx, namespace)
}

// enrolled makes a namespace whose pods get sidecars.
func (b *bench) enrolled(ctx context.Context, name string) error {
	if err := b.env.Namespace(ctx, name, map[string]string{framework.EnrollLabel: "default"}); err != nil {
		return err
	}
	return b.env.WaitFor(ctx, name+" to be enrolled", b.env.NamespaceHasLabel(name, "istio.io/rev", "1-29-1"))
}

func (b *bench) createPods(ctx context.Context, namespace string, count int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := range count {
		group.Go(func() error {
			return b.env.Client.Create(ctx, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("pod-%05d", i)},
				Spec: corev1.PodSpec{
					NodeSelector: map[string]string{"example.com/no-such-node": "true"},
					Containers:   []corev1.Container{{Name: "app", Image: framework.EchoImage}},
				},
			})
		})
	}
	return group.Wait()
}

func (b *bench) deleteNamespace(ctx context.Context, name string) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := b.env.Client.Delete(ctx, ns); err != nil {
		return err
	}
	return b.env.WaitGone(ctx, ns)
}

// resident is the least that the leading replica holds during a little more than two minutes: Go collects every two minutes at
// the latest, and gives memory back when it has time.
func (b *bench) resident(ctx context.Context) (least int64, err error) {
	const long, pace = 130 * time.Second, 5 * time.Second
	end := b.env.Progress.Begin("measuring memory at rest", long)
	defer func() { end(err) }()
	least = math.MaxInt64
	for range long / pace {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(pace):
		}
		now, err := b.env.OperatorResident(ctx)
		if err != nil {
			return 0, err
		}
		least = min(least, now)
	}
	return least, nil
}

// memory reads what the leading replica holds with a small mesh, and what further pods add to it.
func (b *bench) memory(ctx context.Context) error {
	before, err := b.resident(ctx)
	if err != nil {
		return err
	}
	b.report.add("resident memory of the operator at rest, with a small mesh", "< 60 MB", fmt.Sprintf("%.0f MB", float64(before)/1e6))
	const namespace = "rest"
	if err := b.enrolled(ctx, namespace); err != nil {
		return err
	}
	if err := b.createPods(ctx, namespace, restPods); err != nil {
		return err
	}
	counted := fmt.Sprintf("/%d", restPods)
	if err := b.env.WaitFor(ctx, "all pods to be counted", func(ctx context.Context) (bool, string, error) {
		var mesh v1alpha1.MeshInstallation
		err := b.env.Client.Get(ctx, client.ObjectKey{Name: "default"}, &mesh)
		return strings.HasSuffix(mesh.Status.DataPlane.Summary, counted), mesh.Status.DataPlane.Summary, err
	}); err != nil {
		return err
	}
	after, err := b.resident(ctx)
	if err != nil {
		return err
	}
	perPod := float64(after-before) / restPods
	b.report.add(fmt.Sprintf("resident memory for each of %d further pods", restPods), "< 0.5 KB", fmt.Sprintf("%.2f KB", perPod/1e3))
	return b.deleteNamespace(ctx, namespace)
}

func (b *bench) removeOurs(ctx context.Context) error { return b.env.Remove(ctx, "default") }

// clean removes Istio's CRDs, which helm keeps when it uninstalls: both begin with none.
func (b *bench) clean(ctx context.Context) error { return b.env.RemoveIstioCRDs(ctx) }

// helm installs the same charts with the same values by the helm CLI, and upgrades without a change.
func (b *bench) helm(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "meshwright-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	charts, err := framework.Charts(ctx, dir, framework.Istio129, "base", "istiod")
	if err != nil {
		return err
	}
	values, err := framework.ValuesFile(dir, framework.ControlPlaneValues())
	if err != nil {
		return err
	}
	install := [][]string{
		{"upgrade", "--install", "base", charts["base"], "-n", "istio-system", "--create-namespace", "--set", "defaultRevision=1-29-1"},
		{
			"upgrade", "--install", "istiod-1-29-1", charts["istiod"], "-n", "istio-system", "--wait", "-f", values,
			"--set", "revision=1-29-1", "--set", "global.hub=" + framework.Hub,
		},
	}
	first, err := b.countHelm(ctx, install)
	if err != nil {
		return err
	}
	again, err := b.countHelm(ctx, install)
	if err != nil {
		return err
	}
	for _, row := range []struct {
		what       string
		ours, helm int
	}{
		{rowInstall, b.installed, len(first)},
		{rowInstallWrites, b.installedWrites, writes(first)},
		{rowNoop, b.looked, len(again)},
		{rowNoopWrites, b.lookedWrites, writes(again)},
	} {
		b.report.beside(row.what, float64(row.ours), float64(row.helm), strconv.Itoa(row.helm))
	}
	took, err := untilDeployed(first, first[0].Received)
	if err != nil {
		return err
	}
	b.report.beside(rowDeployed, b.deployed.Seconds(), took.Seconds(), took.Round(time.Millisecond).String())
	for _, release := range []string{"istiod-1-29-1", "base"} {
		if _, err := b.env.Helm(ctx, "uninstall", release, "-n", "istio-system"); err != nil {
			return err
		}
	}
	return b.clean(ctx)
}

func (b *bench) countHelm(ctx context.Context, commands [][]string) ([]framework.AuditEvent, error) {
	audit, err := b.env.Audit(ctx)
	if err != nil {
		return nil, err
	}
	for _, args := range commands {
		if out, err := b.env.Helm(ctx, args...); err != nil {
			return nil, fmt.Errorf("%w\n%s", err, out)
		}
	}
	return audit.Stop(ctx, func(e framework.AuditEvent) bool { return strings.HasPrefix(e.UserAgent, "Helm/") && e.Verb != "watch" })
}
