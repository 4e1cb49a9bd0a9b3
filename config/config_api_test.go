// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package config

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/hack/rbac"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/testkit"
)

const operatorNamespace = "meshwright-system"

// cluster is a real API server, whose authorizer and admission are what is tested.
type cluster struct {
	config *rest.Config
	scheme *runtime.Scheme
	admin  client.Client
}

func start(t *testing.T) *cluster {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := &cluster{config: testkit.StartAPIServer(t), scheme: scheme}
	c.admin = c.as(t, "")
	for _, name := range []string{operatorNamespace, "istio-system", "gateways", "team"} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := c.admin.Create(t.Context(), namespace); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// as is a client of somebody; an empty name is the administrator.
func (c *cluster) as(t *testing.T, user string, groups ...string) client.Client {
	t.Helper()
	config := rest.CopyConfig(c.config)
	config.QPS = -1
	if user != "" {
		config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: append(groups, "system:authenticated")}
	}
	cl, err := client.New(config, client.Options{Scheme: c.scheme})
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

func (c *cluster) operator(t *testing.T) client.Client {
	t.Helper()
	return c.as(t, "system:serviceaccount:"+operatorNamespace+":meshwright", "system:serviceaccounts", "system:serviceaccounts:"+operatorNamespace)
}

func apply(ctx context.Context, cl client.Client, o *unstructured.Unstructured) error {
	intent := o.DeepCopy()
	return cl.Apply(ctx, client.ApplyConfigurationFromUnstructured(intent), client.FieldOwner("test"), client.ForceOwnership)
}

func (c *cluster) install(t *testing.T, dir string) {
	t.Helper()
	for _, o := range build(t, dir) {
		if err := apply(t.Context(), c.admin, o); err != nil {
			t.Fatalf("%s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}

// TestOperatorMayApplyWhatTheChartsContain applies the objects of all built-in charts with the rights of config/rbac only.
// The API server refuses a Role or binding whose rules the operator does not hold itself.
func TestOperatorMayApplyWhatTheChartsContain(t *testing.T) {
	c := start(t)
	c.install(t, "rbac")
	objects, err := rbac.Everything(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	operator := c.operator(t)
	awaitRights(t, operator)
	kinds, done := map[string]int{}, map[string]bool{}
	for _, o := range objects {
		// Rights depend on kind and name; of roles, which versions fill differently, on the rules.
		key := fmt.Sprint(o.GetKind(), o.GetNamespace(), o.GetName(), o.Object["rules"])
		if done[key] {
			continue
		}
		done[key] = true
		if err := apply(t.Context(), operator, o); err != nil {
			t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
			continue
		}
		kinds[o.GetKind()]++
	}
	t.Logf("applied: %v", kinds)
	for kind := range kinds {
		i := len(objects) - 1
		for objects[i].GetKind() != kind {
			i--
		}
		if err := operator.Delete(t.Context(), objects[i].DeepCopy()); err != nil {
			t.Errorf("deleting %s %s: %v", kind, objects[i].GetName(), err)
		}
	}
}

// awaitRights waits until the authorizer, which caches roles, has seen each of ours.
func awaitRights(t *testing.T, operator client.Client) {
	t.Helper()
	one := []struct{ verb, group, resource string }{
		{"list", v1alpha1.GroupVersion.Group, "meshinstallations"}, // of meshwright
		{"create", rbacv1.GroupName, "clusterroles"},               // of meshwright-applies
		{"get", "networking.istio.io", "anything"},                 // of meshwright-grants
	}
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		for _, r := range one {
			if ok, err := may(ctx, operator, r.verb, r.group, r.resource, "", ""); !ok || err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func may(ctx context.Context, cl client.Client, verb, group, resource, namespace, name string) (bool, error) {
	main, sub, _ := strings.Cut(resource, "/")
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: verb, Group: group, Resource: main, Subresource: sub, Namespace: namespace, Name: name,
		},
	}}
	err := cl.Create(ctx, review)
	return review.Status.Allowed, err
}

func TestOperatorMayDoNoMore(t *testing.T) {
	c := start(t)
	c.install(t, "rbac")
	operator := c.operator(t)
	awaitRights(t, operator)
	for _, tc := range []struct{ verb, group, resource, namespace, name, reason string }{
		{"delete", "", "pods", "team", "", "pods are evicted, which their budgets may refuse"},
		{"update", "", "pods", "team", "", "workloads are restarted by their templates; istiod's pods are annotated by a patch"},
		{"create", "", "pods/exec", "istio-system", "", "nothing runs inside a pod"},
		{"approve", "meshwright.io", "meshrollouts", "", "", "people approve"},
		{"waive", "meshwright.io", "meshrollouts", "", "", "people waive a proof"},
		{"patch", "", "secrets", "team", "", "istiod is not granted it"},
		{"deletecollection", "", "secrets", "team", "", "secrets are deleted by name"},
		{"delete", "", "nodes", "", "", "nodes are not a mesh's"},
		{"create", "", "serviceaccounts/token", "istio-system", "", "it acts as nobody else"},
		{"impersonate", "", "users", "", "", "it acts as nobody else"},
		{"escalate", rbacv1.GroupName, "clusterroles", "", "", "it grants what it holds"},
		{"bind", rbacv1.GroupName, "clusterroles", "", "cluster-admin", "it grants what it holds"},
		{"create", "batch", "cronjobs", "istio-system", "", "no chart has cron jobs, and hooks only read them"},
		{"list", "batch", "cronjobs", "istio-system", "", "the template of a gate is read by its name"},
		{"delete", "batch", "jobs", "istio-system", "", "what ran for a gate is left to be looked at"},
		{"patch", "batch", "jobs", "istio-system", "", "a gate's job is made once"},
		{"create", "gateway.networking.k8s.io", "gateways", "team", "", "outer Gateways are the user's"},
		{"delete", "gateway.networking.k8s.io", "gateways", "team", "", "outer Gateways are the user's"},
		{"create", "gateway.networking.k8s.io", "grpcroutes", "team", "", "a gateway shifts by an HTTPRoute"},
		{"create", "gateway.networking.k8s.io", "referencegrants", "team", "", "who may refer to what is the user's"},
		{"update", "networking.istio.io", "envoyfilters", "team", "", "the operator applies"},
		{"create", "extensions.istio.io", "wasmplugins", "team", "", "plugins are the user's"},
		{"create", "apps", "daemonsets", "istio-system", "", "no chart of a sidecar mesh has them"},
		{"delete", "meshwright.io", "meshinstallations", "", "", "they are the user's"},
		{"create", "meshwright.io", "meshinstallations", "", "", "they are the user's"},
		{"create", "networking.istio.io", "virtualservices", "team", "", "Istio configuration is the user's"},
		{"delete", "security.istio.io", "authorizationpolicies", "team", "", "Istio configuration is the user's"},
	} {
		allowed, err := may(t.Context(), operator, tc.verb, tc.group, tc.resource, tc.namespace, tc.name)
		if err != nil {
			t.Fatal(err)
		}
		if allowed {
			t.Errorf("may %s %s/%s %s: %s", tc.verb, tc.group, tc.resource, tc.name, tc.reason)
		}
	}
	everything := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "everything"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"*"}, Resources: []string{"*"}, Verbs: []string{"*"}}},
	}
	if err := operator.Create(t.Context(), everything); !apierrors.IsForbidden(err) {
		t.Errorf("creating a role over everything: %v, want Forbidden", err)
	}
	admin := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "admin"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: operatorNamespace, Name: "meshwright"}},
	}
	if err := operator.Create(t.Context(), admin); !apierrors.IsForbidden(err) {
		t.Errorf("binding itself to cluster-admin: %v, want Forbidden", err)
	}
}

