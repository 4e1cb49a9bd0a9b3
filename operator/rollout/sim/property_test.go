// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

// Each property is tried with this many clusters; -rapid.checks says otherwise.
func init() {
	if err := flag.Set("rapid.checks", "150"); err != nil {
		panic(err)
	}
}

// mended is the turn from which on nothing is in the way of a rollout any more: pods start, evictions are allowed, steps are
// approved, and a halted rollout is told to try again now and then.
const mended = 400

// bound is the turn by which a rollout that nothing is in the way of has to have ended.
const bound = 6000

// drawn is a cluster as it was drawn. It can be built again and again.
type drawn struct {
	mesh       *v1alpha1.MeshInstallation
	namespaces []Namespace
	workloads  []Workload
	gateways   []Gateway
	// toStarts is how long the canary takes; negative: it does not get ready.
	toStarts int
	injects  rollout.Answer
	events   []event
}

// event is something that happens in a turn.
type event struct {
	turn int
	what string
	do   func(*Cluster)
}

func (e event) String() string { return fmt.Sprintf("t+%s %s", clock(e.turn), e.what) }

// String is how a cluster is printed when it breaks a property.
func (d drawn) String() string {
	var b strings.Builder
	plan := d.plan()
	limit := plan.Restart.MaxUnavailable
	fmt.Fprintf(&b, "%s, %s away at a time, %d pods a minute, deadline %d s, on failure %s, canary starts in %d s, injects %d\n",
		plan.Restart.Type, limit, plan.Restart.PodsPerMinute, plan.ProgressDeadlineSeconds, plan.OnFailure, d.toStarts, d.injects)
	for _, s := range plan.Steps {
		fmt.Fprintf(&b, "  step %s %s", s.Name, s.Type)
		if s.DataPlane != nil {
			fmt.Fprintf(&b, " %d%% of %s, bakes %d s", s.DataPlane.Percent, s.DataPlane.Wave, s.DataPlane.BakeSeconds)
		}
		if s.GatewayWeight != nil {
			fmt.Fprintf(&b, " %d%%", s.GatewayWeight.Percent)
		}
		if s.Pause != nil {
			fmt.Fprintf(&b, " %d s", s.Pause.DurationSeconds)
		}
		b.WriteString("\n")
	}
	for _, n := range d.namespaces {
		fmt.Fprintf(&b, "  namespace %s %v follows %t\n", n.Name, n.Labels, n.Follows)
	}
	for _, w := range d.workloads {
		fmt.Fprintf(&b, "  %s: %d pods, %d s, crashes %v, held %q, refuses %t\n",
			w.Name, w.Replicas, w.StartSeconds, w.Crashes, w.Held, w.Refuses)
	}
	for _, g := range d.gateways {
		fmt.Fprintf(&b, "  gateway %s: %d s, crashes %t, quiet %t, worse %t\n", g.Name, g.StartSeconds, g.Crashes, g.Quiet, g.Worse != nil)
	}
	for _, e := range d.events {
		fmt.Fprintf(&b, "  %s\n", e)
	}
	return b.String()
}

func (d drawn) plan() v1alpha1.RolloutPlan { return rollout.NewPlan(d.mesh, from, to, nil) }

// build makes the cluster.
func (d drawn) build() *Cluster {
	c := New(d.plan())
	c.To.StartSeconds, c.Injects.Answer = d.toStarts, d.injects
	for _, n := range d.namespaces {
		c.Namespaces = append(c.Namespaces, &n)
	}
	for _, w := range d.workloads {
		c.Workloads = append(c.Workloads, &w)
	}
	for _, g := range d.gateways {
		c.Gateways = append(c.Gateways, &g)
	}
	for _, e := range d.events {
		c.At(e.turn, e.do)
	}
	return c
}

