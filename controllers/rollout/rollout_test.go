// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// at is some seconds after noon.
func at(seconds int) *metav1.Time {
	return &metav1.Time{Time: noon.Add(time.Duration(seconds) * time.Second)}
}

// threeSteps are a wave, a pause and the promotion.
func threeSteps() *v1alpha1.MeshRollout {
	return &v1alpha1.MeshRollout{
		ObjectMeta: metav1.ObjectMeta{Name: "default-2", Generation: 3},
		Spec: v1alpha1.MeshRolloutSpec{Plan: v1alpha1.RolloutPlan{
			Mesh: "default", From: v1alpha1.RolloutRevision{Revision: "1-28-2"}, To: v1alpha1.RolloutRevision{Revision: "1-29-1"},
			ProgressDeadlineSeconds: 600,
			Steps: []v1alpha1.RolloutStep{
				{Name: "early", Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: "early", Percent: 100}},
				{Name: "go", Type: v1alpha1.StepPause},
				{Name: "promote", Type: v1alpha1.StepPromote, DataPlane: &v1alpha1.DataPlaneStep{Wave: "followers", Percent: 100}},
			},
		}},
	}
}

// progress is that of a proven canary.
func progress(step int32, changes ...func(*v1alpha1.RolloutProgress)) v1alpha1.RolloutProgress {
	p := v1alpha1.RolloutProgress{Step: step, Proven: at(0)}
	for _, change := range changes {
		change(&p)
	}
	return p
}

func goesBack(p *v1alpha1.RolloutProgress) { p.Back = true }

func unproven(p *v1alpha1.RolloutProgress) { p.Proven = nil }

func outcome(o v1alpha1.RolloutOutcome) func(*v1alpha1.RolloutProgress) {
	return func(p *v1alpha1.RolloutProgress) { p.Outcome = o }
}

func TestSummary(t *testing.T) {
	for _, tc := range []struct {
		reason   string
		progress v1alpha1.RolloutProgress
		want     string
	}{
		{"nothing is proven", progress(0, unproven), "0/3"},
		{"the first step", progress(0), "1/3 early"},
		{"the last step", progress(2), "3/3 promote"},
		{"the old revision is waited for", progress(3), "3/3"},
		{"all is done", progress(3, outcome(v1alpha1.OutcomeCompleted)), "3/3"},
		{"going back, the step that is undone", progress(1, goesBack), "2/3 go"},
		{"all is undone", progress(-1, goesBack), "0/3"},
		{"it was rolled back", progress(-1, goesBack, outcome(v1alpha1.OutcomeRolledBack)), "0/3"},
	} {
		if got := summary(&threeSteps().Spec.Plan, tc.progress); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.reason, got, tc.want)
		}
	}
}