// TestOperatorMayShiftAndJudge tries the rights that gateways and gates need besides those for what the charts contain.
func TestOperatorMayShiftAndJudge(t *testing.T) {
	c := start(t)
	c.install(t, "rbac")
	operator := c.operator(t)
	awaitRights(t, operator)
	const routes, filters, gatewayAPI = "httproutes", "envoyfilters", "gateway.networking.k8s.io"
	for _, tc := range []struct{ verb, group, resource, namespace, name, reason string }{
		{"patch", gatewayAPI, routes, "team", "ingress", "a gateway shifts by a route"},
		{"create", gatewayAPI, routes, "team", "", "server-side apply creates what is not there"},
		{"watch", gatewayAPI, routes, "", "", "what is changed in it is forced back"},
		{"delete", gatewayAPI, routes, "team", "ingress", "it goes with the gateway"},
		{"patch", gatewayAPI, "gateways", "team", "edge", "a Gateway of the mesh gets the label of its revision"},
		{"watch", gatewayAPI, "gateways", "", "", "one gets the mesh's label at any time"},
		{"create", "networking.istio.io", filters, "team", "", "connections have a maximum age"},
		{"patch", "networking.istio.io", filters, "team", "ingress-connection-age", "connections have another maximum age"},
		{"delete", "networking.istio.io", filters, "team", "ingress-connection-age", "connections have none any more"},
		{"patch", "autoscaling", "horizontalpodautoscalers", "team", "ingress-1-29-1", "each version of a gateway has one"},
		{"delete", "apps", "deployments", "team", "ingress", "an adopted Deployment goes when a version of ours has replaced it"},
		{"get", "batch", "cronjobs", "team", "check", "it is the template of a gate"},
		{"create", "batch", "jobs", "team", "", "a gate runs it"},
		{"get", "batch", "jobs", "team", "check-1", "a gate waits for it"},
		{"get", "", "secrets", operatorNamespace, "prometheus", "a server that judges wants a token"},
	} {
		allowed, err := may(t.Context(), operator, tc.verb, tc.group, tc.resource, tc.namespace, tc.name)
		if err != nil {
			t.Fatal(err)
		}
		if !allowed {
			t.Errorf("may not %s %s/%s %s: %s", tc.verb, tc.group, tc.resource, tc.name, tc.reason)
		}
	}
}

