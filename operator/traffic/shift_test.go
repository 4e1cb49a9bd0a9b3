// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// toy is a gateway whose pods are ready a turn after they are wanted, and whose Service settles two turns after it was told.
type toy struct {
	in      Input
	pointed int
	turn    int
	trace   strings.Builder
	wrong   []string
	// stuck says that the new version's pods do not get ready.
	stuck bool
}

func (w *toy) step() Decision {
	w.turn++
	w.in.Settled = w.turn-w.pointed > 2
	d := Decide(w.in)
	w.check(d)
	if d.Pointer != w.in.Pointer || d.Route != w.in.Route {
		w.in.Pointer, w.in.Route, w.pointed = d.Pointer, d.Route, w.turn
	}
	w.size(&w.in.Old, d.Old, false)
	w.size(&w.in.New, d.New, w.stuck)
	line := fmt.Sprintf("old %d/%d new %d/%d %s", w.in.Old.Ready, w.in.Old.Replicas, w.in.New.Ready, w.in.New.Replicas, w.in.Pointer)
	if w.in.Type == v1alpha1.ShiftHTTPRoute {
		line += fmt.Sprintf(" route %d", w.in.Route)
	}
	if d.Note != "" {
		line += ": " + d.Note
	}
	w.trace.WriteString(line + "\n")
	return d
}

func (w *toy) size(v *Version, n int32, stuck bool) {
	if n < 0 {
		*v = Version{}
		return
	}
	if v.Exists && !stuck {
		v.Ready = min(n, v.Replicas)
		v.Configured = v.Ready > 0
	}
	v.Exists, v.Replicas = true, n
}

// check looks for what may never be.
func (w *toy) check(d Decision) {
	in := w.in
	wrong := func(what string) {
		w.wrong = append(w.wrong, fmt.Sprintf("turn %d: %s: %+v -> %+v", w.turn, what, in, d))
	}
	switch {
	case d.Pointer == ToNew && in.New.Ready == 0 && in.Old.Ready > 0:
		wrong("traffic is pointed to a version without a ready pod while the other has some")
	case d.Pointer == ToOld && in.Old.Ready == 0 && in.New.Ready > 0 && in.Pointer != ToOld:
		wrong("traffic is pointed to an old version without a ready pod while the new one has some")
	case d.New < 0 && in.New.Exists && (in.Pointer != ToOld && !in.Loose || in.Route != 0):
		wrong("the new version goes while traffic is pointed to it")
	case d.Old < 0 && in.Old.Exists && (in.Pointer != ToNew || in.Type == v1alpha1.ShiftHTTPRoute && in.Route != 100):
		wrong("the old version goes while traffic is pointed to it")
	case d.Old < 0 && in.Old.Exists && in.New.Ready < in.Base:
		wrong("the old version goes before the other one is whole")
	case in.Back && in.Old.Exists && d.Old > in.Old.Replicas:
		wrong("a version that traffic leaves gets more pods")
	case in.Max > 0 && (d.Old > in.Max || d.New > in.Max):
		wrong("more pods than the autoscaler may have")
	case d.Pointer == ToBoth && in.Pointer == ToOld && !in.New.Configured:
		wrong("traffic comes before the configuration")
	}
}

// settle plays until nothing is left to do.
func (w *toy) settle(turns int) bool {
	for range turns {
		if d := w.step(); d.Done {
			return true
		}
	}
	return false
}

func (w *toy) want(weight int32, final bool) {
	w.in.Weight, w.in.Wanted, w.in.Final = weight, true, final
	fmt.Fprintf(&w.trace, "-- %d%%\n", weight)
}

func begin(t v1alpha1.ShiftType, base int32) *toy {
	return &toy{in: Input{Type: t, Base: base, Pointer: ToOld, Old: Version{Exists: true, Replicas: base, Ready: base, Configured: true}}, pointed: -10}
}

