// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && long

package gateways

import (
	"context"
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// All of the traffic moves at once, when the new version has shown for as long as the first step that it stands.
func TestSelector(t *testing.T) {
	begin(t, func(m *v1alpha1.MeshInstallation) {
		m.Spec.Gateways[0].Shift.Type = v1alpha1.ShiftSelector
		m.Spec.Upgrade.Canary.Steps = weights(0, 100)
	})
	shift(t, ingress, 0, 100)
}

// A Gateway of the Gateway API that carries the label of the mesh gets that of its revision, and istiod of the next one takes it over.
func TestGatewayAPI(t *testing.T) {
	env.InstallGatewayAPI(t)
	edge := client.ObjectKey{Namespace: "edge", Name: "edge"}
	env.TemporaryNamespace(t, edge.Namespace, nil)
	deployment, err := env.OuterGateway(t.Context(), edge, v1alpha1.LabelMesh, "default")
	if err != nil {
		t.Fatal(err)
	}
	begin(t, func(m *v1alpha1.MeshInstallation) { m.Spec.Upgrade.Canary.Steps = weights(100) })
	labelled(t, edge, rev128)
	if err := env.WaitDeployment(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
	setVersion(t, framework.Istio129)
	labelled(t, edge, rev129)
	wait(t, "default-1", "to be completed", framework.Ended(v1alpha1.OutcomeCompleted))
	if err := env.WaitDeployment(t.Context(), deployment); err != nil {
		t.Fatal(err)
	}
}

// labelled waits until a Gateway names a revision.
func labelled(t *testing.T, gateway client.ObjectKey, revision string) {
	t.Helper()
	err := env.WaitFor(t.Context(), "Gateway "+gateway.String()+" to be at "+revision, func(ctx context.Context) (bool, string, error) {
		g := &unstructured.Unstructured{}
		g.SetGroupVersionKind(schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "Gateway"})
		err := env.Client.Get(ctx, gateway, g)
		return g.GetLabels()[v1alpha1.IstioRevision] == revision, fmt.Sprint(g.GetLabels()), err
	})
	if err != nil {
		t.Fatal(err)
	}
}