func TestPolicies(t *testing.T) {
	c := start(t)
	c.install(t, "rbac")
	c.install(t, "policy")
	operator := c.operator(t)
	awaitRights(t, operator)
	c.awaitPolicies(t)

	t.Run("a revision is written by the operator only", func(t *testing.T) {
		revision := &v1alpha1.MeshRevision{
			ObjectMeta: metav1.ObjectMeta{Name: "1-29-1"},
			Spec: v1alpha1.MeshRevisionSpec{
				Mesh: "default", Version: "1.29.1", Namespace: "istio-system", BundleDigest: "b", InputsDigest: "i", Objects: []byte("o"),
			},
		}
		if err := c.admin.Create(t.Context(), revision.DeepCopy()); !apierrors.IsForbidden(err) {
			t.Fatalf("an administrator creates it: %v, want Forbidden", err)
		}
		if err := operator.Create(t.Context(), revision); err != nil {
			t.Fatalf("the operator creates it: %v", err)
		}
		revision.Labels = map[string]string{"seen": "yes"}
		if err := c.admin.Update(t.Context(), revision); err != nil {
			t.Errorf("an administrator labels it: %v", err)
		}
		revision.Spec.Objects = []byte("evil")
		if err := c.admin.Update(t.Context(), revision.DeepCopy()); !apierrors.IsForbidden(err) {
			t.Errorf("an administrator changes its objects: %v, want Forbidden", err)
		}
		revision.Status.ObservedGeneration = 7
		if err := c.admin.Status().Update(t.Context(), revision); !apierrors.IsForbidden(err) {
			t.Errorf("an administrator writes its status: %v, want Forbidden", err)
		}
		if err := c.admin.Delete(t.Context(), revision); !apierrors.IsForbidden(err) {
			t.Errorf("an administrator deletes it: %v, want Forbidden", err)
		}
		if err := operator.Delete(t.Context(), revision); err != nil {
			t.Errorf("the operator deletes it: %v", err)
		}
	})

	t.Run("the operator writes the Secrets that are its own only", func(t *testing.T) {
		secret := func(namespace, name string) *corev1.Secret {
			return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		}
		theirs, ca := secret("team", "theirs"), secret("istio-system", "istio-ca-secret")
		for _, s := range []*corev1.Secret{theirs, ca} {
			if err := c.admin.Create(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		if err := operator.Create(t.Context(), secret("team", "mine")); !apierrors.IsForbidden(err) {
			t.Errorf("creating one of a team: %v, want Forbidden", err)
		}
		if err := operator.Delete(t.Context(), theirs); !apierrors.IsForbidden(err) {
			t.Errorf("deleting one of a team: %v, want Forbidden", err)
		}
		if err := operator.Create(t.Context(), secret(operatorNamespace, "meshwright-webhook-cert")); err != nil {
			t.Errorf("creating that of its webhook: %v", err)
		}
		if err := operator.Create(t.Context(), secret(operatorNamespace, "meshwright-ca-default-1")); err != nil {
			t.Errorf("creating what a rotation leads from and to: %v", err)
		}
		if err := operator.Create(t.Context(), secret("istio-system", "cacerts")); err != nil {
			t.Errorf("creating the CA of a mesh: %v", err)
		}
		if err := operator.Delete(t.Context(), ca); err != nil {
			t.Errorf("deleting the CA of a mesh: %v", err)
		}
	})

	for _, tc := range []struct {
		reason, values string
		operator       bool
		refused        string
	}{
		{reason: "a team shapes its workload", values: `{"replicaCount": 2, "service": {"type": "ClusterIP"}}`},
		{reason: "no values at all", values: `{}`},
		{reason: "a team borrows no other identity", values: `{"serviceAccount": {"name": "default"}}`, refused: "spec.values: serviceAccount can be set"},
		{reason: "nor a privileged container", values: `{"containerSecurityContext": {"privileged": true}, "volumes": []}`, refused: "volumes"},
		{reason: "the operator writes what a mesh lists", values: `{"containerSecurityContext": {"privileged": true}}`, operator: true},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			gateway := &unstructured.Unstructured{}
			manifest := fmt.Sprintf(`{"apiVersion": "meshwright.io/v1alpha1", "kind": "MeshGateway",
				"metadata": {"generateName": "gateway-", "namespace": "team"}, "spec": {"mesh": "default", "values": %s}}`, tc.values)
			if err := gateway.UnmarshalJSON([]byte(manifest)); err != nil {
				t.Fatal(err)
			}
			cl := c.admin
			if tc.operator {
				cl = operator
			}
			err := cl.Create(t.Context(), gateway)
			if tc.refused == "" {
				if err != nil {
					t.Fatal(err)
				}
				gateway.SetLabels(map[string]string{"seen": "yes"})
				if err := c.admin.Update(t.Context(), gateway); err != nil {
					t.Errorf("labelling it: %v", err)
				}
				return
			}
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), tc.refused) {
				t.Errorf("%v, want Forbidden with %q", err, tc.refused)
			}
		})
	}
}

