// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func TestMeasure(t *testing.T) {
	sample := func(oldConnections, newConnections, oldRequests, newRequests int64, after time.Duration) Sample {
		return Sample{
			Old: Counters{Pods: 3, Wanted: 3, Connections: oldConnections, Requests: oldRequests},
			New: Counters{Pods: 1, Wanted: 1, Connections: newConnections, Requests: newRequests}, For: after,
		}
	}
	blocked := sample(300, 100, 0, 0, time.Hour)
	blocked.New.Pods = 0
	tests := []struct {
		reason string
		typ    v1alpha1.ShiftType
		weight int32
		s      Sample
		state  v1alpha1.ShiftState
		note   string
	}{
		{"within tolerance", v1alpha1.ShiftReplicas, 25, sample(290, 110, 0, 0, time.Second), v1alpha1.ShiftReached, "measured 27.5% of 400 new connections, 25% wanted"},
		{"outside, and more may come", v1alpha1.ShiftReplicas, 25, sample(200, 200, 0, 0, 59*time.Second), v1alpha1.ShiftMeasuring, "measured 50.0%"},
		{"outside after the window", v1alpha1.ShiftReplicas, 25, sample(200, 200, 0, 0, time.Minute), v1alpha1.ShiftInconclusive, "more than 5 points apart"},
		{"too few, and more may come", v1alpha1.ShiftReplicas, 25, sample(30, 10, 0, 0, time.Second), v1alpha1.ShiftMeasuring, "40 of 100 new connections seen"},
		{"too few after the window", v1alpha1.ShiftReplicas, 25, sample(30, 10, 60, 20, time.Minute), v1alpha1.ShiftInconclusive, "too little traffic"},
		{
			"clients keep their connections", v1alpha1.ShiftReplicas, 25, sample(3, 0, 9000, 0, time.Minute), v1alpha1.ShiftInconclusive,
			"set shift.maxConnectionAgeSeconds",
		},
		{"few connections, but their requests are shared as wanted", v1alpha1.ShiftReplicas, 25, sample(6, 2, 7500, 2500, time.Second), v1alpha1.ShiftReached, "of 10000 requests"},
		{"a route is measured by requests", v1alpha1.ShiftHTTPRoute, 10, sample(0, 0, 901, 99, time.Second), v1alpha1.ShiftReached, "measured 9.9% of 1000 requests"},
		{"a pod that can't be read", v1alpha1.ShiftReplicas, 25, blocked, v1alpha1.ShiftInconclusive, "NetworkPolicy"},
		{"nothing is sent there", v1alpha1.ShiftReplicas, 0, Sample{}, v1alpha1.ShiftReached, "away from the new version"},
		{"nothing is sent elsewhere", v1alpha1.ShiftReplicas, 100, Sample{}, v1alpha1.ShiftReached, "to the new version"},
	}
	for _, tt := range tests {
		got := Measure(v1alpha1.GatewayShift{Type: tt.typ, TolerancePercent: 5, MinSamples: 100}, tt.weight, tt.s)
		if got.State != tt.state || !strings.Contains(got.Note, tt.note) {
			t.Errorf("%s: got %s %q, want %s %q", tt.reason, got.State, got.Note, tt.state, tt.note)
		}
	}
}

func TestSplit(t *testing.T) {
	tests := []struct {
		base, percent int32
		want          [2]int32
	}{
		{3, 0, [2]int32{3, 0}},
		{3, 25, [2]int32{3, 1}},
		{3, 50, [2]int32{3, 3}},
		{3, 75, [2]int32{1, 3}},
		{3, 100, [2]int32{3, 3}},
		{1, 25, [2]int32{1, 1}},
		{9, 10, [2]int32{9, 1}},
		{9, 1, [2]int32{9, 1}},
		{9, 99, [2]int32{1, 9}},
	}
	for _, tt := range tests {
		old, next := Split(tt.base, tt.percent)
		if diff := cmp.Diff(tt.want, [2]int32{old, next}); diff != "" {
			t.Errorf("%d%% of %d pods (-want +got):\n%s", tt.percent, tt.base, diff)
		}
	}
}

