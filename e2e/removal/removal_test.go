// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package removal

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// A mesh in use is not removed: kubectl delete is refused and says by whom it is used; with the webhook away a condition
// says it and the mesh goes on serving. Once nobody uses it, it goes.
func TestMeshInUseIsNotRemoved(t *testing.T) {
	mesh := framework.Mesh("default", framework.Istio129)
	env.Install(t, mesh)
	app := framework.Echo{Namespace: "shop", Name: "cart", Version: "v1", Replicas: 1}
	env.TemporaryNamespace(t, app.Namespace, map[string]string{framework.EnrollLabel: mesh.Name})
	if err := env.WaitFor(t.Context(), "shop to be enrolled", env.NamespaceHasLabel(app.Namespace, "istio.io/rev", "1-29-1")); err != nil {
		t.Fatal(err)
	}
	if err := env.Deploy(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitDeployment(t.Context(), client.ObjectKey{Namespace: app.Namespace, Name: app.Name}); err != nil {
		t.Fatal(err)
	}

	_, err := env.Kubectl(t.Context(), "delete", "mesh", mesh.Name)
	if err == nil || !strings.Contains(err.Error(), "shop") {
		t.Fatalf("deleting a mesh in use: %v, want a refusal that names shop", err)
	}
	t.Log(err)

	restore, err := env.WithoutWebhook(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := env.Kubectl(t.Context(), "delete", "mesh", mesh.Name, "--wait=false"); err != nil {
		t.Fatal(err)
	}
	held, err := env.WaitCondition(t.Context(), mesh.Name, v1alpha1.ConditionReady, "False", v1alpha1.ReasonInUse)
	if err != nil {
		t.Fatal(err)
	}
	if held.DeletionTimestamp == nil {
		t.Error("the mesh says InUse but is not being deleted")
	}
	if err := env.WaitDeployment(t.Context(), client.ObjectKey{Namespace: "istio-system", Name: "istiod-1-29-1"}); err != nil {
		t.Errorf("istiod of a mesh whose removal is held: %v", err)
	}
	if err := restore(); err != nil {
		t.Fatal(err)
	}
	if _, err := env.Kubectl(t.Context(), "delete", "namespace", app.Namespace); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitGone(t.Context(), mesh); err != nil {
		t.Error(err)
	}
}

// After removal with a policy that keeps nothing, the cluster holds the same objects as before the installation.
func TestNothingIsLeft(t *testing.T) {
	if err := env.RemoveIstioCRDs(t.Context()); err != nil { // an earlier mesh may have kept them, as it was told
		t.Fatal(err)
	}
	before := everything(t)
	for _, name := range before {
		if strings.Contains(name, "istio-ca-r") || strings.Contains(name, "istio-ca-crl") || strings.Contains(name, ".istio.io") {
			t.Errorf("an earlier mesh left %s", name)
		}
	}
	mesh := framework.Mesh("default", framework.Istio129)
	mesh.Spec.Tags = []v1alpha1.Tag{{Name: "stable"}}
	mesh.Spec.Gateways = []v1alpha1.Gateway{framework.Gateway("istio-ingress", "ingress")}
	env.Install(t, mesh)
	if err := env.Remove(t.Context(), mesh.Name); err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, name := range everything(t) {
		if !slices.Contains(before, name) {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// What deletionPolicy keeps by default is kept, and nothing else: CRDs with the user's configuration, namespaces, and the
// secret of the CA.
func TestRetained(t *testing.T) {
	if err := env.RemoveIstioCRDs(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := everything(t)
	mesh := framework.Mesh("default", framework.Istio129)
	mesh.Spec.Gateways = []v1alpha1.Gateway{framework.Gateway("istio-ingress", "ingress")}
	env.Install(t, mesh)
	if err := env.Client.Delete(t.Context(), mesh); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitGone(t.Context(), mesh); err != nil {
		t.Fatal(err)
	}
	var kept []string
	for _, name := range everything(t) {
		if !slices.Contains(before, name) && !strings.HasSuffix(name, ".istio.io") {
			kept = append(kept, name)
		}
	}
	want := []string{
		"ConfigMap istio-ingress kube-root-ca.crt", "ConfigMap istio-system kube-root-ca.crt", "Secret istio-system istio-ca-secret",
		"ServiceAccount istio-ingress default", "ServiceAccount istio-system default",
		"namespace/istio-ingress", "namespace/istio-system",
	}
	slices.Sort(kept)
	if diff := cmp.Diff(want, kept); diff != "" {
		t.Errorf("kept besides CRDs (-want +got):\n%s", diff)
	}
	if _, err := env.Kubectl(t.Context(), "get", "crd", "virtualservices.networking.istio.io"); err != nil {
		t.Errorf("not kept: %v", err)
	}
	// The same mesh comes back over what was kept.
	again := framework.Mesh("default", framework.Istio129)
	again.Spec.Gateways = mesh.Spec.Gateways
	env.Install(t, again)
}

// everything lists the names of all objects that a mesh could leave behind.
func everything(t *testing.T) []string {
	t.Helper()
	kinds := []string{
		"crd", "clusterrole", "clusterrolebinding", "mutatingwebhookconfiguration", "validatingwebhookconfiguration", "namespace",
		"validatingadmissionpolicy", "validatingadmissionpolicybinding",
	}
	out, err := env.Kubectl(t.Context(), "get", strings.Join(kinds, ","), "-o", "name")
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(out)
	namespaced, err := env.Kubectl(t.Context(), "get", "-A", "-o", "custom-columns=K:.kind,N:.metadata.namespace,NAME:.metadata.name", "--no-headers",
		"deployment,service,configmap,serviceaccount,role,rolebinding,secret,hpa,pdb,networkpolicy,lease")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(namespaced, "\n") {
		names = append(names, strings.Join(strings.Fields(line), " "))
	}
	return names
}