// awaitPolicies waits until the API server, which learns of policies by a watch, applies each of ours.
func (c *cluster) awaitPolicies(t *testing.T) {
	t.Helper()
	status := &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, Spec: v1alpha1.MeshInstallationSpec{Version: "1.29"}}
	if err := c.admin.Create(t.Context(), status); err != nil {
		t.Fatal(err)
	}
	revision := &v1alpha1.MeshRevision{ObjectMeta: metav1.ObjectMeta{Name: "probe"}, Spec: v1alpha1.MeshRevisionSpec{
		Mesh: "m", Version: "1.0.0", Namespace: "n", BundleDigest: "b", InputsDigest: "i", Objects: []byte("o"),
	}}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "probe"}}
	gateway := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "meshwright.io/v1alpha1", "kind": "MeshGateway",
		"metadata": map[string]any{"name": "probe", "namespace": "team"},
		"spec":     map[string]any{"mesh": "m", "values": map[string]any{"image": "x"}},
	}}
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		ready := apierrors.IsForbidden(c.admin.Status().Update(ctx, status.DeepCopy())) &&
			apierrors.IsForbidden(c.admin.Create(ctx, revision.DeepCopy(), client.DryRunAll)) &&
			apierrors.IsForbidden(c.admin.Create(ctx, gateway.DeepCopy(), client.DryRunAll)) &&
			apierrors.IsForbidden(c.operator(t).Create(ctx, secret.DeepCopy(), client.DryRunAll))
		return ready, nil
	})
	if err != nil {
		t.Fatalf("the policies never applied: %v", err)
	}
}

// rolloutOf is a rollout of two steps, with what people have said so far.
func rolloutOf(name, verbs string) string {
	return fmt.Sprintf(`{"apiVersion": "meshwright.io/v1alpha1", "kind": "MeshRollout", "metadata": {"name": %q}, "spec": {
		"plan": {
			"mesh": "default", "enrollment": "NamespaceLabel", "onFailure": "RollBack", "restart": {},
			"from": {"revision": "1-28-2", "version": "1.28.2", "inputsDigest": "a"},
			"to": {"revision": "1-29-1", "version": "1.29.1", "inputsDigest": "b"},
			"steps": [
				{"name": "early", "type": "DataPlane", "dataPlane": {"wave": "early"}}, {"name": "go", "type": "Pause"},
				{"name": "promote", "type": "Promote", "dataPlane": {"wave": "followers"}}
			],
			"progressDeadlineSeconds": 600, "retireAfterSeconds": 0
		}%s
	}}`, name, verbs)
}

func object(t *testing.T, manifest string) *unstructured.Unstructured {
	t.Helper()
	out := &unstructured.Unstructured{}
	if err := out.UnmarshalJSON([]byte(manifest)); err != nil {
		t.Fatalf("%v in %s", err, manifest)
	}
	return out
}

// patch is what the API server would say to a change of a rollout's spec, which is not made.
func patch(ctx context.Context, cl client.Client, rollout, spec string) error {
	o := &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: rollout}}
	return cl.Patch(ctx, o, client.RawPatch(types.MergePatchType, []byte(`{"spec": `+spec+`}`)), client.DryRunAll)
}

// expectInvalid wants an error that says something, or none when it is to say nothing.
func expectInvalid(t *testing.T, err error, refused string) {
	t.Helper()
	switch {
	case refused == "" && err != nil:
		t.Errorf("%v, want no error", err)
	case refused != "" && (!apierrors.IsInvalid(err) || !strings.Contains(err.Error(), refused)):
		t.Errorf("%v, want Invalid with %q", err, refused)
	}
}

// TestRules tries what the schemas of the API allow, and what the rules beside them refuse.
func TestRules(t *testing.T) {
	c := start(t)
	t.Run("rollouts", c.rulesOfRollouts)
	t.Run("upgrades", c.rulesOfUpgrades)
}

