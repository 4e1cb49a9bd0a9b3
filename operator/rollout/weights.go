// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"strings"
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Gateway is a gateway that moves with the rollout, as it is.
type Gateway struct {
	// Name is namespace/name.
	Name string
	// Listed says that the mesh lists it in spec.gateways, so that it moves by steps of type GatewayWeight.
	Listed bool
	// Adopted says that it has one version that was adopted, and nothing yet to compare with that.
	Adopted bool
	// Weight is what its controller makes of the share that it is to have by now; State how far it is with that. A state that
	// speaks of another weight is Progressing.
	Weight   int32
	State    v1alpha1.ShiftState
	Measured string
	// Failing says why its new version does not get ready; empty while it may still.
	Failing string
	// Note is what its controller says.
	Note string
}

// Shift is what a rollout wants of a gateway.
type Shift struct {
	// Old and New are revisions. Without Old, all is New's.
	Old, New string
	// Weight is the percent of New; Wanted says that New is to be there, also without traffic.
	Weight int32
	Wanted bool
	// Final says that Old goes, once New has all the traffic.
	Final bool
}

// ShiftOf is what a rollout wants of a gateway: one that the mesh lists moves by the steps of type GatewayWeight, another one with the
// wave of its namespace. Going back comes before everything else, and all at once: the version that it came from gets all the
// traffic, and the other one goes.
func ShiftOf(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress, listed bool, wave string) Shift {
	if inPlace(plan) {
		return Shift{New: plan.To.Revision, Weight: 100, Wanted: true, Final: true}
	}
	if p.Back {
		return Shift{Old: plan.To.Revision, New: plan.From.Revision, Weight: 100, Wanted: true, Final: true}
	}
	out := Shift{Old: plan.From.Revision, New: plan.To.Revision}
	if listed {
		out.Weight, out.Wanted = weight(plan, p)
	} else {
		out.Weight = Percent(plan, p, wave)
		out.Wanted = out.Weight > 0
	}
	if promotes(plan, p) {
		out.Weight, out.Wanted = 100, true
	}
	out.Final = int(p.Step) >= len(plan.Steps)
	return out
}

// MovesAll says whether all the traffic is to leave the revision that a rollout comes from: only then does an adopted gateway move, whose pods can't
// be told from others.
func (s Shift) MovesAll(plan *v1alpha1.RolloutPlan) bool {
	return s.Weight >= 100 && s.New != plan.From.Revision
}

// promotes says whether promotion moves gateways: the hooks before it have agreed.
func promotes(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress) bool {
	at := int(p.Step) < len(plan.Steps) && p.Step >= 0 && plan.Steps[p.Step].Type == v1alpha1.StepPromote
	return Promoted(plan, p) && (!at || p.Opened != nil)
}

// ClassedAt is the revision that the Gateway API's gateways of a wave are to have.
func ClassedAt(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress, wave string) string {
	if promotes(plan, p) {
		return plan.To.Revision
	}
	return RevisionOf(plan, p, wave)
}

// weight is the highest percent of the steps that were reached, the current one since a window was open.
func weight(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress) (percent int32, wanted bool) {
	for i, s := range plan.Steps {
		if s.GatewayWeight != nil && reached(p, i) && (int(p.Step) > i || p.Opened != nil) {
			percent, wanted = max(percent, s.GatewayWeight.Percent), true
		}
	}
	return percent, wanted
}

// WeightSince names the present weight of the listed gateways: counters are compared from the time on when it was wanted first, or when
// a person said that it is to be tried again.
func WeightSince(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress) string {
	percent, wanted := weight(plan, p)
	if !wanted || p.Back {
		return ""
	}
	return fmt.Sprintf("weight %d, try %d", percent, p.Retries)
}

