// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func bundle(t *testing.T, version string) *istio.Bundle {
	t.Helper()
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	b, err := library.Get(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func canary(t *testing.T, version, revision string) Request {
	return Request{
		Bundle: bundle(t, version), KubeVersion: "v1.34.4", Mesh: "default", Revision: revision, Namespace: "istio-system",
	}
}

func must(t *testing.T) func([]*unstructured.Unstructured, error) []*unstructured.Unstructured {
	return func(objects []*unstructured.Unstructured, err error) []*unstructured.Unstructured {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return objects
	}
}

func names(objects []*unstructured.Unstructured) []string {
	var out []string
	for _, o := range objects {
		name := o.GetKind() + " "
		if o.GetNamespace() != "" {
			name += o.GetNamespace() + "/"
		}
		out = append(out, name+o.GetName())
	}
	slices.Sort(out)
	return out
}

func find(t *testing.T, objects []*unstructured.Unstructured, kind string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range objects {
		if o.GetKind() == kind {
			return o
		}
	}
	t.Fatalf("no %s among %v", kind, names(objects))
	return nil
}

// Objects have the names that istioctl and Helm give them.
func TestNamesOfACanaryRevision(t *testing.T) {
	r := canary(t, "1.29.1", "1-29-1")
	want := []string{
		"ClusterRole istio-reader-clusterrole-1-29-1-istio-system",
		"ClusterRole istiod-clusterrole-1-29-1-istio-system",
		"ClusterRole istiod-gateway-controller-1-29-1-istio-system",
		"ClusterRoleBinding istio-reader-clusterrole-1-29-1-istio-system",
		"ClusterRoleBinding istiod-clusterrole-1-29-1-istio-system",
		"ClusterRoleBinding istiod-gateway-controller-1-29-1-istio-system",
		"ConfigMap istio-system/istio-1-29-1",
		"ConfigMap istio-system/istio-sidecar-injector-1-29-1",
		"ConfigMap istio-system/values-1-29-1",
		"Deployment istio-system/istiod-1-29-1",
		"HorizontalPodAutoscaler istio-system/istiod-1-29-1",
		"MutatingWebhookConfiguration istio-sidecar-injector-1-29-1",
		"Role istio-system/istiod-1-29-1",
		"RoleBinding istio-system/istiod-1-29-1",
		"Service istio-system/istiod-1-29-1",
		"ServiceAccount istio-system/istiod-1-29-1",
		"ValidatingWebhookConfiguration istio-validator-1-29-1-istio-system",
	}
	if diff := cmp.Diff(want, names(must(t)(controlPlane(r)))); diff != "" {
		t.Errorf("control plane (-want +got):\n%s", diff)
	}
	want = []string{
		"MutatingWebhookConfiguration istio-revision-tag-default",
		"Service istio-system/istiod-revision-tag-default",
		"ValidatingWebhookConfiguration istiod-default-validator",
	}
	if diff := cmp.Diff(want, names(must(t)(DefaultRevision(r)))); diff != "" {
		t.Errorf("default revision (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"ServiceAccount istio-system/istio-reader-service-account"}, names(must(t)(Base(r)))); diff != "" {
		t.Errorf("base (-want +got):\n%s", diff)
	}
	want = []string{"MutatingWebhookConfiguration istio-revision-tag-stable", "Service istio-system/istiod-revision-tag-stable"}
	if diff := cmp.Diff(want, names(must(t)(Tag(r, "stable")))); diff != "" {
		t.Errorf("tag (-want +got):\n%s", diff)
	}
}

// A revision that is upgraded in place is called default, and its objects have no suffix.
func TestNamesInPlace(t *testing.T) {
	r := canary(t, "1.29.1", "default")
	got := names(must(t)(controlPlane(r)))
	for _, want := range []string{"Deployment istio-system/istiod", "MutatingWebhookConfiguration istio-sidecar-injector"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is missing among %v", want, got)
		}
	}
	if diff := cmp.Diff([]string{"ValidatingWebhookConfiguration istiod-default-validator"}, names(must(t)(DefaultRevision(r)))); diff != "" {
		t.Errorf("default revision (-want +got):\n%s", diff)
	}
}

// Every built-in version renders, marked as the mesh's, and never with a caBundle of ours.
func TestEveryVersionRenders(t *testing.T) {
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range library.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			r := canary(t, v.String(), "rev")
			if crds := must(t)(CRDs(r)); len(crds) < 14 {
				t.Errorf("%d CRDs, want all of Istio's", len(crds))
			}
			g := GatewayRequest{Request: r, Name: "ingress", GatewayNamespace: "istio-ingress"}
			all := slices.Concat(must(t)(Base(r)), must(t)(controlPlane(r)), must(t)(DefaultRevision(r)), must(t)(Tag(r, "stable")), must(t)(gateway(g)))
			for _, o := range all {
				if o.GetLabels()[v1alpha1.LabelMesh] != "default" {
					t.Errorf("%s %s is not marked as the mesh's", o.GetKind(), o.GetName())
				}
				if o.GetLabels()["app.kubernetes.io/managed-by"] == "Helm" {
					t.Errorf("%s %s says that Helm manages it", o.GetKind(), o.GetName())
				}
				webhooks, _, _ := unstructured.NestedSlice(o.Object, "webhooks")
				for _, w := range webhooks {
					if _, has, _ := unstructured.NestedString(w.(map[string]any), "clientConfig", "caBundle"); has {
						t.Errorf("%s %s holds a caBundle", o.GetKind(), o.GetName())
					}
				}
			}
		})
	}
}

