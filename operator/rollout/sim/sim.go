// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package sim plays a rollout to its end in milliseconds: the real planner against toy control planes, namespaces and
// workloads whose pods start slowly, crash, or refuse to go. It prints what was decided and done as a trace.
//
// A second of the model is one turn: controllers act on what was decided, workloads move on, the planner looks again.
package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/analysis"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

// Namespace of the model.
type Namespace struct {
	Name   string
	Labels map[string]string
	// Follows a tag or the default revision instead of being labelled by Meshwright.
	Follows bool
}

// ControlPlane of the model.
type ControlPlane struct {
	exists bool
	since  int
	// StartSeconds it takes to get ready; negative: never.
	StartSeconds int
}

// Cluster is the model.
type Cluster struct {
	Spec       v1alpha1.MeshRolloutSpec
	Namespaces []*Namespace
	Workloads  []*Workload
	Gateways   []*Gateway
	From, To   ControlPlane
	// ReconnectSeconds it takes until the proxies have found an istiod that was replaced in place.
	ReconnectSeconds int
	// Injects is what a probe of the canary's injector says.
	Injects rollout.Evidence
	// Paused and Superseded are those of the installation; Elsewhere that it has granted another operation.
	Paused, Superseded, Elsewhere bool
	// Uses are users of the old revision that the model does not know otherwise, such as a proxy of a virtual machine.
	Uses []string
	// Gates are metrics and hooks, and what each says when it is asked.
	Gates map[string]func(*Cluster) analysis.Outcome
	// Blind says that nothing can be seen.
	Blind bool

	// Start is the time of the first turn.
	Start time.Time
	// Skew is added to the clock that the planner sees.
	Skew time.Duration
	// Lost says whether what was decided in this turn is lost before it is kept, as when the operator dies.
	Lost func() bool

	sorter   *rollout.Sorter
	script   map[int][]func(*Cluster)
	turn     int
	progress v1alpha1.RolloutProgress
	decision rollout.Decision
	promoted string
	said     string
	trace    strings.Builder
	problems []string
}

// New makes a cluster in which everything is at the old revision.
func New(plan v1alpha1.RolloutPlan) *Cluster {
	return &Cluster{
		Spec:    v1alpha1.MeshRolloutSpec{Plan: plan, Goal: v1alpha1.GoalComplete},
		Start:   time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC),
		From:    ControlPlane{exists: true},
		To:      ControlPlane{StartSeconds: 8},
		Injects: rollout.Evidence{Answer: rollout.Yes, Why: "a pod of shop/cart would be injected by " + plan.To.Revision},
		script:  map[int][]func(*Cluster){}, promoted: plan.From.Revision,
	}
}

// At lets something happen in a turn.
func (c *Cluster) At(second int, do func(*Cluster)) { c.script[second] = append(c.script[second], do) }

// Progress is what the rollout controller kept.
func (c *Cluster) Progress() v1alpha1.RolloutProgress { return c.progress }

// Trace is what was decided and done.
func (c *Cluster) Trace() string { return c.trace.String() }

// Problems are broken invariants: none in a correct planner.
func (c *Cluster) Problems() []string { return c.problems }

// Run plays until the rollout has ended, or nothing more is to happen for a bound of seconds, and says whether it ended.
func (c *Cluster) Run(seconds int) bool {
	for _, w := range c.Workloads {
		w.begin(c.injector(w))
	}
	for _, g := range c.Gateways {
		g.begin(c)
	}
	for ; c.turn <= seconds; c.turn++ {
		for _, do := range c.script[c.turn] {
			do(c)
		}
		c.act()
		for _, w := range c.Workloads {
			w.live(c)
		}
		for _, g := range c.Gateways {
			g.live(c)
		}
		c.decide()
		c.check()
		if c.progress.Outcome != "" {
			return true
		}
	}
	return false
}

// Now is the time that the planner sees.
func (c *Cluster) Now() time.Time {
	return c.Start.Add(time.Duration(c.turn)*time.Second + c.Skew)
}

