// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Decide makes the one decision that is due: spec is the plan and the verbs, p the progress that was kept.
func Decide(spec *v1alpha1.MeshRolloutSpec, p v1alpha1.RolloutProgress, seen Observation, now time.Time) Decision {
	w := &walker{spec: spec, plan: &spec.Plan, p: p, seen: seen, now: now.Truncate(time.Second)}
	d := w.decide()
	w.clock(d.ticks)
	d.Progress = w.p
	return d
}

// walker is one decision on its way.
type walker struct {
	spec *v1alpha1.MeshRolloutSpec
	plan *v1alpha1.RolloutPlan
	p    v1alpha1.RolloutProgress
	seen Observation
	now  time.Time
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
		if s.Type != v1alpha1.StepPause && reached(w.plan, w.p, i) {
			return true
		}
	}
	return false
}

// moved says whether all steps are done.
func (w *walker) moved() bool { return int(w.p.Step) >= len(w.plan.Steps) }

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

// enter begins a step.
func (w *walker) enter(step int32) {
	w.p.Step, w.p.Entered, w.p.Satisfied, w.p.Moved, w.p.Unused = step, w.stamp(), nil, 0, nil
	w.progressed()
}

func (w *walker) stamp() *metav1.Time { return &metav1.Time{Time: w.now} }

// since is the time that has passed since a moment; a clock that went back makes it none.
func (w *walker) since(t *metav1.Time) time.Duration { return max(0, w.now.Sub(t.Time)) }

func (w *walker) forward() Decision {
	if w.leaving() {
		return w.retire()
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
	w.p.Proven = w.stamp()
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
	case v1alpha1.StepPromote:
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
		return w.bake(s)
	}
	w.p.Satisfied = nil
	return w.move(s, wave, allowed), false
}

// bake watches a step whose numbers are reached.
func (w *walker) bake(s *v1alpha1.RolloutStep) (Decision, bool) {
	w.p.ClockSeconds = 0
	if w.p.Satisfied == nil {
		w.p.Satisfied = w.stamp()
	}
	length := time.Duration(s.DataPlane.BakeSeconds) * time.Second
	if w.since(w.p.Satisfied) >= length {
		return Decision{}, true
	}
	d := wait(v1alpha1.ReasonBaking, "what has moved in step "+s.Name+" is watched")
	d.Until = w.p.Satisfied.Add(length)
	return d, false
}