func TestImages(t *testing.T) {
	digest := v1alpha1.ImageDigest("sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	for _, tc := range []struct {
		reason string
		images v1alpha1.Images
		want   string
	}{
		{"the release's registry by default", v1alpha1.Images{}, "registry.istio.io/release/pilot:1.29.1"},
		{"the user's registry", v1alpha1.Images{Hub: "example.com/istio"}, "example.com/istio/pilot:1.29.1"},
		{
			"a digest, whatever the tag",
			v1alpha1.Images{Digests: map[string]v1alpha1.ImageDigest{"pilot": digest}},
			"registry.istio.io/release/pilot@" + string(digest),
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			r := canary(t, "1.29.1", "1-29-1")
			r.Images = tc.images
			containers, _, err := unstructured.NestedSlice(find(t, must(t)(controlPlane(r)), "Deployment").Object, "spec", "template", "spec", "containers")
			if err != nil {
				t.Fatal(err)
			}
			if got := containers[0].(map[string]any)["image"]; got != tc.want {
				t.Errorf("image of istiod = %v, want %s", got, tc.want)
			}
		})
	}
}

// What the operator owns wins over values, and meshConfig reaches istiod's configuration.
func TestOursAreLast(t *testing.T) {
	r := canary(t, "1.29.1", "1-29-1")
	r.Values = map[string]any{"revision": "mine", "autoscaleMin": 2}
	r.MeshConfig = map[string]any{"accessLogFile": "/dev/stdout"}
	objects := must(t)(controlPlane(r))
	if name := find(t, objects, "Deployment").GetName(); name != "istiod-1-29-1" {
		t.Errorf("Deployment is called %s", name)
	}
	if got, _, _ := unstructured.NestedFieldNoCopy(find(t, objects, "HorizontalPodAutoscaler").Object, "spec", "minReplicas"); got != int64(2) && got != float64(2) {
		t.Errorf("minReplicas = %v, want the user's 2", got)
	}
	for _, o := range objects {
		if o.GetName() != "istio-1-29-1" {
			continue
		}
		mesh, _, _ := unstructured.NestedString(o.Object, "data", "mesh")
		if !containsLine(mesh, "accessLogFile: /dev/stdout") {
			t.Errorf("mesh configuration:\n%s", mesh)
		}
	}
}

func containsLine(text, line string) bool {
	return slices.Contains(strings.Split(text, "\n"), line)
}

