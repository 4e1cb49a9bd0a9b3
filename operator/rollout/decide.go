// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Decide makes the one decision that is due: spec is the plan and the verbs, p the progress that was kept.
func Decide(spec *v1alpha1.MeshRolloutSpec, p v1alpha1.RolloutProgress, seen Observation, now time.Time) Decision {
	w := &walker{spec: spec, plan: &spec.Plan, p: p, seen: seen, now: now.Truncate(time.Second)}
	d := w.decide()
	w.clock(d.ticks)
	d.Progress, d.Left = w.p, w.said
	return d
}

// walker is one decision on its way.
type walker struct {
	spec *v1alpha1.MeshRolloutSpec
	plan *v1alpha1.RolloutPlan
	p    v1alpha1.RolloutProgress
	seen Observation
	now  time.Time
	// said is what the steps came to that were left, by their index.
	said map[int]string
}

// left keeps what the current step came to.
func (w *walker) left(note string) {
	if w.said == nil {
		w.said = map[int]string{}
	}
	w.said[int(w.p.Step)] = note
}

func (w *walker) decide() Decision {
	if w.p.Outcome != "" {
		return w.ended()
	}
	if !w.seen.Granted {
		return wait(v1alpha1.ReasonNotGranted, "another operation is active on the mesh")
	}
	switch {
	case w.spec.Paused:
		return wait(v1alpha1.ReasonPaused, "the rollout is paused: set spec.paused to false")
	case w.seen.Paused:
		return wait(v1alpha1.ReasonPaused, "the mesh is paused: set spec.paused of the MeshInstallation to false")
	}
	turned := w.verbs()
	switch {
	case turned:
		return w.turned(v1alpha1.ReasonRollingBack, "spec.goal is "+string(w.spec.Goal))
	case w.p.Halted:
		return w.halted()
	case w.spec.Goal == v1alpha1.GoalAbort && !w.p.Back && !w.moved():
		return Decision{Act: v1alpha1.ActHalt, Reason: v1alpha1.ReasonAborted, Note: "workloads have moved already: set goal to RollBack to move them back"}
	case w.p.Back:
		return w.back()
	}
	return w.forward()
}

// verbs takes in what people have said, and says whether the rollout turns back for it.
func (w *walker) verbs() (turned bool) {
	if w.spec.Retries > w.p.Retries {
		w.p.Retries = w.spec.Retries
		if w.p.Halted {
			w.p.Halted = false
			w.progressed()
			w.anew()
			if !w.p.Back {
				w.p.Failure, w.p.FailureReason = "", ""
			}
		}
	}
	abort := w.spec.Goal == v1alpha1.GoalAbort && !w.started()
	if (w.spec.Goal == v1alpha1.GoalRollBack || abort) && !w.p.Back && !w.leaving() {
		w.turn()
		return true
	}
	return false
}

// started says whether a step that moves something has been entered.
func (w *walker) started() bool {
	for i, s := range w.plan.Steps {
		if s.Type != v1alpha1.StepPause && s.Type != v1alpha1.StepAnalysis && reached(w.p, i) {
			return true
		}
	}
	return false
}

// moved says whether all steps are done.
func (w *walker) moved() bool { return int(w.p.Step) >= len(w.plan.Steps) }

// enter begins a step.
func (w *walker) enter(step int32) {
	w.p.Step, w.p.Entered, w.p.Opened, w.p.Satisfied, w.p.Moved, w.p.Unused = step, w.stamp(), nil, nil, 0, nil
	w.anew()
	w.progressed()
}

func (w *walker) forward() Decision {
	if w.leaving() {
		return w.retire()
	}
	w.count()
	if d, failed := w.worse(); failed { // also when the control plane of the new version does not serve, which would be waited for
		return d
	}
	if d, done := w.controlPlane(); !done {
		return d
	}
	if d, done := w.prove(); !done {
		return d
	}
	for !w.moved() {
		if d, done := w.step(&w.plan.Steps[w.p.Step]); !done {
			return d
		}
		w.enter(w.p.Step + 1)
	}
	return w.retire()
}

func wait(reason, note string) Decision {
	return Decision{Act: v1alpha1.ActWait, Reason: reason, Note: note}
}

func running(act v1alpha1.RolloutAct, reason, note string) Decision {
	return Decision{Act: act, Reason: reason, Note: note, ticks: true}
}