// decide is the rollout controller.
func (c *Cluster) decide() {
	d := rollout.Decide(&c.Spec, c.progress, c.observe(), c.Now())
	if c.Lost != nil && c.Lost() {
		return
	}
	c.decision, c.progress = d, d.Progress
	said := strings.Join([]string{string(d.Act), d.Reason, d.Note}, " ")
	if said == c.said {
		return
	}
	c.said = said
	note := d.Note
	if !d.Until.IsZero() {
		note += " (until t+" + clock(int(d.Until.Sub(c.Start)/time.Second)) + ")"
	}
	c.say(string(d.Act), fmt.Sprintf("%-16s %s", d.Reason, note))
}

func (c *Cluster) say(who, what string) {
	fmt.Fprintf(&c.trace, "t+%-8s %-14s %s\n", clock(c.turn), who, what)
}

func clock(seconds int) string { return (time.Duration(seconds) * time.Second).String() }

// observe is what the rollout controller gathers.
func (c *Cluster) observe() rollout.Observation {
	plan := &c.Spec.Plan
	seen := rollout.Observation{
		Granted: !c.Elsewhere, Paused: c.Paused, Superseded: c.Superseded,
		From: c.state(&c.From), To: c.state(&c.To),
		Proofs: map[v1alpha1.Proof]rollout.Evidence{
			v1alpha1.ProofConfiguration: {Answer: rollout.Yes}, v1alpha1.ProofInjection: c.Injects, v1alpha1.ProofConnection: c.connected(),
		},
		Promoted: rollout.Evidence{Answer: rollout.No},
		Waves:    map[string]rollout.Wave{},
		Gateways: []rollout.Gateway{}, Measured: map[string]analysis.Measurement{},
	}
	if c.promoted == plan.To.Revision {
		seen.Promoted.Answer = rollout.Yes
	}
	if c.Blind {
		seen.Promoted.Answer, seen.Gateways = rollout.Unknown, nil
		seen.UseOfFrom.By, seen.UseOfTo.By = "the pods of the cluster are not known", "the pods of the cluster are not known"
		return seen
	}
	for _, g := range c.Gateways {
		seen.Gateways = append(seen.Gateways, g.facts(c))
		if m, made := g.measured(c); made {
			seen.Measured[rollout.HealthOf(g.Name)] = m
		}
	}
	for _, g := range seen.Gateways {
		if g.State != v1alpha1.ShiftReached {
			seen.Promoted = rollout.Evidence{Why: "gateway " + g.Name + ": " + g.Note}
		}
	}
	seen.Measured[rollout.IstiodGate] = analysis.Measurement{Outcome: analysis.Success, At: c.Now(), Note: "pushed 20 changes, none rejected"}
	for name, says := range c.Gates {
		seen.Measured[name] = analysis.Measurement{Outcome: says(c), At: c.Now(), Note: "asked"}
	}
	for _, s := range plan.Steps {
		if s.DataPlane != nil {
			seen.Waves[s.DataPlane.Wave] = rollout.Count(plan.Restart.Type, c.facts(s.DataPlane.Wave))
		}
	}
	seen.UseOfFrom = rollout.Use{Known: true, By: strings.Join(append(c.users(plan.From.Revision), c.Uses...), ", ")}
	seen.UseOfTo = rollout.Use{Known: true, By: strings.Join(c.users(plan.To.Revision), ", ")}
	return seen
}

func (c *Cluster) state(p *ControlPlane) rollout.ControlPlane {
	out := rollout.ControlPlane{Exists: p.exists}
	out.Ready = p.exists && p.StartSeconds >= 0 && c.turn >= p.since+p.StartSeconds
	if !out.Ready {
		out.Problem = "Deployment istiod: 0 of 1 replicas available"
	}
	return out
}

// serving is the control plane that the rollout moves to at present.
func (c *Cluster) serving() *ControlPlane {
	if c.progress.Back {
		return &c.From
	}
	return &c.To
}

func (c *Cluster) inPlace() bool {
	return c.Spec.Plan.From.Revision == c.Spec.Plan.To.Revision && c.Spec.Plan.From.Version != c.Spec.Plan.To.Version
}