// What a gateway is given for a share is the nearest that its pods make, and what it is said to have is what it has.
func TestSplitIsTheNearest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, percent := rapid.Int32Range(1, 30).Draw(t, "base"), rapid.Int32Range(1, 99).Draw(t, "percent")
		old, next := Split(base, percent)
		off := math.Abs(100*float64(next)/float64(next+old) - float64(percent))
		for n := int32(1); n <= base; n++ {
			for _, share := range []float64{100 * float64(n) / float64(n+base), 100 * float64(base) / float64(n+base)} {
				if math.Abs(share-float64(percent)) < off-1e-9 && (share <= 50) == (percent <= 50) {
					t.Fatalf("%d%% of %d pods are %d and %d: %.1f is nearer", percent, base, old, next, share)
				}
			}
		}
		if e := Effective(v1alpha1.ShiftReplicas, base, percent); math.Abs(float64(e)-100*float64(next)/float64(next+old)) > 0.5 {
			t.Fatalf("%d%% of %d pods is said to be %d%%", percent, base, e)
		}
	})
}

func TestWhatIsAllowed(t *testing.T) {
	tests := []struct {
		reason        string
		typ           v1alpha1.ShiftType
		base, percent int32
		allowed       bool
		nearest       int32
	}{
		{"three and one", v1alpha1.ShiftReplicas, 3, 25, true, 25},
		{"within the tolerance", v1alpha1.ShiftReplicas, 3, 21, true, 25},
		{"one pod of four is a quarter", v1alpha1.ShiftReplicas, 3, 10, false, 0},
		{"a tenth takes nine", v1alpha1.ShiftReplicas, 9, 10, true, 10},
		{"a selector gives all or nothing", v1alpha1.ShiftSelector, 9, 60, false, 100},
		{"or nothing", v1alpha1.ShiftSelector, 9, 0, true, 0},
		{"a route gives any share", v1alpha1.ShiftHTTPRoute, 1, 1, true, 1},
	}
	for _, tt := range tests {
		if got := Allows(tt.typ, tt.base, tt.percent, 5); got != tt.allowed {
			t.Errorf("%s: allowed %t, want %t", tt.reason, got, tt.allowed)
		}
		if got := Nearest(tt.typ, tt.base, tt.percent); got != tt.nearest {
			t.Errorf("%s: nearest %d, want %d", tt.reason, got, tt.nearest)
		}
	}
}

func TestQuantile(t *testing.T) {
	c := Counters{Buckets: []Bucket{{Millis: 10, Count: 90}, {Millis: 100, Count: 99}, {Millis: 1000, Count: 100}, {Millis: math.Inf(1), Count: 100}}}
	if got, known := c.Quantile(0.99); !known || got != 100 {
		t.Errorf("p99 is %v %t, want 100", got, known)
	}
	if got, known := c.Quantile(0.45); !known || got != 5 {
		t.Errorf("p45 is %v %t, want 5: interpolated within its bucket", got, known)
	}
	if _, known := (Counters{}).Quantile(0.5); known {
		t.Error("there is a quantile of nothing")
	}
}

func TestTimesFitEachOther(t *testing.T) {
	for _, drain := range []int32{5, 30, 3600} {
		times := TimesOf(drain, 0)
		grace := int64(times.GraceSeconds)
		if times.MinimumSeconds > times.DrainSeconds || len(CheckTimes(drain, &grace, nil, 0)) > 0 {
			t.Errorf("%+v do not fit each other", times)
		}
	}
	short := int64(30)
	problems := CheckTimes(30, &short, nil, 5)
	if len(problems) != 1 || !strings.Contains(problems[0].Detail, "set at least 36") {
		t.Errorf("got %v, want the least that works", problems)
	}
}
