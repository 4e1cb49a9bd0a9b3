// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"slices"
	"strings"
	"time"

	"github.com/meshwright/meshwright/operator/analysis"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// healthOf begins the names of the gates that judge the health of one gateway each.
const healthOf = v1alpha1.HealthGate + "/"

// IstiodGate is the gate that judges the health of the new version's istiod, while gateways shift.
const IstiodGate = healthOf + "istiod"

// HealthOf is the name of the gate that judges the health of a gateway, namespace/name.
func HealthOf(gateway string) string { return healthOf + gateway }

// doubtAfter is for how long health may say nothing before a step says so.
const doubtAfter = time.Minute

// Due is a gate that is to be measured.
type Due struct {
	// Gate by its name. Gateway, as namespace/name, Metric or Hook is what it is about.
	Gate    string
	Gateway string
	Metric  *v1alpha1.Metric
	Hook    *v1alpha1.Hook
	// At is when the next measurement is due; Last when the last one that was counted was made.
	At, Last time.Time
	// Looks that health has taken in this rollout.
	Looks int32
}

// DueGates are the gates that judge at present: hooks of type Before until the rollout begins, the gates of a step of type Analysis,
// hooks of type After at promotion; and the health of the gateways for as long as they shift.
func DueGates(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress, gateways []Gateway, now time.Time) (out []Due) {
	if p.Outcome != "" || p.Back {
		return nil
	}
	for _, name := range judging(plan, p, gateways) {
		due := Due{Gate: name, At: now}
		progress := progressOf(p, name)
		due.Looks = progress.Looks
		if isHealth(name) && name != IstiodGate {
			due.Gateway = strings.TrimPrefix(name, healthOf)
		}
		if progress.Last != nil {
			due.Last = progress.Last.Time
		}
		if c, is := cadenceOf(plan, name); is {
			entered := now
			if p.Entered != nil {
				entered = p.Entered.Time
			}
			due.At = analysis.Next(c, progress, entered)
		}
		if i := slices.IndexFunc(plan.Analysis.Metrics, func(m v1alpha1.Metric) bool { return m.Name == name }); i >= 0 {
			due.Metric = &plan.Analysis.Metrics[i]
		}
		if i := slices.IndexFunc(plan.Analysis.Hooks, func(h v1alpha1.Hook) bool { return h.Name == name }); i >= 0 {
			due.Hook = &plan.Analysis.Hooks[i]
		}
		if progress.State != v1alpha1.GatePassed || isHealth(name) {
			out = append(out, due)
		}
	}
	return out
}

// judging are the names of the gates that judge at present.
func judging(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress, gateways []Gateway) (names []string) {
	if p.Proven == nil {
		return hooksOf(plan, v1alpha1.HookBefore)
	}
	if p.Step < 0 || int(p.Step) >= len(plan.Steps) {
		return nil
	}
	s := &plan.Steps[p.Step]
	if _, shifting := weight(plan, p); shifting || s.Type == v1alpha1.StepAnalysis && slices.Contains(gatesOf(s), v1alpha1.HealthGate) {
		names = healthGates(gateways)
	}
	switch s.Type {
	case v1alpha1.StepPromote:
		names = append(names, hooksOf(plan, v1alpha1.HookAfter)...)
	case v1alpha1.StepAnalysis:
		for _, g := range gatesOf(s) {
			if g != v1alpha1.HealthGate {
				names = append(names, g)
			}
		}
	default:
	}
	return names
}

// healthGates are those of the gateways that move by weights, and of the istiod that configures them; none without gateways.
func healthGates(gateways []Gateway) (names []string) {
	for _, g := range gateways {
		if g.Listed && !g.Adopted {
			names = append(names, HealthOf(g.Name))
		}
	}
	if len(names) > 0 {
		names = append(names, IstiodGate)
	}
	return names
}

// gatesOf are the gates of a step of type Analysis; the plan has them written out.
func gatesOf(s *v1alpha1.RolloutStep) []string {
	if s.Analysis == nil {
		return nil
	}
	return s.Analysis.Gates
}

func hooksOf(plan *v1alpha1.RolloutPlan, when v1alpha1.HookTime) (names []string) {
	for _, h := range plan.Analysis.Hooks {
		if h.When == when {
			names = append(names, h.Name)
		}
	}
	return names
}

func isHealth(gate string) bool { return strings.HasPrefix(gate, healthOf) }

// once is the cadence of what is asked once: it passes with the first success, and is asked again while it says nothing.
var once = v1alpha1.Cadence{IntervalSeconds: 5, Count: 1, InconclusiveLimit: 3}

// cadenceOf says how often a gate measures; false for health, which does so all the time.
func cadenceOf(plan *v1alpha1.RolloutPlan, gate string) (v1alpha1.Cadence, bool) {
	for _, m := range plan.Analysis.Metrics {
		if m.Name == gate {
			return m.Cadence, true
		}
	}
	for _, h := range plan.Analysis.Hooks {
		if h.Name != gate {
			continue
		}
		if h.When == v1alpha1.HookDuring && h.Webhook != nil {
			return h.Webhook.Cadence, true
		}
		return once, true
	}
	return v1alpha1.Cadence{}, false
}

