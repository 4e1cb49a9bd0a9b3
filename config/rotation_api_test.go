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

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// TestRulesOfCertificates tries what the schemas say of CAs and their rotations.
func TestRulesOfCertificates(t *testing.T) {
	c := start(t)
	ca := func(text string) string { return `"certificates": {"ca": {` + text + `}}` }
	for _, tc := range []struct{ reason, spec, refused string }{
		{"istiod's own", ca(`"type": "Istiod"`), ""},
		{"Meshwright's, with all defaults", ca(`"type": "Managed"`), ""},
		{"Meshwright's, of another algorithm", ca(`"type": "Managed", "managed": {"algorithm": "RSA-3072"}`), ""},
		{"an algorithm that proxies don't verify", ca(`"type": "Managed", "managed": {"algorithm": "Ed25519"}`), "Unsupported value"},
		{"a root that ends before what it signs", ca(`"type": "Managed", "managed": {"rootSeconds": 7200, "intermediateSeconds": 7200}`), "a root has to live longer"},
		{"an offline root without an answer", ca(`"type": "Managed", "managed": {"root": "Offline"}`), "answer is required for root Offline"},
		{"an offline root", ca(`"type": "Managed", "managed": {"root": "Offline", "answer": {"name": "signed"}}`), ""},
		{"the user's", ca(`"type": "Secret", "secret": {"name": "mesh-ca"}`), ""},
		{"the user's, without a name", ca(`"type": "Secret"`), "secret is required for type Secret"},
		{"what istiod reads, as a source", ca(`"type": "Secret", "secret": {"name": "cacerts"}`), "give your source another name"},
		{"cert-manager's", ca(`"type": "CertManager", "certManager": {"issuerRef": {"name": "mesh"}}`), ""},
		{"cert-manager's, of nobody", ca(`"type": "CertManager"`), "certManager is required for type CertManager"},
		{"two sources", ca(`"type": "Managed", "secret": {"name": "mesh-ca"}`), "secret is required for type Secret"},
		{"leaves too short for agents", `"certificates": {"leafSeconds": 60}`, "leafSeconds"},
		{"a phase that there is not", `"certificates": {"rotation": {"approve": ["Hope"]}}`, "Unsupported value"},
	} {
		t.Run(tc.reason, func(t *testing.T) { c.expectMesh(t, tc.spec, tc.refused) })
	}
	if err := c.admin.Create(t.Context(), object(t, rotationOf("default-1", "Source"))); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ reason, spec, refused string }{
		{"another mesh", `{"mesh": "other"}`, "mesh and change are immutable"},
		{"another change", `{"change": "Root"}`, "mesh and change are immutable"},
		{"no phase", `{"approvals": [{"step": "hope", "by": "me"}]}`, "step is a phase"},
		{"a phase", `{"approvals": [{"step": "Drop", "by": "me"}]}`, ""},
		{"a proxy that is done without", `{"waivers": [{"proxy": "shop/cart-0", "by": "me", "expires": "2036-01-01T00:00:00Z"}]}`, ""},
	} {
		t.Run(tc.reason, func(t *testing.T) { expectInvalid(t, steer(t.Context(), c.admin, tc.spec), tc.refused) })
	}
}

func rotationOf(name, change string) string {
	return fmt.Sprintf(`{"apiVersion": "meshwright.io/v1alpha1", "kind": "MeshRotation", "metadata": {"name": %q}, "spec": {"mesh": "default", "change": %q}}`, name, change)
}

// steer is what the API server would say to a change of a rotation's spec, which is not made.
func steer(ctx context.Context, cl client.Client, spec string) error {
	o := &v1alpha1.MeshRotation{ObjectMeta: metav1.ObjectMeta{Name: "default-1"}}
	return cl.Patch(ctx, o, client.RawPatch(types.MergePatchType, []byte(`{"spec": `+spec+`}`)), client.DryRunAll)
}

