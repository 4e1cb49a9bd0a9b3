// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package upgrade

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// A mesh moves from 1.28.2 to 1.29.1 and on to 1.31.0 under 200 requests a second. The first rollout stands at a pause until
// somebody who may do nothing else approves it; a tag, as istioctl sees it, follows; during the second one users deploy.
func TestForward(t *testing.T) {
	begin(t, func(m *v1alpha1.MeshInstallation) {
		m.Spec.Tags = []v1alpha1.Tag{{Name: "prod"}}
		m.Spec.Upgrade.Canary.Steps = []v1alpha1.Step{step("early", "early", 100), pause("go")}
	})
	tagged := framework.Echo{Namespace: "tagged", Name: "tagged", Version: "v1", Replicas: 1}
	env.TemporaryNamespace(t, tagged.Namespace, map[string]string{v1alpha1.IstioRevision: "prod"})
	deploy(t, tagged)
	enroll(t, "clients", "rest", rev128)

	t.Run("to 1.29.1, with an approval", func(t *testing.T) {
		trace(t, "default-1")
		finishPay, finishCart := load(t, pay, 50), load(t, cart, 50)
		setVersion(t, framework.Istio129)
		wait(t, "default-1", "to wait for the approval", awaitingApproval)
		at(t, pay, rev129)
		at(t, cart, rev128)
		tags(t, "prod", rev128)
		approveAs(t, "default-1", "go")
		wait(t, "default-1", "to have moved everything", allMoved)
		tags(t, "prod", rev129)
		finishPay()
		finishCart()
		o := wait(t, "default-1", "to be completed", framework.Ended(v1alpha1.OutcomeCompleted))
		if by := o.Status.Steps[1].ApprovedBy; by != "system:serviceaccount:clients:approver" {
			t.Errorf("the approval is recorded as that of %q", by)
		}
		only(t, rev129, pay, cart, tagged)
	})
	t.Run("to 1.31.0, while users deploy", func(t *testing.T) {
		trace(t, "default-2")
		finishPay, finishCart := load(t, pay, 50), load(t, cart, 50)
		setVersion(t, framework.Istio131)
		wait(t, "default-2", "to begin", func(o *v1alpha1.MeshRollout) bool { return o.Status.Progress.Proven != nil })
		for _, version := range []string{"v2", "v3"} {
			app := cart
			app.Version = version
			deploy(t, app)
		}
		wait(t, "default-2", "to wait for the approval", awaitingApproval)
		approve(t, "default-2", "go")
		app := cart
		app.Version = "v4"
		deploy(t, app)
		wait(t, "default-2", "to have moved everything", allMoved)
		finishPay()
		finishCart()
		wait(t, "default-2", "to be completed", framework.Ended(v1alpha1.OutcomeCompleted))
		only(t, rev131, pay, cart, tagged)
	})
}

// tags looks at a tag through istioctl.
func tags(t *testing.T, tag, revision string) {
	t.Helper()
	out, err := env.Istioctl(t.Context(), "tag", "list")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(out, "\n") {
		fields := strings.Fields(line)
		if len(fields) >= 2 && fields[0] == tag {
			if fields[1] != revision {
				t.Errorf("istioctl sees tag %s at %s, want %s", tag, fields[1], revision)
			}
			return
		}
	}
	t.Errorf("istioctl sees no tag %s:\n%s", tag, out)
}

// approveAs approves a step as a service account that may approve, and sees to it that it may do nothing else.
func approveAs(t *testing.T, rollout, step string) {
	t.Helper()
	approver, name, err := env.ServiceAccount(t.Context(), "clients", "approver", "meshwright-rollout-approver")
	if err != nil {
		t.Fatal(err)
	}
	try := func(spec string) error {
		o := &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: rollout}}
		return approver.Patch(t.Context(), o, client.RawPatch("application/merge-patch+json", []byte(`{"spec":`+spec+`}`)))
	}
	for reason, spec := range map[string]string{
		"to pause":                    `{"paused":true}`,
		"to abort":                    `{"goal":"Abort"}`,
		"to roll back":                `{"goal":"RollBack"}`,
		"to retry":                    `{"retries":1}`,
		"to waive":                    `{"waivers":[{"proof":"Injection","by":"` + name + `","expires":"2036-01-01T00:00:00Z"}]}`,
		"to approve in another name":  `{"approvals":[{"step":"` + step + `","by":"somebody"}]}`,
		"to approve an unknown step":  `{"approvals":[{"step":"nowhere","by":"` + name + `"}]}`,
		"to change what is to happen": `{"plan":{"onFailure":"Pause"}}`,
	} {
		if err := try(spec); !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) {
			t.Errorf("an approver was allowed %s: %v", reason, err)
		}
	}
	if err := try(`{"approvals":[{"step":"` + step + `","by":"` + name + `"}]}`); err != nil {
		t.Errorf("an approver could not approve: %v", err)
	}
}