// healing ends all that is in the way of a rollout.
func (c *Cluster) healing() {
	c.At(mended, func(c *Cluster) {
		for _, w := range c.Workloads {
			w.Crashes, w.Refuses = nil, false
		}
		for _, g := range c.Gateways {
			g.Crashes, g.Quiet, g.Worse, g.StartSeconds = false, false, nil, min(g.StartSeconds, 20)
		}
		c.From.StartSeconds, c.To.StartSeconds = 0, 1
		c.Injects.Answer = rollout.Yes
		c.Spec.Paused, c.Paused, c.Elsewhere, c.Blind, c.Uses = false, false, false, false, nil
		if c.Spec.Goal == v1alpha1.GoalAbort {
			Goal(v1alpha1.GoalRollBack)(c)
		}
		for _, s := range c.Spec.Plan.Steps {
			Approve(s.Name)(c)
		}
	})
	for turn := mended + 100; turn < bound; turn += 100 {
		c.At(turn, Retry)
	}
}

// watch looks at the cluster in every turn, and notes what the model itself does not look for.
func (c *Cluster) watch(turns int) {
	if c.Spec.Plan.Restart.Type != v1alpha1.RestartEvict {
		return // the model looks at whole workloads itself
	}
	before := map[string]int{}
	for turn := range turns {
		c.At(turn, func(c *Cluster) {
			for wave := range c.waves() {
				away, total := c.away(wave)
				limit := budget(&c.Spec.Plan, int32(total))
				if away > max(limit, before[wave]) && !c.progress.Back { // see TestEvictionsOfARollbackKeepTheBudget
					c.problems = append(c.problems, fmt.Sprintf("t+%s: %d of %d pods of wave %s are away at a time, and %d may be",
						clock(c.turn-1), away, total, wave, limit))
				}
				before[wave] = away
			}
		})
	}
}

// untilIdle ends the run when nothing was said or done for so long that nothing is going to: no wait of these clusters is longer.
func (c *Cluster) untilIdle(turns int) {
	const idle = 200
	said, since := 0, 0
	for turn := range turns {
		c.At(turn, func(c *Cluster) {
			if n := c.trace.Len(); n != said {
				said, since = n, turn
			}
			if turn-since > idle {
				c.turn = turns
			}
		})
	}
}

// away counts the pods of a wave that serve nothing, and all.
func (c *Cluster) away(wave string) (away, total int) {
	for _, w := range c.Workloads {
		if w.Held != "" || c.waveOf(w) != wave {
			continue
		}
		ready := 0
		for _, p := range w.pods {
			if p.ready {
				ready++
			}
		}
		away, total = away+max(0, w.Replicas-ready), total+w.Replicas
	}
	return away, total
}

// remains says what refers to a revision that is gone, and what of the mesh is not where the outcome says it is.
func (c *Cluster) remains() []string {
	if c.progress.Outcome == "" {
		return nil
	}
	gone, kept := from.Revision, to.Revision
	if c.progress.Outcome != v1alpha1.OutcomeCompleted {
		gone, kept = kept, gone
	}
	out := c.users(gone)
	if c.promoted != kept {
		out = append(out, "promoted is "+c.promoted)
	}
	if c.From.exists != (kept == from.Revision) || c.To.exists != (kept == to.Revision) {
		out = append(out, fmt.Sprintf("from exists %t, to exists %t", c.From.exists, c.To.exists))
	}
	return out
}

// limits of what is drawn.
type limits struct {
	// held workloads, crashes and refusals, and what people do, may be drawn.
	held, faults, people bool
	// windows may be drawn.
	windows bool
}

