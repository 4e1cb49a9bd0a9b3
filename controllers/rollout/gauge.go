// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/meshwright/meshwright/operator/analysis"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/probe"
	"github.com/meshwright/meshwright/operator/rollout"
	"github.com/meshwright/meshwright/operator/traffic"
)

// Gauge measures what the gates of rollouts ask for. The health of gateways is read off the meter; servers and Jobs are asked beside
// the reconciles, which take the last measurements and are told when there are new ones.
type Gauge struct {
	Prober *probe.Prober
	Meter  *probe.Meter
	// Secrets reads a Secret of the operator's namespace.
	Secrets func(ctx context.Context, name string) (map[string][]byte, error)
	// Istiods are the running replicas of a revision's istiod.
	Istiods func(ctx context.Context, revision *v1alpha1.MeshRevision) ([]probe.Istiod, error)
	Jobs    *Jobs
	Clock   clock.WithTicker

	once  sync.Once
	heard chan event.GenericEvent
	woken chan struct{}

	mu    sync.Mutex
	cases map[types.UID]*examination
}

// examination is what is measured for one rollout in one step.
type examination struct {
	rollout *v1alpha1.MeshRollout
	turn    turn
	due     []rollout.Due
	// gateways that move, as namespace and name.
	gateways []types.NamespacedName
	results  map[string]analysis.Measurement
	busy     map[string]bool
	from, to *v1alpha1.MeshRevision
	// pilots is what the istiods of both had counted when the weight was first wanted.
	pilots *pilots
	// suspect is when that was last found to be bad.
	suspect time.Time
	// looked is how far health has looked, by gate; it begins anew with the weight that is named.
	looked map[string]analysis.Looked
	weight string
}

// istiodEvery is how often istiods are asked.
const istiodEvery = 5 * time.Second

// How often is looked whether a gate is due, and how long one measurement may take in all.
const (
	gaugeEvery     = time.Second
	perMeasurement = 2 * time.Minute
)

func (g *Gauge) init() {
	g.once.Do(func() {
		g.heard, g.woken = make(chan event.GenericEvent, 1), make(chan struct{}, 1)
		g.cases = map[types.UID]*examination{}
		g.Meter.Listen(g.tell)
	})
}

// Heard tells that there are new measurements.
func (g *Gauge) Heard() <-chan event.GenericEvent {
	g.init()
	return g.heard
}

func (g *Gauge) tell() {
	select {
	case g.heard <- event.GenericEvent{Object: &v1alpha1.MeshRollout{}}:
	default: // one is waiting already, and says the same
	}
}

// Forget forgets a rollout.
func (g *Gauge) Forget(uid types.UID) {
	g.init()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.cases, uid)
}

// turn is a step and a try of it: what was measured in another one is not counted.
type turn struct{ step, retries int32 }

// turnOf tells what is measured before the first step from what is measured in it.
func turnOf(p v1alpha1.RolloutProgress) turn {
	if p.Proven == nil {
		return turn{step: -1, retries: p.Retries}
	}
	return turn{step: p.Step, retries: p.Retries}
}

// ask takes what a rollout wants to have measured, and returns the last measurements of its present step.
func (g *Gauge) ask(o *v1alpha1.MeshRollout, from, to *v1alpha1.MeshRevision, seen rollout.Observation) map[string]analysis.Measurement {
	g.init()
	p := o.Status.Progress
	due := rollout.DueGates(&o.Spec.Plan, p, seen.Gateways, g.Clock.Now())
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(due) == 0 {
		delete(g.cases, o.UID)
		return nil
	}
	known := g.cases[o.UID]
	if known == nil {
		known = &examination{looked: map[string]analysis.Looked{}}
		g.cases[o.UID] = known
	}
	if known.results == nil || known.turn != turnOf(p) {
		known.results, known.busy = map[string]analysis.Measurement{}, map[string]bool{}
	}
	known.rollout, known.turn, known.due, known.gateways, known.from, known.to = o.DeepCopy(), turnOf(p), due, nil, from, to
	if weight := rollout.WeightSince(&o.Spec.Plan, p); known.weight != weight {
		known.weight, known.looked, known.pilots = weight, map[string]analysis.Looked{}, nil
	}
	for _, gateway := range seen.Gateways {
		if gateway.Listed {
			known.gateways = append(known.gateways, keyOf(gateway.Name))
		}
	}
	select {
	case g.woken <- struct{}{}:
	default:
	}
	out := maps.Clone(known.results)
	for _, d := range due {
		if d.Gateway == "" {
			continue
		}
		if m, measured := g.health(known, d); measured {
			out[d.Gate] = m
		}
	}
	return out
}