func TestAShiftFromBeginningToEnd(t *testing.T) {
	tests := []struct {
		typ  v1alpha1.ShiftType
		want string
	}{
		{v1alpha1.ShiftReplicas, `
-- 25%
old 3/3 new 0/1 Old: 0 of 1 pods of the new version are ready
old 3/3 new 1/1 Old: 0 of 1 pods of the new version are ready
old 3/3 new 1/1 Both: traffic is pointed to where it is to go
old 3/3 new 1/1 Both: it takes some seconds until everybody sends traffic to where it is to go
old 3/3 new 1/1 Both: it takes some seconds until everybody sends traffic to where it is to go
old 3/3 new 1/1 Both
-- 75%
old 3/3 new 1/3 Both: 1 of 3 pods of the new version are ready
old 3/3 new 3/3 Both: 1 of 3 pods of the new version are ready
old 1/1 new 3/3 Both: the old version comes to 1 pods
old 1/1 new 3/3 Both
-- 100%
old 1/3 new 3/3 New: traffic is pointed to where it is to go
old 3/3 new 3/3 New: it takes some seconds until everybody sends traffic to where it is to go
old 3/3 new 3/3 New: it takes some seconds until everybody sends traffic to where it is to go
old 3/3 new 3/3 New
-- 100%
old 0/0 new 3/3 New: the old version goes
old 0/0 new 3/3 New
`},
		{v1alpha1.ShiftSelector, `
-- 25%
old 3/3 new 0/3 Old: 0 of 3 pods of the new version are ready
old 3/3 new 3/3 Old: 0 of 3 pods of the new version are ready
old 3/3 new 3/3 Old
-- 75%
old 3/3 new 3/3 Old
-- 100%
old 3/3 new 3/3 New: traffic is pointed to where it is to go
old 3/3 new 3/3 New: it takes some seconds until everybody sends traffic to where it is to go
old 3/3 new 3/3 New: it takes some seconds until everybody sends traffic to where it is to go
old 3/3 new 3/3 New
-- 100%
old 0/0 new 3/3 New: the old version goes
old 0/0 new 3/3 New
`},
		{v1alpha1.ShiftHTTPRoute, `
-- 25%
old 3/3 new 0/3 Old route 0: 0 of 3 pods of the new version are ready
old 3/3 new 3/3 Old route 0: 0 of 3 pods of the new version are ready
old 3/3 new 3/3 Old route 25: traffic is pointed to where it is to go
old 3/3 new 3/3 Old route 25: it takes some seconds until everybody sends traffic to where it is to go
old 3/3 new 3/3 Old route 25: it takes some seconds until everybody sends traffic to where it is to go
old 3/3 new 3/3 Old route 25
-- 75%
old 3/3 new 3/3 Old route 75: traffic is pointed to where it is to go
old 3/3 new 3/3 Old route 75: it takes some seconds until everybody sends traffic to where it is to go
old 3/3 new 3/3 Old route 75: it takes some seconds until everybody sends traffic to where it is to go
old 3/3 new 3/3 Old route 75
-- 100%
old 3/3 new 3/3 New route 100: traffic is pointed to where it is to go
old 3/3 new 3/3 New route 100: it takes some seconds until everybody sends traffic to where it is to go
old 3/3 new 3/3 New route 100: it takes some seconds until everybody sends traffic to where it is to go
old 3/3 new 3/3 New route 100
-- 100%
old 0/0 new 3/3 New route 100: the old version goes
old 0/0 new 3/3 New route 100
`},
	}
	for _, tt := range tests {
		t.Run(string(tt.typ), func(t *testing.T) {
			w := begin(tt.typ, 3)
			for _, weight := range []int32{25, 75, 100} {
				w.want(weight, false)
				w.in.Weight = Effective(tt.typ, 3, weight)
				if !w.settle(20) {
					t.Fatalf("%d%% is not reached\n%s", weight, w.trace.String())
				}
			}
			w.want(100, true)
			w.settle(20)
			if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), w.trace.String()); diff != "" {
				t.Errorf("another course (-want +got):\n%s", diff)
			}
			for _, wrong := range w.wrong {
				t.Error(wrong)
			}
		})
	}
}