// clusters draws clusters.
func clusters(may limits) *rapid.Generator[drawn] {
	return rapid.Custom(func(t *rapid.T) drawn {
		d := drawn{mesh: anyMesh(t, may), toStarts: rapid.IntRange(0, 20).Draw(t, "canary starts"), injects: rollout.Yes}
		if may.faults {
			d.toStarts = rapid.SampledFrom([]int{d.toStarts, d.toStarts, d.toStarts, d.toStarts, d.toStarts, -1}).Draw(t, "canary")
			d.injects = rapid.SampledFrom([]rollout.Answer{
				rollout.Yes, rollout.Yes, rollout.Yes, rollout.Yes, rollout.No, rollout.Unknown,
			}).Draw(t, "injects")
		}
		for i := range rapid.IntRange(1, 4).Draw(t, "namespaces") {
			n := Namespace{Name: fmt.Sprintf("n%d", i), Follows: rapid.IntRange(0, 3).Draw(t, "follows") == 0}
			if tier := rapid.IntRange(0, 3).Draw(t, "tier"); tier > 0 && !n.Follows {
				n.Labels = map[string]string{"tier": strconv.Itoa(tier)}
			}
			d.namespaces = append(d.namespaces, n)
		}
		for i := range rapid.IntRange(1, 6).Draw(t, "workloads") {
			namespace := rapid.SampledFrom(d.namespaces).Draw(t, "namespace").Name
			w := Workload{Namespace: namespace, Name: "Deployment/" + namespace + "/" + string(rune('a'+i))}
			w.Replicas, w.StartSeconds = rapid.IntRange(0, 4).Draw(t, "replicas"), rapid.IntRange(1, 20).Draw(t, "starts")
			if may.faults && rapid.IntRange(0, 7).Draw(t, "crashes") == 0 {
				w.Crashes = []string{to.Revision}
			}
			if may.held && rapid.IntRange(0, 7).Draw(t, "held") == 0 {
				w.Held = rollout.HeldExcluded
			}
			if may.faults {
				w.Refuses = rapid.IntRange(0, 7).Draw(t, "refuses") == 0
			}
			d.workloads = append(d.workloads, w)
		}
		if len(d.mesh.Spec.Gateways) > 0 {
			d.gateways = []Gateway{anyGateway(t, may)}
		}
		if may.people {
			d.events = anyScript(t, &d)
		}
		return d
	})
}

// anyGateway draws a gateway.
func anyGateway(t *rapid.T, may limits) Gateway {
	g := Gateway{
		Name: "istio-ingress/ingress", StartSeconds: rapid.IntRange(0, 20).Draw(t, "gateway starts"),
		MeasureSeconds: rapid.IntRange(0, 20).Draw(t, "gateway is measured"),
	}
	if !may.faults {
		return g
	}
	g.Crashes = rapid.IntRange(0, 7).Draw(t, "gateway crashes") == 0
	g.Quiet = rapid.IntRange(0, 7).Draw(t, "gateway is quiet") == 0
	if rapid.IntRange(0, 7).Draw(t, "gateway is worse") == 0 {
		from := rapid.Int32Range(0, 100).Draw(t, "from a weight on")
		g.Worse = func(weight int32) bool { return weight >= from }
	}
	return g
}

