// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"

	"gonum.org/v1/gonum/stat/combin"
)

// share is a part of a number of requests, such as those that failed.
type share struct{ part, all int64 }

// newShare keeps a share between none and all: counters that are read one after another may disagree by a few.
func newShare(part, all int64) share {
	all = max(0, all)
	return share{min(max(0, part), all), all}
}

// rate is between 0 and 1; 0 of nothing.
func (s share) rate() float64 {
	if s.all == 0 {
		return 0
	}
	return float64(s.part) / float64(s.all)
}

// enough is the relative size of a term from which on the terms of a tail change no digit that anybody reads.
const enough = 1e-15

// fisher is the p-value of Fisher's exact test, one-sided: the probability that chance alone makes the share a at least as large as it
// is, beside b, if both have the same rate. It sums the upper tail of the hypergeometric distribution from the logarithm of its first
// term on, so that it neither overflows nor vanishes. A share that is not the larger one has 1, a bound that is good enough.
func fisher(a, b share) float64 {
	if a.all == 0 || b.all == 0 || a.rate() <= b.rate() {
		return 1
	}
	x, n, m := float64(a.part), float64(a.all), float64(b.all)
	k := float64(a.part + b.part)
	first := combin.LogGeneralizedBinomial(n, x) + combin.LogGeneralizedBinomial(m, k-x) - combin.LogGeneralizedBinomial(n+m, k)
	sum, term := 1.0, 1.0
	// Above the mean of the distribution each term is smaller than the one before.
	for top := min(k, n); x < top && term > enough*sum; x++ {
		term *= (k - x) / (x + 1) * (n - x) / (m - k + x + 1)
		sum += term
	}
	return min(1, math.Exp(first)*sum)
}
