// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"cmp"
	"slices"
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

// Proxy is what was seen of a proxy.
type Proxy struct {
	// Name is namespace/pod.
	Name string
	// Accepts says of each root whether the proxy accepts a peer whose leaf is of it; a root that is not there is unknown.
	Accepts map[Fingerprint]rollout.Answer
	// Leaf is the root of the leaf that it presents; empty where that is not known.
	Leaf Fingerprint
	// Why something is not known, with a remedy.
	Why string
	// Elsewhere says that it is no pod of this cluster.
	Elsewhere bool
}

// ByAge fills in what follows from when the leaf of a proxy was issued: each comes from what its istiod has then, and brings the roots along.
func ByAge(out *Proxy, plan *v1alpha1.RotationPlan, p v1alpha1.RotationProgress, issued time.Time) {
	left, gone := Sides(plan, p.Back)
	from, to := Fingerprint(left.Root), Fingerprint(gone.Root)
	since := FreshFrom(p)
	fresh := !since.IsZero() && issued.After(since)
	answer := map[bool]rollout.Answer{true: rollout.Yes, false: rollout.No}
	switch p.Phase {
	case v1alpha1.PhaseTrust:
		out.Leaf, out.Accepts = from, map[Fingerprint]rollout.Answer{from: rollout.Yes, to: answer[fresh]}
	case v1alpha1.PhaseDrain:
		out.Leaf, out.Accepts = from, map[Fingerprint]rollout.Answer{from: rollout.Yes, to: rollout.Yes}
		if fresh {
			out.Leaf = to
		}
	case v1alpha1.PhaseDrop:
		out.Leaf, out.Accepts = to, map[Fingerprint]rollout.Answer{from: answer[!fresh], to: rollout.Yes}
	case v1alpha1.PhasePlugIn, v1alpha1.PhaseSign, v1alpha1.PhaseHandOver:
	}
}

// Holdout is a proxy for which a phase waits.
type Holdout struct {
	// Proxy is namespace/pod; Why is a sentence, with a remedy.
	Proxy, Why string
}

// maxHoldouts are named; all are counted.
const maxHoldouts = 20

// Tally counts proxies.
type Tally struct {
	// Known says that all proxies of the mesh were counted.
	Known bool
	// Total of them; Trusting accept the root that is gone to; Lingering accept the root that is left; Leaving present a leaf of that, Arrived one
	// of the other.
	Total, Trusting, Lingering, Leaving, Arrived int32
	// Holding keep the phase from ending, of which nothing is known of Unknown; Holdouts names the first by name.
	Holding, Unknown int32
	Holdouts         []Holdout
	// Elsewhere says that some are no pods of this cluster.
	Elsewhere bool
}

// Counter counts proxies one by one, in any order, for the phase in which a rotation is.
type Counter struct {
	tally    Tally
	phase    v1alpha1.RotationPhase
	from, to Fingerprint
	// waived are the names of proxies that are done without.
	waived map[string]bool
	// expired says that every leaf of the root that is left has expired.
	expired bool
}

// NewCounter begins to count.
func NewCounter(plan *v1alpha1.RotationPlan, verbs v1alpha1.RotationVerbs, p v1alpha1.RotationProgress, now time.Time) *Counter {
	from, to := Sides(plan, p.Back)
	c := &Counter{phase: p.Phase, from: Fingerprint(from.Root), to: Fingerprint(to.Root)}
	until, runs := expiry(plan, p)
	c.expired = runs && !now.Before(until)
	if c.expired || spared(plan, p) {
		c.waived = Waived(verbs, now)
	}
	return c
}

// Waived are the names of the proxies of which a waiver holds now.
func Waived(verbs v1alpha1.RotationVerbs, now time.Time) map[string]bool {
	out := map[string]bool{}
	for _, w := range verbs.Waivers {
		out[w.Proxy] = out[w.Proxy] || now.Before(w.Expires.Time)
	}
	return out
}

// spared says whether a proxy can be done without now. Whoever waived one knew that it trusts the new root, or does not matter; that it presents no leaf
// of the old one any more, nobody knows before all have expired. Where the key of that root is in the wrong hands, waiting is worse.
func spared(plan *v1alpha1.RotationPlan, p v1alpha1.RotationProgress) bool {
	return p.Phase != v1alpha1.PhaseDrain || plan.Kind == v1alpha1.RotationRevoke
}

// Add counts a proxy.
func (c *Counter) Add(p Proxy) {
	t := &c.tally
	t.Total++
	t.Elsewhere = t.Elsewhere || p.Elsewhere
	if p.Accepts[c.to] == rollout.Yes {
		t.Trusting++
	}
	if p.Accepts[c.from] == rollout.Yes {
		t.Lingering++
	}
	switch p.Leaf {
	case c.to:
		t.Arrived++
	case c.from:
		t.Leaving++
	}
	why := c.holds(p)
	if why == "" || c.waived[p.Name] {
		return
	}
	t.Holding++
	if p.Leaf == "" {
		t.Unknown++
	}
	i, _ := slices.BinarySearchFunc(t.Holdouts, p.Name, func(h Holdout, name string) int { return cmp.Compare(h.Proxy, name) })
	if i < maxHoldouts {
		t.Holdouts = slices.Insert(t.Holdouts, i, Holdout{Proxy: p.Name, Why: why})
		t.Holdouts = t.Holdouts[:min(len(t.Holdouts), maxHoldouts)]
	}
}

// holds says why a proxy keeps the phase from ending; empty where it does not.
func (c *Counter) holds(p Proxy) string {
	unknown := p.Why
	if unknown == "" {
		unknown = "it has not been asked yet"
	}
	switch c.phase {
	case v1alpha1.PhaseTrust:
		switch p.Accepts[c.to] {
		case rollout.Yes:
			return ""
		case rollout.No:
			return "does not accept the new root yet"
		default:
			return unknown
		}
	case v1alpha1.PhaseDrain:
		switch {
		case p.Leaf == c.to:
			return ""
		case p.Leaf != "" && !c.expired:
			return "presents a leaf of the old root still"
		case p.Leaf != "":
			return "presents a leaf of the old root that has expired: restart it"
		case c.expired:
			return "" // whatever it presents is of the new root, or no peer accepts it any more
		default:
			return unknown
		}
	case v1alpha1.PhaseDrop:
		switch p.Accepts[c.from] {
		case rollout.No:
			return ""
		case rollout.Yes:
			return "accepts the old root still"
		default:
			return unknown
		}
	case v1alpha1.PhasePlugIn, v1alpha1.PhaseSign, v1alpha1.PhaseHandOver:
	}
	return "" // these are proven at istiod
}

// Tally is what was counted.
func (c *Counter) Tally() Tally {
	c.tally.Known = true
	return c.tally
}