// Whatever is wanted, in whatever order: what may never be never is, and it comes to an end. Going back is a shift with the versions
// exchanged.
func TestShiftsAreSafeAndEnd(t *testing.T) {
	types := []v1alpha1.ShiftType{v1alpha1.ShiftReplicas, v1alpha1.ShiftSelector, v1alpha1.ShiftHTTPRoute}
	rapid.Check(t, func(t *rapid.T) {
		w := begin(rapid.SampledFrom(types).Draw(t, "type"), rapid.Int32Range(1, 12).Draw(t, "base"))
		if rapid.Bool().Draw(t, "autoscaled") {
			w.in.Max = w.in.Base + rapid.Int32Range(0, 8).Draw(t, "above")
		}
		for range rapid.IntRange(0, 5).Draw(t, "weights") {
			weight := rapid.Int32Range(0, 100).Draw(t, "weight")
			w.want(weight, false)
			w.in.Weight = Effective(w.in.Type, w.in.Base, weight)
			w.stuck = rapid.IntRange(0, 4).Draw(t, "stuck") == 0
			for range rapid.IntRange(1, 20).Draw(t, "turns") {
				w.step()
			}
		}
		w.stuck = false
		if rapid.Bool().Draw(t, "back") {
			w.in.Old, w.in.New = w.in.New, w.in.Old
			w.in.Route = 100 - w.in.Route
			switch w.in.Pointer {
			case ToOld:
				w.in.Pointer = ToNew
			case ToNew:
				w.in.Pointer = ToOld
			default:
			}
			w.in.New.Configured, w.in.Back = true, true
		}
		w.want(100, true)
		ended := w.settle(40)
		if len(w.wrong) > 0 {
			t.Fatalf("%s\n%s", strings.Join(w.wrong, "\n"), w.trace.String())
		}
		if !ended || w.in.Old.Exists || w.in.New.Ready < w.in.Base || w.in.Pointer != ToNew {
			t.Fatalf("it does not end with one version\n%s", w.trace.String())
		}
	})
}

// A rollback of a version that is broken needs nothing of it.
func TestABrokenVersionGoesBackAtOnce(t *testing.T) {
	in := Input{
		Type: v1alpha1.ShiftReplicas, Weight: 100, Wanted: true, Final: true, Base: 3, Pointer: ToBoth, Settled: true,
		Old: Version{Exists: true, Replicas: 1}, New: Version{Exists: true, Replicas: 3, Ready: 3, Configured: true},
	}
	if d := Decide(in); d.Pointer != ToNew || d.New != 3 {
		t.Errorf("got %+v, want traffic at the good version at once", d)
	}
	in.Back, in.Old.Ready, in.New.Ready = true, 1, 2 // both answer, and one good pod is missing
	if d := Decide(in); d.Pointer != ToNew || d.Old != 1 || d.Done {
		t.Errorf("got %+v, want traffic at those of the good version that are there, and nothing added or removed", d)
	}
}

// Above a half, an autoscaled gateway gives away nothing before the new version has what it needs for the load of the day.
func TestAnAutoscaledGatewayKeepsItsCapacity(t *testing.T) {
	in := Input{
		Type: v1alpha1.ShiftReplicas, Weight: 75, Wanted: true, Base: 3, Max: 10, Pointer: ToBoth, Settled: true,
		Old: Version{Exists: true, Replicas: 9, Ready: 9}, New: Version{Exists: true, Replicas: 3, Ready: 3, Configured: true},
	}
	if d := Decide(in); d.New != 9 || d.Cap != 0 {
		t.Errorf("got %+v, want nine new pods before an old one goes", d)
	}
	in.New.Replicas, in.New.Ready = 9, 9
	if d := Decide(in); d.Cap != 3 {
		t.Errorf("got %+v, want the old version capped at three", d)
	}
	in.Old.Replicas, in.Old.Ready = 3, 3
	if d := Decide(in); d.Cap != 3 || !d.Done {
		t.Errorf("got %+v, want it to be done", d)
	}
	in.Weight = 100
	if d := Decide(in); d.New != 9 || d.Pointer != ToNew {
		t.Errorf("got %+v, want all the traffic at nine pods", d)
	}
}

// Where an autoscaler has raised one version, the other one follows, so that the ratio is right again.
func TestTheRatioIsCorrected(t *testing.T) {
	tests := []struct {
		reason   string
		weight   int32
		old, new int32
		want     [2]int32
	}{
		{"as it was", 25, 3, 1, [2]int32{3, 1}},
		{"twice as many old ones", 25, 6, 1, [2]int32{6, 2}},
		{"twice as many new ones", 25, 3, 2, [2]int32{6, 2}},
		{"no more than the autoscaler may have", 25, 3, 4, [2]int32{8, 4}},
	}
	for _, tt := range tests {
		d := Decide(Input{
			Type: v1alpha1.ShiftReplicas, Weight: tt.weight, Wanted: true, Base: 3, Max: 8, Pointer: ToBoth, Settled: true,
			Old: Version{Exists: true, Replicas: tt.old, Ready: tt.old}, New: Version{Exists: true, Replicas: tt.new, Ready: tt.new, Configured: true},
		})
		if diff := cmp.Diff(tt.want, [2]int32{d.Old, d.New}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
		}
	}
}
