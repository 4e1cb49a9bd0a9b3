// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

// Whoever looks again and again at two equal versions sees a difference some time. So shares are compared only at looks, whose sample
// grows, and each look has a part of the false alarms that are allowed in a rollout. The parts sum to one, so the probability that
// any look of a rollout is a false alarm is below what is allowed, however the looks depend on each other, and whatever was
// restarted between them: the number of looks is kept, and a part is spent once.
const (
	// growth of the sample since the last look, in percent, that makes a look due.
	growth = 25
	// stride is the growth in requests that makes one due in any case: a version that goes bad late is not found late.
	stride = 2000
	// early looks share earlyPart of the allowance equally. With the default minimum of 50 requests they reach to 3,500, where a
	// difference of one point shows; with a series that falls from the first look on, as 1/k², it takes a third more.
	early     = 20
	earlyPart = 0.8
)

// Looked is what has to be remembered between measurements of health.
type Looked struct {
	// Looks counts the looks of this rollout. It is kept across restarts and steps: GateProgress.Looks.
	Looks int32
	// Seen is how many requests of the new version the last look saw, since the moment from which the sample counts; 0 when it has
	// seen no look. It lives as long as these counters: forget it with them.
	Seen int64
}

// due says whether a look is due at a sample of n requests of the new version.
func (l Looked) due(n, least int64) bool {
	if n < least {
		return false
	}
	return l.Seen == 0 || n-l.Seen >= min(stride, max(1, l.Seen*growth/100))
}

// allowance is the part of the false alarms that look number k has, the first being 1. The parts of all sum to one: those after
// the early ones are a telescoping series.
func allowance(k int32) float64 {
	if k <= early {
		return earlyPart / early
	}
	return (1 - earlyPart) * early / (float64(k) * float64(k-1))
}
