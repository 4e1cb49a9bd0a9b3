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
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
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

// With the rights of config/rbac the operator applies the policies, puts them back, removes what it no longer has, and leaves those of others.
func TestPoliciesAreKept(t *testing.T) {
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
	k := &Keeper{Client: operator, Namespace: namespace, Clock: clocktesting.NewFakeClock(time.Now())}
	theirs := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}}
	theirs.Spec = admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: "theirs", ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
	}
	former := theirs.DeepCopy()
	former.Name, former.Labels = "former", map[string]string{Label: Kept}
	for _, o := range []client.Object{theirs, former} {
		if err := admin.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}

	for _, tc := range []struct {
		reason string
		change func() error
	}{
		{"nothing is there but what an older version kept", func() error { return nil }},
		{"nothing has changed", func() error { return nil }},
		{"a binding is gone", func() error {
			return admin.Delete(t.Context(), &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "meshwright-pods"}})
		}},
		{"a policy fails open", func() error {
			patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"failurePolicy":"Ignore"}}`))
			return admin.Patch(t.Context(), &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "meshwright-secrets"}}, patch)
		}},
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
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(former), former); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("what an older version kept: %v, want it gone", err)
	}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(theirs), theirs); err != nil {
		t.Errorf("the policy of another: %v", err)
	}
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