// anyMesh draws an installation: up to two waves and the rest, steps, a way to restart, and what a failure leads to.
func anyMesh(t *rapid.T, may limits) *v1alpha1.MeshInstallation {
	m := mesh(nil)
	m.Spec.DataPlane.Waves = nil
	for i := range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "waves") {
		m.Spec.DataPlane.Waves = append(m.Spec.DataPlane.Waves, v1alpha1.Wave{
			Name: fmt.Sprintf("w%d", i+1), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": strconv.Itoa(i + 1)}},
		})
	}
	types := rapid.SampledFrom([]v1alpha1.RestartType{v1alpha1.RestartRollout, v1alpha1.RestartEvict})
	restart := v1alpha1.Restart{Type: types.Draw(t, "restart")}
	restart.MaxUnavailable = new(intstr.FromInt32(rapid.Int32Range(1, 4).Draw(t, "away")))
	if rapid.Bool().Draw(t, "in percent") {
		restart.MaxUnavailable = new(intstr.FromString(fmt.Sprintf("%d%%", rapid.IntRange(1, 100).Draw(t, "percent away"))))
	}
	if rapid.IntRange(0, 3).Draw(t, "bounded") == 0 {
		restart.PodsPerMinute = rapid.Int32Range(2, 12).Draw(t, "pods a minute")
	}
	m.Spec.DataPlane.Restart = restart
	policies := rapid.SampledFrom([]v1alpha1.FailurePolicy{v1alpha1.OnFailureRollBack, v1alpha1.OnFailurePause})
	m.Spec.Upgrade.OnFailure = policies.Draw(t, "on failure")
	m.Spec.Upgrade.ProgressDeadlineSeconds = 3600
	if may.faults {
		m.Spec.Upgrade.ProgressDeadlineSeconds = rapid.SampledFrom([]int32{60, 150, 600}).Draw(t, "deadline")
	}
	m.Spec.Upgrade.Canary.RetireAfterSeconds = new(rapid.Int32Range(0, 60).Draw(t, "retire after"))
	if may.windows && rapid.IntRange(0, 3).Draw(t, "windows") == 0 {
		m.Spec.Upgrade.Windows = []v1alpha1.Window{berlin}
	}
	if rapid.Bool().Draw(t, "gateway") {
		gatewayOf(m)
	}
	reached, weight := map[string]int32{}, int32(-1)
	for i := range rapid.IntRange(0, 4).Draw(t, "steps") {
		name, wave := fmt.Sprintf("s%d", i+1), rapid.SampledFrom(rollout.WavesOf(m)).Draw(t, "wave")
		if len(m.Spec.Gateways) > 0 && weight < 100 && rapid.IntRange(0, 2).Draw(t, "weighs") == 0 {
			weight = rapid.SampledFrom([]int32{100, rapid.Int32Range(weight+1, 100).Draw(t, "weight")}).Draw(t, "of the traffic")
			m.Spec.Upgrade.Canary.Steps = append(m.Spec.Upgrade.Canary.Steps, weigh(name, weight))
			continue
		}
		s := pause(name, rapid.SampledFrom([]int32{0, 1, 20, 60}).Draw(t, "pause"))
		if rapid.IntRange(0, 2).Draw(t, "moves") > 0 && reached[wave] < 100 {
			reached[wave] = rapid.SampledFrom([]int32{100, rapid.Int32Range(reached[wave]+1, 100).Draw(t, "percent")}).Draw(t, "share")
			s = move(name, wave, reached[wave])
			s.DataPlane.BakeSeconds = rapid.SampledFrom([]int32{0, 0, 30}).Draw(t, "bake")
		}
		m.Spec.Upgrade.Canary.Steps = append(m.Spec.Upgrade.Canary.Steps, s)
	}
	return m
}

