// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"
	"strconv"
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/traffic"
)

const (
	// errorPart of a look's allowance is for failed requests; the rest for slow ones, whose difference has to be so large that it
	// needs little.
	errorPart = 0.9
	// errorMargin is by how much the new version's share of failed requests has to be larger: less is of no interest, however
	// surely it is there.
	errorMargin = 0.005
	// slowMargin and slowTimes are the same for slow requests: the new version's share is larger by as much, and so many times.
	slowMargin = 0.04
	slowTimes  = 3
	// slowQuantile of the old version is around which a request is called slow.
	slowQuantile = 0.99
	// thin is the part of the minimum of requests below which the old version can't be compared with.
	thin = 10
)

// Health judges the new version by what the proxies of both have counted at the same time. A rejected configuration is a failure at
// once. Then the shares of failed and of slow requests are compared, at looks whose false alarms are bounded for a whole rollout. It
// is a success when the newest look found no difference; between looks it stays what it was. Without enough requests, or with
// proxies that were not read, nothing is said.
//
// With the measurement come Looks and Seen, which the caller hands to the next call.
func Health(h v1alpha1.Health, s traffic.Sample, l Looked, at time.Time) Measurement {
	if s.New.Requests < l.Seen {
		l.Seen = 0 // the counters have begun anew
	}
	m := Measurement{At: at, Looks: l.Looks, Seen: l.Seen}
	least := int64(max(1, h.MinRequests))
	when := "at the same time"
	if s.Old.Requests < max(1, least/thin) && s.Before.Requests >= least {
		// The old version serves no more: what it did before is the next best to compare with.
		s.Old.Requests, s.Old.Errors, s.Old.Buckets, when = s.Before.Requests, s.Before.Errors, s.Before.Buckets, "before"
	}
	switch old, n := s.Old.Requests, s.New.Requests; {
	case s.Rejects():
		m.Outcome, m.Note = Failure, rejected(s.New.Rejected)
	case unread(s) != "":
		m.Outcome, m.Note = Inconclusive, unread(s)
	case n < least:
		m.Outcome, m.Note = Inconclusive, fmt.Sprintf(
			"too few requests: %d of %d to the new version: send it more traffic, wait, or lower health.minRequests", n, least)
	case old < max(1, least/thin):
		m.Outcome, m.Note = alone(s)
	case l.due(n, least):
		m.look(h, s, when)
	default:
		m.Outcome, m.Note = unless(s, least)
	}
	return m
}

func rejected(n int64) string {
	return fmt.Sprintf("the new version's proxies rejected configuration %s: istiod of the new revision, or an EnvoyFilter that does not "+
		"suit it, made one that they do not take; their log names it", times(n))
}

// unread says which pods' counters are missing, and what to do; empty when there are all.
func unread(s traffic.Sample) string {
	if s.New.Wanted == 0 {
		return "the new version has no pods whose counters could be read: give it a weight first"
	}
	for _, v := range []struct {
		name string
		c    traffic.Counters
	}{{"new", s.New}, {"old", s.Old}} {
		if missing := v.c.Wanted - v.c.Pods; missing > 0 {
			return fmt.Sprintf("the counters of %d of %d pods of the %s version could not be read: see whether they are ready, and whether a "+
				"NetworkPolicy keeps the operator from them", missing, v.c.Wanted, v.name)
		}
	}
	return ""
}

// alone judges the new version when the old one serves next to nothing: there is nothing to compare with. Only a version that makes
// no errors at all is good whatever the old one did.
func alone(s traffic.Sample) (Outcome, string) {
	failed := newShare(s.New.Errors, s.New.Requests)
	if failed.part == 0 {
		return Success, fmt.Sprintf("none of %d requests to the new version failed; the old one had %d, too few to compare the rest",
			failed.all, s.Old.Requests)
	}
	return Inconclusive, fmt.Sprintf("%s of %d requests to the new version failed, and the old one had %d, too few to compare with: judge at a "+
		"weight below 100, or by a metric", percent(failed), failed.all, s.Old.Requests)
}

// look compares the shares and takes note of the look.
func (m *Measurement) look(h v1alpha1.Health, s traffic.Sample, when string) {
	m.Looks++
	allowed := float64(h.FalseAlarmPermille) / 1000 * allowance(m.Looks)
	if note := worse(s, allowed, when); note != "" {
		// A failure is looked at again with the next measurement, not only when the sample has grown.
		m.Outcome, m.Note, m.Seen = Failure, note, 0
		return
	}
	m.Seen = s.New.Requests
	m.Outcome, m.Note = unless(s, int64(max(1, h.MinRequests)))
}

// worse says in what the new version is worse, beyond the margins and with a probability of error below what is allowed; empty when
// it is not. When says when the old version was counted.
func worse(s traffic.Sample, allowed float64, when string) string {
	fresh, old := failed(s)
	if fresh.rate()-old.rate() >= errorMargin {
		if p := fisher(fresh, old); p <= allowed*errorPart {
			return fmt.Sprintf("%s of %d requests to the new version failed, and %s of %d to the old %s (p = %.1g)",
				percent(fresh), fresh.all, percent(old), old.all, when, p)
		}
	}
	bounds := slowBounds(s.Old.Buckets)
	for _, bound := range bounds {
		fresh, old := slower(s.New.Buckets, bound), slower(s.Old.Buckets, bound)
		if fresh.rate()-old.rate() < slowMargin || fresh.rate() < slowTimes*old.rate() {
			continue
		}
		if p := fisher(fresh, old); p <= allowed*(1-errorPart)/float64(len(bounds)) {
			return fmt.Sprintf("%s of %d requests to the new version took longer than %s, and %s of %d to the old %s (p = %.1g)",
				percent(fresh), fresh.all, millis(bound), percent(old), old.all, when, p)
		}
	}
	return ""
}

// unless is a success, unless the old version had so few requests that a difference which is there would not have been found.
func unless(s traffic.Sample, least int64) (Outcome, string) {
	fresh, old := failed(s)
	if old.all < least && fresh.rate()-old.rate() >= errorMargin {
		return Inconclusive, fmt.Sprintf("%s of %d requests to the new version failed, and %s of %d to the old, which are too few to tell: judge at "+
			"a lower weight, or wait", percent(fresh), fresh.all, percent(old), old.all)
	}
	note := fmt.Sprintf("no difference in %d requests to the new version and %d to the old: %s and %s failed",
		fresh.all, old.all, percent(fresh), percent(old))
	if bounds := slowBounds(s.Old.Buckets); len(bounds) > 0 {
		bound := bounds[len(bounds)-1]
		note += fmt.Sprintf(", %s and %s took longer than %s",
			percent(slower(s.New.Buckets, bound)), percent(slower(s.Old.Buckets, bound)), millis(bound))
	}
	return Success, note
}

// failed are the shares of failed requests, the new version's first.
func failed(s traffic.Sample) (fresh, old share) {
	return newShare(s.New.Errors, s.New.Requests), newShare(s.Old.Errors, s.Old.Requests)
}

// percent of a share, with as many digits as it has to tell.
func percent(s share) string { return strconv.FormatFloat(100*s.rate(), 'g', 3, 64) + "%" }

func millis(bound float64) string { return strconv.FormatFloat(bound, 'f', -1, 64) + " ms" }

func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return strconv.FormatInt(n, 10) + " times"
}
