// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// retire removes the old revision when nothing has referred to it for a while.
func (w *walker) retire() Decision {
	after := time.Duration(w.plan.RetireAfterSeconds) * time.Second
	due := w.p.Unused != nil && (w.since(w.p.Unused) >= after || w.seen.Superseded)
	switch {
	case inPlace(w.plan), !w.seen.From.Exists:
		return w.end(v1alpha1.OutcomeCompleted)
	case w.seen.From.Leaving:
		return w.removes(w.plan.From.Revision)
	case w.seen.UseOfFrom.Pending && w.p.Unused != nil && !due:
		// An operator that starts has not asked yet, and knows nothing that speaks against what was known before.
	case !w.seen.UseOfFrom.Known:
		if !w.seen.UseOfFrom.Pending {
			w.p.Unused = nil
		}
		return w.linger(v1alpha1.ReasonUnknown, "whether "+w.plan.From.Revision+" is in use is not known, so it is kept: "+w.seen.UseOfFrom.By)
	case w.seen.UseOfFrom.By != "":
		w.p.Unused = nil
		return w.linger(v1alpha1.ReasonStillInUse, w.plan.From.Revision+" is kept: it is used by "+w.seen.UseOfFrom.By)
	}
	if w.p.Unused == nil {
		w.p.Unused = w.stamp()
		due = after == 0 || w.seen.Superseded
	}
	if !due {
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
		w.p.Unused = nil
		d := wait(v1alpha1.ReasonStillInUse, w.plan.To.Revision+" is kept: it is used by "+use.By)
		d.Moving = w.seen.From.Ready
		return d
	}
	return w.inspected()
}

// inspected removes the canary; one that has failed is kept for people to look at, for as long as an old revision is.
func (w *walker) inspected() Decision {
	after := time.Duration(w.plan.RetireAfterSeconds) * time.Second
	if w.p.Failure == "" || w.p.Proven == nil || w.seen.Superseded {
		return w.removes(w.plan.To.Revision)
	}
	if w.p.Unused == nil {
		w.p.Unused = w.stamp()
	}
	if w.since(w.p.Unused) >= after {
		return w.removes(w.plan.To.Revision)
	}
	d := wait(v1alpha1.ReasonRetireAfter, "everything is at "+w.plan.From.Revision+" again: "+w.p.Failure+"; "+w.plan.To.Revision+" is kept for a look at it")
	d.Until = w.p.Unused.Add(after)
	return d
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
