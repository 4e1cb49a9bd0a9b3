// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"

	"github.com/meshwright/meshwright/operator/analysis"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

// Gateway of the model: its new version starts, gets its share, and is measured.
type Gateway struct {
	// Name is namespace/name.
	Name string
	// StartSeconds its pods take to get ready; Crashes says that they never do.
	StartSeconds int
	Crashes      bool
	// MeasureSeconds it takes to measure a share.
	MeasureSeconds int
	// Quiet says that there is too little traffic to measure anything.
	Quiet bool
	// Worse are the weights of the new version from which on it is seen to serve worse; 0: at once.
	Worse func(weight int32) bool

	shift  rollout.Shift
	since  int
	weight int32
	// versions there are; up is since when the new one is.
	versions map[string]bool
	up       int
}

func (g *Gateway) begin(c *Cluster) {
	g.versions = map[string]bool{c.Spec.Plan.From.Revision: true}
	g.shift = rollout.Shift{New: c.Spec.Plan.From.Revision, Weight: 100, Final: true}
}

// live is the gateway controller.
func (g *Gateway) live(c *Cluster) {
	if c.inPlace() || c.progress.Outcome != "" {
		return
	}
	to := c.Spec.Plan.To.Revision
	want := rollout.ShiftOf(&c.Spec.Plan, c.progress, true, "")
	if want != g.shift {
		g.shift, g.since = want, c.turn
	}
	if want.Wanted && !g.versions[want.New] {
		g.versions[want.New], g.up = true, c.turn
	}
	if !g.ready(c) || !c.state(c.serving()).Ready {
		return
	}
	weight := want.Weight
	if want.New != to {
		weight = 100 - weight
	}
	if weight != g.weight && c.turn > g.since {
		g.weight = weight
		c.say("  weight", fmt.Sprintf("%s %d%%", g.Name, weight))
	}
	if want.Final && want.Old != "" && c.turn > g.since+2 {
		delete(g.versions, want.Old)
	}
}

// ready says whether the version that is to get the traffic is up.
func (g *Gateway) ready(c *Cluster) bool {
	if g.shift.New != c.Spec.Plan.To.Revision {
		return g.versions[g.shift.New]
	}
	return g.versions[g.shift.New] && !g.Crashes && c.turn >= g.up+g.StartSeconds
}

func (g *Gateway) facts(c *Cluster) rollout.Gateway {
	want := rollout.ShiftOf(&c.Spec.Plan, c.progress, true, "")
	out := rollout.Gateway{Name: g.Name, Listed: true, Weight: want.Weight, State: v1alpha1.ShiftProgressing, Note: "0 of 1 pods of the new version are ready"}
	if g.Crashes && g.versions[c.Spec.Plan.To.Revision] && c.turn >= g.up+g.StartSeconds && !c.progress.Back {
		out.Failing = "CrashLoopBackOff in container istio-proxy"
	}
	actual := g.weight
	if want.New == c.Spec.Plan.From.Revision {
		actual, out.Note = 100-g.weight, "its Service is being told"
	}
	switch {
	case want != g.shift, !g.ready(c), actual != want.Weight:
	case want.Weight == 100, want.Weight == 0:
		out.State, out.Note = v1alpha1.ShiftReached, fmt.Sprintf("%d%%", want.Weight)
	case c.turn < g.since+g.StartSeconds+g.MeasureSeconds:
		out.State, out.Note = v1alpha1.ShiftMeasuring, "30 of 100 new connections seen"
	case g.Quiet:
		out.State, out.Note = v1alpha1.ShiftInconclusive, "too little traffic: 3 of 100 new connections seen"
	default:
		out.State, out.Note = v1alpha1.ShiftReached, fmt.Sprintf("measured %d.0%% of 100 new connections", want.Weight)
	}
	return out
}

// measured is what the health of the new version is seen to be.
func (g *Gateway) measured(c *Cluster) (analysis.Measurement, bool) {
	m := analysis.Measurement{At: c.Now(), Outcome: analysis.Inconclusive, Note: "3 of 50 requests of the new version seen"}
	switch {
	case !g.versions[c.Spec.Plan.To.Revision] || !g.ready(c) || c.progress.Back:
		return m, false
	case g.Worse != nil && g.Worse(g.weight):
		m.Outcome, m.Note, m.Looks = analysis.Failure, "20 of 50 requests failed, against 0 of 150 of the old version", 1
	case g.weight == 0 || g.Quiet || c.turn < g.since+g.StartSeconds+g.MeasureSeconds:
	default:
		m.Outcome, m.Note, m.Looks = analysis.Success, "no difference in 50 requests", 1
	}
	return m, true
}
