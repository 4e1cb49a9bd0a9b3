// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"strings"
	"testing"
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/traffic"
)

// What health says of a sample, besides what the simulation shows.
func TestHealth(t *testing.T) {
	spec := v1alpha1.Health{MinRequests: 50, FalseAlarmPermille: 10}
	counted := func(pods int32, requests, errors, rejected int64) traffic.Counters {
		return traffic.Counters{Pods: pods, Wanted: pods, Requests: requests, Errors: errors, Rejected: rejected}
	}
	for _, tc := range []struct {
		reason string
		sample traffic.Sample
		want   Outcome
		says   string
	}{
		{
			"at 100% the old version serves no more, and what it did before is compared with",
			traffic.Sample{New: counted(3, 200, 200, 0), Old: counted(3, 0, 0, 0), Before: counted(3, 5000, 10, 0)},
			Failure, "100% of 200 requests to the new version failed, and 0.2% of 5000 to the old before",
		},
		{
			"a good one passes then",
			traffic.Sample{New: counted(3, 200, 0, 0), Old: counted(3, 0, 0, 0), Before: counted(3, 5000, 10, 0)},
			Success, "no difference",
		},
		{
			"without a before, errors say nothing, and don't pass",
			traffic.Sample{New: counted(3, 200, 200, 0), Old: counted(3, 0, 0, 0)},
			Inconclusive, "too few to compare with",
		},
		{
			"what the new version alone rejects fails at once",
			traffic.Sample{New: counted(1, 0, 0, 1), Old: counted(3, 100, 0, 0)},
			Failure, "rejected configuration once",
		},
		{
			"what each pod of both has rejected is not the new one's doing",
			traffic.Sample{New: counted(3, 100, 0, 3), Old: counted(1, 100, 0, 1)},
			Success, "no difference",
		},
		{
			"three times by one new pod, and once by each of three old ones, is more",
			traffic.Sample{New: counted(1, 100, 0, 3), Old: counted(3, 100, 0, 3)},
			Failure, "rejected configuration 3 times",
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			got := Health(spec, tc.sample, Looked{}, time.Unix(1000, 0))
			if got.Outcome != tc.want || !strings.Contains(got.Note, tc.says) {
				t.Errorf("%s: %s, want %s: %s", got.Outcome, got.Note, tc.want, tc.says)
			}
		})
	}
}
