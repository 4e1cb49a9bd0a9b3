// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package analysis judges whether a new version is as good as the old one. It is pure: from what was measured it makes verdicts.
//
//   - health.go compares the counters of the proxies of both versions, with tests whose false alarms are bounded for a whole rollout:
//     looks.go says when and with what probability of error, fisher.go is the test, slow.go says which requests are slow.
//   - condition.go compiles and evaluates the conditions of metrics, in CEL.
//   - query.go puts parameters into a query by its syntax tree, so that no value can change its meaning; presets.go has ready-made ones.
//   - gate.go counts measurements into the state of a gate.
//
// Nothing here reads a cluster or a clock, or asks a server.
package analysis

import "time"

// Outcome is what one measurement says.
type Outcome string

// The values of Outcome.
const (
	Success Outcome = "Success"
	Failure Outcome = "Failure"
	// Inconclusive says nothing: too little data, no answer, a condition that is neither met nor failed. It is never a success.
	Inconclusive Outcome = "Inconclusive"
)

// Measurement is one measurement of a gate.
type Measurement struct {
	Outcome Outcome
	// At is when it was made.
	At time.Time
	// Note says in a sentence what was seen, or why nothing can be said and what to do.
	Note string
	// Looks counts how often health has compared shares, with this measurement.
	Looks int32
	// Seen is how many requests of the new version the newest look of health saw.
	Seen int64
}