// What may become of a rollout: its plan stays, and what people have said is not taken back.
func (c *cluster) rulesOfRollouts(t *testing.T) {
	for _, manifest := range []string{
		rolloutOf("new", ``), rolloutOf("aborted", `, "goal": "Abort"`), rolloutOf("back", `, "goal": "RollBack"`),
		rolloutOf("steered", `, "retries": 2, "approvals": [{"step": "go", "by": "ann"}],
			"waivers": [{"proof": "Injection", "by": "ann", "expires": "2026-03-01T12:00:00Z"}]`),
	} {
		if err := c.admin.Create(t.Context(), object(t, manifest)); err != nil {
			t.Fatal(err)
		}
	}
	const waived = `{"proof": "Injection", "by": "ann", "expires": "2026-03-01T12:00:00Z"}`
	for _, tc := range []struct{ reason, rollout, spec, refused string }{
		{"the plan stays: where it goes", "new", `{"plan": {"to": {"version": "1.29.2"}}}`, "plan is immutable"},
		{"the plan stays: how fast", "new", `{"plan": {"restart": {"maxUnavailable": "50%"}}}`, "plan is immutable"},
		{"the plan stays: no step is left out", "new", `{"plan": {"steps": [{"name": "go", "type": "Pause"}]}}`, "plan is immutable"},
		{"it is paused", "new", `{"paused": true}`, ""},

		{"it is aborted", "new", `{"goal": "Abort"}`, ""},
		{"it is rolled back", "new", `{"goal": "RollBack"}`, ""},
		{"it is rolled back although it was aborted", "aborted", `{"goal": "RollBack"}`, ""},
		{"what was aborted is not completed", "aborted", `{"goal": "Complete"}`, "goal goes one way"},
		{"what is rolled back is not completed", "back", `{"goal": "Complete"}`, "goal goes one way"},
		{"nor left where it is", "back", `{"goal": "Abort"}`, "goal goes one way"},
		{"a goal that is taken out is the default", "back", `{"goal": null}`, "goal goes one way"},
		{"a goal that there is not", "new", `{"goal": "Hurry"}`, "Unsupported value"},

		{"a first approval", "new", `{"approvals": [{"step": "go", "by": "ann"}]}`, ""},
		{"one more", "steered", `{"approvals": [{"step": "early", "by": "bob"}, {"step": "go", "by": "ann"}]}`, ""},
		{"an approval is taken back", "steered", `{"approvals": null}`, "approvals are only added"},
		{"an approval is replaced", "steered", `{"approvals": [{"step": "early", "by": "bob"}]}`, "approvals are only added"},
		{"an approval becomes somebody else's", "steered", `{"approvals": [{"step": "go", "by": "bob"}]}`, "approvals are only added"},
		{"a step is approved once", "new", `{"approvals": [{"step": "go", "by": "ann"}, {"step": "go", "by": "bob"}]}`, "Duplicate value"},
		{"a step that there is not", "new", `{"approvals": [{"step": "gone", "by": "ann"}]}`, "there is no such step in the plan"},
		{"nobody approves", "new", `{"approvals": [{"step": "go", "by": ""}]}`, "spec.approvals[0].by"},

		{"a retry", "steered", `{"retries": 3}`, ""},
		{"a retry is taken back", "steered", `{"retries": 1}`, "retries only grows"},
		{"all are taken back", "steered", `{"retries": null}`, "retries only grows"},
		{"fewer than none", "new", `{"retries": -1}`, "spec.retries"},

		{"a first waiver", "new", `{"waivers": [` + waived + `]}`, ""},
		{
			"one more for the same proof, when the first has expired", "steered",
			`{"waivers": [` + waived + `, {"proof": "Injection", "by": "bob", "expires": "2026-03-02T12:00:00Z"}]}`, "",
		},
		{"a waiver is taken back", "steered", `{"waivers": null}`, "waivers are only added"},
		{
			"a waiver is made longer", "steered", `{"waivers": [{"proof": "Injection", "by": "ann", "expires": "2027-03-01T12:00:00Z"}]}`,
			"waivers are only added",
		},
		{
			"a proof that there is not", "new", `{"waivers": [{"proof": "Luck", "by": "ann", "expires": "2026-03-01T12:00:00Z"}]}`,
			"Unsupported value",
		},
		{"a waiver that never ends", "new", `{"waivers": [{"proof": "Injection", "by": "ann"}]}`, "expires"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			expectInvalid(t, patch(t.Context(), c.admin, tc.rollout, tc.spec), tc.refused)
		})
	}
	for _, tc := range []struct{ reason, verbs, refused string }{
		{"it is approved from the beginning", `, "approvals": [{"step": "go", "by": "ann"}]`, ""},
		{"a step is approved that there is not", `, "approvals": [{"step": "gone", "by": "ann"}]`, "there is no such step in the plan"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			expectInvalid(t, c.admin.Create(t.Context(), object(t, rolloutOf("created", tc.verbs)), client.DryRunAll), tc.refused)
		})
	}
}

