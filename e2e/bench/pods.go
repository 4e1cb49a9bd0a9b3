// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// churnPods is how many injected pods come and go; restPods is how many pods the memory per pod is measured with.
const (
	churnPods = 300
	restPods  = 5000
)

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
	if err := b.deletePods(ctx, namespace, churnPods); err != nil {
		return err
	}
	// The counts come after at most ten seconds; what they cause belongs to this, too.
	if err := b.counted(ctx, 0); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	events, err := audit.Stop(ctx, func(e framework.AuditEvent) bool { return framework.OperatorRequests(e) && !marker(e) })
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

// rest lets the operator stand idle for a little more than two minutes: Go collects every two minutes at the latest, and gives
// memory back when it has time. Then it reads what the kernel counts.
func (b *bench) rest(ctx context.Context) (resident, anonymous int64, err error) {
	const long = 130 * time.Second
	end := b.env.Progress.Begin("measuring memory at rest", long)
	defer func() { end(err) }()
	select {
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	case <-time.After(long):
	}
	return b.env.Cluster.Memory(ctx, framework.OperatorProgram)
}

// memory reads what the operator holds with a small mesh, and what further pods add to it.
func (b *bench) memory(ctx context.Context) error {
	resident, before, err := b.rest(ctx)
	if err != nil {
		return err
	}
	used, err := b.env.OperatorMemory(ctx)
	if err != nil {
		return err
	}
	megabytes := func(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
	b.report.add("memory of the operator at rest, with a small mesh: working set, as kubectl top shows it", "< 60 MB", megabytes(used))
	b.report.add("– anonymous: heap and stacks", "", megabytes(before))
	b.report.add("– VmRSS: with those pages of its program's file that are mapped", "", megabytes(resident))
	const namespace = "rest"
	if err := b.enrolled(ctx, namespace); err != nil {
		return err
	}
	if err := b.createPods(ctx, namespace, restPods); err != nil {
		return err
	}
	if err := b.counted(ctx, restPods); err != nil {
		return err
	}
	_, after, err := b.rest(ctx)
	if err != nil {
		return err
	}
	perPod := float64(after-before) / restPods
	b.report.add(fmt.Sprintf("anonymous memory for each of %d further pods", restPods), "< 0.5 KB", fmt.Sprintf("%.2f KB", perPod/1e3))
	if err := b.deletePods(ctx, namespace, restPods); err != nil {
		return err
	}
	return b.deleteNamespace(ctx, namespace)
}

// counted waits until the status of the mesh has the counts of its pods.
func (b *bench) counted(ctx context.Context, pods int) error {
	suffix := fmt.Sprintf("/%d", pods)
	return b.env.WaitFor(ctx, strconv.Itoa(pods)+" pods to be counted", func(ctx context.Context) (bool, string, error) {
		var mesh v1alpha1.MeshInstallation
		err := b.env.Client.Get(ctx, client.ObjectKey{Name: "default"}, &mesh)
		return strings.HasSuffix(mesh.Status.DataPlane.Summary, suffix), mesh.Status.DataPlane.Summary, err
	})
}

func (b *bench) deletePods(ctx context.Context, namespace string, count int) error {
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := range count {
		group.Go(func() error {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("pod-%05d", i)}}
			return b.env.Client.Delete(grouped, pod, client.GracePeriodSeconds(0))
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return b.env.WaitFor(ctx, "all pods to be gone", func(ctx context.Context) (bool, string, error) {
		var left corev1.PodList
		err := b.env.Client.List(ctx, &left, client.InNamespace(namespace), client.Limit(1))
		return len(left.Items) == 0, "some are left", err
	})
}
