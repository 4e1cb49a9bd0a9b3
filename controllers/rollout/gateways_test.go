// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/probe"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/rollout"
)

// What a gateway's status says counts only when it speaks of what the rollout wants by now.
func TestGatewayOf(t *testing.T) {
	o := &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: "default-1"}}
	o.Spec.Plan.From.Revision, o.Spec.Plan.To.Revision = "1-28-2", "1-29-1"
	quarter := rollout.Shift{Old: "1-28-2", New: "1-29-1", Weight: 25, Wanted: true}
	all := rollout.Shift{Old: "1-28-2", New: "1-29-1", Weight: 100, Wanted: true}
	back := rollout.Shift{Old: "1-29-1", New: "1-28-2", Weight: 100, Wanted: true, Final: true}
	reached := func(weight int32) *v1alpha1.ShiftStatus {
		return &v1alpha1.ShiftStatus{Rollout: "default-1", From: "1-28-2", To: "1-29-1", Weight: weight, State: v1alpha1.ShiftReached, Message: "measured"}
	}
	other := reached(25)
	other.Rollout = "default-0"
	tests := []struct {
		reason  string
		version string
		shift   *v1alpha1.ShiftStatus
		older   bool
		want    rollout.Shift
		state   v1alpha1.ShiftState
	}{
		{"it speaks of this weight", "1-28-2", reached(25), false, quarter, v1alpha1.ShiftReached},
		{"it speaks of the weight before", "1-28-2", reached(25), false, all, v1alpha1.ShiftProgressing},
		{"it speaks of another rollout", "1-28-2", other, false, quarter, v1alpha1.ShiftProgressing},
		{"it speaks of an older spec", "1-28-2", reached(25), true, quarter, v1alpha1.ShiftProgressing},
		{"it has not begun", "1-28-2", nil, false, quarter, v1alpha1.ShiftProgressing},
		{"it is done, and the old version is gone", "1-29-1", nil, false, all, v1alpha1.ShiftReached},
		{"it still points to the canary", "1-28-2", reached(25), false, back, v1alpha1.ShiftProgressing},
		{"it is back, and the canary is gone", "1-28-2", nil, false, back, v1alpha1.ShiftReached},
		{"an adopted one waits for the whole", render.Unrevisioned, nil, false, quarter, v1alpha1.ShiftReached},
		{"and has to move then", render.Unrevisioned, nil, false, all, v1alpha1.ShiftProgressing},
		{"and is where it was, going back", render.Unrevisioned, nil, false, back, v1alpha1.ShiftReached},
	}
	for _, tt := range tests {
		g := &v1alpha1.MeshGateway{ObjectMeta: metav1.ObjectMeta{Generation: 2}}
		g.Spec.Shift.Type = v1alpha1.ShiftReplicas
		g.Status = v1alpha1.MeshGatewayStatus{ObservedGeneration: 2, Base: 3, Shift: tt.shift, Versions: []v1alpha1.GatewayVersion{{Revision: tt.version}}}
		if tt.older {
			g.Status.ObservedGeneration = 1
		}
		if got := gatewayOf(o, g, tt.want, true); got.State != tt.state {
			t.Errorf("%s: %s (%s), want %s", tt.reason, got.State, got.Note, tt.state)
		}
	}
}

// A replica that begins anew makes the comparison begin anew, and nobody's fault.
func TestAReplicaThatBeginsAnew(t *testing.T) {
	before := pilots{old: probe.Pilot{Rejects: 3, Pushes: 9}, next: probe.Pilot{Pushes: 5}}
	for _, tt := range []struct {
		reason string
		now    pilots
		want   bool
	}{
		{"both go on", pilots{old: probe.Pilot{Rejects: 3, Pushes: 10}, next: probe.Pilot{Pushes: 5}}, false},
		{"one of the old version's began anew", pilots{old: probe.Pilot{Pushes: 4}, next: probe.Pilot{Pushes: 5}}, true},
		{"one of the new version's", pilots{old: probe.Pilot{Rejects: 3, Pushes: 9}, next: probe.Pilot{}}, true},
	} {
		if got := tt.now.less(before); got != tt.want {
			t.Errorf("%s: less = %v, want %v", tt.reason, got, tt.want)
		}
	}
}

// A team's gateway that never came up holds nobody's way back; one of spec.gateways is waited for.
func TestAGatewayThatNeverCameUp(t *testing.T) {
	o := &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: "default-1"}}
	o.Spec.Plan.From.Revision, o.Spec.Plan.To.Revision, o.Status.Progress.Back = "1-28-2", "1-29-1", true
	back := rollout.Shift{Old: "1-29-1", New: "1-28-2", Weight: 100, Wanted: true, Final: true}
	for listed, want := range map[bool]v1alpha1.ShiftState{false: v1alpha1.ShiftReached, true: v1alpha1.ShiftProgressing} {
		if got := gatewayOf(o, &v1alpha1.MeshGateway{}, back, listed); got.State != want {
			t.Errorf("listed %v: %s (%s), want %s", listed, got.State, got.Note, want)
		}
	}
}

// Istiods are compared since the weight began: what the old one suffers too is not the new one's doing.
func TestPilotHealth(t *testing.T) {
	began := pilots{old: probe.Pilot{Rejects: 3}, next: probe.Pilot{Rejects: 1, Pushes: 10}}
	tests := []struct {
		reason string
		now    pilots
		want   string
	}{
		{"all is well", pilots{old: probe.Pilot{Rejects: 3}, next: probe.Pilot{Rejects: 1, Pushes: 30, Connected: 2}}, "Success"},
		{"rejected by the new version's proxies", pilots{old: probe.Pilot{Rejects: 3}, next: probe.Pilot{Rejects: 2, Connected: 2}}, "Failure"},
		{"rejected by all", pilots{old: probe.Pilot{Rejects: 4}, next: probe.Pilot{Rejects: 2, Connected: 2}}, "Success"},
		{"pushes that fail", pilots{old: probe.Pilot{Rejects: 3}, next: probe.Pilot{Rejects: 1, Pushes: 20, Failures: 1, Connected: 2}}, "Failure"},
		{"one of many pushes fails", pilots{old: probe.Pilot{Rejects: 3}, next: probe.Pilot{Rejects: 1, Pushes: 200, Failures: 1, Connected: 2}}, "Success"},
		{"pushes that are late", pilots{old: probe.Pilot{Rejects: 3}, next: probe.Pilot{Rejects: 1, Pushes: 20, Slow: 5, Connected: 2}}, "Failure"},
		{"a proxy that is not connected", pilots{old: probe.Pilot{Rejects: 3}, next: probe.Pilot{Rejects: 1, Connected: 1}}, "Inconclusive"},
	}
	for _, tt := range tests {
		if got := pilotHealth(began, tt.now, 2); string(got.Outcome) != tt.want {
			t.Errorf("%s: %s (%s), want %s", tt.reason, got.Outcome, got.Note, tt.want)
		}
	}
}
