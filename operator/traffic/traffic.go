// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package traffic decides how a gateway's traffic comes to a wanted share between two versions of it. It is pure: from what is wanted
// and what is there it says what each version's workload, the Service and the route are to be, and what was measured.
//
//   - shift.go makes the one decision that is due: the size of each version, and where traffic is pointed.
//   - replicas.go turns a share into numbers of pods, and names the nearest share that a number of pods allows.
//   - measure.go turns counters of proxies into shares, and says whether a share is reached.
//   - drain.go derives the times of a pod's end from each other, and checks those that users set.
//
// Nothing here reads a cluster or a clock.
package traffic

import (
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Pointer says whose pods the gateway's Service selects.
type Pointer string

// The values of Pointer.
const (
	ToOld  Pointer = "Old"  // the pods of the old version only
	ToBoth Pointer = "Both" // the pods of both
	ToNew  Pointer = "New"  // the pods of the new version only
)

// Version is one version's workload, as it is.
type Version struct {
	// Exists says that there is a Deployment; Replicas that it wants, Ready of them are.
	Exists          bool
	Replicas, Ready int32
	// Configured says that every ready pod has a configuration like that of the other version, of which nothing was rejected. It is
	// asked of the new version only.
	Configured bool
	// Problem says why it is not ready or configured; empty when time alone may help.
	Problem string
}

// Input is what a decision is made of.
type Input struct {
	Type v1alpha1.ShiftType
	// Weight is the percent of what is newly opened that the new version is to have: 0 to 100.
	Weight int32
	// Wanted says that the new version is to exist, also at weight 0: a step has been reached. Without it the new version goes, as
	// soon as traffic has been pointed away from it for long enough.
	Wanted bool
	// Final says that nothing goes back any more, so that the old version goes once New has all the traffic.
	Final bool
	// Back says that traffic goes back to New, which it came from: the old version is one that may be bad.
	Back bool
	// Old and New versions. When Old does not exist, all is New's.
	Old, New Version
	// Base is how many pods the gateway had when the shift began; the versions share them.
	Base int32
	// Max is the user's bound of the autoscaler; 0 when there is none.
	Max int32
	// Pointer is where the Service points at present; Settled says that it, and the route, have pointed there for long enough that
	// nobody sends new connections elsewhere.
	Pointer Pointer
	Settled bool
	// Route is the weight of the new version in the route at present, for type HTTPRoute.
	Route int32
	// Loose says that the old version can't be selected by itself: it is one that was adopted and lacks the label. Pointer is Both
	// instead of Old then.
	Loose bool
}

// Decision is what is to be there.
type Decision struct {
	// Old and New are how many pods each version is to have at least, under an autoscaler, and exactly without one; -1: its workload
	// goes.
	Old, New int32
	// Cap bounds the autoscaler of the old version; 0 leaves it to the user.
	Cap int32
	// Pointer of the Service, and the weight of the new version in the route.
	Pointer Pointer
	Route   int32
	// Done says that nothing is left to change: what is pointed is as wanted, and the share can be measured.
	Done bool
	// Note says what is awaited, when it is not done.
	Note string
}

// Whole is the mark since when everything of a shift is counted.
const Whole = "whole"

// Counters are what the proxies of one version have counted, over all its pods, since a moment.
type Counters struct {
	// Pods that were read, and those that should have been.
	Pods, Wanted int32
	// Connections and Requests that were opened; Active requests at the last reading.
	Connections, Requests, Active int64
	// Errors are requests that were answered with 5xx or not at all.
	Errors int64
	// Buckets are the upper bounds of request times in milliseconds, and how many requests took at most as long, as in a histogram of
	// Prometheus: cumulative, the last one +Inf.
	Buckets []Bucket
	// Rejected counts configurations that the proxies rejected.
	Rejected int64
	// Cut counts requests that were under way when a pod ended.
	Cut int64
	// Listeners are the addresses that every pod listens at for traffic, in order: those that all pods have.
	Listeners []string
}

// Bucket of a histogram.
type Bucket struct {
	Millis float64
	Count  int64
}

// Sample are the counters of both versions since the same moment.
type Sample struct {
	Old, New Counters
	// Before is what the old version had counted before.
	Before Counters
	// For is how long they were counted.
	For time.Duration
}

// Rejects says whether the new version's pods have rejected more configurations, each, than those of the old one: what both reject says
// nothing of the new version.
func (s Sample) Rejects() bool {
	return s.New.Rejected*int64(max(1, s.Old.Pods)) > s.Old.Rejected*int64(max(1, s.New.Pods))
}

// Share is what was measured.
type Share struct {
	State v1alpha1.ShiftState
	// Percent of New; Known says whether anything was seen at all.
	Percent float64
	Known   bool
	// Seen is how many connections, or requests, were opened.
	Seen int64
	// Note says what was measured, or why nothing can be said and what to do.
	Note string
}
