// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package cli

import (
	"context"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Of a mesh, and where Meshwright keeps none: what is asked, what is found, and what the exit code says.
func TestPreflightOnARealAPIServer(t *testing.T) {
	w := newWorld(t)
	w.create(t, w.operator, aRevision("1-28-2", "1.28.2"))
	mesh := settledMesh()
	mesh.Status.Certificates = v1alpha1.CertificatesStatus{} // they have expired meanwhile
	w.create(t, w.operator, mesh)
	w.awaitPolicies(t)
	refusing := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: "strict", Labels: map[string]string{"istio.io/rev": "1-28-2", "pod-security.kubernetes.io/enforce": "restricted"},
	}}
	w.create(t, w.admin, refusing)

	w.expect(t, "there is no node, and a namespace refuses sidecars", "", ExitBlocked, []string{"preflight", "--to", "1.29.1"}, "Istio 1.28.2 -> 1.29.1", "MW701", "MW603",
		"A rollout is held back", "https://meshwright.io/docs/runbook/MW701/")
	w.expect(t, "by name", "", ExitBlocked, []string{"preflight", "default", "--to", "1.29.1", "-o", "name"}, "Deployment/istio-system/istiod-1-29-1")
	w.expect(t, "as data", "", ExitBlocked, []string{"preflight", "-o", "json", "--to", "1.29.1"}, `"kind": "MeshPreflight"`, `"holds": true`)
	w.expect(t, "another mesh", "", ExitError, []string{"preflight", "other"}, "no MeshInstallation is called other")
	w.expect(t, "a version that nobody has", "", ExitBlocked, []string{"preflight", "--to", "1.29.77"}, "1.29.1")
	w.expect(t, "a severity that nobody knows", "", ExitUsage, []string{"preflight", "--fail-on", "bad"}, "error, warning or info")
	w.expect(t, "few rights are told, and don't hold back", viewer, ExitOK, []string{"preflight", "--to", "1.29.1"}, "MW901", "the right to list nodes",
		"Nothing that was looked at holds a rollout back. ", " things could not be looked at.")
	w.expect(t, "unless that is wanted", viewer, ExitBlocked, []string{"preflight", "--to", "1.29.1", "--fail-on", "warning"}, "MW901")

	for _, kind := range []string{"meshinstallations", "meshgateways"} {
		crd := &unstructured.Unstructured{}
		crd.SetAPIVersion("apiextensions.k8s.io/v1")
		crd.SetKind("CustomResourceDefinition")
		crd.SetName(kind + ".meshwright.io")
		if err := w.admin.Delete(t.Context(), crd); err != nil {
			t.Fatal(err)
		}
	}
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		code, _, errs := w.runIn(ctx, "", "preflight")
		return code == ExitUsage && strings.Contains(errs, "say by --to"), nil
	})
	if err != nil {
		t.Fatalf("without Meshwright the target has to be said: %v", err)
	}
	w.expect(t, "no istiod", "", ExitUsage, []string{"preflight", "--to", "1.29.1"}, "say it by --from")
	if err := w.admin.Delete(t.Context(), refusing); err != nil { // nothing ends it here, but it is of no mesh any more
		t.Fatal(err)
	}
	w.expect(t, "what --from says", "", ExitOK, []string{"preflight", "--to", "1.29.1", "--from", "1.28.2"}, "Istio 1.28.2 -> 1.29.1", "MW701")
	w.create(t, w.admin, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "istio-system"}})
	w.create(t, w.admin, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "default"}})
	w.create(t, w.admin, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istiod", Labels: map[string]string{"app": "istiod"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "discovery", Image: "docker.io/istio/pilot:1.26.1"}}},
	})
	w.create(t, w.admin, &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "istio-sidecar-injector-old", Labels: map[string]string{"istio.io/rev": "old"}},
		Webhooks: []admissionv1.MutatingWebhook{{
			Name: "rev.namespace.sidecar-injector.istio.io", AdmissionReviewVersions: []string{"v1"}, SideEffects: new(admissionv1.SideEffectClassNone),
			ClientConfig:      admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "istio-system", Name: "istiod-old"}},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"istio.io/rev": "old"}},
		}},
	})
	w.expect(t, "what istiod says", "", ExitBlocked, []string{"preflight", "--to", "1.29.1"}, "Istio 1.26.1 -> 1.29.1", "MW502", "MW402", "istiod-old does not exist")
}
