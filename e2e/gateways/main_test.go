// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package gateways tests on a real cluster that gateways move between two versions by measured traffic: by each method, while clients send
// 300 requests a second and none fails; that a version which is worse is found out and goes back by itself; and that what users set stays.
package gateways

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

var env *framework.Env

func TestMain(m *testing.M) {
	framework.Main(m, func(e *framework.Env) { env = e })
}

// The revisions between which the gateway moves.
const (
	rev128 = "1-28-2"
	rev129 = "1-29-1"
)

const (
	// bound is how long traffic flows at most, should a test forget to stop it.
	bound = 5 * time.Minute
	// tolerance is by how many points a measured share may differ from the wanted one.
	tolerance = 5
)

var (
	ingress = client.ObjectKey{Namespace: "istio-ingress", Name: "ingress"}
	// cart has no sidecar: the gateway alone moves.
	cart = framework.Echo{Namespace: "shop", Name: "cart", Version: "v1", Replicas: 2}
)

// begin installs Istio 1.28.2 with a gateway of three pods in front of an application; change may change the mesh before.
func begin(t *testing.T, change func(*v1alpha1.MeshInstallation)) {
	t.Helper()
	values := framework.GatewayValues()
	values["autoscaling"] = map[string]any{"enabled": false}
	values["replicaCount"] = 3
	values["service"] = map[string]any{"type": "NodePort"} // so that there are node ports to keep
	gateway := v1alpha1.Gateway{Namespace: ingress.Namespace, Name: ingress.Name, Values: framework.Values(values)}
	gateway.Shift.DrainSeconds = 5
	mesh := framework.Mesh("default", framework.Istio128)
	mesh.Spec.Gateways = []v1alpha1.Gateway{gateway}
	mesh.Spec.Upgrade.Canary.RetireAfterSeconds = new(int32(0))
	if change != nil {
		change(mesh)
	}
	env.Install(t, mesh)
	env.TemporaryNamespaces(t, nil, cart.Namespace, "clients")
	for _, err := range []error{
		env.Deploy(t.Context(), cart),
		env.Expose(t.Context(), ingress, cart),
		env.WaitDeployment(t.Context(), client.ObjectKey{Namespace: cart.Namespace, Name: cart.Name}),
		env.WaitServing(t.Context(), ingress),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// weights are steps that give the new version so many percent of the traffic, one after the other. None and all are reached at once, by where
// traffic is pointed: these last for as long as it takes until a status says what was measured.
func weights(percents ...int32) (steps []v1alpha1.Step) {
	for _, percent := range percents {
		weight := &v1alpha1.GatewayWeightStep{Percent: percent}
		if percent == 0 || percent == 100 {
			weight.BakeSeconds = 12
		}
		steps = append(steps, v1alpha1.Step{Name: fmt.Sprintf("ingress-%d", percent), Type: v1alpha1.StepGatewayWeight, GatewayWeight: weight})
	}
	return steps
}

// observed runs a function with each change of the gateway in the background, logs its shares and returns what was seen once stop is
// called. What a rollout decides is logged beside it.
func observed(t *testing.T, rollout string) (stop func() []framework.GatewayMoment) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	traced, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(traced)
		env.Trace(ctx, rollout, t.Output())
	}()
	start, last := time.Now(), ""
	var moments []framework.GatewayMoment
	go func() {
		defer close(watched)
		err := env.WatchGateway(ctx, ingress, func(m framework.GatewayMoment) {
			moments = append(moments, m)
			if line := m.String(); line != last {
				fmt.Fprintf(t.Output(), "t+%-8s %s\n", m.At.Sub(start).Round(time.Second), line)
				last = line
			}
		})
		if err != nil {
			t.Error(err)
		}
	}()
	stop = func() []framework.GatewayMoment {
		cancel()
		<-traced
		<-watched
		return moments
	}
	t.Cleanup(func() { stop() })
	return stop
}

// send has clients send 300 requests a second to a Service; stop ends them and logs what they saw.
func send(t *testing.T, service client.ObjectKey) (stop func() framework.TrafficResult) {
	t.Helper()
	traffic, err := env.StartTraffic(t.Context(), "clients", service, bound)
	if err != nil {
		t.Fatal(err)
	}
	return func() framework.TrafficResult {
		t.Helper()
		result, err := traffic.Stop(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Log(result)
		return result
	}
}

// allServed says that no request failed. Streams are another thing: one ends when the pod that carries it has drained for as long as it may.
func allServed(t *testing.T, result framework.TrafficResult) {
	t.Helper()
	if sent, failed := result.Requests(); failed > 0 || sent == 0 {
		t.Errorf("%d of %d requests failed", failed, sent)
	}
}

// reached says that the new version was to have these shares one after the other, and had them; and that nobody had to look for the gateway
// elsewhere.
func reached(t *testing.T, moments []framework.GatewayMoment, percents ...int32) {
	t.Helper()
	var wanted []int32
	for _, share := range framework.SharesOf(moments, rev129) {
		wanted = append(wanted, share.Weight)
		t.Logf("wanted %3d%%, measured %5.1f%%, after %s: %s", share.Weight, share.Measured, share.Took.Round(time.Second), share.Message)
		if !(math.Abs(share.Measured-float64(share.Weight)) <= tolerance) {
			t.Errorf("weight %d: measured %.1f%%, more than %d points off", share.Weight, share.Measured, tolerance)
		}
		if share.State != v1alpha1.ShiftReached {
			t.Errorf("weight %d ended %s", share.Weight, share.State)
		}
	}
	if fmt.Sprint(wanted) != fmt.Sprint(percents) {
		t.Errorf("weights were %v, want %v", wanted, percents)
	}
	unmoved(t, moments)
}

// unmoved says that the address of the gateway's Service and its node ports never changed.
func unmoved(t *testing.T, moments []framework.GatewayMoment) {
	t.Helper()
	for _, m := range moments {
		if m.Address != moments[0].Address {
			t.Errorf("the Service was at %s, and then at %s", moments[0].Address, m.Address)
			return
		}
	}
}

// allMoved says that all steps are done.
func allMoved(o *v1alpha1.MeshRollout) bool {
	return int(o.Status.Progress.Step) >= len(o.Spec.Plan.Steps)
}

func setVersion(t *testing.T, version string) {
	t.Helper()
	if err := env.SetVersion(t.Context(), "default", version); err != nil {
		t.Fatal(err)
	}
}

func wait(t *testing.T, rollout, says string, done func(*v1alpha1.MeshRollout) bool) *v1alpha1.MeshRollout {
	t.Helper()
	o, err := env.WaitRollout(t.Context(), rollout, says, done)
	if err != nil {
		t.Fatal(err)
	}
	return o
}
