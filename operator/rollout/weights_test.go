// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/analysis"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func gatewayWith(values string, shift v1alpha1.ShiftType, policy v1alpha1.VersionPolicy) v1alpha1.Gateway {
	return v1alpha1.Gateway{
		Name: "g", Namespace: "g", VersionPolicy: policy, Shift: v1alpha1.GatewayShift{Type: shift},
		Values: &apiextensionsv1.JSON{Raw: []byte(values)},
	}
}

const (
	three = `{"autoscaling":{"enabled":false},"replicaCount":3}`
	nine  = `{"autoscaling":{"minReplicas":9}}`
)

func weights(steps []v1alpha1.RolloutStep) string {
	var out []string
	for _, s := range steps {
		switch {
		case s.GatewayWeight != nil:
			out = append(out, fmt.Sprintf("%s %d%%", s.Name, s.GatewayWeight.Percent))
		case s.Type == v1alpha1.StepAnalysis:
			out = append(out, fmt.Sprintf("%s %v", s.Name, s.Analysis.Gates))
		}
	}
	return strings.Join(out, ", ")
}

func TestStepsOfGateways(t *testing.T) {
	with := func(gateways ...v1alpha1.Gateway) *v1alpha1.MeshInstallation {
		m := mesh()
		m.Spec.Gateways = gateways
		return m
	}
	tests := []struct {
		name, reason string
		mesh         *v1alpha1.MeshInstallation
		to           v1alpha1.RolloutRevision
		want         string
	}{
		{"no gateways", "there is nothing to weigh", with(), newer, ""},
		{"three pods", "one pod more is a quarter", with(gatewayWith(three, v1alpha1.ShiftReplicas, "")), newer, "gateways-25 25%, judge [health], gateways-100 100%"},
		{"nine pods at least", "one pod more is a tenth", with(gatewayWith(nine, v1alpha1.ShiftReplicas, "")), newer, "gateways-10 10%, judge [health], gateways-100 100%"},
		{
			"two gateways", "the share that both can have", with(gatewayWith(nine, v1alpha1.ShiftReplicas, ""), gatewayWith(three, v1alpha1.ShiftReplicas, "")), newer,
			"gateways-25 25%, judge [health], gateways-100 100%",
		},
		{"a selector", "it gives all or nothing", with(gatewayWith(three, v1alpha1.ShiftSelector, "")), newer, "gateways 100%"},
		{"a route", "any share can be had: a tenth", with(gatewayWith(three, v1alpha1.ShiftHTTPRoute, "")), newer, "gateways-10 10%, judge [health], gateways-100 100%"},
		{"a gateway that is held", "it does not move", with(gatewayWith(three, v1alpha1.ShiftReplicas, v1alpha1.VersionHold)), newer, ""},
		{
			"the user's steps", "whoever writes steps says when gateways move: here, at promotion",
			func() *v1alpha1.MeshInstallation {
				m := with(gatewayWith(three, v1alpha1.ShiftReplicas, ""))
				m.Spec.Upgrade.Canary.Steps = []v1alpha1.Step{pause("go")}
				return m
			}(), newer, "",
		},
		{
			"gates by name", "metrics and hooks of type During are gates, and what is named is taken",
			func() *v1alpha1.MeshInstallation {
				m := with(gatewayWith(three, v1alpha1.ShiftReplicas, ""))
				m.Spec.Upgrade.Analysis.Metrics = []v1alpha1.Metric{{Name: "errors"}, {Name: "latency"}}
				m.Spec.Upgrade.Analysis.Hooks = []v1alpha1.Hook{{Name: "smoke", When: v1alpha1.HookDuring}, {Name: "ticket", When: v1alpha1.HookBefore}}
				m.Spec.Upgrade.Canary.Steps = []v1alpha1.Step{
					{Name: "all", Type: v1alpha1.StepAnalysis},
					{Name: "two", Type: v1alpha1.StepAnalysis, Analysis: &v1alpha1.AnalysisStep{Gates: []string{"smoke", "errors"}}},
				}
				return m
			}(), newer, "all [health errors latency smoke], two [errors smoke]",
		},
		{"a refresh", "sidecars are restarted, gateways stay", with(gatewayWith(three, v1alpha1.ShiftReplicas, "")), old, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, weights(NewPlan(tt.mesh, old, tt.to, nil).Steps)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
		})
	}
}

func TestShiftOf(t *testing.T) {
	m := mesh(
		dataPlane("early", "early", 100),
		v1alpha1.Step{Name: "quarter", Type: v1alpha1.StepGatewayWeight, GatewayWeight: &v1alpha1.GatewayWeightStep{Percent: 25}},
		v1alpha1.Step{Name: "half", Type: v1alpha1.StepGatewayWeight, GatewayWeight: &v1alpha1.GatewayWeightStep{Percent: 50}},
	)
	m.Spec.DataPlane.Waves = m.Spec.DataPlane.Waves[:1]
	plan := NewPlan(m, old, newer, nil) // early, quarter, half, rest, promote
	now := &metav1.Time{Time: time.Unix(1000, 0)}
	at := func(step int32) v1alpha1.RolloutProgress {
		return v1alpha1.RolloutProgress{Step: step, Proven: now, Opened: now}
	}
	closed := at(2)
	closed.Opened = nil
	asked := at(4)
	asked.Opened = nil
	back := at(2)
	back.Back = true
	forth := func(weight int32, wanted bool) Shift {
		return Shift{Old: "1-28-2", New: "1-29-1", Weight: weight, Wanted: wanted}
	}
	final := forth(100, true)
	final.Final = true
	tests := []struct {
		name, reason string
		p            v1alpha1.RolloutProgress
		listed       bool
		wave         string
		want         Shift
	}{
		{"before the proof", "nothing has begun", v1alpha1.RolloutProgress{}, true, "", forth(0, false)},
		{"before its step", "the wave moves, the gateway not yet", at(0), true, "", forth(0, false)},
		{"its step", "a quarter", at(1), true, "", forth(25, true)},
		{"the next step, outside the window", "what was reached before stays", closed, true, "", forth(25, true)},
		{"the next step", "a half", at(2), true, "", forth(50, true)},
		{"promotion, before its hooks", "what the steps said, until they agree", asked, true, "", forth(50, true)},
		{"promotion", "all of it, whatever the steps said", at(4), true, "", forth(100, true)},
		{"all has moved", "the old version goes", at(5), true, "", final},
		{"back", "all goes back at once", back, true, "", Shift{Old: "1-29-1", New: "1-28-2", Weight: 100, Wanted: true, Final: true}},
		{"a team's gateway in a wave that has moved", "it moves with its wave", at(0), false, "early", forth(100, true)},
		{"a team's gateway in another wave", "it waits for that", at(2), false, "rest", forth(0, false)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, ShiftOf(&plan, tt.p, tt.listed, tt.wave)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
		})
	}
}

