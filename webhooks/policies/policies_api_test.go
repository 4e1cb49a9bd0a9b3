// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package policies

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/config/policy"
	"github.com/meshwright/meshwright/operator/testkit"
)

const (
	namespace = "operators" // another one than that of the files
	user      = "system:serviceaccount:" + namespace + ":meshwright"
)

// setUp starts an API server, and gives an administrator and a keeper with the rights of config/rbac. Requests are the keeper's.
func setUp(t *testing.T) (admin client.Client, k *Keeper, requests *testkit.Requests) {
	t.Helper()
	config := testkit.StartAPIServer(t)
	admin, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	grant(t, admin)
	own := rest.CopyConfig(config)
	own.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	counted, requests := testkit.Count(own)
	operator, err := client.New(counted, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	awaitRights(t, operator)
	return admin, &Keeper{Client: operator, Namespace: namespace, Clock: clocktesting.NewFakeClock(time.Now())}, requests
}

// someBinding is in the cluster, with or without the label of what is kept.
func someBinding(t *testing.T, admin client.Client, name string, labels map[string]string) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	t.Helper()
	out := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	out.Spec = admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: name, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
	}
	if err := admin.Create(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	return out
}

// expectThere says which of some bindings are in the cluster.
func expectThere(t *testing.T, admin client.Client, want map[string]bool) {
	t.Helper()
	got := map[string]bool{}
	for name := range want {
		err := admin.Get(t.Context(), client.ObjectKey{Name: name}, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{})
		if client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
		got[name] = err == nil
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("which bindings are there (-want +got):\n%s", diff)
	}
}

// With the rights of config/rbac the leader applies the policies, puts them back, removes what it no longer has, and leaves those of others.
func TestPoliciesAreKept(t *testing.T) {
	admin, k, requests := setUp(t)
	kept := map[string]string{Label: Kept}
	someBinding(t, admin, "theirs", nil)
	someBinding(t, admin, "theirs-labelled", kept)
	someBinding(t, admin, "meshwright-theirs", nil)
	someBinding(t, admin, "meshwright-former", kept)

	for _, tc := range []struct {
		reason string
		change func() error
	}{
		{"nothing is there but what an older version kept", func() error { return nil }},
		{"nothing has changed", func() error { return nil }},
		{"a binding is gone", func() error {
			return admin.Delete(t.Context(), &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "meshwright-pods"}})
		}},
		{"a policy fails open", func() error { return failOpen(t, admin) }},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			if err := tc.change(); err != nil {
				t.Fatal(err)
			}
			requests.Take()
			if err := k.Ensure(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := len(requests.Take()); n > 32 {
				t.Errorf("%d requests", n)
			}
			expectPolicies(t, admin)
		})
	}
	expectThere(t, admin, map[string]bool{"theirs": true, "theirs-labelled": true, "meshwright-theirs": true, "meshwright-former": false})
}