func TestStepsOf(t *testing.T) {
	step := func(name string, state v1alpha1.StepState, times ...*metav1.Time) v1alpha1.StepStatus {
		s := v1alpha1.StepStatus{Name: name, State: state}
		if len(times) > 0 {
			s.Started = times[0]
		}
		if len(times) > 1 {
			s.Ended = times[1]
		}
		return s
	}
	with := func(s v1alpha1.StepStatus, message string) v1alpha1.StepStatus {
		s.Message = message
		return s
	}
	const (
		waiting = v1alpha1.StepWaiting
		running = v1alpha1.StepRunning
		done    = v1alpha1.StepDone
		undone  = v1alpha1.StepUndone
	)
	type steps = []v1alpha1.StepStatus
	for _, tc := range []struct {
		reason   string
		last     steps
		progress v1alpha1.RolloutProgress
		want     steps
	}{
		{
			"nothing is proven: no step is entered", nil, progress(0, unproven),
			steps{step("early", waiting), step("go", waiting), step("promote", waiting)},
		},
		{
			"the first is entered, and says what is decided", nil, progress(0),
			steps{with(step("early", running, at(60)), "note"), step("go", waiting), step("promote", waiting)},
		},
		{
			"it goes on: when it was entered stays",
			steps{step("early", running, at(5))},
			progress(0),
			steps{with(step("early", running, at(5)), "note"), step("go", waiting), step("promote", waiting)},
		},
		{
			"it is left, and what it said is past",
			steps{with(step("early", running, at(5)), "earlier")},
			progress(1),
			steps{step("early", done, at(5), at(60)), with(step("go", running, at(60)), "note"), step("promote", waiting)},
		},
		{
			"when it was left stays too",
			steps{step("early", done, at(5), at(7)), step("go", running, at(7))},
			progress(1),
			steps{step("early", done, at(5), at(7)), with(step("go", running, at(7)), "note"), step("promote", waiting)},
		},
		{
			"one that was done when it was reached begins and ends at once",
			steps{step("early", running, at(5))},
			progress(2),
			steps{step("early", done, at(5), at(60)), step("go", done, at(60), at(60)), with(step("promote", running, at(60)), "note")},
		},
		{
			"all are done, and the old revision waits",
			steps{step("early", done, at(5), at(7)), step("go", done, at(7), at(8)), step("promote", running, at(8))},
			progress(3),
			steps{step("early", done, at(5), at(7)), step("go", done, at(7), at(8)), step("promote", done, at(8), at(60))},
		},
		{
			"it turns back in the second step, which is undone first",
			steps{step("early", done, at(5), at(7)), step("go", running, at(7))},
			progress(1, goesBack),
			steps{step("early", done, at(5), at(7)), with(step("go", running, at(7)), "note"), step("promote", waiting)},
		},
		{
			"then the first; what was never entered was not undone",
			steps{step("early", done, at(5), at(7)), step("go", running, at(7))},
			progress(0, goesBack),
			steps{with(step("early", running, at(5)), "note"), step("go", undone, at(7), at(60)), step("promote", waiting)},
		},
		{
			"all are undone",
			steps{step("early", running, at(5)), step("go", undone, at(7), at(30))},
			progress(-1, goesBack),
			steps{step("early", undone, at(5), at(60)), step("go", undone, at(7), at(30)), step("promote", waiting)},
		},
		{
			"it turns back after all were done",
			steps{step("early", done, at(5), at(7)), step("go", done, at(7), at(8)), step("promote", done, at(8), at(9))},
			progress(0, goesBack),
			steps{with(step("early", running, at(5)), "note"), step("go", undone, at(7), at(60)), step("promote", undone, at(8), at(60))},
		},
		{
			"it has ended: no step runs",
			steps{step("early", undone, at(5), at(30))},
			progress(-1, goesBack, outcome(v1alpha1.OutcomeRolledBack)),
			steps{step("early", undone, at(5), at(30)), step("go", waiting), step("promote", waiting)},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			o := threeSteps()
			o.Status.Steps = tc.last
			got := stepsOf(o, rollout.Decision{Progress: tc.progress, Note: "note"}, *at(60))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

// An approval is recorded when it is seen first, and never again.
func TestApprovalsAreRecorded(t *testing.T) {
	o := threeSteps()
	o.Spec.Approvals = []v1alpha1.Approval{{Step: "go", By: "oncall"}}
	o.Status.Steps = stepsOf(o, rollout.Decision{Progress: progress(0)}, *at(10))
	o.Spec.Approvals[0].By = "somebody else"
	got := stepsOf(o, rollout.Decision{Progress: progress(1)}, *at(60))[1]
	if got.ApprovedBy != "oncall" || !got.ApprovedAt.Equal(at(10)) {
		t.Errorf("approved by %q at %v, want oncall at the time it was seen", got.ApprovedBy, got.ApprovedAt)
	}
}

// Counts and sentences alone make a write every ten seconds; all else makes one at once.
func TestOnlyCounts(t *testing.T) {
	// What is decided first, at noon.
	decided := rollout.Decision{
		Act: v1alpha1.ActStep, Reason: v1alpha1.ReasonMoving, Note: "wave early: 1 of 9 workloads moved", Moving: true,
		Progress: progress(0, func(p *v1alpha1.RolloutProgress) { p.Moved, p.ClockSince = 1, at(0) }),
	}
	held := rollout.Observation{Waves: map[string]rollout.Wave{"early": {Held: []v1alpha1.UnmovableWorkload{{Workload: "Pod/shop/p"}}}}}
	for _, tc := range []struct {
		reason string
		seen   rollout.Observation
		change func(*rollout.Decision)
		after  time.Duration
		want   time.Duration
	}{
		{"nothing has changed: nothing waits", rollout.Observation{}, func(*rollout.Decision) {}, 3 * time.Second, 0},
		{"a sentence", rollout.Observation{}, func(d *rollout.Decision) {
			d.Note = "wave early: 1 of 10 workloads moved"
		}, 3 * time.Second, 7 * time.Second},
		{"what has moved", rollout.Observation{}, func(d *rollout.Decision) {
			d.Note, d.Progress.Moved, d.Progress.ClockSince = "wave early: 2 of 9 workloads moved", 2, at(3)
		}, 3 * time.Second, 7 * time.Second},
		{"what can't be moved", held, func(*rollout.Decision) {}, 3 * time.Second, 7 * time.Second},
		{"ten seconds are over", rollout.Observation{}, func(d *rollout.Decision) { d.Note = "another" }, 10 * time.Second, 0},
		{"the step", rollout.Observation{}, func(d *rollout.Decision) { d.Progress.Step = 1 }, 3 * time.Second, 0},
		{"the reason", rollout.Observation{}, func(d *rollout.Decision) { d.Reason = v1alpha1.ReasonBaking }, 3 * time.Second, 0},
		{"what is done", rollout.Observation{}, func(d *rollout.Decision) { d.Act = v1alpha1.ActHalt }, 3 * time.Second, 0},
		{"whether workloads may move", rollout.Observation{}, func(d *rollout.Decision) { d.Moving = false }, 3 * time.Second, 0},
		{"the clock of the deadline stands still", rollout.Observation{}, func(d *rollout.Decision) {
			d.Progress.ClockSince = nil
		}, 3 * time.Second, 0},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			r, o := &Reconciler{}, threeSteps()
			r.report(o, rollout.Observation{}, decided, noon)
			before, next := o.DeepCopy(), decided
			tc.change(&next)
			r.report(o, tc.seen, next, noon.Add(tc.after))
			if got := r.onlyCounts(before, o, noon.Add(tc.after)); got != tc.want {
				t.Errorf("it may wait for %s, want %s", got, tc.want)
			}
		})
	}
}

// A refusal that others wrote may be long; the API allows 1024 characters in the message of a step.
func TestLongMessagesOfSteps(t *testing.T) {
	r, o := &Reconciler{}, threeSteps()
	long := rollout.Decision{Reason: v1alpha1.ReasonMoving, Note: strings.Repeat("long ", 400), Progress: progress(0)}
	r.report(o, rollout.Observation{}, long, noon)
	if got := len(o.Status.Steps[0].Message); got > 1024 {
		t.Errorf("the message has %d characters", got)
	}
}

// What is reported first is written at once.
func TestFirstReportDoesNotWait(t *testing.T) {
	r, o := &Reconciler{}, threeSteps()
	before := o.DeepCopy()
	r.report(o, rollout.Observation{}, rollout.Decision{Act: v1alpha1.ActCreate, Reason: v1alpha1.ReasonCreatingCanary}, noon)
	if got := r.onlyCounts(before, o, noon); got != 0 {
		t.Errorf("it may wait for %s", got)
	}
}

func TestNext(t *testing.T) {
	const second, tenth = time.Second, time.Second / 10
	night := []v1alpha1.Window{{Schedule: "0 11 * * *", DurationSeconds: 3630}}
	clock := func(seconds int) func(*v1alpha1.RolloutProgress) {
		return func(p *v1alpha1.RolloutProgress) { p.ClockSince = at(seconds) }
	}
	for _, tc := range []struct {
		reason   string
		windows  []v1alpha1.Window
		decision rollout.Decision
		want     time.Duration
	}{
		{"nothing ends by itself", nil, rollout.Decision{Progress: progress(0)}, 0},
		{"a pause ends", nil, rollout.Decision{Progress: progress(1), Until: noon.Add(time.Minute)}, time.Minute + tenth},
		{"one that is over is looked at soon, and not at once", nil, rollout.Decision{Progress: progress(1), Until: noon}, second},
		{"the deadline passes", nil, rollout.Decision{Progress: progress(0, clock(-60))}, 9*time.Minute + tenth},
		{
			"whichever comes first", nil, rollout.Decision{Progress: progress(0, clock(-570)), Until: noon.Add(time.Minute)}, 30*second + tenth,
		},
		{"the window closes over what moves", night, rollout.Decision{Progress: progress(0), Moving: true}, 30*second + tenth},
		{"what does not move has no window", night, rollout.Decision{Progress: progress(0)}, 0},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			plan := threeSteps().Spec.Plan
			plan.Windows = tc.windows
			if got := next(&plan, tc.decision, noon); got != tc.want {
				t.Errorf("next = %s, want %s", got, tc.want)
			}
		})
	}
}

// What can't be moved is counted, and named as far as the API allows; a wave that several steps move counts once.
func TestUnmovable(t *testing.T) {
	plan := threeSteps().Spec.Plan
	plan.Steps = append(plan.Steps, plan.Steps[0])
	held := func(wave string, n int) (out []v1alpha1.UnmovableWorkload) {
		for i := range n {
			out = append(out, v1alpha1.UnmovableWorkload{Workload: fmt.Sprintf("Pod/%s/%02d", wave, i), Reason: rollout.HeldBarePod})
		}
		return out
	}
	seen := rollout.Observation{Waves: map[string]rollout.Wave{
		"early": {Held: held("early", 2)}, "followers": {Held: held("followers", 30)}, "rest": {Held: held("rest", 1)},
	}}
	got, count := unmovable(&plan, seen)
	if diff := cmp.Diff(append(held("early", 2), held("followers", 18)...), got); diff != "" || count != 32 {
		t.Errorf("%d in all, want 32 of the waves of the plan; the first (-want +got):\n%s", count, diff)
	}
}
