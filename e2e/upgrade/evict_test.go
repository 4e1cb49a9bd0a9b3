// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && long

package upgrade

import (
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Pods are evicted one at a time. A budget that allows nothing is found before anything begins; acknowledged, it is obeyed all the
// same: nothing is lost, the rollout says what refuses, and goes on when the budget does.
func TestEvictionsObeyBudgets(t *testing.T) {
	begin(t, func(m *v1alpha1.MeshInstallation) {
		m.Spec.DataPlane.Restart = v1alpha1.Restart{Type: v1alpha1.RestartEvict, MaxUnavailable: new(intstr.FromInt32(1))}
	})
	enroll(t, "clients", "rest", rev128)
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: pay.Namespace, Name: "all"},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: new(intstr.FromString("100%")), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": pay.Name}},
		},
	}
	if err := env.Client.Create(t.Context(), budget); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitBudget(t.Context(), budget, pay.Replicas); err != nil {
		t.Fatal(err)
	}
	setVersion(t, framework.Istio129)
	mesh, err := env.WaitCondition(t.Context(), "default", v1alpha1.ConditionUpToDate, metav1.ConditionFalse, v1alpha1.ReasonPreflight)
	if err != nil {
		t.Fatal(err)
	}
	if mesh.Status.ActiveOperation != nil {
		t.Error("a rollout was granted although a budget allows nothing")
	}
	trace(t, "default-1")
	finishPay, finishCart := load(t, pay, 45), load(t, cart, 45)
	change(t, `{"spec":{"upgrade":{"acknowledged":["PodDisruptionBudget/pay/all"]}}}`)
	refused := func(o *v1alpha1.MeshRollout) bool {
		return len(o.Status.Steps) > 0 && framework.Mentions(o, "refused: Deployment/pay/pay", "disruption budget")
	}
	wait(t, "default-1", "to say that evictions are refused", refused)
	at(t, pay, rev128)
	if err := env.Client.Delete(t.Context(), budget); err != nil {
		t.Fatal(err)
	}
	wait(t, "default-1", "to have moved everything", allMoved)
	finishPay()
	finishCart()
	wait(t, "default-1", "to be completed", framework.Ended(v1alpha1.OutcomeCompleted))
	only(t, rev129, pay, cart)
}
