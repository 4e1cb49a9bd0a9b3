// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func TestCount(t *testing.T) {
	c := v1alpha1.Cadence{IntervalSeconds: 10, Count: 2, FailureLimit: 1, InconclusiveLimit: 1}
	tests := []struct {
		reason   string
		outcomes []Outcome
		want     v1alpha1.GateState
	}{
		{"nothing was measured", nil, v1alpha1.GateWaiting},
		{"one success of two", []Outcome{Success}, v1alpha1.GateMeasuring},
		{"enough successes", []Outcome{Success, Success}, v1alpha1.GatePassed},
		{"a failure that is allowed", []Outcome{Failure, Success, Success}, v1alpha1.GatePassed},
		{"one failure more", []Outcome{Failure, Success, Failure}, v1alpha1.GateFailed},
		{"no data is no success", []Outcome{Inconclusive, Success}, v1alpha1.GateMeasuring},
		{"no data for too long", []Outcome{Success, Inconclusive, Inconclusive}, v1alpha1.GateInconclusive},
		{"data again", []Outcome{Inconclusive, Inconclusive, Success}, v1alpha1.GateMeasuring},
		{"what has passed stays so", []Outcome{Success, Success, Failure, Failure}, v1alpha1.GatePassed},
	}
	for _, tt := range tests {
		g := v1alpha1.GateProgress{Name: "errors", State: v1alpha1.GateWaiting}
		for i, outcome := range tt.outcomes {
			m := Measurement{Outcome: outcome, At: time.Unix(int64(1000+10*i), 0)}
			g = Count(c, g, m)
			if diff := cmp.Diff(g, Count(c, g, m)); diff != "" {
				t.Errorf("%s: a measurement counts twice:\n%s", tt.reason, diff)
			}
		}
		if g.State != tt.want {
			t.Errorf("%s: %s, want %s", tt.reason, g.State, tt.want)
		}
	}
}

func TestNext(t *testing.T) {
	entered := time.Unix(1000, 0)
	c := v1alpha1.Cadence{InitialDelaySeconds: 30, IntervalSeconds: 10}
	if got := Next(c, v1alpha1.GateProgress{}, entered); !got.Equal(entered.Add(30 * time.Second)) {
		t.Errorf("the first is due %s", got)
	}
	g := Count(c, v1alpha1.GateProgress{}, Measurement{Outcome: Failure, At: entered.Add(40 * time.Second)})
	if got := Next(c, g, entered); !got.Equal(entered.Add(50 * time.Second)) {
		t.Errorf("the second is due %s", got)
	}
}

func TestJudge(t *testing.T) {
	metric := func(success, failure string) Resolved {
		r, err := Resolve(v1alpha1.Metric{Name: "m", Query: "up", SuccessCondition: success, FailureCondition: failure})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	tests := []struct {
		reason   string
		resolved Resolved
		values   []float64
		want     Outcome
		note     string
	}{
		{"no series", metric("result < 1.0", ""), nil, Inconclusive, "no data"},
		{"no number", metric("result < 1.0", ""), []float64{math.NaN()}, Inconclusive, "NaN"},
		{"a success", metric("result < 1.0", ""), []float64{0.5}, Success, "0.5: result < 1.0"},
		{"what is no success is a failure", metric("result < 1.0", ""), []float64{2}, Failure, "not result < 1.0"},
		{"what is no failure is a success", metric("", "result > 5.0"), []float64{2}, Success, "not result > 5.0"},
		{"neither", metric("result < 1.0", "result > 5.0"), []float64{2}, Inconclusive, "neither"},
		{"failures come first", metric("result > 1.0", "result > 5.0"), []float64{6}, Failure, "result > 5.0"},
		{"two values for one", metric("result < 1.0", ""), []float64{1, 2}, Inconclusive, "sum them up"},
	}
	for _, tt := range tests {
		got, note := Judge(tt.resolved, tt.values)
		if got != tt.want || !strings.Contains(note, tt.note) {
			t.Errorf("%s: got %s %q, want %s %q", tt.reason, got, note, tt.want, tt.note)
		}
	}
}

// Each preset can be asked and judged.
func TestPresetsResolve(t *testing.T) {
	for _, p := range Presets() {
		if _, err := Resolve(v1alpha1.Metric{Name: "m", Preset: p.Name}); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		if err := CheckQuery(p.Query()); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
}