// anyScript draws what people do before all is mended: they pause and go on, approve, abort, roll back, retry, and restart
// workloads of their own.
func anyScript(t *rapid.T, d *drawn) []event {
	var out []event
	plan := d.plan()
	verbs := []string{
		"pause", "pause the mesh", "approve", "approve", "retry", "restart", "supersede", "abort", "roll back", "elsewhere",
		"old revision down",
	}
	for range rapid.IntRange(0, 6).Draw(t, "events") {
		e := event{turn: rapid.IntRange(0, mended-1).Draw(t, "turn"), what: rapid.SampledFrom(verbs).Draw(t, "verb")}
		until := event{turn: rapid.IntRange(e.turn, mended-1).Draw(t, "until"), what: "the end of: " + e.what}
		switch e.what {
		case "pause":
			e.do, until.do = func(c *Cluster) { c.Spec.Paused = true }, func(c *Cluster) { c.Spec.Paused = false }
		case "pause the mesh":
			e.do, until.do = func(c *Cluster) { c.Paused = true }, func(c *Cluster) { c.Paused = false }
		case "elsewhere":
			e.do, until.do = func(c *Cluster) { c.Elsewhere = true }, func(c *Cluster) { c.Elsewhere = false }
		case "old revision down":
			e.do, until.do = func(c *Cluster) { c.From.StartSeconds = -1 }, func(c *Cluster) { c.From.StartSeconds = 0 }
		case "approve":
			step := rapid.SampledFrom(plan.Steps).Draw(t, "step").Name
			e.what, e.do = "approve "+step, Approve(step)
		case "retry":
			e.do = Retry
		case "supersede":
			e.do = func(c *Cluster) { c.Superseded = true }
		case "restart":
			name := rapid.SampledFrom(d.workloads).Draw(t, "restarted").Name
			e.what, e.do = "restart "+name, func(c *Cluster) { c.workload(name).Restart() }
		case "abort":
			e.do = func(c *Cluster) {
				if c.Spec.Goal == v1alpha1.GoalComplete {
					Goal(v1alpha1.GoalAbort)(c)
				}
			}
		case "roll back":
			e.do = func(c *Cluster) {
				if c.decision.Act != v1alpha1.ActRetire { // see TestARollbackAtAnyTimeEnds
					Goal(v1alpha1.GoalRollBack)(c)
				}
			}
		}
		if out = append(out, e); until.do != nil {
			out = append(out, until)
		}
	}
	slices.SortStableFunc(out, func(a, b event) int { return a.turn - b.turn })
	return out
}

// report fails with all that is needed to see why.
func report(t *rapid.T, d drawn, c *Cluster, why ...string) {
	t.Helper()
	if len(why) > 0 {
		t.Fatalf("%s\n%v\n%s", strings.Join(why, "\n"), d, c.Trace())
	}
}

// Whatever is in the way at first, and whatever people do: once nothing is in the way any more, a rollout ends; and on its way
// there, no revision is removed that is used, and no more is away than is allowed.
func TestEveryRolloutEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := clusters(limits{faults: true, people: true}).Draw(t, "cluster")
		c := d.build()
		c.healing()
		c.watch(bound)
		ended := c.Run(bound)
		report(t, d, c, c.Problems()...)
		report(t, d, c, c.remains()...)
		if !ended {
			report(t, d, c, "it has not ended by t+"+clock(bound))
		}
	})
}

// Where nothing fails and nobody interferes, a rollout is completed.
func TestAnUndisturbedRolloutCompletes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := clusters(limits{}).Draw(t, "cluster")
		c := d.build()
		for _, s := range c.Spec.Plan.Steps {
			c.At(0, Approve(s.Name))
		}
		c.watch(bound)
		c.Run(bound)
		report(t, d, c, c.Problems()...)
		report(t, d, c, c.remains()...)
		if c.Progress().Outcome != v1alpha1.OutcomeCompleted {
			report(t, d, c, fmt.Sprintf("outcome %q, want Completed", c.Progress().Outcome))
		}
	})
}

// The clock goes back, nothing can be seen for a while, and what was decided is lost: what must not happen does not happen all
// the same.
func TestNothingBreaksTheInvariants(t *testing.T) {
	const turns = 500
	rapid.Check(t, func(t *rapid.T) {
		d := clusters(limits{held: true, faults: true, people: true, windows: true}).Draw(t, "cluster")
		for range rapid.IntRange(1, 8).Draw(t, "disturbances") {
			turn, length := rapid.IntRange(0, turns).Draw(t, "begins"), rapid.IntRange(1, 200).Draw(t, "length")
			if rapid.Bool().Draw(t, "blind") {
				d.events = append(d.events,
					event{turn, "blind", func(c *Cluster) { c.Blind = true }},
					event{turn + length, "sees", func(c *Cluster) { c.Blind = false }})
				continue
			}
			skew := -time.Duration(rapid.IntRange(0, 3600).Draw(t, "skew")) * time.Second
			d.events = append(d.events, event{turn, "skew " + skew.String(), func(c *Cluster) { c.Skew = skew }})
		}
		lost := rapid.SliceOfNDistinct(rapid.IntRange(0, turns), 0, 20, rapid.ID[int]).Draw(t, "lost")
		c := d.build()
		c.Lost = func() bool { return slices.Contains(lost, c.turn) }
		c.watch(turns)
		c.Run(turns)
		report(t, d, c, c.Problems()...)
		report(t, d, c, c.remains()...)
	})
}