// What an installation may say of waves, steps and restarts.
func (c *cluster) rulesOfUpgrades(t *testing.T) {
	installation := func(spec string) *unstructured.Unstructured {
		return object(t, `{"apiVersion": "meshwright.io/v1alpha1", "kind": "MeshInstallation", "metadata": {"name": "default"},
			"spec": {"version": "1.29", `+spec+`}}`)
	}
	waves := func(enrollment, all string) string {
		return fmt.Sprintf(`"dataPlane": {"enrollment": %q, "waves": [%s]}`, enrollment, all)
	}
	steps := func(all string) string { return `"upgrade": {"canary": {"steps": [` + all + `]}}` }
	unavailable := func(value string) string { return `"dataPlane": {"restart": {"maxUnavailable": ` + value + `}}` }
	const (
		selector, tag = `"selector": {"matchLabels": {"tier": "test"}}`, `"tag": "canary"`
		xor           = "a wave has either a selector (enrollment NamespaceLabel) or a tag (enrollment Tag)"
		byEnrollment  = "a wave has a selector with enrollment NamespaceLabel, and a tag with enrollment Tag"
		limit         = "a number from 1, or a percentage from 1% to 100%"
		member        = "dataPlane is required for type DataPlane, and for no other"
	)
	for _, tc := range []struct{ reason, spec, refused string }{
		{"waves by selector", waves("NamespaceLabel", `{"name": "early", `+selector+`}, {"name": "late", "selector": {}}`), ""},
		{"waves by tag", waves("Tag", `{"name": "early", `+tag+`}`), ""},
		{"a wave of both", waves("NamespaceLabel", `{"name": "early", `+selector+`, `+tag+`}`), xor},
		{"a wave of neither", waves("NamespaceLabel", `{"name": "early"}`), xor},
		{"a tag where we label", waves("NamespaceLabel", `{"name": "early", `+tag+`}`), byEnrollment},
		{"a tag where we label by default", `"dataPlane": {"waves": [{"name": "early", ` + tag + `}]}`, byEnrollment},
		{"a selector where people label with tags", waves("Tag", `{"name": "early", `+selector+`}`), byEnrollment},
		{"a wave called rest", waves("NamespaceLabel", `{"name": "rest", `+selector+`}`), "the names rest and followers are reserved"},
		{"a wave called followers", waves("Tag", `{"name": "followers", `+tag+`}`), "the names rest and followers are reserved"},
		{"two waves of one name", waves("Tag", `{"name": "early", `+tag+`}, {"name": "early", `+tag+`}`), "Duplicate value"},
		{"a wave without a name", waves("Tag", `{"name": "", `+tag+`}`), "waves[0].name"},
		{"a name that is no name", waves("Tag", `{"name": "Early", `+tag+`}`), "waves[0].name"},

		{
			"steps", steps(`{"name": "early", "type": "DataPlane", "dataPlane": {"wave": "early", "percent": 10, "bakeSeconds": 60}},
				{"name": "go", "type": "Pause"}, {"name": "wait", "type": "Pause", "pause": {"durationSeconds": 60}}`), "",
		},
		{"a step that moves nothing", steps(`{"name": "early", "type": "DataPlane"}`), member},
		{"a pause that moves something", steps(`{"name": "go", "type": "Pause", "dataPlane": {"wave": "early"}}`), member},
		{
			"a move that pauses",
			steps(`{"name": "early", "type": "DataPlane", "dataPlane": {"wave": "early"}, "pause": {"durationSeconds": 60}}`),
			"pause belongs to type Pause only",
		},
		{
			"promotion is no step of the user's", steps(`{"name": "promote", "type": "Promote", "dataPlane": {"wave": "rest"}}`),
			"the rollout promotes by itself",
		},
		{"a step of no type", steps(`{"name": "go"}`), "type"},
		{"a type that there is not", steps(`{"name": "go", "type": "Hurry"}`), "Unsupported value"},
		{"two steps of one name", steps(`{"name": "go", "type": "Pause"}, {"name": "go", "type": "Pause"}`), "Duplicate value"},
		{"nothing of a wave", steps(`{"name": "a", "type": "DataPlane", "dataPlane": {"wave": "rest", "percent": 0}}`), "percent"},
		{"more than a wave", steps(`{"name": "a", "type": "DataPlane", "dataPlane": {"wave": "rest", "percent": 101}}`), "percent"},
		{"a pause of no time", steps(`{"name": "go", "type": "Pause", "pause": {"durationSeconds": 0}}`), "durationSeconds"},

		{"one at a time", unavailable(`1`), ""},
		{"many at a time", unavailable(`10000`), ""},
		{"a share", unavailable(`"1%"`), ""},
		{"a share of two digits", unavailable(`"25%"`), ""},
		{"all", unavailable(`"100%"`), ""},
		{"none at a time: it would never end", unavailable(`0`), limit},
		{"less than none", unavailable(`-1`), limit},
		{"too many", unavailable(`10001`), limit},
		{"no share", unavailable(`"0%"`), limit},
		{"more than all", unavailable(`"101%"`), limit},
		{"a number that is written as a text", unavailable(`"10"`), limit},
		{"a part of a percent", unavailable(`"1.5%"`), limit},
		{"a zero before it", unavailable(`"05%"`), limit},

		{"the old revision goes at once", `"upgrade": {"canary": {"retireAfterSeconds": 0}}`, ""},
		{"a deadline that is too short", `"upgrade": {"progressDeadlineSeconds": 9}`, "progressDeadlineSeconds"},
		{"no history", `"upgrade": {"rolloutHistoryLimit": 0}`, "rolloutHistoryLimit"},
		{
			"a window that closes as it opens", `"upgrade": {"windows": [{"schedule": "0 2 * * 6", "durationSeconds": 59}]}`,
			"durationSeconds",
		},
		{"a choice that there is not", `"upgrade": {"onFailure": "Ignore"}`, "Unsupported value"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			expectInvalid(t, c.admin.Create(t.Context(), installation(tc.spec), client.DryRunAll), tc.refused)
		})
	}

	t.Run("every default is written out", func(t *testing.T) {
		least := &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
		least.Spec.Version = "1.29"
		if err := c.admin.Create(t.Context(), least, client.DryRunAll); err != nil {
			t.Fatal(err)
		}
		ten, day := intstr.FromString("10%"), int32(86400)
		restart := v1alpha1.Restart{Type: v1alpha1.RestartRollout, MaxUnavailable: &ten}
		if diff := cmp.Diff(restart, least.Spec.DataPlane.Restart); diff != "" {
			t.Errorf("restart (-want +got):\n%s", diff)
		}
		upgrade := v1alpha1.Upgrade{
			Type: v1alpha1.UpgradeCanary, UnsupportedKubernetes: v1alpha1.UnsupportedKubernetesRefuse,
			AutoUpgrade: v1alpha1.AutoUpgradeNone, OnFailure: v1alpha1.OnFailureRollBack, VersionSkew: v1alpha1.VersionSkewRefuse,
			ProgressDeadlineSeconds: 1800, RolloutHistoryLimit: 10,
			Canary:   v1alpha1.Canary{RevisionFor: v1alpha1.RevisionForVersion, RetireAfterSeconds: &day},
			Analysis: v1alpha1.Analysis{Health: v1alpha1.Health{MinRequests: 50, FalseAlarmPermille: 10}},
		}
		if diff := cmp.Diff(upgrade, least.Spec.Upgrade); diff != "" {
			t.Errorf("upgrade (-want +got):\n%s", diff)
		}
	})
}

