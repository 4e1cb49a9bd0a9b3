// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && long

package upgrade

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Four rollouts that do not get there: each ends with everything at the old revision, and no request is lost where the application
// behaves.
func TestBack(t *testing.T) {
	begin(t, func(m *v1alpha1.MeshInstallation) {
		m.Spec.Upgrade.ProgressDeadlineSeconds = 60
		m.Spec.Upgrade.Canary.Steps = []v1alpha1.Step{pause("begin"), step("early", "early", 100), pause("go")}
	})
	enroll(t, "clients", "rest", rev128)

	t.Run("aborted before the first wave", func(t *testing.T) {
		trace(t, "default-1")
		setVersion(t, framework.Istio129)
		wait(t, "default-1", "to wait for the first approval", awaitingApproval)
		steer(t, "default-1", map[string]any{"goal": "Abort"})
		wait(t, "default-1", "to be aborted", framework.Ended(v1alpha1.OutcomeAborted))
		only(t, rev128, pay, cart)
		// The target is not tried again by itself.
		if _, err := env.WaitCondition(t.Context(), "default", v1alpha1.ConditionUpToDate, metav1.ConditionFalse, v1alpha1.ReasonTargetFailed); err != nil {
			t.Error(err)
		}
		setVersion(t, framework.Istio128)
	})
	t.Run("rolled back from the middle, by putting the version back", func(t *testing.T) {
		trace(t, "default-2")
		finishPay, finishCart := load(t, pay, 45), load(t, cart, 45)
		setVersion(t, framework.Istio129)
		wait(t, "default-2", "to wait for the first approval", awaitingApproval)
		approve(t, "default-2", "begin")
		wait(t, "default-2", "to wait for the second approval", func(o *v1alpha1.MeshRollout) bool {
			return awaitingApproval(o) && o.Status.Progress.Step == 2
		})
		at(t, pay, rev129)
		setVersion(t, framework.Istio128)
		wait(t, "default-2", "to be rolled back", framework.Ended(v1alpha1.OutcomeRolledBack))
		only(t, rev128, pay, cart)
		finishPay()
		finishCart()
	})
	t.Run("a canary that cannot start", func(t *testing.T) {
		trace(t, "default-3")
		change(t, `{"spec":{"version":"`+framework.Istio129+`","upgrade":{"progressDeadlineSeconds":20},"controlPlane":{"values":{"nodeSelector":{"nowhere":"yes"}}}}}`)
		o := wait(t, "default-3", "to be rolled back", framework.Ended(v1alpha1.OutcomeRolledBack))
		if o.Status.Progress.FailureReason != v1alpha1.ReasonCanaryFailed {
			t.Errorf("it failed for %s: %s", o.Status.Progress.FailureReason, o.Status.Progress.Failure)
		}
		only(t, rev128, pay, cart)
		change(t, `{"spec":{"version":"`+framework.Istio128+`","upgrade":{"progressDeadlineSeconds":60},"controlPlane":{"values":{"nodeSelector":null}}}}`)
		if _, err := env.WaitReady(t.Context(), "default"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("a workload whose new pods crash", func(t *testing.T) {
		trace(t, "default-4")
		fragile := pay
		fragile.CrashOn = rev129
		deploy(t, fragile)
		finishPay, finishCart := load(t, pay, 45), load(t, cart, 45)
		setVersion(t, framework.Istio129)
		wait(t, "default-4", "to wait for the first approval", awaitingApproval)
		approve(t, "default-4", "begin")
		o := wait(t, "default-4", "to be rolled back", framework.Ended(v1alpha1.OutcomeRolledBack))
		if !strings.Contains(o.Status.Progress.Failure, "Deployment/pay/pay") || !strings.Contains(o.Status.Progress.Failure, "CrashLoopBackOff in container echo") {
			t.Errorf("the failure does not name workload, reason and container: %s", o.Status.Progress.Failure)
		}
		only(t, rev128, pay, cart)
		finishPay()
		finishCart()
	})
}

// change patches the mesh.
func change(t *testing.T, patch string) {
	t.Helper()
	m := &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if err := env.Client.Patch(t.Context(), m, client.RawPatch("application/merge-patch+json", []byte(patch))); err != nil {
		t.Fatal(err)
	}
}