// target is what pods should be injected by: a revision, or the version of one that is replaced in place.
func (c *Cluster) target() string {
	side := rollout.Target(&c.Spec.Plan, c.progress)
	if c.inPlace() {
		return side.Version
	}
	return side.Revision
}

// other is the control plane that it moves away from.
func (c *Cluster) other() *ControlPlane {
	if c.progress.Back {
		return &c.To
	}
	return &c.From
}

// connected is what istiod says of its proxies, after it was replaced in place.
func (c *Cluster) connected() rollout.Evidence {
	p := c.serving()
	if c.turn < p.since+p.StartSeconds+c.ReconnectSeconds {
		return rollout.Evidence{Answer: rollout.No, Why: "2 of 6 proxies are connected to istiod"}
	}
	return rollout.Evidence{Answer: rollout.Yes}
}

// facts are the workloads of a wave, towards where the rollout moves at present.
func (c *Cluster) facts(wave string) []rollout.Workload {
	target := c.target()
	var out []rollout.Workload
	for _, w := range c.Workloads {
		if c.waveOf(w) == wave {
			out = append(out, w.facts(target, c.progress.Back))
		}
	}
	return out
}

func (c *Cluster) waveOf(w *Workload) string {
	if c.sorter == nil {
		c.sorter = rollout.NewSorter(&c.Spec.Plan)
	}
	return c.sorter.WaveOf(c.namespace(w).Labels, c.namespace(w).Follows)
}

func (c *Cluster) namespace(w *Workload) *Namespace {
	i := slices.IndexFunc(c.Namespaces, func(n *Namespace) bool { return n.Name == w.Namespace })
	return c.Namespaces[i]
}

// injector is the revision that a new pod of a workload gets.
func (c *Cluster) injector(w *Workload) string {
	if w.Pinned != "" {
		return w.Pinned
	}
	if c.inPlace() {
		if c.To.exists {
			return c.Spec.Plan.To.Version
		}
		return c.Spec.Plan.From.Version
	}
	if c.namespace(w).Follows {
		return c.promoted
	}
	return rollout.RevisionOf(&c.Spec.Plan, c.progress, c.waveOf(w))
}

// users are what refers to a revision.
func (c *Cluster) users(revision string) []string {
	seen := map[string]bool{}
	for _, w := range c.Workloads {
		for _, p := range w.pods {
			seen["pods of "+w.Name] = seen["pods of "+w.Name] || p.revision == revision
		}
		if c.injector(w) == revision {
			seen["namespace "+w.Namespace] = true
		}
	}
	for _, g := range c.Gateways {
		seen["gateway "+g.Name] = g.versions[revision]
	}
	seen["the default revision"] = c.promoted == revision
	maps.DeleteFunc(seen, func(_ string, uses bool) bool { return !uses })
	return slices.Sorted(maps.Keys(seen))
}

// act is what the other controllers do about the last decision that was kept.
func (c *Cluster) act() {
	plan := &c.Spec.Plan
	switch c.decision.Act {
	case v1alpha1.ActCreate:
		if p := c.serving(); !p.exists {
			p.exists, p.since = true, c.turn
			if c.inPlace() {
				c.other().exists = false
			}
		}
	case v1alpha1.ActPromote:
		c.promoted = plan.From.Revision
		if rollout.Promoted(plan, c.progress) {
			c.promoted = plan.To.Revision
		}
	case v1alpha1.ActRetire:
		c.retire()
	default:
	}
	if !c.decision.Moving {
		return
	}
	for wave := range c.waves() {
		c.restart(wave)
	}
}

// waves are the waves of the plan, each once, in the order of the steps.
func (c *Cluster) waves() func(func(string) bool) {
	return func(yield func(string) bool) {
		seen := map[string]bool{}
		for _, s := range c.Spec.Plan.Steps {
			if s.DataPlane == nil || seen[s.DataPlane.Wave] {
				continue
			}
			seen[s.DataPlane.Wave] = true
			if !yield(s.DataPlane.Wave) {
				return
			}
		}
	}
}

