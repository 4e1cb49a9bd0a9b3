// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && long

package gateways

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// What users set of a gateway's size, budget, Service and pods is there during a shift, and after it has gone back, as it was before.
func TestHPA(t *testing.T) {
	values := framework.GatewayValues()
	values["autoscaling"] = map[string]any{"enabled": true, "minReplicas": 2, "maxReplicas": 6, "targetCPUUtilizationPercentage": 70}
	values["podDisruptionBudget"] = map[string]any{"minAvailable": 1}
	values["podAnnotations"] = map[string]any{"example.com/team": "edge"}
	values["annotations"] = map[string]any{"example.com/owner": "edge"}
	values["service"] = map[string]any{"type": "NodePort", "annotations": map[string]any{"example.com/balancer": "internal"}}
	begin(t, func(m *v1alpha1.MeshInstallation) {
		m.Spec.Gateways[0].Values = framework.Values(values)
		m.Spec.Upgrade.Canary.Steps = append(weights(50), v1alpha1.Step{Name: "go", Type: v1alpha1.StepPause})
	})
	// The chart says nothing of the size: it begins with one pod, until the autoscaler looks for the first time.
	if err := env.WaitFor(t.Context(), "the autoscaler's least number of pods", func(ctx context.Context) (bool, string, error) {
		gateway, err := env.Gateway(ctx, ingress)
		return err == nil && gateway.Status.Summary == "2/2", gateway.Status.Summary, err
	}); err != nil {
		t.Fatal(err)
	}
	before := settings(t)
	if before.Scaler.MaxReplicas != 6 || before.Template.Annotations["example.com/team"] != "edge" {
		t.Fatalf("the values are not there: %+v", before)
	}
	moments := observed(t, "default-1")
	traffic := send(t, ingress)
	setVersion(t, framework.Istio129)
	wait(t, "default-1", "to wait for the approval", framework.Acts(v1alpha1.ActAwaitApproval, v1alpha1.ReasonAwaitingApproval))
	during(t)
	if err := env.Steer(t.Context(), "default-1", map[string]any{"goal": string(v1alpha1.GoalRollBack)}); err != nil {
		t.Fatal(err)
	}
	wait(t, "default-1", "to be rolled back", framework.Ended(v1alpha1.OutcomeRolledBack))
	alone(t, rev128)
	allServed(t, traffic())
	unmoved(t, moments())
	if diff := cmp.Diff(before, settings(t)); diff != "" {
		t.Errorf("after the shift and back (-before +after):\n%s", diff)
	}
}

// set is what users set of a gateway, as the API server has it.
type set struct {
	Scaler                     autoscalingv2.HorizontalPodAutoscalerSpec
	Budget                     policyv1.PodDisruptionBudgetSpec
	Template                   corev1.PodTemplateSpec
	Service                    corev1.ServiceSpec
	OfDeployment, OfTheService map[string]string // annotations
}

// ofGateway are the objects of the gateway.
type ofGateway struct {
	scalers     autoscalingv2.HorizontalPodAutoscalerList
	budgets     policyv1.PodDisruptionBudgetList
	deployments appsv1.DeploymentList
	service     corev1.Service
}

func (o *ofGateway) read(ctx context.Context) error {
	for _, list := range []client.ObjectList{&o.scalers, &o.budgets, &o.deployments} {
		err := env.Client.List(ctx, list, client.InNamespace(ingress.Namespace), client.MatchingLabels{v1alpha1.LabelGateway: ingress.Name})
		if err != nil {
			return err
		}
	}
	return env.Client.Get(ctx, ingress, &o.service)
}

// settings reads them when there is one version.
func settings(t *testing.T) set {
	t.Helper()
	var o ofGateway
	if err := env.WaitFor(t.Context(), "the gateway to be of one version", func(ctx context.Context) (bool, string, error) {
		err := o.read(ctx)
		found := fmt.Sprintf("%d autoscalers, %d budgets, %d Deployments", len(o.scalers.Items), len(o.budgets.Items), len(o.deployments.Items))
		return err == nil && found == "1 autoscalers, 1 budgets, 1 Deployments", found, err
	}); err != nil {
		t.Fatal(err)
	}
	return set{
		Scaler: o.scalers.Items[0].Spec, Budget: o.budgets.Items[0].Spec, Template: o.deployments.Items[0].Spec.Template,
		Service: o.service.Spec, OfDeployment: withoutRevision(o.deployments.Items[0].Annotations), OfTheService: o.service.Annotations,
	}
}

// withoutRevision leaves out what Kubernetes counts.
func withoutRevision(annotations map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range annotations {
		if key != "deployment.kubernetes.io/revision" {
			out[key] = value
		}
	}
	return out
}

// during says that each version can grow while both are there, and that one budget is over both.
func during(t *testing.T) {
	t.Helper()
	var o ofGateway
	if err := o.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(o.scalers.Items) != 2 || len(o.deployments.Items) != 2 || len(o.budgets.Items) != 1 {
		t.Fatalf("%d autoscalers, %d Deployments, %d budgets; want 2, 2 and 1", len(o.scalers.Items), len(o.deployments.Items), len(o.budgets.Items))
	}
	replicas := map[string]int32{}
	for _, d := range o.deployments.Items {
		replicas[d.Name] = *d.Spec.Replicas
	}
	for _, scaler := range o.scalers.Items {
		name := scaler.Spec.ScaleTargetRef.Name
		t.Logf("%s: %d pods, %d at most", name, replicas[name], scaler.Spec.MaxReplicas)
		if scaler.Spec.MaxReplicas <= replicas[name] {
			t.Errorf("%s has %d pods and can't have more than %d", name, replicas[name], scaler.Spec.MaxReplicas)
		}
	}
	if expected := o.budgets.Items[0].Status.ExpectedPods; expected != replicas[o.deployments.Items[0].Name]+replicas[o.deployments.Items[1].Name] {
		t.Errorf("the budget counts %d pods of %v", expected, replicas)
	}
}
