// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package selfupgrade

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
)

// probe is an object that nothing depends on.
type probe struct {
	kind                      schema.GroupVersionKind
	resource, namespace, name string
}

// probesOf are of each controller that keeps something of a mesh with some revisions: an operator that has put them back has looked at
// everything that it keeps, and is at work.
func probesOf(revisions []string) []probe {
	out := []probe{
		{admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"), "mutatingwebhookconfigurations", "", "istio-revision-tag-stable"},
		{policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"), "poddisruptionbudgets", ingress.Namespace, ingress.Name},
	}
	for _, revision := range revisions {
		out = append(out, probe{corev1.SchemeGroupVersion.WithKind("ConfigMap"), "configmaps", "istio-system", "values-" + revision})
	}
	return out
}

func (p probe) object() *unstructured.Unstructured {
	out := &unstructured.Unstructured{}
	out.SetGroupVersionKind(p.kind)
	out.SetNamespace(p.namespace)
	out.SetName(p.name)
	return out
}

// probeNamespace is enrolled by an operator that looks after the data plane.
const probeNamespace = "selfupgrade-probe"

// handOver exchanges the operator while nothing moves in a mesh with some revisions, the first of which is the stable one, and sees to it that
// the next one comes to work and touches nothing that is as it should be.
func handOver(t *testing.T, revisions []string, to string, exchange func() error) {
	t.Helper()
	probes := probesOf(revisions)
	before := look(t, probes)
	audit, err := env.Audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := exchange(); err != nil {
		t.Fatal(err)
	}
	putBack(t, probes, revisions[0])
	writes, err := audit.Stop(t.Context(), func(e framework.AuditEvent) bool { return framework.OperatorRequests(e) && e.Write() })
	if err != nil {
		t.Fatal(err)
	}
	answered := map[string]bool{}
	for _, w := range writes {
		switch {
		case w.ObjectRef.Name == probeNamespace || slices.ContainsFunc(probes, func(p probe) bool {
			return p.resource == w.ObjectRef.Resource && p.name == w.ObjectRef.Name
		}):
			answered[w.ObjectRef.Name] = true
		case !itsOwn(w):
			t.Errorf("%s by itself: %s of %s %s/%s %s", to, w.Verb, w.ObjectRef.Resource, w.ObjectRef.Namespace, w.ObjectRef.Name, w.ObjectRef.Subresource)
		}
	}
	if len(answered) != len(probes)+1 {
		t.Error("the audit log does not have what was put back: it says nothing of the rest either")
	}
	if diff := cmp.Diff(before, look(t, probes)); diff != "" {
		t.Errorf("%s moved something by itself (-before +after):\n%s", to, diff)
	}
}

// itsOwn says whether a request is about what the operator keeps of itself: what it says in status and events, its certificate, its policies.
func itsOwn(e framework.AuditEvent) bool {
	switch e.ObjectRef.Resource {
	case "events":
		return true
	case "meshinstallations", "meshrevisions", "meshgateways", "meshrollouts", "meshrotations":
		return e.ObjectRef.Subresource == "status"
	case "validatingwebhookconfigurations":
		return e.ObjectRef.Name == framework.WebhookConfiguration
	case "validatingadmissionpolicies", "validatingadmissionpolicybindings":
		return strings.HasPrefix(e.ObjectRef.Name, "meshwright-")
	case "secrets":
		return e.ObjectRef.Namespace == framework.OperatorNamespace
	}
	return false
}

// putBack takes the probes away, and waits until all of it is back.
func putBack(t *testing.T, probes []probe, stable string) {
	t.Helper()
	for _, p := range probes {
		if err := env.Client.Delete(t.Context(), p.object()); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range probes {
		err := env.WaitFor(t.Context(), p.resource+" "+p.name+" to be put back", func(ctx context.Context) (bool, string, error) {
			o := p.object()
			err := env.Client.Get(ctx, client.ObjectKeyFromObject(o), o)
			return err == nil, "", err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	labels := map[string]string{framework.EnrollLabel: "default"}
	if err := env.Enrolled(t.Context(), probeNamespace, stable, labels); err != nil {
		t.Fatal(err)
	}
	if err := env.RemoveNamespaces(t.Context(), probeNamespace); err != nil {
		t.Fatal(err)
	}
}
