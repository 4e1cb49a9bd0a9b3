// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// window is how long a share is measured before its state says that it can't be told, or is not as wanted.
const window = time.Minute

// Measure says whether a share is reached. What counts is what was opened since the weight was wanted: requests where a route decides
// about each, connections elsewhere, for whatever comes over a connection stays where that is. A version that gets nothing (0), or
// everything (100), has its share as soon as traffic is pointed there: nobody sends anything elsewhere.
func Measure(shift v1alpha1.GatewayShift, weight int32, s Sample) Share {
	byRequests := shift.Type == v1alpha1.ShiftHTTPRoute
	opened := opening(byRequests, s)
	if weight <= 0 || weight >= 100 {
		return pointed(weight, opened)
	}
	if note := unread(s); note != "" {
		return Share{State: doubt(s.For), Note: note}
	}
	least := int64(max(1, shift.MinSamples))
	tolerance := float64(max(1, shift.TolerancePercent))
	requests := opening(true, s)
	out := opened.share()
	out.Note = fmt.Sprintf("measured %s of %d %s, %d%% wanted", Percent(out.Percent), out.Seen, opened.what, weight)
	switch {
	case opened.seen() >= least && near(out.Percent, weight, tolerance):
		out.State = v1alpha1.ShiftReached
	case opened.seen() >= least:
		out.State = doubt(s.For)
		if out.State == v1alpha1.ShiftInconclusive {
			out.Note += fmt.Sprintf(": more than %d points apart after %s; look whether the pods of both versions get the same traffic", shift.TolerancePercent, window)
		}
	case !byRequests && requests.seen() >= least && near(requests.share().Percent, weight, tolerance):
		out = requests.share()
		out.State = v1alpha1.ShiftReached
		out.Note = fmt.Sprintf("measured %s of %d %s, %d%% wanted; only %d connections were opened", Percent(out.Percent), out.Seen, requests.what, weight, opened.seen())
	default:
		out.State = doubt(s.For)
		out.Note = fmt.Sprintf("%d of %d %s seen", opened.seen(), least, opened.what)
		if out.State == v1alpha1.ShiftInconclusive {
			out.Note = tooLittle(opened, requests, least)
		}
	}
	return out
}

// tooLittle says why a share can't be told, and what to do.
func tooLittle(opened, requests flow, least int64) string {
	if requests.seen() >= least {
		return fmt.Sprintf("clients keep their connections: %d requests and only %d %s were seen, %d are needed; set shift.maxConnectionAgeSeconds, "+
			"so that long-lived connections move too", requests.seen(), opened.seen(), opened.what, least)
	}
	return fmt.Sprintf("too little traffic: %d %s seen, %d are needed; wait, or lower shift.minSamples", opened.seen(), opened.what, least)
}

// flow is what was opened at both versions.
type flow struct {
	what      string
	old, next int64
}

func opening(requests bool, s Sample) flow {
	if requests {
		return flow{"requests", s.Old.Requests, s.New.Requests}
	}
	return flow{"new connections", s.Old.Connections, s.New.Connections}
}

func (f flow) seen() int64 { return f.old + f.next }

func (f flow) share() Share {
	if f.seen() == 0 {
		return Share{}
	}
	return Share{Known: true, Seen: f.seen(), Percent: 100 * float64(f.next) / float64(f.seen())}
}

func pointed(weight int32, f flow) Share {
	out := f.share()
	out.State = v1alpha1.ShiftReached
	out.Note = fmt.Sprintf("all traffic is pointed away from the new version, %d %s seen", f.seen(), f.what)
	if weight >= 100 {
		out.Note = fmt.Sprintf("all traffic is pointed to the new version, %d %s seen", f.seen(), f.what)
	}
	return out
}

func near(percent float64, weight int32, tolerance float64) bool {
	return math.Abs(percent-float64(weight)) <= tolerance
}

// doubt is the state of what can't be told yet, or after a while not at all.
func doubt(after time.Duration) v1alpha1.ShiftState {
	if after < window {
		return v1alpha1.ShiftMeasuring
	}
	return v1alpha1.ShiftInconclusive
}

// unread says which pods' counters are missing, and what to do; empty when there are all.
func unread(s Sample) string {
	if missing := s.Old.Wanted - s.Old.Pods + s.New.Wanted - s.New.Pods; missing > 0 {
		return fmt.Sprintf("the counters of %d of %d pods can't be read at port 15090: see whether a NetworkPolicy keeps the operator from them",
			missing, s.Old.Wanted+s.New.Wanted)
	}
	return ""
}

// Percent is how a share is written: with one digit, as 9.6%.
func Percent(p float64) string { return strconv.FormatFloat(p, 'f', 1, 64) + "%" }

// Quantile is the time, in milliseconds, within which a share of the requests was answered, interpolated within its bucket as
// Prometheus does it; false without requests, and when it is above the last bound.
func (c Counters) Quantile(q float64) (millis float64, known bool) {
	if len(c.Buckets) == 0 || c.Buckets[len(c.Buckets)-1].Count == 0 {
		return 0, false
	}
	rank := q * float64(c.Buckets[len(c.Buckets)-1].Count)
	below, bound := int64(0), 0.0
	for _, b := range c.Buckets {
		if float64(b.Count) < rank {
			below, bound = b.Count, b.Millis
			continue
		}
		if math.IsInf(b.Millis, 1) {
			return 0, false
		}
		return bound + (b.Millis-bound)*(rank-float64(below))/float64(b.Count-below), true
	}
	return 0, false
}
