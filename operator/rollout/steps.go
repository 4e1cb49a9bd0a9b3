// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// controlPlane brings up the revision to move to, and watches it for as long as something moves there.
func (w *walker) controlPlane() (Decision, bool) {
	to := w.seen.To
	switch {
	case !to.Exists:
		return running(v1alpha1.ActCreate, v1alpha1.ReasonCreatingCanary, "control plane "+w.plan.To.Version+" as revision "+w.plan.To.Revision), false
	case to.Ready:
		return Decision{}, true
	case w.moved():
		return wait(v1alpha1.ReasonCanaryFailed, "everything has moved, and the control plane of "+w.plan.To.Revision+" does not serve: "+to.Problem), false
	case w.exceeded():
		return w.fail(v1alpha1.ReasonCanaryFailed, "the control plane of "+w.plan.To.Revision+" does not get ready: "+to.Problem), false
	}
	return running(v1alpha1.ActWait, v1alpha1.ReasonCreatingCanary, "the control plane of "+w.plan.To.Revision+" is not ready: "+to.Problem), false
}

// prove wants to see that the new revision injects and configures, before anything moves.
func (w *walker) prove() (Decision, bool) {
	if w.p.Proven != nil {
		return Decision{}, true
	}
	for _, proof := range []v1alpha1.Proof{v1alpha1.ProofConfiguration, v1alpha1.ProofInjection} {
		seen, asked := w.seen.Proofs[proof]
		switch {
		case seen.Answer == Yes || w.waived(proof):
			continue
		case seen.Answer == No && w.exceeded():
			return w.fail(v1alpha1.ReasonNotInjecting, seen.Why), false
		case seen.Answer == No: // the API server may not know its webhook yet
			return running(v1alpha1.ActProve, v1alpha1.ReasonNotInjecting, seen.Why), false
		case !asked:
			return running(v1alpha1.ActProve, v1alpha1.ReasonProving, "revision "+w.plan.To.Revision+" has to show that it configures proxies and injects pods"), false
		case w.exceeded():
			return w.fail(v1alpha1.ReasonUnproven, seen.Why), false
		}
		return running(v1alpha1.ActProve, v1alpha1.ReasonUnproven, fmt.Sprintf("%s; or waive the proof %s", seen.Why, proof)), false
	}
	if d, done := w.gates("", hooksOf(w.plan, v1alpha1.HookBefore)); !done {
		return d, false
	}
	w.p.Proven, w.said = w.stamp(), nil
	w.enter(0)
	return Decision{}, true
}

func (w *walker) waived(proof v1alpha1.Proof) bool {
	for _, waiver := range w.spec.Waivers {
		if waiver.Proof == proof && w.now.Before(waiver.Expires.Time) {
			return true
		}
	}
	return false
}

func (w *walker) approved(step string) bool {
	for _, a := range w.spec.Approvals {
		if a.Step == step {
			return true
		}
	}
	return false
}

// step makes one step true, and says when it is.
func (w *walker) step(s *v1alpha1.RolloutStep) (Decision, bool) {
	switch s.Type {
	case v1alpha1.StepPause:
		return w.pause(s)
	case v1alpha1.StepGatewayWeight:
		return w.weightStep(s)
	case v1alpha1.StepAnalysis:
		return w.analyse(s)
	case v1alpha1.StepPromote:
		if d, done := w.gates(s.Name, hooksOf(w.plan, v1alpha1.HookAfter)); !done {
			return d, false
		}
		if w.p.Opened == nil {
			w.p.Opened = w.stamp() // from now on gateways are to move
		}
		if d, done := w.promote(); !done {
			return d, false
		}
	default:
	}
	return w.wave(s)
}

func (w *walker) pause(s *v1alpha1.RolloutStep) (Decision, bool) {
	w.p.ClockSeconds = 0 // what was waited for before has come
	if w.approved(s.Name) {
		return Decision{}, true
	}
	if s.Pause == nil {
		return Decision{
			Act: v1alpha1.ActAwaitApproval, Reason: v1alpha1.ReasonAwaitingApproval,
			Note: "step " + s.Name + " waits for an approval: add {step: " + s.Name + ", by: <you>} to spec.approvals",
		}, false
	}
	length := time.Duration(s.Pause.DurationSeconds) * time.Second
	if w.since(w.p.Entered) >= length {
		return Decision{}, true
	}
	d := wait(v1alpha1.ReasonPausing, "step "+s.Name+" pauses; approve it to go on now")
	d.Until = w.p.Entered.Add(length)
	return d, false
}

