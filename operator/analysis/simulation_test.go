// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/traffic"
)

// seed of the simulations: they come out the same each time.
const seed = 20260301

var defaults = v1alpha1.Health{MinRequests: 50, FalseAlarmPermille: 10}

// version is how a simulated version serves: the share of requests that fail, and that take longer than 100 ms.
type version struct{ errors, slow float64 }

// rollouts simulates some analysed rollouts. In each round the new version gets so many requests, and the old one three times as many;
// the health is looked at after each round. It returns after how many requests of the new version each was found worse; 0: never.
func rollouts(n, rounds int, perRound float64, old, next version) (found []int64) {
	source := rand.New(rand.NewPCG(seed, 1))
	draw := func(n float64, p float64) int64 {
		if p == 0 || n == 0 {
			return 0
		}
		return int64(distuv.Binomial{N: n, P: p, Src: source}.Rand())
	}
	for range n {
		var s traffic.Sample
		var looked Looked
		at, worse := time.Unix(1000, 0), int64(0)
		slow := [2]int64{}
		for range rounds {
			for i, v := range []version{old, next} {
				c, requests := &s.Old, 3*perRound
				if i == 1 {
					c, requests = &s.New, perRound
				}
				c.Pods, c.Wanted = 1, 1
				c.Requests += int64(requests)
				c.Errors += draw(requests, v.errors)
				slow[i] += draw(requests, v.slow)
				c.Buckets = []traffic.Bucket{
					{Millis: 10, Count: (c.Requests - slow[i]) / 2}, {Millis: 100, Count: c.Requests - slow[i]}, {Millis: 1000, Count: c.Requests}, {Millis: 1e9, Count: c.Requests},
				}
			}
			at = at.Add(2 * time.Second)
			m := Health(defaults, s, looked, at)
			looked = Looked{Looks: m.Looks, Seen: m.Seen}
			if m.Outcome == Failure {
				worse = s.New.Requests
				break
			}
		}
		found = append(found, worse)
	}
	return found
}

func alarms(found []int64) (n int) {
	for _, f := range found {
		if f > 0 {
			n++
		}
	}
	return n
}

// quantile of the requests until a version was found worse; those that never were are last.
func quantile(found []int64, q float64) int64 {
	sorted := slices.Clone(found)
	for i, f := range sorted {
		if f == 0 {
			sorted[i] = 1 << 40
		}
	}
	slices.Sort(sorted)
	return sorted[int(q*float64(len(sorted)-1))]
}

// Of 10,000 rollouts of a version that is as good as the old one, at most so many are turned back as is stated: 10 of 1,000.
func TestEqualVersionsAreSeldomTurnedBack(t *testing.T) {
	t.Logf("seed %d", seed)
	for _, v := range []version{{0.005, 0.01}, {0.02, 0.005}} {
		found := rollouts(5000, 80, 50, v, v)
		n := alarms(found)
		t.Logf("%.1f%% errors: %d of %d rollouts turned back, each after up to 4,000 requests of the new version", 100*v.errors, n, len(found))
		if 1000*n > int(defaults.FalseAlarmPermille)*len(found) {
			t.Errorf("%d of %d rollouts of equal versions are turned back, %d of 1,000 are stated", n, len(found), defaults.FalseAlarmPermille)
		}
	}
}

// A version that fails one request more in a hundred is found within 4,000 requests of it, in 95 of 100 rollouts.
func TestOnePointMoreErrorsAreFound(t *testing.T) {
	found := rollouts(1000, 200, 50, version{0.005, 0.005}, version{0.015, 0.005})
	t.Logf("seed %d: 1 point more errors: found after %d requests of the new version in the median, %d in 95 of 100 rollouts",
		seed, quantile(found, 0.5), quantile(found, 0.95))
	if got := quantile(found, 0.95); got > 4000 {
		t.Errorf("95 of 100 are found within %d requests, 4,000 are stated", got)
	}
}

// A version that is bad is found at the first look, or soon after.
func TestBadVersionsAreFoundAtOnce(t *testing.T) {
	tests := []struct {
		reason string
		next   version
		within int64
	}{
		{"40 of 100 requests fail", version{0.4, 0.005}, 60},
		{"10 of 100 requests fail", version{0.1, 0.005}, 300},
		{"half of the requests are slow", version{0.005, 0.5}, 60},
	}
	for _, tt := range tests {
		found := rollouts(500, 200, 5, version{0.005, 0.005}, tt.next)
		t.Logf("seed %d: %s: found after %d requests in 95 of 100", seed, tt.reason, quantile(found, 0.95))
		if got := quantile(found, 0.95); got > tt.within {
			t.Errorf("%s: found within %d requests, want %d", tt.reason, got, tt.within)
		}
	}
}