// grant gives a user rights on rollouts, on one of them only where it is named.
func (c *cluster) grant(t *testing.T, user string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	for i := range rules {
		rules[i].APIGroups, rules[i].Resources = []string{v1alpha1.GroupVersion.Group}, []string{"meshrollouts"}
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "test-" + user}, Rules: rules}
	if err := c.admin.Create(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	c.bind(t, user, role.Name)
}

func (c *cluster) bind(t *testing.T, user, role string) {
	t.Helper()
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "test-" + user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
	}
	if err := c.admin.Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
}

// verbs are the rights by which people steer a rollout, and what each of them lets them write under their own name.
var verbs = []struct{ verb, spec string }{
	{"pause", `{"paused": true}`},
	{"abort", `{"goal": "Abort"}`},
	{"rollback", `{"goal": "RollBack"}`},
	{"approve", `{"approvals": [{"step": "early", "by": "earlier"}, {"step": "go", "by": "USER"}]}`},
	{"retry", `{"retries": 1}`},
	{"waive", `{"waivers": [{"proof": "Configuration", "by": "USER", "expires": "2026-03-01T12:00:00Z"}]}`},
}

// Who may steer a rollout: each verb is a right of its own, and nobody speaks for somebody else.
func TestVerbsOfRollouts(t *testing.T) {
	c := start(t)
	c.install(t, "rbac")
	c.install(t, "policy")
	operator := c.operator(t)
	awaitRights(t, operator)
	for _, name := range []string{"default-1", "default-2"} {
		rollout := object(t, rolloutOf(name, `, "approvals": [{"step": "early", "by": "earlier"}]`))
		if err := operator.Create(t.Context(), rollout); err != nil {
			t.Fatalf("the operator creates a rollout: %v", err)
		}
	}
	users := map[string]client.Client{}
	for _, v := range verbs {
		users[v.verb] = c.as(t, v.verb)
		c.grant(t, v.verb, rbacv1.PolicyRule{Verbs: []string{"get", "patch", v.verb}})
	}
	c.grant(t, "nobody", rbacv1.PolicyRule{Verbs: []string{"get", "patch"}})
	c.grant(t, "first", rbacv1.PolicyRule{Verbs: []string{"get", "patch"}},
		rbacv1.PolicyRule{Verbs: []string{"approve"}, ResourceNames: []string{"default-1"}})
	c.bind(t, "approver", "meshwright-rollout-approver")
	c.bind(t, "oncall", "meshwright-rollout-operator")
	for _, name := range []string{"nobody", "first", "approver", "oncall"} {
		users[name] = c.as(t, name)
	}
	c.awaitRolloutPolicies(t, users["nobody"], users["oncall"])

	may := func(user, verb string) bool {
		switch user {
		case "nobody":
			return false
		case "first", "approver":
			return verb == "approve"
		case "oncall":
			return true
		}
		return user == verb
	}
	for user, cl := range users {
		for _, v := range verbs {
			err := patch(t.Context(), cl, "default-1", strings.ReplaceAll(v.spec, "USER", user))
			switch {
			case may(user, v.verb) && err != nil:
				t.Errorf("%s may not %s: %v", user, v.verb, err)
			case !may(user, v.verb) && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "needs the right to "+v.verb)):
				t.Errorf("%s may %s: %v, want Forbidden for want of the right", user, v.verb, err)
			}
		}
	}

	const theirs = `{"approvals": [{"step": "early", "by": "earlier"}, {"step": "go", "by": "somebody"}]}`
	for _, tc := range []struct {
		reason, rollout, spec, refused string
		client                         client.Client
	}{
		{"nobody approves for somebody else", "default-1", theirs, "by has to be your own name: approver", users["approver"]},
		{"whatever their rights", "default-1", theirs, "by has to be your own name: ", c.admin},
		{
			"an approval of one's own does not hide one of somebody else's", "default-1",
			`{"approvals": [{"step": "early", "by": "earlier"}, {"step": "go", "by": "approver"}, {"step": "promote", "by": "somebody"}]}`,
			"by has to be your own name: approver", users["approver"],
		},
		{
			"nobody waives for somebody else", "default-1",
			`{"waivers": [{"proof": "Injection", "by": "somebody", "expires": "2026-03-01T12:00:00Z"}]}`,
			"by has to be your own name: oncall", users["oncall"],
		},
		{
			"a right on one rollout is none on another", "default-2", strings.ReplaceAll(verbs[3].spec, "USER", "first"),
			"needs the right to approve", users["first"],
		},
		{
			"an approval does not carry a pause along", "default-1",
			`{"paused": true, "approvals": [{"step": "early", "by": "earlier"}, {"step": "go", "by": "approver"}]}`,
			"needs the right to pause", users["approver"],
		},
		{"the operator turns back what its mesh has superseded", "default-1", verbs[2].spec, "", operator},
		{
			"the operator approves nothing", "default-1",
			strings.ReplaceAll(verbs[3].spec, "USER", "system:serviceaccount:meshwright-system:meshwright"),
			"needs the right to approve", operator,
		},
		{"nor lets it try again", "default-1", verbs[4].spec, "needs the right to retry", operator},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			err := patch(t.Context(), tc.client, tc.rollout, tc.spec)
			switch {
			case tc.refused == "" && err != nil:
				t.Errorf("%v, want no error", err)
			case tc.refused != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), tc.refused)):
				t.Errorf("%v, want Forbidden with %q", err, tc.refused)
			}
		})
	}

	t.Run("going on is a verb too", func(t *testing.T) {
		o := &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: "default-2"}}
		paused := client.RawPatch(types.MergePatchType, []byte(`{"spec": {"paused": true}}`))
		if err := users["pause"].Patch(t.Context(), o, paused); err != nil {
			t.Fatal(err)
		}
		if err := patch(t.Context(), users["approver"], o.Name, `{"paused": false}`); !apierrors.IsForbidden(err) {
			t.Errorf("an approver lets it go on: %v, want Forbidden", err)
		}
		if err := patch(t.Context(), users["pause"], o.Name, `{"paused": false}`); err != nil {
			t.Errorf("who paused it lets it go on: %v", err)
		}
	})

	t.Run("a rollout is created and deleted by the operator only", func(t *testing.T) {
		const policy = "created and deleted by Meshwright only"
		o := object(t, rolloutOf("default-1", ""))
		for name, cl := range map[string]client.Client{"an administrator": c.admin, "who may steer it": users["oncall"]} {
			created := object(t, rolloutOf("default-3", ""))
			if err := cl.Create(t.Context(), created); !apierrors.IsForbidden(err) {
				t.Errorf("%s creates one: %v, want Forbidden", name, err)
			}
			if err := cl.Delete(t.Context(), o); !apierrors.IsForbidden(err) {
				t.Errorf("%s deletes one: %v, want Forbidden", name, err)
			}
		}
		if err := c.admin.Delete(t.Context(), o); err == nil || !strings.Contains(err.Error(), policy) {
			t.Errorf("%v, want that %q", err, policy)
		}
		if err := operator.Delete(t.Context(), o); err != nil {
			t.Errorf("the operator deletes one: %v", err)
		}
	})

	t.Run("status is written by the operator only", func(t *testing.T) {
		status := client.RawPatch(types.MergePatchType, []byte(`{"status": {"summary": "3/3"}}`))
		for name, cl := range map[string]client.Client{"an administrator": c.admin, "who may steer it": users["oncall"]} {
			o := &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: "default-2"}}
			if err := cl.Status().Patch(t.Context(), o, status); !apierrors.IsForbidden(err) {
				t.Errorf("%s writes it: %v, want Forbidden", name, err)
			}
		}
		o := &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: "default-2"}}
		if err := operator.Status().Patch(t.Context(), o, status); err != nil {
			t.Errorf("the operator writes it: %v", err)
		}
	})

	t.Run("the operator creates pods by a dry run only", func(t *testing.T) {
		for _, namespace := range []string{"istio-system", "team"} {
			if err := operator.Create(t.Context(), trialPod(namespace), client.DryRunAll); err != nil {
				t.Errorf("a dry run in %s: %v", namespace, err)
			}
			err := operator.Create(t.Context(), trialPod(namespace))
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "no pod but by a dry run") {
				t.Errorf("a pod in %s: %v, want Forbidden", namespace, err)
			}
		}
		if err := c.admin.Create(t.Context(), trialPod("team")); err != nil {
			t.Errorf("others create pods: %v", err)
		}
	})
}