// soon lets the old revision go soon.
func soon(m *v1alpha1.MeshInstallation) { m.Spec.Upgrade.Canary.RetireAfterSeconds = new(int32(5)) }

// end is what a rollout came to.
type end struct {
	Outcome  v1alpha1.RolloutOutcome
	Halted   bool
	Promoted string
	Remains  []string
	Problems []string
}

func (c *Cluster) end() end {
	return end{c.progress.Outcome, c.progress.Halted, c.promoted, c.remains(), c.problems}
}

// The operator may die at any moment before what it decided is kept: what a rollout comes to does not change.
func TestLostWritesChangeNothing(t *testing.T) {
	const turns = 1500
	rapid.Check(t, func(t *rapid.T) {
		d := clusters(limits{held: true}).Draw(t, "cluster")
		if crashes := rapid.IntRange(0, 2*len(d.workloads)).Draw(t, "crashes"); crashes < len(d.workloads) {
			d.workloads[crashes].Crashes = []string{to.Revision}
		}
		if rapid.IntRange(0, 3).Draw(t, "does not inject") == 0 {
			d.injects = rollout.No
		}
		run := func(lost []int) (*Cluster, end) {
			c := d.build()
			for _, s := range c.Spec.Plan.Steps {
				c.At(0, Approve(s.Name))
			}
			c.Lost = func() bool { return slices.Contains(lost, c.turn) }
			c.watch(turns)
			c.untilIdle(turns)
			c.Run(turns)
			return c, c.end()
		}
		undisturbed, want := run(nil)
		lost := rapid.SliceOfNDistinct(rapid.IntRange(0, min(undisturbed.turn, 400)), 1, 30, rapid.ID[int]).Draw(t, "lost")
		disturbed, got := run(lost)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Logf("undisturbed:\n%s", undisturbed.Trace())
			report(t, d, disturbed, "another end (-want +got):\n"+diff)
		}
	})
}