// move lets workloads be restarted, inside a window.
func (w *walker) move(s *v1alpha1.RolloutStep, wave Wave, allowed int32) Decision {
	note := w.counts(s, wave, allowed)
	if open, until := Open(w.plan.Windows, w.now); !open && !w.p.Back {
		d := wait(v1alpha1.ReasonOutsideWindow, note+"; the rest in the next window")
		d.Until = until
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

// retire removes the old revision when nothing has referred to it for a while.
func (w *walker) retire() Decision {
	switch {
	case inPlace(w.plan), !w.seen.From.Exists:
		return w.end(v1alpha1.OutcomeCompleted)
	case w.seen.From.Leaving:
		return w.removes(w.plan.From.Revision)
	case !w.seen.UseOfFrom.Known:
		w.p.Unused = nil
		return w.linger(v1alpha1.ReasonUnknown, "whether "+w.plan.From.Revision+" is in use is not known, so it is kept: "+w.seen.UseOfFrom.By)
	case w.seen.UseOfFrom.By != "":
		w.p.Unused = nil
		return w.linger(v1alpha1.ReasonStillInUse, w.plan.From.Revision+" is kept: it is used by "+w.seen.UseOfFrom.By)
	}
	if w.p.Unused == nil {
		w.p.Unused = w.stamp()
	}
	after := time.Duration(w.plan.RetireAfterSeconds) * time.Second
	if w.since(w.p.Unused) < after && !w.seen.Superseded {
		d := w.linger(v1alpha1.ReasonRetireAfter, "nothing refers to "+w.plan.From.Revision+" any more; until it is removed the rollout can be rolled back")
		d.Until = w.p.Unused.Add(after)
		return d
	}
	return w.removes(w.plan.From.Revision)
}

func (w *walker) removes(revision string) Decision {
	return Decision{Act: v1alpha1.ActRetire, Reason: v1alpha1.ReasonRetiring, Note: "revision " + revision + " is removed"}
}

// linger waits after the last step; workloads that become movable are moved meanwhile.
func (w *walker) linger(reason, note string) Decision {
	w.p.ClockSeconds = 0
	d := wait(reason, note)
	d.Moving, _ = Open(w.plan.Windows, w.now)
	return d
}

// back undoes the steps that were reached, the last first, and then takes the canary away.
func (w *walker) back() Decision {
	if w.p.Step >= 0 || inPlace(w.plan) {
		if d, healthy := w.oldServes(); !healthy {
			return d
		}
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
	case v1alpha1.StepPause:
		return Decision{}, true
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

// takeAway removes the canary when nothing refers to it.
func (w *walker) takeAway() Decision {
	outcome := v1alpha1.OutcomeRolledBack
	if w.spec.Goal == v1alpha1.GoalAbort && w.p.Failure == "" {
		outcome = v1alpha1.OutcomeAborted
	}
	use := w.seen.UseOfTo
	switch {
	case inPlace(w.plan), !w.seen.To.Exists:
		return w.end(outcome)
	case w.seen.To.Leaving:
		return w.removes(w.plan.To.Revision)
	case !use.Known:
		return running(v1alpha1.ActWait, v1alpha1.ReasonUnknown, "whether "+w.plan.To.Revision+" is in use is not known, so it is kept: "+use.By)
	case use.By != "":
		d := wait(v1alpha1.ReasonStillInUse, w.plan.To.Revision+" is kept: it is used by "+use.By)
		d.Moving = w.seen.From.Ready
		return d
	}
	return w.removes(w.plan.To.Revision)
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

func (w *walker) end(outcome v1alpha1.RolloutOutcome) Decision {
	w.p.Outcome = outcome
	return w.ended()
}

func (w *walker) ended() Decision {
	d := Decision{Act: v1alpha1.ActDone}
	switch w.p.Outcome {
	case v1alpha1.OutcomeAborted:
		d.Reason, d.Note = v1alpha1.ReasonAborted, "aborted before anything had moved"
	case v1alpha1.OutcomeRolledBack:
		d.Reason, d.Note = v1alpha1.ReasonRolledBack, "everything is at "+w.plan.From.Revision+" again"
		if w.p.Failure != "" {
			d.Note += ": " + w.p.Failure
		}
	default:
		d.Reason, d.Note = v1alpha1.ReasonCompleted, "everything is at "+w.plan.To.Revision
		if !inPlace(w.plan) {
			d.Note += "; retired " + w.plan.From.Revision
		}
	}
	return d
}

// progressed begins the progress deadline anew.
func (w *walker) progressed() {
	w.p.ClockSeconds = 0
	if w.p.ClockSince != nil {
		w.p.ClockSince = w.stamp()
	}
}

// exceeded says whether the time without progress has come to the deadline.
func (w *walker) exceeded() bool {
	spent := time.Duration(w.p.ClockSeconds) * time.Second
	if w.p.ClockSince != nil {
		spent += w.since(w.p.ClockSince)
	}
	return spent >= time.Duration(w.plan.ProgressDeadlineSeconds)*time.Second
}

// clock lets the clock of the deadline run or stand still.
func (w *walker) clock(ticks bool) {
	switch {
	case ticks && w.p.ClockSince == nil:
		w.p.ClockSince = w.stamp()
	case !ticks && w.p.ClockSince != nil:
		w.p.ClockSeconds += int64(w.since(w.p.ClockSince) / time.Second)
		w.p.ClockSince = nil
	}
}

// Deadline is when the progress deadline passes if nothing progresses; zero while its clock stands still.
func Deadline(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress) time.Time {
	if p.ClockSince == nil {
		return time.Time{}
	}
	left := time.Duration(int64(plan.ProgressDeadlineSeconds)-p.ClockSeconds) * time.Second
	return p.ClockSince.Add(left)
}

func wait(reason, note string) Decision {
	return Decision{Act: v1alpha1.ActWait, Reason: reason, Note: note}
}

func running(act v1alpha1.RolloutAct, reason, note string) Decision {
	return Decision{Act: act, Reason: reason, Note: note, ticks: true}
}
