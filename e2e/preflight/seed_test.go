// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package preflight

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Who the seeds are written as; helm is another tool that writes CRDs of Istio.
const (
	seeder = client.FieldOwner("seed")
	helm   = client.FieldOwner("helm")
)

// The namespaces of the test: those of the mesh are labelled after the pods in them are there.
const (
	shop    = "shop"    // enrolled, with an application
	outside = "outside" // of no mesh
	both    = "both"    // two labels
	stale   = "stale"   // another proxy image
	strict  = "strict"  // refuses istio-init
	nowhere = "nowhere" // a revision that does not exist
	bare    = "bare"    // pods from before the label
)

const revision = "1-28-2"

var cart = framework.Echo{Namespace: shop, Name: "cart", Version: "v1", Replicas: 1}

// seed makes one case of each finding. The mesh is paused, so that nobody mends them.
func seed(t *testing.T) {
	t.Helper()
	old := framework.Echo{Namespace: bare, Name: "old", Version: "v1", Replicas: 1}
	if err := env.Deploy(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitDeployment(t.Context(), client.ObjectKey{Namespace: bare, Name: old.Name}); err != nil {
		t.Fatal(err)
	}
	for name, labels := range map[string]map[string]string{
		bare:    {"istio-injection": "enabled"},
		both:    {"istio-injection": "enabled", "istio.io/rev": revision},
		stale:   {"istio.io/rev": revision},
		strict:  {"istio.io/rev": revision, "pod-security.kubernetes.io/enforce": "baseline"},
		nowhere: {"istio.io/rev": "missing"},
	} {
		if err := env.Namespace(t.Context(), name, labels); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range objects(t, "seeds.yaml") {
		create(t, o)
	}
	create(t, pod(shop, "debug", "app", framework.EchoImage, nil))
	create(t, pod(stale, "worker", "istio-proxy", framework.EchoImage, nil))
	create(t, pod(outside, "antique", "istio-proxy", "docker.io/istio/proxyv2:1.26.1", map[string]string{"sidecar.istio.io/status": `{"revision":"` + revision + `"}`}))
	crds(t)
	status(t)
	patchMesh(t, `{"spec": {"paused": true, "controlPlane": {
		"values": {"pilotx": 1, "resources": {"requests": {"memory": "500Gi"}}},
		"meshConfig": {"verifyCertificateAtClient": true}}}}`)
}

// pod is one that nobody makes anew. Only that of the shop gets a sidecar.
func pod(namespace, name, container, image string, annotations map[string]string) *corev1.Pod {
	labels := map[string]string{"app": name}
	if namespace != shop {
		labels["sidecar.istio.io/inject"] = "false"
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels, Annotations: annotations},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: container, Image: image, ImagePullPolicy: corev1.PullNever, Env: []corev1.EnvVar{{Name: "POD_NAME", Value: name}},
		}}},
	}
}

// crds changes CRDs of Istio: one serves a version that nobody knows, one is of a newer Istio, one is written by helm, too.
func crds(t *testing.T) {
	t.Helper()
	hold(t) // or the operator puts them back
	edit(t, "sidecars.networking.istio.io", func(c *apiextensionsv1.CustomResourceDefinition) {
		extra := c.Spec.Versions[0].DeepCopy()
		extra.Name, extra.Storage = "v1alpha9", false
		c.Spec.Versions = append(c.Spec.Versions, *extra)
	})
	edit(t, "proxyconfigs.networking.istio.io", func(c *apiextensionsv1.CustomResourceDefinition) {
		c.Labels["app.kubernetes.io/version"] = "1.31.0"
	})
	theirs := &unstructured.Unstructured{}
	theirs.SetAPIVersion(apiextensionsv1.SchemeGroupVersion.String())
	theirs.SetKind("CustomResourceDefinition")
	if err := env.Client.Get(t.Context(), client.ObjectKey{Name: "telemetries.telemetry.istio.io"}, theirs); err != nil {
		t.Fatal(err)
	}
	applied := &unstructured.Unstructured{Object: map[string]any{"spec": theirs.Object["spec"]}}
	applied.SetGroupVersionKind(theirs.GroupVersionKind())
	applied.SetName(theirs.GetName())
	if err := env.Client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(applied), helm, client.ForceOwnership); err != nil {
		t.Fatal(err)
	}
}