// Each single write of some rollouts is lost, one after another.
func TestEachWriteMayBeLost(t *testing.T) {
	tests := []struct {
		name    string
		reason  string
		cluster func() *Cluster
		want    end
	}{
		{
			"two waves and followers", "a step that was not kept is decided again",
			func() *Cluster {
				c := shop(both(soon, steps(move("early", "early", 100), pause("look", 5), move("half", "rest", 50))))
				c.Namespaces = append(c.Namespaces, &Namespace{Name: "tagged", Follows: true})
				c.Workloads = append(c.Workloads, &Workload{Name: "Deployment/tagged/x", Namespace: "tagged", Replicas: 2, StartSeconds: 2})
				return c
			},
			end{Outcome: v1alpha1.OutcomeCompleted, Promoted: to.Revision},
		},
		{
			"evictions", "a pod that is gone is not evicted again",
			func() *Cluster {
				return shop(both(soon, func(m *v1alpha1.MeshInstallation) {
					m.Spec.DataPlane.Restart = v1alpha1.Restart{Type: v1alpha1.RestartEvict, MaxUnavailable: new(intstr.FromInt32(1))}
				}))
			},
			end{Outcome: v1alpha1.OutcomeCompleted, Promoted: to.Revision},
		},
		{
			"a workload that crashes", "the rollout turns back, though a turn later",
			func() *Cluster {
				c := shop(nil)
				c.workload("Deployment/shop/pay").Crashes = []string{to.Revision}
				return c
			},
			end{Outcome: v1alpha1.OutcomeRolledBack, Promoted: from.Revision},
		},
		{
			"a crash after promotion", "what promotion had moved is moved back",
			func() *Cluster {
				c := shop(nil)
				c.Namespaces = append(c.Namespaces, &Namespace{Name: "tagged", Follows: true})
				c.Workloads = append(c.Workloads, &Workload{
					Name: "Deployment/tagged/x", Namespace: "tagged", Replicas: 2, StartSeconds: 2, Crashes: []string{to.Revision},
				})
				return c
			},
			end{Outcome: v1alpha1.OutcomeRolledBack, Promoted: from.Revision},
		},
		{
			"a rollback", "a goal is read again in each turn",
			func() *Cluster {
				c := shop(steps(move("early", "early", 100), pause("go", 0)))
				c.At(40, Goal(v1alpha1.GoalRollBack))
				return c
			},
			end{Outcome: v1alpha1.OutcomeRolledBack, Promoted: from.Revision},
		},
		{
			"an abort", "a goal is read again in each turn",
			func() *Cluster {
				c := shop(steps(pause("go", 0)))
				c.At(30, Goal(v1alpha1.GoalAbort))
				return c
			},
			end{Outcome: v1alpha1.OutcomeAborted, Promoted: from.Revision},
		},
		{
			"a retry", "a retry that was not kept is not used up",
			func() *Cluster {
				c := shop(both(soon, pauseOnFailure))
				b := c.workload("Deployment/test/b")
				b.Crashes = []string{to.Revision}
				c.At(50, func(*Cluster) { b.Crashes = nil })
				c.At(60, Retry)
				return c
			},
			end{Outcome: v1alpha1.OutcomeCompleted, Promoted: to.Revision},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clean := tt.cluster()
			clean.Run(600)
			for n := -1; n <= clean.turn; n++ { // in turn -1 nothing is lost
				c := tt.cluster()
				c.Lost = func() bool { return c.turn == n }
				c.watch(600)
				c.Run(600)
				if diff := cmp.Diff(tt.want, c.end()); diff != "" {
					t.Fatalf("without the write of turn %d it ends otherwise, but %s (-want +got):\n%s\n%s", n, tt.reason, diff, c.Trace())
				}
			}
		})
	}
}

// A rollout may be told to roll back in any turn: it ends, and nothing is lost on the way.
func TestARollbackAtAnyTimeEnds(t *testing.T) {
	clean := shop(soon)
	clean.Run(600)
	retired := clean.turn // the old revision is removed at the beginning of the last turn
	rollBackAt := func(t *testing.T, turn int, interfere func(*Cluster)) {
		t.Helper()
		c := shop(soon)
		c.At(turn, interfere)
		c.At(500, func(c *Cluster) { c.To.StartSeconds = 1 })
		for retry := 510; retry < 1000; retry += 100 {
			c.At(retry, Retry)
		}
		ended := c.Run(1000)
		if problems := append(c.Problems(), c.remains()...); !ended || len(problems) > 0 {
			t.Errorf("turn %d: ended %t %v\n%s", turn, ended, problems, c.Trace())
		}
	}
	down := func(c *Cluster) { c.To.StartSeconds = -1 }
	t.Run("while the old revision is there", func(t *testing.T) {
		for turn := range retired {
			rollBackAt(t, turn, Goal(v1alpha1.GoalRollBack))
			rollBackAt(t, turn, down)
			rollBackAt(t, turn, func(c *Cluster) {
				Goal(v1alpha1.GoalAbort)(c)
				c.At(turn+1, Goal(v1alpha1.GoalRollBack))
			})
		}
	})
	t.Run("told while the old revision is removed", func(t *testing.T) {
		rollBackAt(t, retired, Goal(v1alpha1.GoalRollBack))
	})
	t.Run("the new revision is down while the old one is removed", func(t *testing.T) {
		rollBackAt(t, retired, down)
	})
}

