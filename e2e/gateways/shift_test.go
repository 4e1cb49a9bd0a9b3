// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package gateways

import (
	"context"
	"fmt"
	"slices"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Both versions are behind one Service, in the ratio of their pods: 25, 50 and 100 percent of the new connections.
func TestReplicas(t *testing.T) {
	begin(t, func(m *v1alpha1.MeshInstallation) {
		m.Spec.Upgrade.Canary.Steps = weights(25, 50, 100)
	})
	shift(t, ingress, 25, 50, 100)
}

// An outer Gateway, which istiod of the old revision deploys, sends 10, 50 and 100 percent of the requests to the new version, whoever keeps
// a connection.
func TestHTTPRoute(t *testing.T) {
	env.InstallGatewayAPI(t)
	edge := client.ObjectKey{Namespace: "edge", Name: "edge"}
	env.TemporaryNamespace(t, edge.Namespace, nil)
	outer, err := env.OuterGateway(t.Context(), edge, v1alpha1.IstioRevision, rev128)
	if err != nil {
		t.Fatal(err)
	}
	begin(t, func(m *v1alpha1.MeshInstallation) {
		m.Spec.Gateways[0].Shift.Type = v1alpha1.ShiftHTTPRoute
		m.Spec.Gateways[0].Shift.HTTPRoute = &v1alpha1.RouteShift{
			ParentRefs: []v1alpha1.RouteParent{{Namespace: edge.Namespace, Name: edge.Name}},
		}
		m.Spec.Upgrade.Canary.Steps = weights(10, 50, 100)
		m.Spec.Upgrade.Canary.RetireAfterSeconds = new(int32(600)) // the outer Gateway stays with the old revision
	})
	if err := env.WaitDeployment(t.Context(), outer); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitServing(t.Context(), outer); err != nil {
		t.Fatal(err)
	}
	shift(t, outer, 10, 50, 100)
}

// shift moves the mesh under traffic to a Service, and sees to it that the gateway had these shares and no request failed.
func shift(t *testing.T, service client.ObjectKey, percents ...int32) {
	t.Helper()
	moments := observed(t, "default-1")
	traffic := send(t, service)
	setVersion(t, framework.Istio129)
	wait(t, "default-1", "to have moved everything", allMoved)
	alone(t, rev129)
	allServed(t, traffic())
	reached(t, moments(), percents...)
}

// alone waits until all pods of the gateway are of one revision.
func alone(t *testing.T, revision string) {
	t.Helper()
	if err := env.WaitFor(t.Context(), "the gateway to be at "+revision+" alone", func(ctx context.Context) (bool, string, error) {
		selected := client.MatchingLabels{v1alpha1.LabelGateway: ingress.Name}
		var deployments appsv1.DeploymentList
		if err := env.Client.List(ctx, &deployments, client.InNamespace(ingress.Namespace), selected); err != nil {
			return false, "", err
		}
		var pods corev1.PodList
		if err := env.Client.List(ctx, &pods, client.InNamespace(ingress.Namespace), selected); err != nil {
			return false, "", err
		}
		others := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.Labels[v1alpha1.IstioRevision] == revision })
		return len(deployments.Items) == 1 && len(others) == 0,
			fmt.Sprintf("%d Deployments, %d pods of another revision", len(deployments.Items), len(others)), nil
	}); err != nil {
		t.Fatal(err)
	}
}