// failOpen changes one policy, as another version or somebody may.
func failOpen(t *testing.T, admin client.Client) error {
	t.Helper()
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"failurePolicy":"Ignore"}}`))
	return admin.Patch(t.Context(), &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "meshwright-secrets"}}, patch)
}

// A replica that starts makes what is missing, and neither changes nor removes what is there: that may be a newer version's.
func TestStartAddsOnly(t *testing.T) {
	admin, k, requests := setUp(t)
	someBinding(t, admin, "meshwright-newer", map[string]string{Label: Kept})
	if err := k.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	expectPolicies(t, admin)
	if err := failOpen(t, admin); err != nil {
		t.Fatal(err)
	}
	missing := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "meshwright-pods"}}
	if err := admin.Delete(t.Context(), missing); err != nil {
		t.Fatal(err)
	}
	requests.Take()
	if err := k.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, request := range requests.Take() {
		if !strings.HasPrefix(request, "POST ") {
			t.Errorf("%s, want nothing but attempts to create", request)
		}
	}
	expectThere(t, admin, map[string]bool{"meshwright-newer": true, "meshwright-pods": true})
	changed := &admissionregistrationv1.ValidatingAdmissionPolicy{}
	if err := admin.Get(t.Context(), client.ObjectKey{Name: "meshwright-secrets"}, changed); err != nil {
		t.Fatal(err)
	}
	if got := *changed.Spec.FailurePolicy; got != admissionregistrationv1.Ignore {
		t.Errorf("a policy that was there got failure policy %s at the start", got)
	}
}

// What a start has created the leader owns as what it applied: a field that its version leaves out goes.
func TestLeaderAdoptsWhatAStartCreated(t *testing.T) {
	admin, k, _ := setUp(t)
	older := &unstructured.Unstructured{}
	wanted, err := k.wanted()
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range wanted {
		if o.GetKind() == "ValidatingAdmissionPolicy" && o.GetName() == "meshwright-secrets" {
			older = o
		}
	}
	conditions := []any{map[string]any{"name": "no-longer", "expression": "true"}}
	if err := unstructured.SetNestedSlice(older.Object, conditions, "spec", "matchConditions"); err != nil {
		t.Fatal(err)
	}
	if err := k.Client.Create(t.Context(), older, client.FieldOwner(manager)); err != nil {
		t.Fatal(err)
	}
	if err := k.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	expectPolicies(t, admin)
}

// What is removed is the object that was seen, not another one that has its name since then.
func TestOnlyWhatWasSeenIsRemoved(t *testing.T) {
	admin, k, _ := setUp(t)
	first := someBinding(t, admin, "meshwright-former", map[string]string{Label: Kept})
	seen, err := k.kept(t.Context())
	if err != nil || len(seen) != 1 {
		t.Fatalf("%d policies are kept (%v)", len(seen), err)
	}
	if err := admin.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	someBinding(t, admin, "meshwright-former", nil)
	if err := k.remove(t.Context(), seen[0]); !apierrors.IsConflict(err) {
		t.Errorf("%v, want a conflict", err)
	}
	expectThere(t, admin, map[string]bool{"meshwright-former": true})
}

// expectPolicies compares the specs in force with those of the files, under the namespace of the operator.
func expectPolicies(t *testing.T, admin client.Client) {
	t.Helper()
	wanted, err := policy.Objects(namespace)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range wanted {
		got := &unstructured.Unstructured{}
		got.SetGroupVersionKind(want.GroupVersionKind())
		if err := admin.Get(t.Context(), client.ObjectKeyFromObject(want), got); err != nil {
			t.Errorf("%s %s: %v", want.GetKind(), want.GetName(), err)
			continue
		}
		for _, field := range []string{"failurePolicy", "matchConditions", "variables", "validations", "policyName", "validationActions"} {
			want, _, _ := unstructured.NestedFieldNoCopy(want.Object, "spec", field)
			got, _, _ := unstructured.NestedFieldNoCopy(got.Object, "spec", field)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("spec.%s (-file +cluster):\n%s", field, diff)
			}
		}
	}
}

// grant gives the operator the ClusterRole of config/rbac that is about the kinds of Istio's charts, and nothing else.
func grant(t *testing.T, admin client.Client) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "config", "rbac", "zz_generated_role.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	const name = "meshwright-applies"
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), len(raw)); ; {
		var role rbacv1.ClusterRole
		if err := decoder.Decode(&role); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if role.Name != name {
			continue
		}
		if err := admin.Create(t.Context(), &role); err != nil {
			t.Fatal(err)
		}
	}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}}
	binding.RoleRef = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}
	binding.Subjects = []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}}
	if err := admin.Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
}

// awaitRights waits until the authorizer, which caches roles, has seen the grant.
func awaitRights(t *testing.T, operator client.Client) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: "patch", Group: "admissionregistration.k8s.io", Resource: "validatingadmissionpolicies",
			},
		}}
		err := operator.Create(ctx, review)
		return review.Status.Allowed, err
	})
	if err != nil {
		t.Fatal(err)
	}
}