func TestGateway(t *testing.T) {
	g := GatewayRequest{
		Request: canary(t, "1.29.1", "1-29-1"), Name: "ingress", GatewayNamespace: "istio-ingress",
		GatewayValues: map[string]any{"service": map[string]any{"type": "NodePort"}},
	}
	objects := must(t)(gateway(g))
	want := []string{
		"Deployment istio-ingress/ingress-1-29-1",
		"HorizontalPodAutoscaler istio-ingress/ingress-1-29-1",
		"PodDisruptionBudget istio-ingress/ingress",
		"Role istio-ingress/ingress",
		"RoleBinding istio-ingress/ingress",
		"Service istio-ingress/ingress",
		"ServiceAccount istio-ingress/ingress",
	}
	if diff := cmp.Diff(want, names(objects)); diff != "" {
		t.Fatalf("gateway (-want +got):\n%s", diff)
	}
	field := func(kind string, path ...string) any {
		t.Helper()
		value, found, err := unstructured.NestedFieldNoCopy(find(t, objects, kind).Object, path...)
		if err != nil || !found {
			t.Fatalf("%s has no %v: %v", kind, path, err)
		}
		return value
	}
	shared := map[string]any{"app": "ingress", "istio": "ingress"}
	versioned := map[string]any{"app": "ingress", "istio": "ingress", "istio.io/rev": "1-29-1"}
	if diff := cmp.Diff(versioned, field("Deployment", "spec", "selector", "matchLabels")); diff != "" {
		t.Errorf("selector of the Deployment (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(shared, field("Service", "spec", "selector")); diff != "" {
		t.Errorf("selector of the Service (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(shared, field("PodDisruptionBudget", "spec", "selector", "matchLabels")); diff != "" {
		t.Errorf("selector of the budget (-want +got):\n%s", diff)
	}
	if got := field("HorizontalPodAutoscaler", "spec", "scaleTargetRef", "name"); got != "ingress-1-29-1" {
		t.Errorf("the autoscaler scales %v", got)
	}
	if got := field("Service", "spec", "type"); got != "NodePort" {
		t.Errorf("type of the Service = %v, want the user's", got)
	}
	if _, has, _ := unstructured.NestedFieldNoCopy(find(t, objects, "Deployment").Object, "spec", "replicas"); has {
		t.Error("the Deployment sets replicas beside an autoscaler")
	}
}

// Packing loses nothing, and the digest of inputs changes with each of them but not with the charts' bytes.
func TestPackAndDigest(t *testing.T) {
	r := canary(t, "1.29.1", "1-29-1")
	objects := must(t)(controlPlane(r))
	packed, err := Pack(objects)
	if err != nil {
		t.Fatal(err)
	}
	again := must(t)(Unpack(packed))
	repacked, err := Pack(again)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(packed, repacked) {
		t.Error("packing what was unpacked gives other bytes")
	}
	if len(packed) > 100_000 {
		t.Errorf("a control plane packs to %d bytes: too much for an object of the API", len(packed))
	}
	first, err := r.InputsDigest()
	if err != nil {
		t.Fatal(err)
	}
	r.Values = map[string]any{"autoscaleMin": 2}
	second, err := r.InputsDigest()
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Error("other values have the same digest")
	}
}

func BenchmarkControlPlane(b *testing.B) {
	library, err := istio.Open(b.Context(), istio.Builtin())
	if err != nil {
		b.Fatal(err)
	}
	bundle, err := library.Get(b.Context(), "1.29.1")
	if err != nil {
		b.Fatal(err)
	}
	r := Request{Bundle: bundle, KubeVersion: "v1.34.4", Mesh: "default", Revision: "1-29-1", Namespace: "istio-system"}
	for b.Loop() {
		if _, _, err := ControlPlane(r); err != nil {
			b.Fatal(err)
		}
	}
}

// A value that a chart prints as it is can't bring an object along, nor move the gateway's own.
func TestGatewayIsNothingElse(t *testing.T) {
	for reason, service := range map[string]map[string]any{
		"another kind":            {"type": "ClusterIP\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: mine}\nspec:"},
		"another namespace":       {"type": "ClusterIP\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: edge, namespace: kube-system}\nspec:"},
		"another name":            {"type": "ClusterIP\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: mine, namespace: team}\nspec:"},
		"a second one of a kind":  {"type": "ClusterIP\n---\napiVersion: v1\nkind: Service\nmetadata: {name: edge, namespace: team}\nspec:"},
		"the kind of another API": {"type": "ClusterIP\n---\napiVersion: example.com/v1\nkind: Service\nmetadata: {name: edge, namespace: team}\nspec:"},
	} {
		for _, version := range []string{"1.26.1", "1.29.1", "1.31.0"} {
			r := GatewayRequest{
				Request: canary(t, version, "r"), Name: "edge", GatewayNamespace: "team", GatewayValues: map[string]any{"service": service},
			}
			if got, err := gateway(r); err == nil || !strings.Contains(err.Error(), "no part of a gateway") {
				t.Errorf("%s, Istio %s: %v, rendered %v", reason, version, err, names(got))
			}
		}
	}
}

// controlPlane are the objects alone.
func controlPlane(r Request) ([]*unstructured.Unstructured, error) {
	objects, _, err := ControlPlane(r)
	return objects, err
}