// promote waits until the default revision, the tags and the gateways are where the walk wants them.
func (w *walker) promote() (Decision, bool) {
	wanted, to := Yes, w.plan.To.Revision
	if w.p.Back {
		wanted, to = No, w.plan.From.Revision
	}
	switch {
	case w.seen.Promoted.Answer == wanted:
		return Decision{}, true
	case w.exceeded():
		return w.fail(v1alpha1.ReasonDeadlineExceeded, w.stuck(w.seen.Promoted.Why)), false
	}
	note := "default revision, tags and gateways move to " + to
	if w.seen.Promoted.Why != "" {
		note += ": " + w.seen.Promoted.Why
	}
	return running(v1alpha1.ActPromote, v1alpha1.ReasonPromoting, note), false
}

// wave moves its share of a wave, forward.
func (w *walker) wave(s *v1alpha1.RolloutStep) (Decision, bool) {
	wave := w.seen.Waves[s.DataPlane.Wave]
	allowed := share(wave.Total, s.DataPlane.Percent)
	switch {
	case !wave.Known:
		return running(v1alpha1.ActWait, v1alpha1.ReasonUnknown, "the workloads of wave "+s.DataPlane.Wave+" are not known yet"), false
	case wave.Failing != "":
		return w.fail(v1alpha1.ReasonWorkloadFailed, wave.Failing), false
	case s.DataPlane.Percent < 100 && wave.Moved+wave.Moving > allowed && !w.approved(s.Name) && w.p.Satisfied == nil:
		return wait(v1alpha1.ReasonOvershoot, fmt.Sprintf("%d of %d in wave %s have moved, step %s allows %d: others have restarted them; approve the step to accept that",
			wave.Moved+wave.Moving, wave.Total, s.DataPlane.Wave, s.Name, allowed)), false
	case wave.Moved >= allowed && wave.Moving == 0:
		return w.bake(s.Name, s.DataPlane.BakeSeconds)
	}
	w.p.Satisfied = nil
	return w.move(s, wave, allowed), false
}

// move lets workloads be restarted, inside a window.
func (w *walker) move(s *v1alpha1.RolloutStep, wave Wave, allowed int32) Decision {
	note := w.counts(s, wave, allowed)
	if open, until := Open(w.plan.Windows, w.now); !open && !w.p.Back {
		d := wait(v1alpha1.ReasonOutsideWindow, note+"; the rest in the next window")
		d.Until = until
		return d
	}
	if d, yes := w.connected(note); !yes {
		return d
	}
	if w.plan.Restart.Type == v1alpha1.RestartManual && wave.Moving == 0 {
		return wait(v1alpha1.ReasonAwaitingRestarts, note+"; restart.type is Manual: restart the workloads (kubectl rollout restart)")
	}
	if wave.Moved > w.p.Moved {
		w.p.Moved = wave.Moved
		w.progressed()
	}
	if w.exceeded() {
		return w.fail(v1alpha1.ReasonDeadlineExceeded, w.stuck(note))
	}
	d := running(v1alpha1.ActStep, v1alpha1.ReasonMoving, note)
	if w.p.Back {
		d.Act, d.Reason = v1alpha1.ActRollBack, v1alpha1.ReasonRollingBack
	}
	d.Moving = true
	return d
}

// connected says whether the proxies are connected to an istiod that was replaced under them. One that is not does not learn that
// a pod has gone, and sends its requests there.
func (w *walker) connected(note string) (Decision, bool) {
	seen := w.seen.Proofs[v1alpha1.ProofConnection]
	switch {
	case !inPlace(w.plan) || seen.Answer == Yes || w.waived(v1alpha1.ProofConnection):
		return Decision{}, true
	case seen.Why == "":
		seen.Why = "istiod has not been asked yet whether the proxies are connected to it"
	case w.exceeded():
		return w.fail(v1alpha1.ReasonReconnecting, w.stuck(seen.Why)), false
	}
	why := fmt.Sprintf("%s; %s; or waive the proof %s", note, seen.Why, v1alpha1.ProofConnection)
	return running(v1alpha1.ActWait, v1alpha1.ReasonReconnecting, why), false
}

// counts is how far a step is, in a sentence.
func (w *walker) counts(s *v1alpha1.RolloutStep, wave Wave, allowed int32) string {
	unit := "workloads"
	if w.plan.Restart.Type == v1alpha1.RestartEvict {
		unit = "pods"
	}
	moved := "moved"
	if w.p.Back {
		moved = "moved back"
	}
	note := fmt.Sprintf("wave %s: %d of %d %s %s", s.DataPlane.Wave, wave.Moved, allowed, unit, moved)
	switch {
	case wave.Refused != "":
		note += "; refused: " + wave.Refused
	case wave.Next != "" && wave.Moved+wave.Moving < allowed:
		note += "; next: " + wave.Next
	}
	return note
}

func (w *walker) stuck(note string) string {
	return fmt.Sprintf("no progress for %s: %s", time.Duration(w.plan.ProgressDeadlineSeconds)*time.Second, note)
}
