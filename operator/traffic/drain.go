// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"math"
)

// Times are those of a gateway pod's end and beginning, in seconds. They follow from each other: the pod leaves the endpoints and its
// agent is told at the same time. Envoy answers on, and asks each client to go elsewhere. The agent waits for MinimumSeconds, in which load
// balancers and nodes learn that the pod leaves, and then until no connection is left; an agent that can't count connections waits for
// DrainSeconds. What is left after GraceSeconds the kubelet ends.
//
// Source: istio pkg/envoy/agent.go (terminate): EXIT_ON_ZERO_ACTIVE_CONNECTIONS, MINIMUM_DRAIN_DURATION, terminationDrainDuration.
type Times struct {
	DrainSeconds, MinimumSeconds, GraceSeconds, MinReadySeconds int32
}

const (
	// learn is how long others go on sending to a pod that leaves.
	learn = 5
	// margin is what the agent and the kubelet need beside the drain.
	margin = 5
	// steady is how long a new pod has to be ready before it counts.
	steady = 2
)

// TimesOf derives the times from the longest drain, and from how long a pod sleeps before it is told to end.
func TimesOf(drainSeconds int32, preStopSeconds int64) Times {
	grace := min(preStopSeconds+int64(drainSeconds)+margin, math.MaxInt32)
	return Times{
		DrainSeconds: drainSeconds, MinimumSeconds: min(learn, drainSeconds), GraceSeconds: int32(grace), MinReadySeconds: steady, //nolint:gosec // bounded
	}
}

// Problem is a time that does not fit the others.
type Problem struct {
	// Value is the Helm value that has it; Detail says what it has to be.
	Value, Detail string
}

// CheckTimes checks the times that a user sets against those that follow from the drain. What is nil is not set.
func CheckTimes(drainSeconds int32, grace, minReady *int64, preStopSeconds int64) (out []Problem) {
	least := int64(drainSeconds) + preStopSeconds + 1
	if grace != nil && *grace < least {
		out = append(out, Problem{"terminationGracePeriodSeconds", fmt.Sprintf(
			"pods are killed after %d s, before they have drained (shift.drainSeconds %d, preStop %d): set at least %d, or lower shift.drainSeconds",
			*grace, drainSeconds, preStopSeconds, least)})
	}
	if minReady != nil && *minReady < 0 {
		out = append(out, Problem{"minReadySeconds", "is a number of seconds from 0"})
	}
	return out
}
