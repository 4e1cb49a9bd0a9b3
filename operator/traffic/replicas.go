// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"math"
	"slices"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Split says how many pods each version has for a share of the new one. Base is how many the gateway had before, one at least. Up to a
// half the old version keeps all of them and the new one gets as many as make the share, so that nothing is taken away that may be
// needed; above, the new version has as many and the old one gets fewer. At 100 both are whole: that is the way back.
func Split(base, percent int32) (old, next int32) {
	switch {
	case percent <= 0:
		return base, 0
	case percent >= 100:
		return base, base
	case percent <= 50:
		return base, nearest(base, float64(percent)/100)
	}
	return nearest(base, 1-float64(percent)/100), base
}

// nearest is the number of pods, from one to base, whose share beside base other pods is nearest to the wanted one; the smaller of two.
func nearest(base int32, share float64) int32 {
	best, least := int32(1), math.Inf(1)
	for n := int32(1); n <= base; n++ {
		if off := math.Abs(float64(n)/float64(n+base) - share); off < least {
			best, least = n, off
		}
	}
	return best
}

// Reachable are the shares of the new version, in whole percents and ascending, that numbers of pods make.
func Reachable(base int32) []int32 {
	out := []int32{0, 100}
	for n := int32(1); n <= base; n++ {
		share := shareOf(n, base)
		out = append(out, share, 100-share)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// shareOf is the share, in percent, that some pods have beside base others.
func shareOf(n, base int32) int32 { return int32(math.Round(100 * float64(n) / float64(n+base))) }

// Nearest is the share that a gateway can have which is nearest to a wanted one; the smaller of two.
func Nearest(t v1alpha1.ShiftType, base, percent int32) int32 {
	possible := []int32{0, 100}
	switch t {
	case v1alpha1.ShiftHTTPRoute:
		return percent
	case v1alpha1.ShiftReplicas:
		possible = Reachable(base)
	default:
	}
	best := possible[0]
	for _, p := range possible {
		if distance(p, percent) < distance(best, percent) {
			best = p
		}
	}
	return best
}

func distance(a, b int32) int32 { return max(a-b, b-a) }

// Allows says whether a gateway can have a share, give or take a tolerance in points.
func Allows(t v1alpha1.ShiftType, base, percent, tolerance int32) bool {
	if t != v1alpha1.ShiftReplicas || percent == 0 || percent == 100 {
		return Nearest(t, base, percent) == percent
	}
	return distance(Effective(t, base, percent), percent) <= tolerance
}

// Effective is the share that a gateway has at a step's percent: a gateway that gives all or nothing waits for the whole, and one that
// shifts by replicas has the nearest share that its pods make, of which one at least is of either version.
func Effective(t v1alpha1.ShiftType, base, percent int32) int32 {
	switch {
	case t == v1alpha1.ShiftHTTPRoute, percent <= 0, percent >= 100:
		return min(max(percent, 0), 100)
	case t == v1alpha1.ShiftSelector:
		return 0
	}
	old, next := Split(max(1, base), percent)
	return shareOf(next, old)
}