func (c *Cluster) retire() {
	plan, p := &c.Spec.Plan, &c.From
	revision := plan.From.Revision
	if c.progress.Back {
		p, revision = &c.To, plan.To.Revision
	}
	if users := c.users(revision); len(users) > 0 {
		c.problems = append(c.problems, fmt.Sprintf("t+%s: revision %s was removed while it was used by %v", clock(c.turn), revision, users))
	}
	p.exists = false
}

// restart is the dataplane controller.
func (c *Cluster) restart(wave string) {
	plan := &c.Spec.Plan
	share := rollout.Shares(plan, c.progress, wave)
	recent := int32(0)
	for _, w := range c.Workloads {
		recent += w.recent(c.turn)
	}
	target := c.target()
	for _, pick := range rollout.Next(plan.Restart, share, c.facts(wave), recent) {
		i := slices.IndexFunc(c.Workloads, func(w *Workload) bool { return w.Name == pick.Workload })
		w := c.Workloads[i]
		if pick.Pod == "" {
			w.restart(target)
			c.say("  restart", w.Name)
			continue
		}
		if w.evict(pick.Pod) {
			c.say("  evict", w.Name+" "+pick.Pod)
		}
	}
}

// check says which invariants do not hold in this turn.
func (c *Cluster) check() {
	plan := &c.Spec.Plan
	if c.decision.Moving && c.inPlace() && c.connected().Answer != rollout.Yes && len(c.Spec.Waivers) == 0 {
		c.problems = append(c.problems, fmt.Sprintf("t+%s: workloads may restart while proxies are not connected", clock(c.turn)))
	}
	for _, g := range c.Gateways {
		if c.progress.Back && c.decision.Moving && g.weight > 0 {
			c.problems = append(c.problems, fmt.Sprintf("t+%s: workloads move back while gateway %s sends %d percent to the canary", clock(c.turn), g.Name, g.weight))
		}
	}
	for wave := range c.waves() {
		n := rollout.Count(plan.Restart.Type, c.facts(wave))
		if c.decision.Moving && n.Total > 0 && plan.Restart.Type == v1alpha1.RestartRollout && c.own(wave) > budget(plan, n.Total) {
			c.problems = append(c.problems, fmt.Sprintf("t+%s: %d of %d workloads of wave %s are restarted at a time", clock(c.turn), c.own(wave), n.Total, wave))
		}
	}
}

// own counts the workloads of a wave that the rollout has under way.
func (c *Cluster) own(wave string) int {
	n := 0
	target := c.target()
	for _, w := range c.Workloads {
		if w.started == target && !w.settled && c.waveOf(w) == wave {
			n++
		}
	}
	return n
}

func budget(plan *v1alpha1.RolloutPlan, total int32) int {
	limit := plan.Restart.MaxUnavailable
	if limit.StrVal == "" {
		return int(limit.IntVal)
	}
	percent := 0
	_, _ = fmt.Sscanf(limit.StrVal, "%d%%", &percent)
	return max(1, int(total)*percent/100)
}

// Approve approves a step.
func Approve(step string) func(*Cluster) {
	return func(c *Cluster) {
		c.Spec.Approvals = append(c.Spec.Approvals, v1alpha1.Approval{Step: step, By: "oncall@example.com"})
		c.say("  approve", step)
	}
}

// Goal sets the goal.
func Goal(goal v1alpha1.RolloutGoal) func(*Cluster) {
	return func(c *Cluster) {
		c.Spec.Goal = goal
		c.say("  goal", string(goal))
	}
}

// Retry lets a halted rollout try again.
func Retry(c *Cluster) {
	c.Spec.Retries++
	c.say("  retry", strconv.Itoa(int(c.Spec.Retries)))
}

// Waive waives a proof for an hour.
func Waive(proof v1alpha1.Proof) func(*Cluster) {
	return func(c *Cluster) {
		c.Spec.Waivers = append(c.Spec.Waivers, v1alpha1.Waiver{Proof: proof, By: "oncall@example.com", Expires: metav1.NewTime(c.Now().Add(time.Hour))})
		c.say("  waive", string(proof))
	}
}
