// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package selfupgrade tests on a real cluster that the operator itself is exchanged in the middle of a rollout, for a newer one and for an
// older one: by itself that moves nothing, the rollout goes on where it stood, and nobody who sends requests notices.
package selfupgrade

import (
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// earlier is the commit of the operator that this one takes over from: the last one that came as manifests only, before there were packages.
const earlier = "7c2aa646b0e537816e42174a114c322d33c9ef1d"

var env *framework.Env

func TestMain(m *testing.M) {
	framework.Main(m, func(e *framework.Env) { env = e })
}

// The revisions between which the mesh moves.
const (
	rev128 = "1-28-2"
	rev129 = "1-29-1"
)

// The gateway, and the applications: pay is in the wave early, cart in the rest.
var (
	ingress = client.ObjectKey{Namespace: "istio-ingress", Name: "ingress"}
	pay     = framework.Echo{Namespace: "pay", Name: "pay", Version: "v1", Replicas: 2}
	cart    = framework.Echo{Namespace: "shop", Name: "cart", Version: "v1", Replicas: 2}
)

// The pauses at which the operator is exchanged: while two versions of the gateway share the traffic, when the first wave has moved as
// well, and before the last one.
const (
	first  = "first"
	second = "second"
	third  = "third"
)

// mesh is a version of Istio with a gateway, whose rollouts stand at each pause.
func mesh(version string) *v1alpha1.MeshInstallation {
	values := framework.GatewayValues()
	values["autoscaling"] = map[string]any{"enabled": false}
	values["replicaCount"] = 2
	gateway := v1alpha1.Gateway{Namespace: ingress.Namespace, Name: ingress.Name, Values: framework.Values(values)}
	gateway.Shift.DrainSeconds = 5
	out := framework.Mesh("default", version)
	out.Spec.Tags = []v1alpha1.Tag{{Name: "stable"}}
	out.Spec.Gateways = []v1alpha1.Gateway{gateway}
	out.Spec.DataPlane.Waves = framework.Waves("early")
	out.Spec.Upgrade.Canary.RetireAfterSeconds = new(int32(0))
	weight := func(name string, percent int32) v1alpha1.Step {
		return v1alpha1.Step{Name: name, Type: v1alpha1.StepGatewayWeight, GatewayWeight: &v1alpha1.GatewayWeightStep{Percent: percent}}
	}
	out.Spec.Upgrade.Canary.Steps = []v1alpha1.Step{
		weight("ingress-half", 50),
		{Name: first, Type: v1alpha1.StepPause},
		{Name: "early", Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: "early", Percent: 100}},
		{Name: second, Type: v1alpha1.StepPause},
		weight("ingress-all", 100),
		{Name: third, Type: v1alpha1.StepPause},
	}
	return out
}

// begin installs the mesh with an application in each wave, one of them behind the gateway.
func begin(t *testing.T) {
	t.Helper()
	env.Install(t, mesh(framework.Istio128))
	for wave, app := range map[string]framework.Echo{"early": pay, "rest": cart} {
		labels := map[string]string{framework.EnrollLabel: "default", framework.WaveLabel: wave}
		env.TemporaryNamespace(t, app.Namespace, labels)
		if err := env.Enrolled(t.Context(), app.Namespace, rev128, labels); err != nil {
			t.Fatal(err)
		}
		if err := env.Deploy(t.Context(), app); err != nil {
			t.Fatal(err)
		}
	}
	env.TemporaryNamespace(t, inside, map[string]string{framework.EnrollLabel: "default"})
	if err := env.Enrolled(t.Context(), inside, rev128, map[string]string{framework.EnrollLabel: "default"}); err != nil {
		t.Fatal(err)
	}
	env.TemporaryNamespace(t, outside, nil)
	for _, app := range []framework.Echo{pay, cart} {
		if err := env.WaitDeployment(t.Context(), client.ObjectKey{Namespace: app.Namespace, Name: app.Name}); err != nil {
			t.Fatal(err)
		}
	}
	if err := env.Expose(t.Context(), ingress, cart); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitServing(t.Context(), ingress); err != nil {
		t.Fatal(err)
	}
}