// The state of a gate that is measured all the time changes seldom: its measurements alone make no other progress.
func TestHealthIsKeptWhenItChanges(t *testing.T) {
	m := mesh()
	m.Spec.Gateways = []v1alpha1.Gateway{gatewayWith(three, v1alpha1.ShiftReplicas, "")}
	spec := v1alpha1.MeshRolloutSpec{Plan: NewPlan(m, old, newer, nil), Goal: v1alpha1.GoalComplete}
	now := time.Unix(1000, 0)
	seen := Observation{
		Granted: true, From: ControlPlane{Exists: true, Ready: true}, To: ControlPlane{Exists: true, Ready: true},
		Gateways: []Gateway{{Name: "g/g", Listed: true, State: v1alpha1.ShiftMeasuring, Note: "30 of 100 seen"}},
		Measured: map[string]analysis.Measurement{HealthOf("g/g"): {Outcome: analysis.Success, At: now, Note: "no difference", Looks: 1}},
	}
	stamp := metav1.NewTime(now)
	first := Decide(&spec, v1alpha1.RolloutProgress{Proven: &stamp, Entered: &stamp, Opened: &stamp}, seen, now)
	if got := progressOf(first.Progress, HealthOf("g/g")); got.State != v1alpha1.GatePassed || got.Looks != 1 {
		t.Fatalf("gate %+v, want it passed with one look", got)
	}
	later := now.Add(10 * time.Second)
	seen.Measured = map[string]analysis.Measurement{HealthOf("g/g"): {Outcome: analysis.Success, At: later, Note: "no difference", Looks: 1}}
	if diff := cmp.Diff(first.Progress, Decide(&spec, first.Progress, seen, later).Progress); diff != "" {
		t.Errorf("a measurement that says the same changes the progress (-want +got):\n%s", diff)
	}
}

// A version that is found bad goes back also while its control plane does not serve, which by itself would be waited for.
func TestABadVersionIsNotKeptByItsControlPlane(t *testing.T) {
	m := mesh()
	m.Spec.Gateways = []v1alpha1.Gateway{gatewayWith(three, v1alpha1.ShiftReplicas, "")}
	spec := v1alpha1.MeshRolloutSpec{Plan: NewPlan(m, old, newer, nil), Goal: v1alpha1.GoalComplete}
	spec.Plan.OnFailure = v1alpha1.OnFailureRollBack
	now := time.Unix(1000, 0)
	stamp := metav1.NewTime(now)
	d := Decide(&spec, v1alpha1.RolloutProgress{Proven: &stamp, Entered: &stamp, Opened: &stamp}, Observation{
		Granted: true, From: ControlPlane{Exists: true, Ready: true}, To: ControlPlane{Exists: true, Problem: "istiod crashes"},
		Gateways: []Gateway{{Name: "g/g", Listed: true, State: v1alpha1.ShiftMeasuring}},
		Measured: map[string]analysis.Measurement{HealthOf("g/g"): {Outcome: analysis.Failure, At: now, Note: "40% failed", Looks: 1}},
	}, now)
	if !d.Progress.Back || d.Reason != v1alpha1.ReasonGateFailed {
		t.Errorf("%s %s: %s, want it to turn back", d.Act, d.Reason, d.Note)
	}
}

// Health of which nothing is heard is in doubt after a while: a person is asked, and nothing goes back.
func TestHealthOfWhichNothingIsHeard(t *testing.T) {
	m := mesh()
	m.Spec.Gateways = []v1alpha1.Gateway{gatewayWith(three, v1alpha1.ShiftReplicas, "")}
	spec := v1alpha1.MeshRolloutSpec{Plan: NewPlan(m, old, newer, nil), Goal: v1alpha1.GoalComplete}
	entered := metav1.NewTime(time.Unix(1000, 0))
	d := Decide(&spec, v1alpha1.RolloutProgress{Proven: &entered, Entered: &entered, Opened: &entered}, Observation{
		Granted: true, From: ControlPlane{Exists: true, Ready: true}, To: ControlPlane{Exists: true, Ready: true},
		Gateways: []Gateway{{Name: "g/g", Listed: true, State: v1alpha1.ShiftMeasuring}},
	}, entered.Add(doubtAfter))
	if got := progressOf(d.Progress, HealthOf("g/g")); got.State != v1alpha1.GateInconclusive {
		t.Errorf("gate %+v, want it inconclusive", got)
	}
}
