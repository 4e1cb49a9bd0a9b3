// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"errors"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/rollout"
)

// observe gathers what a decision needs, from caches and from what the witness was told.
func (r *Reconciler) observe(ctx context.Context, o *v1alpha1.MeshRollout) (rollout.Observation, error) {
	plan, p := &o.Spec.Plan, o.Status.Progress
	seen := rollout.Observation{}
	mesh := &v1alpha1.MeshInstallation{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: plan.Mesh}, mesh); err != nil {
		return seen, client.IgnoreNotFound(err)
	}
	active := mesh.Status.ActiveOperation
	seen.Granted = active != nil && active.UID == o.UID
	seen.Paused, seen.Superseded = mesh.Spec.Paused, mesh.Status.PendingVersion != ""
	var from, to *v1alpha1.MeshRevision
	var err error
	if from, seen.From, err = r.controlPlane(ctx, plan, plan.From); err != nil {
		return seen, err
	}
	if to, seen.To, err = r.controlPlane(ctx, plan, plan.To); err != nil {
		return seen, err
	}
	if err := r.waves(ctx, o, mesh, to, &seen); err != nil {
		return seen, err
	}
	if seen.Gateways, err = r.gateways(ctx, o, mesh); err != nil {
		return seen, err
	}
	seen.Promoted = promoted(mesh, plan, seen)
	seen.Measured = r.Gauge.ask(o, from, to, seen)
	wanted := question{mesh: mesh, plan: plan, prove: seen.To.Ready && p.Proven == nil, target: to}
	wanted.connected = rollout.Reconnects(plan, p) && (seen.To.Ready || p.Back && seen.From.Ready)
	switch {
	case p.Back && p.Step < 0:
		wanted.used = to
	case !p.Back && int(p.Step) >= len(plan.Steps):
		wanted.used = from
	}
	answers := r.Witness.ask(o.UID, wanted)
	seen.Proofs = answers.proofs
	seen.UseOfFrom = rollout.Use{Pending: true, By: notYetAsked}
	seen.UseOfTo = seen.UseOfFrom
	if wanted.used == nil {
		return seen, nil
	}
	use, err := r.use(ctx, wanted.used, answers)
	if p.Back {
		seen.UseOfTo = use
	} else {
		seen.UseOfFrom = use
	}
	return seen, err
}

// controlPlane is one side of a plan, as it is.
func (r *Reconciler) controlPlane(
	ctx context.Context, plan *v1alpha1.RolloutPlan, side v1alpha1.RolloutRevision,
) (*v1alpha1.MeshRevision, rollout.ControlPlane, error) {
	revision := &v1alpha1.MeshRevision{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: side.Revision}, revision); err != nil {
		return nil, rollout.ControlPlane{Problem: "there is no MeshRevision " + side.Revision}, client.IgnoreNotFound(err)
	}
	if plan.From.Revision == plan.To.Revision && revision.Spec.InputsDigest != side.InputsDigest {
		return revision, rollout.ControlPlane{Problem: "MeshRevision " + side.Revision + " is at " + revision.Spec.Version}, nil
	}
	out := rollout.ControlPlane{Exists: true, Leaving: revision.DeletionTimestamp != nil, Problem: "it is being applied"}
	out.Ready = conditions.Current(revision.Status.Conditions, revision.Generation, v1alpha1.ConditionReady)
	if c := apimeta.FindStatusCondition(revision.Status.Conditions, v1alpha1.ConditionReady); c != nil && c.ObservedGeneration == revision.Generation {
		out.Problem = c.Message
	}
	return revision, out, nil
}

// waves counts the workloads of every wave towards where the rollout moves.
func (r *Reconciler) waves(
	ctx context.Context, o *v1alpha1.MeshRollout, mesh *v1alpha1.MeshInstallation, to *v1alpha1.MeshRevision, seen *rollout.Observation,
) error {
	if !r.Index.Whole() {
		return nil // Unknown
	}
	members, err := dataplane.MembersOf(ctx, r.Client, r.Namespace, mesh.Name)
	if err != nil || members == nil {
		return err
	}
	towards := dataplane.TowardsOf(o, to, r.Clock.Now())
	seen.Waves = map[string]rollout.Wave{}
	for _, s := range o.Spec.Plan.Steps {
		if s.DataPlane == nil {
			continue
		}
		if _, counted := seen.Waves[s.DataPlane.Wave]; counted {
			continue
		}
		counter := rollout.Counter{Restart: o.Spec.Plan.Restart.Type}
		for _, n := range members[s.DataPlane.Wave] {
			for _, w := range r.Index.Workloads(n, towards) {
				counter.Add(&w)
			}
		}
		seen.Waves[s.DataPlane.Wave] = counter.Wave()
	}
	return nil
}

// promoted says whether default revision, tags and the mesh's own gateways are at the new revision, or all at the old one. A team's own
// gateway that does not get there holds the old revision, not the rollout.
func promoted(mesh *v1alpha1.MeshInstallation, plan *v1alpha1.RolloutPlan, seen rollout.Observation) rollout.Evidence {
	answer := rollout.No
	if mesh.Status.StableRevision == plan.To.Revision {
		answer = rollout.Yes
	}
	for _, g := range seen.Gateways {
		if g.Listed && g.State != v1alpha1.ShiftReached {
			return rollout.Evidence{Answer: rollout.Unknown, Why: "gateway " + g.Name + ": " + g.Note}
		}
	}
	return rollout.Evidence{Answer: answer}
}

// use is what refers to a revision: what caches know, and what istiod and the API server told the witness.
func (r *Reconciler) use(ctx context.Context, revision *v1alpha1.MeshRevision, answers answers) (rollout.Use, error) {
	if !r.Index.Whole() {
		return rollout.Use{Pending: true, By: dataplane.ErrUnknown.Error()}, nil
	}
	users, err := dataplane.UsersOfRevision(ctx, r.Client, r.Index, revision.Name)
	if errors.Is(err, dataplane.ErrUnknown) {
		return rollout.Use{By: err.Error()}, nil
	}
	if err != nil {
		return rollout.Use{}, err
	}
	if len(users) > 0 {
		return rollout.Use{Known: true, By: dataplane.Sentence(users)}, nil
	}
	return answers.use, nil
}
