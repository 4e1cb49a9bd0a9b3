// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"fmt"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"k8s.io/utils/clock"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/probe"
	"github.com/meshwright/meshwright/operator/rollout"
)

// Announcer tells the servers that a plan names of each decision that differs from the last.
type Announcer struct {
	Notifier *probe.Notifier
	// Secrets reads a Secret of the operator's namespace.
	Secrets func(ctx context.Context, name string) (map[string][]byte, error)
	Clock   clock.PassiveClock
}

// eventType begins the type of each CloudEvent; the reason of the decision follows.
const eventType = "io.meshwright.rollout."

// announced is the data of a CloudEvent.
type announced struct {
	Mesh    string                    `json:"mesh"`
	Act     v1alpha1.RolloutAct       `json:"act"`
	Reason  string                    `json:"reason"`
	Step    string                    `json:"step"`
	Message string                    `json:"message"`
	From    probe.Side                `json:"from"`
	To      probe.Side                `json:"to"`
	Weights []v1alpha1.RolloutGateway `json:"gateways,omitempty"`
	Outcome v1alpha1.RolloutOutcome   `json:"outcome,omitempty"`
}

func (a *Announcer) announce(o *v1alpha1.MeshRollout, d rollout.Decision) {
	plan := &o.Spec.Plan
	for _, n := range plan.Notifications {
		e := event.New()
		// A decision is kept before it is told: each that was kept has a name of its own.
		e.SetID(fmt.Sprintf("%s-%s", o.UID, o.ResourceVersion))
		e.SetType(eventType + d.Reason)
		e.SetSource("/meshwright.io/meshrollouts/" + o.Name)
		e.SetSubject(plan.Mesh)
		e.SetTime(a.Clock.Now().Truncate(time.Second))
		err := e.SetData(event.ApplicationJSON, announced{
			Mesh: plan.Mesh, Act: d.Act, Reason: d.Reason, Step: o.Status.Summary, Message: d.Note, Weights: o.Status.Gateways,
			From: sideOf(plan.From), To: sideOf(plan.To), Outcome: d.Progress.Outcome,
		})
		if err != nil {
			continue // words and numbers always marshal
		}
		a.Notifier.Tell(func(ctx context.Context) (probe.Endpoint, error) {
			to := probe.Endpoint{Spec: n.Endpoint}
			if n.SecretName == "" {
				return to, nil
			}
			var err error
			to.Secret, err = a.Secrets(ctx, n.SecretName)
			return to, err
		}, e)
	}
}

func sideOf(r v1alpha1.RolloutRevision) probe.Side {
	return probe.Side{Revision: r.Revision, Version: r.Version}
}

// questionOf is what a hook is asked.
func questionOf(o *v1alpha1.MeshRollout, hook *v1alpha1.Hook, now time.Time) probe.Question {
	plan, p := &o.Spec.Plan, o.Status.Progress
	q := probe.Question{
		Gate: hook.Name, When: string(hook.When), Mesh: plan.Mesh, Rollout: o.Name, RolloutUID: string(o.UID),
		From: sideOf(plan.From), To: sideOf(plan.To), Time: now.UTC().Truncate(time.Second),
	}
	if p.Proven != nil && p.Step >= 0 && int(p.Step) < len(plan.Steps) {
		q.Step = plan.Steps[p.Step].Name
	}
	return q
}
