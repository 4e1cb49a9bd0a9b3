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

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
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
		{"create", "", "pods", "team", "", "workloads are Deployments, whose template is in the inventory"},
		{"delete", "", "pods", "team", "", "nothing is restarted"},
		{"create", "", "pods/exec", "istio-system", "", "nothing runs inside a pod"},
		{"create", "", "pods/eviction", "team", "", "nothing is evicted"},
		{"patch", "", "secrets", "team", "", "istiod is not granted it"},
		{"deletecollection", "", "secrets", "team", "", "secrets are deleted by name"},
		{"delete", "", "nodes", "", "", "nodes are not a mesh's"},
		{"create", "", "serviceaccounts/token", "istio-system", "", "it acts as nobody else"},
		{"impersonate", "", "users", "", "", "it acts as nobody else"},
		{"escalate", rbacv1.GroupName, "clusterroles", "", "", "it grants what it holds"},
		{"bind", rbacv1.GroupName, "clusterroles", "", "cluster-admin", "it grants what it holds"},
		{"create", "batch", "jobs", "istio-system", "", "no chart has jobs"},
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