// Who may steer a rotation: each verb is a right of its own, nobody speaks for somebody else, no phase is skipped, and what has begun is not deleted.
func TestVerbsOfRotations(t *testing.T) {
	c := start(t)
	c.install(t, "rbac")
	c.install(t, "policy")
	operator := c.operator(t)
	awaitRights(t, operator)
	const begun = `{"status": {"plan": {"kind": "Root", "source": "Managed", "from": {"root": "a", "issuer": "a"}, "to": {"root": "b", "issuer": "b"},
		"phases": ["Trust", "Sign", "Drain", "Drop"], "leafSeconds": 86400, "settleSeconds": 120, "progressDeadlineSeconds": 3600},
		"progress": {"phase": "Trust", "entered": "2026-03-01T12:00:00Z"}}}`
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		return operator.Create(ctx, object(t, rotationOf("default-1", "Source"))) == nil, nil
	})
	if err != nil {
		t.Fatal("the operator never created a rotation")
	}
	one := &v1alpha1.MeshRotation{ObjectMeta: metav1.ObjectMeta{Name: "default-1"}}
	if err := operator.Status().Patch(t.Context(), one, client.RawPatch(types.MergePatchType, []byte(begun))); err != nil {
		t.Fatal(err)
	}
	each := map[string]string{
		"pause": `{"paused": true}`, "abort": `{"goal": "Abort"}`, "rollback": `{"goal": "RollBack"}`,
		"approve": `{"approvals": [{"step": "Sign", "by": "USER"}]}`,
		"waive":   `{"waivers": [{"proxy": "shop/cart-0", "by": "USER", "expires": "2036-01-01T00:00:00Z"}]}`,
	}
	users := map[string]client.Client{"nobody": c.as(t, "nobody"), "oncall": c.as(t, "oncall")}
	c.grantRotations(t, "nobody", "get", "create", "patch", "delete")
	c.bind(t, "oncall", "meshwright-rotation-operator")
	for verb := range each {
		users[verb] = c.as(t, verb)
		c.grantRotations(t, verb, "get", "patch", verb)
	}
	err = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		return steer(ctx, users["oncall"], each["pause"]) == nil && apierrors.IsForbidden(steer(ctx, users["nobody"], each["pause"])) &&
			apierrors.IsForbidden(users["nobody"].Create(ctx, object(t, rotationOf("revoking", "Revoke")), client.DryRunAll)), nil
	})
	if err != nil {
		t.Fatalf("the policies never applied: %v", err)
	}
	for user, cl := range users {
		for verb, spec := range each {
			err := steer(t.Context(), cl, strings.ReplaceAll(spec, "USER", user))
			switch allowed := user == verb || user == "oncall"; {
			case allowed && err != nil:
				t.Errorf("%s may not %s: %v", user, verb, err)
			case !allowed && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "needs the right to "+verb)):
				t.Errorf("%s may %s: %v, want Forbidden for want of the right", user, verb, err)
			}
		}
	}
	for reason, tc := range map[string]struct {
		err     error
		refused string
	}{
		"nobody approves for somebody else": {steer(t.Context(), users["oncall"], `{"approvals": [{"step": "Sign", "by": "somebody"}]}`), "by has to be your own name: oncall"},
		"nobody waives for somebody else": {
			steer(t.Context(), users["oncall"], `{"waivers": [{"proxy": "a/b", "by": "somebody", "expires": "2036-01-01T00:00:00Z"}]}`), "by has to be your own name: oncall",
		},
		"a phase is not skipped": {steer(t.Context(), users["oncall"], `{"approvals": [{"step": "Drop", "by": "oncall"}]}`), "a phase can be approved when the one before it has begun"},
		"to revoke is a right":   {users["nobody"].Create(t.Context(), object(t, rotationOf("revoking", "Revoke"))), "needs the right to revoke"},
		"a rotation does not come with an approval": {
			users["oncall"].Create(t.Context(), object(t, strings.Replace(rotationOf("ready", "Root"), `"mesh"`, `"approvals": [{"step": "Drop", "by": "oncall"}], "mesh"`, 1))),
			"created without verbs",
		},
		"what has begun is not deleted": {users["oncall"].Delete(t.Context(), one.DeepCopy()), "would be left between two roots"},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.refused) {
			t.Errorf("%s: %v, want %q", reason, tc.err, tc.refused)
		}
	}
	if err := users["oncall"].Create(t.Context(), object(t, rotationOf("revoking", "Revoke"))); err != nil {
		t.Errorf("who may revoke, may: %v", err)
	}
	t.Run("of pods, the operator annotates istiod's only", func(t *testing.T) {
		for app, allowed := range map[string]bool{"istiod": true, "shop": false} {
			pod := trialPod("default")
			pod.GenerateName, pod.Name, pod.Labels = "", app, map[string]string{"app": app}
			if err := c.admin.Create(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			for patch, may := range map[string]bool{
				`{"metadata": {"annotations": {"meshwright.io/cacerts": "1"}}}`: allowed,
				`{"metadata": {"labels": {"app": "other"}}}`:                    false,
				`{"spec": {"activeDeadlineSeconds": 1}}`:                        false,
			} {
				err := operator.Patch(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: app}},
					client.RawPatch(types.MergePatchType, []byte(patch)), client.DryRunAll)
				if may != (err == nil) || err != nil && !apierrors.IsForbidden(err) {
					t.Errorf("a pod of %s, patched with %s: %v", app, patch, err)
				}
			}
		}
	})
}

func (c *cluster) grantRotations(t *testing.T, user string, verbs ...string) {
	t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "test-" + user}, Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"meshrotations"}, Verbs: verbs,
	}}}
	if err := c.admin.Create(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	c.bind(t, user, role.Name)
}
