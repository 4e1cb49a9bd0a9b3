// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
)

// The rows of the table that have a number beside them.
const (
	rowInstall       = "requests for one install (base and istiod)"
	rowInstallWrites = "of these, writes"
	rowDeployed      = "from the first request until istiod's Deployment is created"
	rowNoop          = "requests for a reconcile that changes nothing"
	rowNoopWrites    = "writes of a reconcile that changes nothing"
)

type bench struct {
	env    *framework.Env
	report *report

	installed, installedWrites, looked, lookedWrites int
	deployed                                         time.Duration
}

// first installs and removes a mesh once, so that both sides are measured on an API server that has seen all this before, and
// counts the watches that stay from then on.
func (b *bench) first(ctx context.Context) error {
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
	watches, err := audit.Stop(ctx, func(e framework.AuditEvent) bool {
		return e.Verb == "watch" && e.User.Username == framework.OperatorUser && strings.Contains(e.RequestURI, "sendInitialEvents=true")
	})
	if err != nil {
		return err
	}
	b.report.add("watches that the first install in an operator's life opens, and keeps", "", strconv.Itoa(len(watches)))
	return b.removeOurs(ctx)
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

// drift changes and removes what the operator keeps, as a person would, and measures how long each stays so.
func (b *bench) drift(ctx context.Context) error {
	audit, err := b.env.Audit(ctx)
	if err != nil {
		return err
	}
	drifts := []struct {
		resource, name string
		kubectl        []string
	}{
		{"services", "istiod-1-29-1", []string{"-n", "istio-system", "delete", "service/istiod-1-29-1"}},
		{"deployments", "istiod-1-29-1", []string{"-n", "istio-system", "label", "deployment/istiod-1-29-1", "release=other", "--overwrite"}},
		{"mutatingwebhookconfigurations", "istio-revision-tag-default", []string{"delete", "mutatingwebhookconfiguration/istio-revision-tag-default"}},
		{"clusterroles", "istiod-clusterrole-1-29-1-istio-system", []string{"delete", "clusterrole/istiod-clusterrole-1-29-1-istio-system"}},
	}
	for _, d := range drifts {
		if _, err := b.env.Kubectl(ctx, d.kubectl...); err != nil {
			return err
		}
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	events, err := audit.Stop(ctx, framework.AuditEvent.Write)
	if err != nil {
		return err
	}
	longest := time.Duration(0)
	for _, d := range drifts {
		var since time.Time
		corrected := false
		for _, e := range events {
			switch {
			case corrected || e.ObjectRef.Resource != d.resource || e.ObjectRef.Name != d.name || e.ObjectRef.Subresource != "":
			case e.User.Username == framework.OperatorUser && !since.IsZero():
				longest, corrected = max(longest, e.Received.Sub(since)), true
			case e.User.Username != framework.OperatorUser && since.IsZero():
				since = e.Received
			}
		}
		if !corrected {
			return fmt.Errorf("%s %s was not corrected", d.resource, d.name)
		}
	}
	b.report.add(fmt.Sprintf("the longest of %d drifts, from its request to that of its correction", len(drifts)), "< 2 s", longest.Round(time.Millisecond).String())
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
