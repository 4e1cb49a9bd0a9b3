// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"pgregory.net/rapid"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/traffic"
)

// expectError wants one error that says everything that is wanted; none when nothing is.
func expectError(t *testing.T, errs field.ErrorList, want ...string) {
	t.Helper()
	if len(want) == 0 {
		if len(errs) > 0 {
			t.Errorf("refused: %v", errs.ToAggregate())
		}
		return
	}
	if len(errs) != 1 {
		t.Fatalf("%d errors, want one with %q: %v", len(errs), want, errs.ToAggregate())
	}
	for _, w := range want {
		if !strings.Contains(errs[0].Error(), w) {
			t.Errorf("the error does not say %q: %v", w, errs[0])
		}
	}
}

// shiftBy is a gateway as the API server completes it.
func shiftBy(kind v1alpha1.ShiftType, values string) v1alpha1.Gateway {
	g := v1alpha1.Gateway{
		Name: "ingress", Namespace: "istio-ingress", VersionPolicy: v1alpha1.VersionFollow, Values: raw(values),
		Shift: v1alpha1.GatewayShift{Type: kind, TolerancePercent: 5, MinSamples: 100, DrainSeconds: 30},
	}
	if kind == v1alpha1.ShiftHTTPRoute {
		g.Shift.HTTPRoute = &v1alpha1.RouteShift{ParentRefs: []v1alpha1.RouteParent{{Name: "edge"}}, Port: 80}
	}
	return g
}

const threePods = `{"autoscaling":{"enabled":false},"replicaCount":3}`

func moving(m *v1alpha1.MeshInstallation, gateways ...v1alpha1.Gateway) {
	m.Spec.Upgrade.Type, m.Spec.Gateways = v1alpha1.UpgradeCanary, gateways
}

func weights(percents ...int32) (out []v1alpha1.Step) {
	for i, p := range percents {
		out = append(out, v1alpha1.Step{
			Name: fmt.Sprintf("w%d", i), Type: v1alpha1.StepGatewayWeight, GatewayWeight: &v1alpha1.GatewayWeightStep{Percent: p},
		})
	}
	return out
}