// hold pauses the mesh, and waits until the operator has seen it.
func hold(t *testing.T) {
	t.Helper()
	mesh := &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if err := env.Client.Patch(t.Context(), mesh, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"paused":true}}`))); err != nil {
		t.Fatal(err)
	}
	if _, err := env.WaitReady(t.Context(), mesh.Name); err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, name string, change func(*apiextensionsv1.CustomResourceDefinition)) {
	t.Helper()
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := env.Client.Get(t.Context(), client.ObjectKey{Name: name}, crd); err != nil {
		t.Fatal(err)
	}
	change(crd)
	if err := env.Client.Update(t.Context(), crd, seeder); err != nil {
		t.Fatal(err)
	}
}

// status waits for what Kubernetes has to say of the seeds, and says what takes it too long.
func status(t *testing.T) {
	t.Helper()
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "cart"}}
	if err := env.WaitBudget(t.Context(), budget, cart.Replicas); err != nil {
		t.Fatal(err)
	}
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "seed"}}
	err := env.WaitFor(t.Context(), "the quota to be counted", func(ctx context.Context) (bool, string, error) {
		err := env.Client.Get(ctx, client.ObjectKeyFromObject(quota), quota)
		return len(quota.Status.Hard) > 0, "no status yet", err
	})
	if err != nil {
		t.Fatal(err)
	}
	scaler := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "seed"}}
	limited := []byte(`{"status": {"currentReplicas": 2, "desiredReplicas": 2, "conditions": [
		{"type": "ScalingLimited", "status": "True", "reason": "TooManyReplicas", "message": "the desired replica count is more than the maximum"}]}}`)
	if err := env.Client.Status().Patch(t.Context(), scaler, client.RawPatch("application/merge-patch+json", limited)); err != nil {
		t.Fatal(err)
	}
}

// objects of a file in testdata.
func objects(t *testing.T, file string) []client.Object {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var out []client.Object
	for decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), len(raw)); ; {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(o)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
}

// create creates an object, anew when an interrupted run left it, and deletes it when the test ends.
func create(t *testing.T, o client.Object) {
	t.Helper()
	left := o.DeepCopyObject().(client.Object)
	if err := env.Client.Delete(t.Context(), left); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	} else if err == nil {
		if err := env.WaitGone(t.Context(), left); err != nil {
			t.Fatal(err)
		}
	}
	if err := env.Client.Create(t.Context(), o, seeder); err != nil {
		t.Fatalf("creating %T %s: %v", o, client.ObjectKeyFromObject(o), err)
	}
	t.Cleanup(func() {
		if err := env.Client.Delete(context.Background(), o); client.IgnoreNotFound(err) != nil {
			t.Errorf("deleting %T %s: %v", o, client.ObjectKeyFromObject(o), err)
		}
		if o.GetObjectKind().GroupVersionKind().Kind != "CustomResourceDefinition" {
			return
		}
		if err := env.WaitGone(context.Background(), o); err != nil { // another suite may want one of that name
			t.Error(err)
		}
	})
}

func patchMesh(t *testing.T, patch string) {
	t.Helper()
	if err := env.Client.Patch(t.Context(), framework.Mesh("default", ""), client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		t.Fatal(err)
	}
}

// viewer is a user who may look at meshes, and at what the ClusterRole view has.
const viewer = "preflight-viewer@example.com"

func grantViewer(t *testing.T) {
	t.Helper()
	create(t, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "meshwright-e2e-viewer"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"meshwright.io"}, Resources: []string{"*"}, Verbs: []string{"get", "list"}},
	}})
	for _, role := range []string{"meshwright-e2e-viewer", "view"} {
		create(t, &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "meshwright-e2e-" + role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: viewer}},
		})
	}
}
