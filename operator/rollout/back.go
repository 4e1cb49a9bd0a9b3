// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// leaving says whether the old revision is being removed, or gone: there is no way back from there.
func (w *walker) leaving() bool {
	return w.moved() && !inPlace(w.plan) && (!w.seen.From.Exists || w.seen.From.Leaving)
}

// turn makes the rollout walk back from where it is.
func (w *walker) turn() {
	w.p.Back, w.p.Halted = true, false
	step := min(w.p.Step, int32(len(w.plan.Steps))-1) //nolint:gosec // a plan has 50 steps at most
	if w.p.Proven == nil || Refresh(w.plan) {
		step = -1 // nothing has moved, or there is nowhere to go back to
	}
	w.enter(step)
}

// turned is all that is decided when a rollout turns back: what was observed was counted towards the other side.
func (w *walker) turned(reason, why string) Decision {
	return running(v1alpha1.ActRollBack, reason, "turns back to "+w.plan.From.Revision+": "+why)
}

// back undoes the steps that were reached, the last first, and then takes the canary away.
func (w *walker) back() Decision {
	if w.p.Step >= 0 || inPlace(w.plan) {
		if d, healthy := w.oldServes(); !healthy {
			return d
		}
	}
	if d, done := w.weightsBack(); !done {
		return d
	}
	for w.p.Step >= 0 {
		if d, done := w.undo(&w.plan.Steps[w.p.Step]); !done {
			return d
		}
		w.enter(w.p.Step - 1)
	}
	return w.takeAway()
}

// oldServes says whether the revision to go back to serves: where it does not, the canary may be the only healthy one.
func (w *walker) oldServes() (Decision, bool) {
	from := w.seen.From
	switch {
	case from.Exists && from.Ready:
		return Decision{}, true
	case !from.Exists && inPlace(w.plan):
		return running(v1alpha1.ActCreate, v1alpha1.ReasonRollingBack, "control plane "+w.plan.From.Version+" as revision "+w.plan.From.Revision), false
	case inPlace(w.plan) && !w.exceeded():
		return running(v1alpha1.ActWait, v1alpha1.ReasonRollingBack, "the control plane of "+w.plan.From.Version+" is not ready again: "+from.Problem), false
	}
	return Decision{
		Act: v1alpha1.ActHalt, Reason: v1alpha1.ReasonOldRevisionFailed,
		Note: "can't go back: the control plane of " + w.plan.From.Revision + " does not serve: " + from.Problem + "; mend it, and the rollback goes on",
	}, false
}

func (w *walker) undo(s *v1alpha1.RolloutStep) (Decision, bool) {
	switch s.Type {
	case v1alpha1.StepPause, v1alpha1.StepGatewayWeight, v1alpha1.StepAnalysis:
		return Decision{}, true // weights have gone back before all else
	case v1alpha1.StepPromote:
		if d, done := w.promote(); !done {
			return d, false
		}
	default:
	}
	wave := w.seen.Waves[s.DataPlane.Wave]
	switch {
	case !wave.Known:
		return running(v1alpha1.ActWait, v1alpha1.ReasonUnknown, "the workloads of wave "+s.DataPlane.Wave+" are not known yet"), false
	case wave.Failing != "":
		return w.fail(v1alpha1.ReasonWorkloadFailed, wave.Failing), false
	case wave.Moved >= wave.Total && wave.Moving == 0:
		return Decision{}, true
	}
	return w.move(s, wave, wave.Total), false
}

// fail turns back where that is allowed and possible, and halts otherwise.
func (w *walker) fail(reason, note string) Decision {
	w.p.Failure, w.p.FailureReason = note, reason
	if w.p.Back || w.plan.OnFailure != v1alpha1.OnFailureRollBack || Refresh(w.plan) {
		w.p.Halted = true
		return w.halted()
	}
	w.turn()
	return w.turned(reason, note)
}

func (w *walker) halted() Decision {
	remedy := "mend it and raise spec.retries by one, or set spec.goal to RollBack"
	if w.p.Back {
		remedy = "mend it and raise spec.retries by one"
	}
	return Decision{Act: v1alpha1.ActHalt, Reason: w.p.FailureReason, Note: w.p.Failure + "; " + remedy}
}
