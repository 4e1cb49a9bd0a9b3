// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package facts

import (
	"slices"
	"testing"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/preflight"
	"github.com/meshwright/meshwright/operator/testkit"
)

// A real API server refuses what a user may not read, knows no kinds of Istio before these are installed, and keeps managed fields.
func TestPreflightOfARealCluster(t *testing.T) {
	config := testkit.StartAPIServer(t)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	connect := func(config *rest.Config) client.Client {
		t.Helper()
		c, err := client.New(config, client.Options{Scheme: scheme})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	admin := connect(config)
	for _, o := range []client.Object{
		object(t, `{apiVersion: v1, kind: Namespace, metadata: {name: istio-system}}`),
		object(t, `{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {istio.io/rev: 1-28-2, pod-security.kubernetes.io/enforce: baseline}}}`),
		object(t, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: policy}
webhooks:
- name: policy.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  clientConfig: {service: {namespace: policy, name: engine}}
  rules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}]`),
		object(t, `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: sidecars.networking.istio.io, labels: {app.kubernetes.io/version: 1.28.2}}
spec:
  group: networking.istio.io
  scope: Namespaced
  names: {kind: Sidecar, listKind: SidecarList, plural: sidecars, singular: sidecar}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
  - {name: v1old, served: true, storage: false, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}`),
		object(t, `{apiVersion: v1, kind: ResourceQuota, metadata: {namespace: istio-system, name: team}, spec: {hard: {pods: 0}}}`),
		object(t, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: viewer}
rules:
- {apiGroups: [""], resources: [namespaces, pods, services, configmaps, resourcequotas, limitranges], verbs: [get, list]}
- {apiGroups: [apps, policy, autoscaling, networking.k8s.io], resources: ["*"], verbs: [get, list]}`),
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "viewer"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "viewer"},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "viewer@example.com"}},
		},
	} {
		if err := admin.Create(t.Context(), o, client.FieldOwner("helm")); err != nil {
			t.Fatal(err)
		}
	}
	mesh := upgrade().Mesh
	ask := func(c client.Client, q Inquiry) []string {
		t.Helper()
		q.Reviewer = c
		all, err := asking(t).Check(t.Context(), c, q)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, f := range all {
			if line := string(f.Code) + " " + f.Object.String(); !slices.Contains(out, line) {
				out = append(out, line)
			}
		}
		slices.Sort(out)
		return out
	}
	without := func(all []string, code preflight.Code) []string {
		return slices.DeleteFunc(all, func(s string) bool { return s[:len(code)] == string(code) })
	}

	about := []string{
		"MW205 CustomResourceDefinition/sidecars.networking.istio.io",
		"MW207 CustomResourceDefinition/sidecars.networking.istio.io",
		"MW401 ValidatingWebhookConfiguration/policy",
		"MW603 Namespace/shop",
		"MW701 Deployment/istio-system/istiod-1-29-1",
	}
	// The operator of the mesh does not exist here, and so may do nothing.
	if diff := cmp.Diff(about, without(ask(admin, Inquiry{Mesh: mesh, From: semver.MustParse("1.28.2"), To: semver.MustParse("1.29.1")}), preflight.MissingPermission)); diff != "" {
		t.Errorf("an administrator (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{about[0], about[2], about[3], about[4]}, without(ask(admin, Inquiry{
		Namespace: "istio-system", From: semver.MustParse("1.28.2"), To: semver.MustParse("1.29.1"),
	}), preflight.MissingPermission)); diff != "" {
		t.Errorf("where Meshwright keeps no mesh (-want +got):\n%s", diff)
	}
	as := rest.CopyConfig(config)
	as.Impersonate = rest.ImpersonationConfig{UserName: "viewer@example.com"}
	want := []string{
		about[3],
		"MW901 Resource/customresourcedefinitions.apiextensions.k8s.io",
		"MW901 Resource/meshgateways.meshwright.io",
		"MW901 Resource/mutatingwebhookconfigurations.admissionregistration.k8s.io",
		"MW901 Resource/nodes",
		"MW901 Resource/sidecars.networking.istio.io",
		"MW901 Resource/subjectaccessreviews.authorization.k8s.io",
		"MW901 Resource/validatingwebhookconfigurations.admissionregistration.k8s.io",
	}
	if diff := cmp.Diff(want, ask(connect(as), Inquiry{Mesh: mesh, From: semver.MustParse("1.28.2"), To: semver.MustParse("1.29.1")})); diff != "" {
		t.Errorf("a viewer (-want +got):\n%s", diff)
	}
}
