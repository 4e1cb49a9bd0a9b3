// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package manager

import (
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// An operator that starts beside a mesh that stands writes to nothing that is as it should be. One object of each controller is taken away,
// and is back when that controller has looked at all it keeps.
func TestStartWritesNothing(t *testing.T) {
	w := startAPIServer(t)
	stop := w.operate(t, nil)
	m := mesh("1.29")
	m.Spec.Tags = []v1alpha1.Tag{{Name: "prod"}}
	m.Spec.Gateways = []v1alpha1.Gateway{{Name: "ingress", Namespace: "istio-ingress"}}
	m.Spec.DataPlane.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"mesh": "yes"}}
	if err := w.client.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w.istiod(t)
	w.deploy(t, "istio-ingress")
	w.ready(t)
	w.settle(t)
	want := w.installed(t)
	stop()

	taken := map[string]*unstructured.Unstructured{
		"/mutatingwebhookconfigurations/istio-revision-tag-prod": named(
			"admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "", "istio-revision-tag-prod"),
		"/configmaps/values-1-29-1":     named("v1", "ConfigMap", "istio-system", "values-1-29-1"),
		"/poddisruptionbudgets/ingress": named("policy/v1", "PodDisruptionBudget", "istio-ingress", "ingress"),
	}
	for _, o := range taken {
		if err := w.client.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	w.run(t)
	for _, o := range taken {
		w.eventually(t, o.GetName()+" to be back", func() (bool, string) {
			err := w.client.Get(t.Context(), client.ObjectKeyFromObject(o), o)
			return err == nil, "it is not"
		})
	}
	w.settle(t)
	for _, r := range w.requests.Take() {
		if !strings.HasPrefix(r, http.MethodGet+" ") && !expected(r, taken) {
			t.Errorf("the operator wrote %s by itself", r)
		}
	}
	if got := w.installed(t); len(got) != len(want) {
		t.Errorf("%d objects are kept after the start, %d before", len(got), len(want))
	}
	var n corev1.Namespace
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: "settled-1"}, &n); err != nil || n.Labels[v1alpha1.IstioRevision] != "1-29-1" {
		t.Errorf("the namespace that was enrolled has the labels %v: %v", n.Labels, err)
	}
}

// expected says whether a request is one for what was taken away or for the namespace of settle, or what the operator says of itself.
func expected(request string, taken map[string]*unstructured.Unstructured) bool {
	for path := range taken {
		if strings.HasSuffix(request, path) {
			return true
		}
	}
	ofItself := strings.Contains(request, "/apis/"+v1alpha1.GroupVersion.Group+"/") && strings.HasSuffix(request, "/status")
	return ofItself || strings.Contains(request, "/namespaces/settled-2") || strings.Contains(request, "/events")
}

func named(apiVersion, kind, namespace, name string) *unstructured.Unstructured {
	out := &unstructured.Unstructured{}
	out.SetGroupVersionKind(schema.FromAPIVersionAndKind(apiVersion, kind))
	out.SetNamespace(namespace)
	out.SetName(name)
	return out
}