func keyOf(name string) types.NamespacedName {
	var out types.NamespacedName
	for i := range name {
		if name[i] == '/' {
			out.Namespace, out.Name = name[:i], name[i+1:]
		}
	}
	return out
}

// health compares the versions of one gateway since its present weight was wanted. The false alarms that are allowed are shared by
// all gateways.
func (g *Gauge) health(e *examination, d rollout.Due) (analysis.Measurement, bool) {
	plan := &e.rollout.Spec.Plan
	key := keyOf(d.Gateway)
	sample, known := g.Meter.Since(key, "health "+e.weight)
	whole, all := g.Meter.Since(key, traffic.Whole)
	if !known || !all {
		return analysis.Measurement{}, false
	}
	sample.Before = whole.Old
	if e.turn.retries == 0 {
		// What was rejected while the new version came up counts too; after that a person may have mended it.
		sample.Old.Rejected, sample.New.Rejected = whole.Old.Rejected, whole.New.Rejected
	}
	looked := e.looked[d.Gate]
	looked.Looks = max(looked.Looks, d.Looks)
	health := plan.Analysis.Health
	health.FalseAlarmPermille = max(1, health.FalseAlarmPermille/int32(max(1, len(e.gateways)))) //nolint:gosec // a mesh has 64 gateways at most
	m := analysis.Health(health, sample, looked, g.Clock.Now().Truncate(time.Second))
	e.looked[d.Gate] = analysis.Looked{Looks: m.Looks, Seen: m.Seen}
	return m, true
}

// Start measures until the context ends.
func (g *Gauge) Start(ctx context.Context) error {
	g.init()
	ticker := g.Clock.NewTicker(gaugeEvery)
	defer ticker.Stop()
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-g.woken:
		case <-ticker.C():
		}
		for _, e := range g.errands() {
			running.Go(func() { g.run(ctx, e) })
		}
	}
}

// NeedLeaderElection says that only the replica that acts measures.
func (g *Gauge) NeedLeaderElection() bool { return true }

// errand is one measurement that is due.
type errand struct {
	rollout  *v1alpha1.MeshRollout
	turn     turn
	due      rollout.Due
	gateways []types.NamespacedName
	from, to *v1alpha1.MeshRevision
	pilots   *pilots
	weight   string
}

// errands are the measurements that are due, not under way, and of which the last one was counted.
func (g *Gauge) errands() (out []errand) {
	now := g.Clock.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.cases {
		for _, d := range e.due {
			last := e.results[d.Gate].At
			counted := !last.After(d.Last)
			if d.Gate == rollout.IstiodGate {
				counted = now.Sub(last) >= istiodEvery // it is measured all the time, and not counted
			}
			if d.Gateway != "" || e.busy[d.Gate] || now.Before(d.At) || !counted {
				continue
			}
			e.busy[d.Gate] = true
			out = append(out, errand{
				rollout: e.rollout, turn: e.turn, due: d, gateways: slices.Clone(e.gateways), from: e.from, to: e.to, pilots: e.pilots, weight: e.weight,
			})
		}
	}
	return out
}

// run makes one measurement and keeps it.
func (g *Gauge) run(ctx context.Context, e errand) {
	bounded, cancel := context.WithTimeout(ctx, perMeasurement)
	defer cancel()
	m := g.measure(bounded, e)
	g.mu.Lock()
	known := g.cases[e.rollout.UID]
	if known != nil && known.turn == e.turn {
		known.busy[e.due.Gate] = false
		if m != nil {
			known.results[e.due.Gate] = *m
		}
	}
	g.mu.Unlock()
	if m != nil {
		g.tell()
	}
}

