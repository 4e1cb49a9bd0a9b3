// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && long

package gateways

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

const (
	// badShare is the share of the traffic that the bad versions get, in percent.
	badShare = 25
	// backWithin is how long it may take from the decision until no new connection goes to a bad version any more.
	backWithin = 10 * time.Second
)

// Four versions that are worse each in its own way. Nobody configured anything: what the proxies count is enough to find out, and the
// rollout goes back by itself.
func TestBadVersions(t *testing.T) {
	begin(t, func(m *v1alpha1.MeshInstallation) {
		m.Spec.Upgrade.ProgressDeadlineSeconds = 20
		m.Spec.Upgrade.Canary.Steps = weights(badShare, 100)
		m.Spec.Upgrade.Canary.Steps[0].GatewayWeight.BakeSeconds = 90 // it is found out before that
	})
	for i, tc := range []struct {
		name, reason string
		how          framework.Misbehaviour
		// serving says that it misbehaves once it serves, not from the beginning.
		serving bool
		// failures that the rollout may name.
		failures []string
	}{
		{
			name: "errors", reason: "two requests of five fail", how: framework.FailsRequests,
			failures: []string{v1alpha1.ReasonGateFailed},
		},
		{
			name: "slow", reason: "each request takes 300 ms more", how: framework.Slow,
			failures: []string{v1alpha1.ReasonGateFailed},
		},
		{
			name: "never ready", reason: "it waits for something before it listens, and gets no traffic at all", how: framework.NeverReady,
			failures: []string{v1alpha1.ReasonGatewayFailed, v1alpha1.ReasonDeadlineExceeded},
		},
		{
			name: "rejects", reason: "it serves well, and then rejects configuration", how: framework.Rejects, serving: true,
			failures: []string{v1alpha1.ReasonGateFailed, v1alpha1.ReasonGatewayFailed},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rollout := fmt.Sprintf("default-%d", i+1)
			moments := observed(t, rollout)
			traffic := send(t, ingress)
			setVersion(t, framework.Istio129)
			wait(t, rollout, "to begin", func(*v1alpha1.MeshRollout) bool { return true })
			if tc.serving {
				served(t)
			}
			if err := env.Misbehave(t.Context(), ingress, rev129, tc.how); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := env.Behave(context.Background(), ingress); err != nil {
					t.Error(err)
				}
			})
			o := wait(t, rollout, "to be rolled back", framework.Ended(v1alpha1.OutcomeRolledBack))
			alone(t, rev128)
			result := traffic()
			if !slices.Contains(tc.failures, o.Status.Progress.FailureReason) {
				t.Errorf("%s: it failed for %s: %s", tc.reason, o.Status.Progress.FailureReason, o.Status.Progress.Failure)
			}
			t.Logf("%s: %s", o.Status.Progress.FailureReason, o.Status.Progress.Failure)
			seen := moments()
			unmoved(t, seen)
			back(t, o, tc.how, seen, result)
			setVersion(t, framework.Istio128)
			if _, err := env.WaitReady(t.Context(), "default"); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// served waits until the new version has its share.
func served(t *testing.T) {
	t.Helper()
	if err := env.WaitFor(t.Context(), "the new version to have its share", func(ctx context.Context) (bool, string, error) {
		m, err := env.LookAtGateway(ctx, ingress)
		return err == nil && m.Shift != nil && m.Shift.Weight == badShare && m.Shift.State == v1alpha1.ShiftReached, m.String(), err
	}); err != nil {
		t.Fatal(err)
	}
}

// back says how long it took until all traffic was at the old version again, and whether no more requests failed than the share of the bad
// one allowed until then.
func back(t *testing.T, o *v1alpha1.MeshRollout, how framework.Misbehaviour, moments []framework.GatewayMoment, result framework.TrafficResult) {
	t.Helper()
	decided := decidedBack(t, o)
	sent, failed := result.Requests()
	if how != framework.FailsRequests {
		if failed > 0 {
			t.Errorf("%d of %d requests failed, although none of this fails requests", failed, sent)
		}
	}
	var exposed, away time.Time // since when and until when the bad version could get new connections
	for _, m := range moments {
		switch {
		case m.Weight(rev129) > 0 && exposed.IsZero():
			exposed = m.At
		case !exposed.IsZero() && away.IsZero() && m.At.After(decided) && m.Points == rev128:
			away = m.At
		}
	}
	if how == framework.NeverReady {
		return // it never got any
	}
	if away.IsZero() {
		t.Fatal("the Service was never pointed at the old version again")
	}
	took := away.Sub(decided)
	t.Logf("the Service pointed at the old version %.1f s after the decision", took.Seconds())
	if took > backWithin {
		t.Errorf("that took longer than %s", backWithin)
	}
	if how != framework.FailsRequests {
		return
	}
	if lasted := result.LastFailure().Sub(decided); lasted > backWithin {
		t.Errorf("requests failed for %s after the decision", lasted)
	}
	// Clients that keep a connection have a share of their own, by the pods that they happened to get: it is that of the pods, give or take.
	mean := framework.TrafficQPS * away.Sub(exposed).Seconds() * (badShare + tolerance) / 100 * framework.FailingPercent / 100
	allowed := int64(mean + 3*math.Sqrt(mean))
	t.Logf("%d of %d requests failed; %d%% of the traffic in %s, of which %d%% fails, allow %d", failed, sent, badShare,
		away.Sub(exposed).Round(time.Second), framework.FailingPercent, allowed)
	if failed == 0 || failed > allowed {
		t.Errorf("%d requests failed, want some, and %d at most", failed, allowed)
	}
}

// decidedBack is when a rollout decided to go back.
func decidedBack(t *testing.T, o *v1alpha1.MeshRollout) time.Time {
	t.Helper()
	events, err := env.RolloutEvents(t.Context(), o.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range events {
		if event.Regarding.UID == o.UID && event.Action == string(v1alpha1.ActRollBack) {
			return event.EventTime.Time
		}
	}
	t.Fatalf("none of %d events of %s says that it goes back", len(events), o.Name)
	return time.Time{}
}
