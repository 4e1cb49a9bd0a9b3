// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"
	"time"

	"github.com/meshwright/meshwright/operator/analysis"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/probe"
	"github.com/meshwright/meshwright/operator/traffic"
)

// pilots is what the istiods of both versions have counted.
type pilots struct{ old, next probe.Pilot }

// pilotsOf sums up the replicas of a revision's istiod.
func (g *Gauge) pilotsOf(ctx context.Context, revision *v1alpha1.MeshRevision) (out probe.Pilot, err error) {
	if revision == nil {
		return out, nil
	}
	all, err := g.Istiods(ctx, revision)
	if err != nil {
		return out, err
	}
	for _, istiod := range all {
		one, err := g.Prober.Pilot(ctx, istiod)
		if err != nil {
			return out, err
		}
		out.Connected += one.Connected
		out.Rejects, out.Failures = out.Rejects+one.Rejects, out.Failures+one.Failures
		out.Pushes, out.Slow = out.Pushes+one.Pushes, out.Slow+one.Slow
	}
	return out, nil
}

// istiod judges the new version's istiod beside the old one's, since the present weight was wanted: whether the gateways' proxies are
// connected to it, what they rejected, and what it could not push, or late.
func (g *Gauge) istiod(ctx context.Context, e errand) *analysis.Measurement {
	doubt := func(err error) *analysis.Measurement {
		return &analysis.Measurement{Outcome: analysis.Inconclusive, Note: err.Error()}
	}
	var now pilots
	var err error
	if now.old, err = g.pilotsOf(ctx, e.from); err != nil {
		return doubt(err)
	}
	if now.next, err = g.pilotsOf(ctx, e.to); err != nil {
		return doubt(err)
	}
	if e.pilots == nil || now.less(*e.pilots) {
		g.begin(e, now)
		return doubt(fmt.Errorf("the istiods of %s and %s are compared from now on", e.rollout.Spec.Plan.From.Revision, e.rollout.Spec.Plan.To.Revision))
	}
	wanted := int32(0)
	for _, gateway := range e.gateways {
		if sample, known := g.Meter.Since(gateway, traffic.Whole); known {
			wanted += sample.New.Wanted
		}
	}
	m := pilotHealth(*e.pilots, now, wanted)
	if m.Outcome == analysis.Failure && !g.suspected(e) {
		// The two are not read at the same moment: what one has suffered, the other may be about to.
		m.Outcome, m.Note = analysis.Inconclusive, m.Note+"; it is looked at again"
	}
	return &m
}

// suspected says whether the reading before was as bad, and remembers this one.
func (g *Gauge) suspected(e errand) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	known := g.cases[e.rollout.UID]
	if known == nil || known.weight != e.weight {
		return false
	}
	before := known.suspect
	known.suspect = g.Clock.Now()
	return !before.IsZero() && known.suspect.Sub(before) < 3*istiodEvery
}

// less says whether something was counted less than before: a replica has begun anew.
func (p pilots) less(before pilots) bool {
	fell := func(now, before probe.Pilot) bool {
		return now.Rejects < before.Rejects || now.Failures < before.Failures || now.Pushes < before.Pushes || now.Slow < before.Slow
	}
	return fell(p.old, before.old) || fell(p.next, before.next)
}

// begin keeps what was counted at the beginning of a weight.
func (g *Gauge) begin(e errand, now pilots) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if known := g.cases[e.rollout.UID]; known != nil && known.weight == e.weight {
		known.pilots, known.suspect = &now, time.Time{}
	}
}

// One of so many pushes may be late, or fail.
const (
	latePart   = 10
	failedPart = 100
)

// pilotHealth compares what both have counted since the beginning.
func pilotHealth(began, now pilots, proxies int32) analysis.Measurement {
	since := func(before, after int64) int64 { return max(0, after-before) }
	rejects, oldRejects := since(began.next.Rejects, now.next.Rejects), since(began.old.Rejects, now.old.Rejects)
	failures, oldFailures := since(began.next.Failures, now.next.Failures), since(began.old.Failures, now.old.Failures)
	pushes, late := since(began.next.Pushes, now.next.Pushes), since(began.next.Slow, now.next.Slow)
	oldLate := since(began.old.Slow, now.old.Slow)
	switch {
	case rejects > 0 && oldRejects == 0:
		return analysis.Measurement{Outcome: analysis.Failure, Note: fmt.Sprintf(
			"proxies rejected %d configurations of the new version's istiod, and none of the old one's at the same time", rejects)}
	case failures*failedPart > pushes && oldFailures == 0:
		return analysis.Measurement{Outcome: analysis.Failure, Note: fmt.Sprintf(
			"the new version's istiod failed to push %d times, and the old one's not once at the same time", failures)}
	case late*latePart > pushes && oldLate == 0:
		return analysis.Measurement{Outcome: analysis.Failure, Note: fmt.Sprintf(
			"%d of %d pushes of the new version's istiod took longer than %d s, and none of the old one's at the same time", late, pushes, probe.SlowPush)}
	case int32(min(now.next.Connected, int(proxies))) < proxies: //nolint:gosec // bounded by proxies
		return analysis.Measurement{Outcome: analysis.Inconclusive, Note: fmt.Sprintf(
			"%d of %d proxies of the new version are connected to its istiod", now.next.Connected, proxies)}
	}
	return analysis.Measurement{Outcome: analysis.Success, Note: fmt.Sprintf(
		"%d proxies are connected, %d pushes of the new version's istiod reached them, none was rejected", now.next.Connected, pushes)}
}