// measure asks what a gate asks; nil while there is no answer yet.
func (g *Gauge) measure(ctx context.Context, e errand) *analysis.Measurement {
	var m *analysis.Measurement
	switch {
	case e.due.Gate == rollout.IstiodGate:
		m = g.istiod(ctx, e)
	case e.due.Metric != nil:
		m = g.metric(ctx, e)
	case e.due.Hook.Type == v1alpha1.HookWebhook:
		m = g.webhook(ctx, e)
	default:
		attempt := fmt.Sprintf("%d/%d", e.turn.step, e.turn.retries)
		var err error
		if m, err = g.Jobs.Outcome(ctx, e.rollout, *e.due.Hook, attempt, g.Clock.Now()); err != nil {
			m = &analysis.Measurement{Outcome: analysis.Inconclusive, Note: err.Error()}
		}
	}
	if m != nil {
		m.At = g.Clock.Now().Truncate(time.Second)
	}
	return m
}

// metric asks Prometheus, for each gateway that moves where the query names them. The worst answer counts.
func (g *Gauge) metric(ctx context.Context, e errand) *analysis.Measurement {
	plan := &e.rollout.Spec.Plan
	doubt := func(note string) *analysis.Measurement {
		return &analysis.Measurement{Outcome: analysis.Inconclusive, Note: note}
	}
	resolved, err := analysis.Resolve(*e.due.Metric)
	if err != nil {
		return doubt(err.Error())
	}
	server := probe.PrometheusServer{Spec: *plan.Analysis.Prometheus}
	if auth := server.Spec.Auth; auth != nil {
		if server.Secret, err = g.Secrets(ctx, auth.SecretName); err != nil {
			return doubt("prometheus.auth.secretName: " + err.Error())
		}
	}
	targets := e.gateways
	if len(targets) == 0 {
		targets = []types.NamespacedName{{}}
	}
	asked := map[string]bool{}
	var worst *analysis.Measurement
	for _, gateway := range targets {
		text, err := analysis.Query(resolved.Query, analysis.Params{
			Revision: plan.To.Revision, Stable: plan.From.Revision, Gateway: gateway.Name, Namespace: gateway.Namespace,
			Window: time.Duration(e.due.Metric.WindowSeconds) * time.Second,
		})
		if err != nil {
			return doubt(err.Error())
		}
		if asked[text] {
			continue
		}
		asked[text] = true
		values, err := g.Prober.Prometheus(ctx, server, text, g.Clock.Now())
		m := doubt("")
		if err != nil {
			m.Note = err.Error()
		} else {
			m.Outcome, m.Note = analysis.Judge(resolved, values)
		}
		worst = worse(worst, m)
	}
	return worst
}

// worse is the worse one of two measurements: a failure, then what says nothing.
func worse(a, b *analysis.Measurement) *analysis.Measurement {
	rank := map[analysis.Outcome]int{analysis.Failure: 0, analysis.Inconclusive: 1, analysis.Success: 2}
	if a == nil || rank[b.Outcome] < rank[a.Outcome] {
		return b
	}
	return a
}

// webhook asks a web server.
func (g *Gauge) webhook(ctx context.Context, e errand) *analysis.Measurement {
	o, hook := e.rollout, e.due.Hook
	endpoint := probe.Endpoint{Spec: hook.Webhook.Endpoint}
	if name := endpoint.Spec.SecretName; name != "" {
		var err error
		if endpoint.Secret, err = g.Secrets(ctx, name); err != nil {
			return &analysis.Measurement{Outcome: analysis.Inconclusive, Note: "webhook.secretName: " + err.Error()}
		}
	}
	question := questionOf(o, hook, g.Clock.Now())
	question.Delivery = fmt.Sprintf("%s/%s/%d/%d", o.UID, hook.Name, e.turn.step, e.due.Last.Unix())
	answer, err := g.Prober.Ask(ctx, endpoint, question)
	m := &analysis.Measurement{Outcome: analysis.Inconclusive}
	switch {
	case err != nil:
		m.Note = err.Error()
	case answer.Yes:
		m.Outcome, m.Note = analysis.Success, answer.Message
	default:
		m.Outcome, m.Note = analysis.Failure, answer.Message
	}
	return m
}