// Going back by evictions, pods that do not serve are away, whoever is to blame: healthy ones are not evicted beside them.
func TestEvictionsOfARollbackKeepTheBudget(t *testing.T) {
	c := shop(both(soon, func(m *v1alpha1.MeshInstallation) {
		m.Spec.DataPlane.Restart = v1alpha1.Restart{Type: v1alpha1.RestartEvict, MaxUnavailable: new(intstr.FromInt32(1))}
	}))
	c.workload("Deployment/test/b").Crashes = []string{to.Revision}
	for turn := range 200 {
		c.At(turn, func(c *Cluster) {
			if away, total := c.away("early"); away > 1 {
				t.Errorf("t+%s: %d of %d pods of wave early are away at a time, and 1 may be", clock(c.turn-1), away, total)
			}
		})
	}
	c.Run(200)
	t.Log("\n" + c.Trace())
}

// What an outcome says is what happened: an abort that comes when workloads are on their way back is no abort before anything
// had moved, and why the rollout turned back is kept.
func TestAnAbortOfARollbackIsARollback(t *testing.T) {
	c := shop(nil)
	c.workload("Deployment/test/b").Crashes = []string{to.Revision}
	c.At(16, Goal(v1alpha1.GoalAbort))
	c.Run(600)
	if got := c.Progress().Outcome; got != v1alpha1.OutcomeRolledBack {
		t.Errorf("outcome %s, want RolledBack\n%s", got, c.Trace())
	}
}

// A control plane that is away for a moment now and then, as when its pods are rescheduled, has not failed: the deadline is for
// one time without progress, not for the sum of all while the old revision waits to be retired.
func TestShortOutagesAreNotAddedUp(t *testing.T) {
	c := shop(nil)
	c.Uses = []string{"1 proxy that is connected to istiod"}
	for turn := 100; turn < 1700; turn += 100 {
		c.At(turn, func(c *Cluster) { c.To.StartSeconds = -1 })
		c.At(turn+10, func(c *Cluster) { c.To.StartSeconds = 8 })
	}
	c.Run(1800)
	if c.Progress().Back {
		t.Errorf("it goes back\n%s", c.Trace())
	}
}

// What can't be moved back holds the canary, also while nothing can be seen; once it can be moved, it is.
func TestWhatCanNotBeMovedBackHoldsTheCanary(t *testing.T) {
	c := shop(nil)
	a := c.workload("Deployment/test/a")
	a.Held = rollout.HeldExcluded
	c.At(11, func(*Cluster) { a.Restart() })
	c.At(30, Goal(v1alpha1.GoalRollBack))
	c.At(100, func(c *Cluster) { c.Blind = true })
	c.At(110, func(c *Cluster) { c.Blind = false })
	c.At(120, func(*Cluster) { a.Held = "" })
	c.At(119, func(c *Cluster) {
		if !c.To.exists {
			t.Error("the canary was removed while a workload was there")
		}
	})
	c.Run(300)
	want := end{Outcome: v1alpha1.OutcomeRolledBack, Promoted: from.Revision}
	if diff := cmp.Diff(want, c.end()); diff != "" {
		t.Errorf("another end (-want +got):\n%s\n%s", diff, c.Trace())
	}
}

// Nothing is restarted towards a control plane that does not serve.
func TestStragglersWaitForTheOldRevision(t *testing.T) {
	c := shop(nil)
	a := c.workload("Deployment/test/a")
	a.Held = rollout.HeldExcluded
	c.At(11, func(*Cluster) { a.Restart() })
	c.At(30, Goal(v1alpha1.GoalRollBack))
	c.At(118, func(c *Cluster) { c.From.StartSeconds = -1 })
	c.At(120, func(*Cluster) { a.Held = "" })
	c.Run(300)
	if strings.Contains(c.Trace(), "t+2m0s       restart") {
		t.Errorf("a workload is restarted while the old revision is down\n%s", c.Trace())
	}
}