func progressOf(p v1alpha1.RolloutProgress, gate string) v1alpha1.GateProgress {
	for _, g := range p.Gates {
		if g.Name == gate {
			return g
		}
	}
	return v1alpha1.GateProgress{Name: gate, State: v1alpha1.GateWaiting}
}

// unheard is what health says that has not been measured in a step; what it has said once stays while proxies can't be read for a moment.
const unheard = "nothing has been measured yet: look at the gateway's conditions"

// count takes the measurements in that were made of the gates that judge at present.
func (w *walker) count() {
	names := judging(w.plan, w.p, w.seen.Gateways)
	slices.Sort(names)
	for _, name := range names {
		before := progressOf(w.p, name)
		after := before
		if m, made := w.seen.Measured[name]; made {
			if c, is := cadenceOf(w.plan, name); is {
				after = analysis.Count(c, before, m)
			} else {
				after = w.health(before, m)
			}
		} else if isHealth(name) && (before.State == v1alpha1.GateWaiting || before.Message == unheard) {
			after = w.health(before, analysis.Measurement{Outcome: analysis.Inconclusive, Note: unheard})
		}
		if after.Last != nil && (before.Last == nil || !after.Last.Equal(before.Last)) && !isHealth(name) {
			w.progressed()
		}
		w.keep(after)
	}
}

// keep keeps the progress of a gate, in a list of its own: the one that was given is not ours to change.
func (w *walker) keep(g v1alpha1.GateProgress) {
	w.p.Gates = slices.Clone(w.p.Gates)
	if i := slices.IndexFunc(w.p.Gates, func(o v1alpha1.GateProgress) bool { return o.Name == g.Name }); i >= 0 {
		w.p.Gates[i] = g
		return
	}
	w.p.Gates = append(w.p.Gates, g)
}

// health is the state of a gate that is measured all the time. It has no counts, so that it is written when it changes only.
func (w *walker) health(g v1alpha1.GateProgress, m analysis.Measurement) v1alpha1.GateProgress {
	g.Looks, g.Message = max(g.Looks, m.Looks), m.Note
	switch m.Outcome {
	case analysis.Failure:
		g.State = v1alpha1.GateFailed
	case analysis.Success:
		g.State = v1alpha1.GatePassed
	default:
		g.State = v1alpha1.GateMeasuring
		if w.p.Entered != nil && w.since(w.p.Entered) >= doubtAfter {
			g.State = v1alpha1.GateInconclusive
		}
	}
	return g
}

// anew begins the counts of the gates anew, as a step is entered. What health has looked at counts for the whole rollout.
func (w *walker) anew() {
	gates := make([]v1alpha1.GateProgress, 0, len(w.p.Gates))
	for _, g := range w.p.Gates {
		gates = append(gates, v1alpha1.GateProgress{Name: g.Name, State: v1alpha1.GateWaiting, Looks: g.Looks})
	}
	w.p.Gates = gates
}

// gates waits for gates: all have to pass.
func (w *walker) gates(step string, names []string) (Decision, bool) {
	var doubts, waits, passed []string
	for _, name := range names {
		g := progressOf(w.p, name)
		said := name + ": " + g.Message
		switch g.State {
		case v1alpha1.GatePassed:
			passed = append(passed, said)
		case v1alpha1.GateFailed:
			return w.fail(v1alpha1.ReasonGateFailed, said), false
		case v1alpha1.GateInconclusive:
			doubts = append(doubts, said)
		default:
			waits = append(waits, strings.TrimSuffix(said, ": "))
		}
	}
	switch {
	case len(doubts) > 0 && !w.approved(step):
		remedy := "; or approve step " + step + " to go on without"
		if step == "" {
			remedy = "; it is asked again, or set spec.goal to Abort"
		}
		return wait(v1alpha1.ReasonInconclusive, strings.Join(doubts, "; ")+remedy), false
	case len(waits) > 0 && w.exceeded():
		return w.fail(v1alpha1.ReasonDeadlineExceeded, w.stuck(strings.Join(waits, "; "))), false
	case len(waits) > 0:
		return running(v1alpha1.ActWait, v1alpha1.ReasonAnalysing, strings.Join(waits, "; ")), false
	}
	w.left(strings.Join(append(passed, doubts...), "; "))
	return Decision{}, true
}

// analyse judges the new version by the gates of a step.
func (w *walker) analyse(s *v1alpha1.RolloutStep) (Decision, bool) {
	var names []string
	for _, name := range gatesOf(s) {
		if name == v1alpha1.HealthGate {
			names = append(names, healthGates(w.seen.Gateways)...)
		} else {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		if w.seen.Gateways == nil {
			return running(v1alpha1.ActWait, v1alpha1.ReasonUnknown, "the gateways of the mesh are not known yet"), false
		}
		if !w.approved(s.Name) {
			return wait(v1alpha1.ReasonInconclusive, "there is nothing to judge: the mesh has no gateway that moves; approve step "+s.Name+" to go on without"), false
		}
		return Decision{}, true
	}
	return w.gates(s.Name, names)
}