func trialPod(namespace string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "trial-", Namespace: namespace},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
}

// awaitRolloutPolicies waits until the API server applies the policies of rollouts, and its authorizer knows the users: nobody has
// a right to patch only, oncall has every verb.
func (c *cluster) awaitRolloutPolicies(t *testing.T, nobody, oncall client.Client) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		for _, user := range []client.Client{nobody, oncall} {
			if ok, err := may(ctx, user, "patch", v1alpha1.GroupVersion.Group, "meshrollouts", "", ""); !ok || err != nil {
				return false, err
			}
		}
		ready := apierrors.IsForbidden(patch(ctx, nobody, "default-1", `{"paused": true}`)) &&
			patch(ctx, oncall, "default-1", `{"paused": true}`) == nil &&
			apierrors.IsForbidden(c.admin.Create(ctx, object(t, rolloutOf("probe", "")), client.DryRunAll)) &&
			apierrors.IsForbidden(c.operator(t).Create(ctx, trialPod("istio-system"))) &&
			apierrors.IsForbidden(c.admin.Status().Patch(ctx, &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: "default-1"}},
				client.RawPatch(types.MergePatchType, []byte(`{"status": {"summary": "0/3"}}`)), client.DryRunAll))
		return ready, nil
	})
	if err != nil {
		t.Fatalf("the policies never applied: %v", err)
	}
}