// weightStep waits until every listed gateway has measured the share that it is to have.
func (w *walker) weightStep(s *v1alpha1.RolloutStep) (Decision, bool) {
	note := fmt.Sprintf("%d percent of the gateways' traffic to %s", s.GatewayWeight.Percent, w.plan.To.Revision)
	if w.p.Opened == nil {
		open, until := Open(w.plan.Windows, w.now)
		if !open {
			d := wait(v1alpha1.ReasonOutsideWindow, note+" in the next window")
			d.Until = until
			return d, false
		}
		w.p.Opened = w.stamp()
		return running(v1alpha1.ActStep, v1alpha1.ReasonShifting, note), false // what was observed was of the weight before
	}
	if w.seen.Gateways == nil {
		return running(v1alpha1.ActWait, v1alpha1.ReasonUnknown, "the gateways of the mesh are not known yet"), false
	}
	var doubts, waits, done []string
	for _, g := range w.seen.Gateways {
		switch {
		case !g.Listed:
		case g.State == v1alpha1.ShiftReached:
			done = append(done, g.Name+": "+g.Note)
		case g.State == v1alpha1.ShiftInconclusive:
			doubts = append(doubts, g.Name+": "+g.Note)
		default:
			waits = append(waits, g.Name+": "+g.Note)
		}
	}
	if len(done) > int(w.p.Moved) {
		w.p.Moved = int32(len(done)) //nolint:gosec // a mesh has fewer gateways
		w.progressed()
	}
	switch {
	case len(waits) > 0 && w.exceeded():
		return w.fail(v1alpha1.ReasonDeadlineExceeded, w.stuck(strings.Join(waits, "; "))), false
	case len(waits) > 0:
		w.p.Satisfied = nil
		return running(v1alpha1.ActStep, v1alpha1.ReasonShifting, note+"; "+strings.Join(waits, "; ")), false
	case len(doubts) > 0 && !w.approved(s.Name):
		w.p.Satisfied = nil
		return wait(v1alpha1.ReasonInconclusive, strings.Join(doubts, "; ")+"; or approve step "+s.Name+" to go on without"), false
	}
	w.left(strings.Join(append(done, doubts...), "; "))
	return w.bake(s.Name, s.GatewayWeight.BakeSeconds)
}

// worse says whether the new version of a gateway can't serve, or serves worse than the old one. That ends any step.
func (w *walker) worse() (Decision, bool) {
	if w.moved() {
		return Decision{}, false
	}
	for _, g := range w.seen.Gateways {
		if g.Failing != "" {
			return w.fail(v1alpha1.ReasonGatewayFailed, "gateway "+g.Name+": "+g.Failing), true
		}
	}
	for _, name := range judging(w.plan, w.p, w.seen.Gateways) {
		if g := progressOf(w.p, name); isHealth(name) && g.State == v1alpha1.GateFailed {
			return w.fail(v1alpha1.ReasonGateFailed, name+": "+g.Message), true
		}
	}
	return Decision{}, false
}

// weightsBack waits until no gateway gives traffic to the canary any more: that is a matter of seconds, and comes before the
// workloads, which go back within their budget.
func (w *walker) weightsBack() (Decision, bool) {
	if inPlace(w.plan) {
		return Decision{}, true
	}
	if w.seen.Gateways == nil {
		return running(v1alpha1.ActWait, v1alpha1.ReasonUnknown, "the gateways of the mesh are not known yet"), false
	}
	for _, g := range w.seen.Gateways {
		if g.State == v1alpha1.ShiftReached {
			continue
		}
		note := "the traffic of gateway " + g.Name + " goes back to " + w.plan.From.Revision + ": " + g.Note
		if w.exceeded() {
			return w.fail(v1alpha1.ReasonDeadlineExceeded, w.stuck(note)), false
		}
		return running(v1alpha1.ActRollBack, v1alpha1.ReasonRollingBack, note), false
	}
	return Decision{}, true
}

// bake watches a step whose numbers are reached.
func (w *walker) bake(step string, seconds int32) (Decision, bool) {
	w.p.ClockSeconds = 0
	if w.p.Satisfied == nil {
		w.p.Satisfied = w.stamp()
	}
	length := time.Duration(seconds) * time.Second
	if w.since(w.p.Satisfied) >= length {
		return Decision{}, true
	}
	d := wait(v1alpha1.ReasonBaking, "what has moved in step "+step+" is watched")
	d.Until = w.p.Satisfied.Add(length)
	return d, false
}