func TestWeights(t *testing.T) {
	held := shiftBy(v1alpha1.ShiftReplicas, threePods)
	held.VersionPolicy = v1alpha1.VersionHold
	for _, tc := range []struct {
		reason string
		mesh   func(*v1alpha1.MeshInstallation)
		steps  []v1alpha1.Step
		want   []string
	}{
		{
			"shares that grow", func(m *v1alpha1.MeshInstallation) { moving(m, shiftBy(v1alpha1.ShiftReplicas, threePods)) },
			weights(0, 25, 50, 100), nil,
		},
		{
			"a share that falls", func(m *v1alpha1.MeshInstallation) { moving(m, shiftBy(v1alpha1.ShiftReplicas, threePods)) },
			weights(50, 25),
			[]string{"spec.upgrade.canary.steps[1].gatewayWeight.percent", "50 percent", "write more, or leave the step out"},
		},
		{
			"a share twice", func(m *v1alpha1.MeshInstallation) { moving(m, shiftBy(v1alpha1.ShiftReplicas, threePods)) },
			weights(25, 25),
			[]string{"spec.upgrade.canary.steps[1].gatewayWeight.percent", "write more, or leave the step out"},
		},
		{
			"something after everything", func(m *v1alpha1.MeshInstallation) { moving(m, shiftBy(v1alpha1.ShiftReplicas, threePods)) },
			weights(100, 100),
			[]string{"spec.upgrade.canary.steps[1].gatewayWeight.percent", "all traffic", "leave the step out"},
		},
		{
			"nothing after nothing", func(m *v1alpha1.MeshInstallation) { moving(m, shiftBy(v1alpha1.ShiftReplicas, threePods)) },
			weights(0, 0),
			[]string{"spec.upgrade.canary.steps[1].gatewayWeight.percent", "write more"},
		},
		{
			"a mesh without gateways", func(m *v1alpha1.MeshInstallation) { moving(m) },
			weights(100),
			[]string{"spec.upgrade.canary.steps[0].type", "the mesh has no gateways that follow: leave the step out"},
		},
		{
			"a mesh whose gateways all hold back", func(m *v1alpha1.MeshInstallation) { moving(m, held) },
			weights(100),
			[]string{"spec.upgrade.canary.steps[0].type", "no gateways that follow"},
		},
		{
			"a gateway that holds back needs no pods for a share",
			func(m *v1alpha1.MeshInstallation) { moving(m, held, shiftBy(v1alpha1.ShiftHTTPRoute, `{}`)) },
			weights(1, 2, 100), nil,
		},
		{
			"a mesh of one revision", func(m *v1alpha1.MeshInstallation) {
				moving(m, shiftBy(v1alpha1.ShiftReplicas, threePods))
				m.Spec.Upgrade.Type = v1alpha1.UpgradeInPlace
			},
			weights(50),
			[]string{"spec.upgrade.canary.steps[0].type", "InPlace", "leave the step out", "Canary"},
		},
		{
			"fewer pods than a share takes", func(m *v1alpha1.MeshInstallation) { moving(m, shiftBy(v1alpha1.ShiftReplicas, threePods)) },
			weights(10, 100),
			[]string{
				"spec.upgrade.canary.steps[0].gatewayWeight.percent", "gateway istio-ingress/ingress has 3 pods", "25 percent",
				"spec.gateways[0].values.replicaCount to 6", "spec.gateways[0].shift.type to HTTPRoute",
			},
		},
		{
			"as many as it takes", func(m *v1alpha1.MeshInstallation) {
				moving(m, shiftBy(v1alpha1.ShiftReplicas, `{"autoscaling":{"enabled":false},"replicaCount":6}`))
			}, weights(10, 100), nil,
		},
		{
			"the chart's own one pod", func(m *v1alpha1.MeshInstallation) { moving(m, shiftBy(v1alpha1.ShiftReplicas, `{}`)) },
			weights(20),
			[]string{"has one pod", "50 percent", "spec.gateways[0].values.autoscaling.minReplicas to 3", "HTTPRoute"},
		},
		{
			"more pods than the autoscaler may make", func(m *v1alpha1.MeshInstallation) {
				moving(m, shiftBy(v1alpha1.ShiftReplicas, `{"autoscaling":{"minReplicas":2,"maxReplicas":4}}`))
			},
			weights(10),
			[]string{"autoscaling.minReplicas to 6 and spec.gateways[0].values.autoscaling.maxReplicas with it"},
		},
		{
			"the second gateway has too few", func(m *v1alpha1.MeshInstallation) {
				few := shiftBy(v1alpha1.ShiftReplicas, `{}`)
				few.Name = "egress"
				moving(m, shiftBy(v1alpha1.ShiftHTTPRoute, `{}`), few)
			},
			weights(10),
			[]string{"istio-ingress/egress", "spec.gateways[1].values"},
		},
		{
			"a share of a gateway that moves all at once", func(m *v1alpha1.MeshInstallation) { moving(m, shiftBy(v1alpha1.ShiftSelector, threePods)) },
			weights(0, 60, 100),
			[]string{
				"spec.upgrade.canary.steps[1].gatewayWeight.percent", "all of its traffic at once", "spec.gateways[0].shift.type is Selector", "write 0 or 100", "HTTPRoute",
			},
		},
		{
			"any share by a route", func(m *v1alpha1.MeshInstallation) { moving(m, shiftBy(v1alpha1.ShiftHTTPRoute, `{}`)) },
			weights(1, 33, 99, 100), nil,
		},
		{
			"a tolerance that takes it", func(m *v1alpha1.MeshInstallation) {
				g := shiftBy(v1alpha1.ShiftReplicas, threePods)
				g.Shift.TolerancePercent = 15
				moving(m, g)
			}, weights(10), nil,
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			m := mesh(tc.mesh)
			m.Spec.Upgrade.Canary.Steps = tc.steps
			errs, _ := Installation(m, world(nil))
			expectError(t, errs, tc.want...)
		})
	}
}

// A remedy works: so many pods allow the share, and no fewer, and a share that is called the nearest is allowed.
func TestRemediesWork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, percent := rapid.Int32Range(1, 150).Draw(t, "base"), rapid.Int32Range(0, 100).Draw(t, "percent")
		tolerance := rapid.Int32Range(0, 20).Draw(t, "tolerance")
		g := shiftBy(v1alpha1.ShiftReplicas, fmt.Sprintf(`{"autoscaling":{"enabled":false},"replicaCount":%d}`, base))
		g.Shift.TolerancePercent = tolerance
		m := mesh(func(m *v1alpha1.MeshInstallation) { moving(m, g) })
		m.Spec.Upgrade.Canary.Steps = weights(percent)
		errs, _ := Installation(m, world(nil))
		if len(errs) == 0 {
			return
		}
		n := least(v1alpha1.ShiftReplicas, base, percent, tolerance)
		if !traffic.Allows(v1alpha1.ShiftReplicas, n, percent, tolerance) {
			t.Fatalf("%d pods don't allow %d percent", n, percent)
		}
		if !strings.Contains(errs[0].Detail, fmt.Sprintf("replicaCount to %d,", n)) {
			t.Fatalf("%v does not say %d pods", errs[0], n)
		}
		for fewer := base + 1; fewer < n; fewer++ {
			if traffic.Allows(v1alpha1.ShiftReplicas, fewer, percent, tolerance) {
				t.Fatalf("%d pods would do, and %d are asked for", fewer, n)
			}
		}
		near := traffic.Effective(v1alpha1.ShiftReplicas, base, percent)
		if !traffic.Allows(v1alpha1.ShiftReplicas, base, near, tolerance) {
			t.Fatalf("the nearest share of %d pods to %d percent, %d, is refused too", base, percent, near)
		}
	})
}
