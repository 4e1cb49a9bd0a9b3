// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package selfupgrade

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// probes are objects of each controller that nothing depends on, by resource: an operator that has put them back has looked at everything
// that it keeps, and is at work.
var probes = map[string][]string{
	"mutatingwebhookconfigurations": {"istio-revision-tag-stable"},
	"configmaps":                    {"values-" + rev128, "values-" + rev129},
	"poddisruptionbudgets":          {"ingress"},
}

var probeNamespaces = map[string]string{"configmaps": "istio-system", "poddisruptionbudgets": ingress.Namespace}

// probed are their names.
var probed = func() map[string]bool {
	out := map[string]bool{}
	for _, names := range probes {
		for _, name := range names {
			out[name] = true
		}
	}
	return out
}()

// probeNamespace is enrolled by an operator that looks after the data plane.
const probeNamespace = "selfupgrade-probe"

// handOver exchanges the operator while nothing moves, and sees to it that the next one comes to work and touches nothing that is as it
// should be.
func handOver(t *testing.T, to *framework.Release) {
	t.Helper()
	before := look(t)
	audit, err := env.Audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := env.ApplyRelease(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	probe(t)
	writes, err := audit.Stop(t.Context(), func(e framework.AuditEvent) bool { return framework.OperatorRequests(e) && e.Write() })
	if err != nil {
		t.Fatal(err)
	}
	answered := map[string]bool{}
	for _, w := range writes {
		switch {
		case probed[w.ObjectRef.Name] || w.ObjectRef.Name == probeNamespace:
			answered[w.ObjectRef.Name] = true
		case !itsOwn(w):
			t.Errorf("%s by itself: %s of %s %s/%s %s", to.Image, w.Verb, w.ObjectRef.Resource, w.ObjectRef.Namespace, w.ObjectRef.Name, w.ObjectRef.Subresource)
		}
	}
	if len(answered) == 0 {
		t.Error("the audit log does not have what was put back: it says nothing of the rest either")
	}
	if diff := cmp.Diff(before, look(t)); diff != "" {
		t.Errorf("%s moved something by itself (-before +after):\n%s", to.Image, diff)
	}
}

// itsOwn says whether a request is about what the operator keeps of itself: what it says in status and events, and its certificate.
func itsOwn(e framework.AuditEvent) bool {
	switch e.ObjectRef.Resource {
	case "events":
		return true
	case "meshinstallations", "meshrevisions", "meshgateways", "meshrollouts", "meshrotations":
		return e.ObjectRef.Subresource == "status"
	case "validatingwebhookconfigurations":
		return e.ObjectRef.Name == framework.WebhookConfiguration
	case "secrets":
		return e.ObjectRef.Namespace == framework.OperatorNamespace
	}
	return false
}

// probe takes away what nothing depends on, and waits until all of it is back.
func probe(t *testing.T) {
	t.Helper()
	for _, resource := range slices.Sorted(maps.Keys(probes)) {
		args := append([]string{"delete", resource}, probes[resource]...)
		if namespace := probeNamespaces[resource]; namespace != "" {
			args = append(args, "-n", namespace)
		}
		if _, err := env.Kubectl(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	for _, resource := range slices.Sorted(maps.Keys(probes)) {
		args := append([]string{"get", "--ignore-not-found", "-o", "name", resource}, probes[resource]...)
		if namespace := probeNamespaces[resource]; namespace != "" {
			args = append(args, "-n", namespace)
		}
		err := env.WaitFor(t.Context(), fmt.Sprintf("%s %v to be put back", resource, probes[resource]), func(ctx context.Context) (bool, string, error) {
			out, err := env.Kubectl(ctx, args...)
			return len(strings.Fields(out)) == len(probes[resource]), "there are " + out, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	labels := map[string]string{framework.EnrollLabel: "default"}
	if err := env.Namespace(t.Context(), probeNamespace, labels); err != nil {
		t.Fatal(err)
	}
	err := env.WaitFor(t.Context(), "a new namespace to be enrolled", func(ctx context.Context) (bool, string, error) {
		out, err := env.Kubectl(ctx, "get", "namespace", probeNamespace, "-o", "jsonpath={.metadata.labels}")
		return strings.Contains(out, v1alpha1.IstioRevision), out, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := env.RemoveNamespaces(t.Context(), probeNamespace); err != nil {
		t.Fatal(err)
	}
}
