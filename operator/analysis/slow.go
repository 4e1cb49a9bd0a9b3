// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"

	"github.com/meshwright/meshwright/operator/traffic"
)

// slowFloor in milliseconds is what is never slow: proxies that have just begun open connections and shake hands at first, which a fast
// old version beside them does not.
const slowFloor = 50

// slowBounds are the bounds of buckets between which the old version's p99 lies, in milliseconds: what takes longer is slow. Both are
// tried, for buckets are coarse: a version may become slower by much without passing the upper one. That they are chosen by what is
// then compared is no cheating: the number of new requests above the n-th largest of the old has the hypergeometric
// distribution itself (the precedence test). None without finite bounds or without requests.
func slowBounds(old []traffic.Bucket) []float64 {
	all := total(old)
	if all == 0 {
		return nil
	}
	wanted := slowQuantile * float64(all)
	var bounds []float64
	for _, b := range old {
		if math.IsInf(b.Millis, 1) {
			break
		}
		if b.Millis < slowFloor {
			continue
		}
		bounds = append(bounds, b.Millis)
		if float64(b.Count) >= wanted {
			break
		}
	}
	return bounds[max(0, len(bounds)-2):]
}

// slower is the share of requests that took longer than a bound in milliseconds; none when the histogram lacks the bound.
func slower(buckets []traffic.Bucket, bound float64) share {
	all := total(buckets)
	for _, b := range buckets {
		if b.Millis == bound {
			return newShare(all-b.Count, all)
		}
	}
	return share{}
}

// total is the number of all requests in a histogram.
func total(buckets []traffic.Bucket) int64 {
	if len(buckets) == 0 {
		return 0
	}
	return buckets[len(buckets)-1].Count
}
