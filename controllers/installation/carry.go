// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/Masterminds/semver/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/rollout"
)

// carry does what the active rollout wants of this controller, and tells it what the spec wants by now; request is nil when the
// spec is refused.
func (r *Reconciler) carry(ctx context.Context, s *scope, request *render.Request) (outcome, error) {
	plan, status := &s.active.Spec.Plan, &s.active.Status
	if status.Progress.Outcome != "" {
		return r.finish(ctx, s)
	}
	if request != nil {
		if err := r.reconsider(ctx, s, *request); err != nil {
			return failed(err), err
		}
	}
	s.mesh.Status.CanaryRevision = ""
	if plan.From.Revision != plan.To.Revision {
		s.mesh.Status.CanaryRevision = plan.To.Revision
	}
	again := time.Duration(0)
	switch status.Act {
	case v1alpha1.ActCreate:
		out, err := r.createSide(ctx, s)
		if err != nil || out.problem != nil {
			return out, err
		}
		again = out.again
	case v1alpha1.ActPromote:
		r.promote(s)
	case v1alpha1.ActRetire:
		if err := r.retire(ctx, s); err != nil {
			return failed(err), err
		}
		again = lookAgain // a read may have been late
	default:
	}
	return outcome{behind: underWay(s.active), again: again}, nil
}

// reconsider tells the rollout when the spec wants something else than its plan by now.
func (r *Reconciler) reconsider(ctx context.Context, s *scope, request render.Request) error {
	wanted := v1alpha1.RolloutRevision{Revision: request.Revision, Version: request.Bundle.Version()}
	change := rollout.OnChange(&s.active.Spec.Plan, s.active.Status.Progress, wanted)
	s.mesh.Status.PendingVersion = ""
	if change != rollout.Keep && wanted.Version != s.active.Spec.Plan.From.Version {
		s.mesh.Status.PendingVersion = wanted.Version
	}
	if change != rollout.GoBack || s.active.Spec.Goal == v1alpha1.GoalRollBack {
		return nil
	}
	return r.goBack(ctx, s, "spec.version means "+wanted.Version+" by now")
}

func (r *Reconciler) goBack(ctx context.Context, s *scope, why string) error {
	before := s.active.DeepCopy()
	s.active.Spec.Goal = v1alpha1.GoalRollBack
	if err := r.Client.Patch(ctx, s.active, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return err
	}
	r.Recorder.Eventf(s.active, s.mesh, corev1.EventTypeNormal, v1alpha1.ReasonRollingBack, "RollBack", "%s", why)
	return nil
}

// live reads the active rollout and the mesh from the API server, and says whether the act is still the one that was decided.
func (r *Reconciler) live(ctx context.Context, s *scope) (bool, error) {
	var now v1alpha1.MeshRollout
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.active), &now); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	var mesh v1alpha1.MeshInstallation
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.mesh), &mesh); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	granted := mesh.Status.ActiveOperation != nil && mesh.Status.ActiveOperation.UID == now.UID
	return granted && !mesh.Spec.Paused && !now.Spec.Paused && now.UID == s.active.UID && now.Spec.Goal == s.active.Spec.Goal &&
		now.Status.Act == s.active.Status.Act && now.Status.Progress.Step == s.active.Status.Progress.Step, nil
}

// createSide makes the revision that the rollout moves to: the canary, or, in place, the other inputs of the one revision.
func (r *Reconciler) createSide(ctx context.Context, s *scope) (outcome, error) {
	plan := &s.active.Spec.Plan
	side := rollout.Target(plan, s.active.Status.Progress)
	current := s.find(side.Revision)
	if current != nil && (plan.From.Revision != plan.To.Revision || current.Spec.InputsDigest == side.InputsDigest) {
		return outcome{}, nil
	}
	if still, err := r.live(ctx, s); err != nil || !still {
		return outcome{again: time.Second}, err // what was read may have been late
	}
	if current != nil && s.active.Status.Progress.Back {
		return r.restore(ctx, s, current)
	}
	v, err := semver.NewVersion(side.Version)
	if err != nil {
		return failed(err), err
	}
	request, err := r.request(ctx, s.mesh, v, side.Revision)
	if err != nil {
		return stalled(v1alpha1.ReasonVersionUnavailable, err.Error()), err
	}
	if inputs, err := request.InputsDigest(); err != nil || inputs != side.InputsDigest {
		return outcome{}, r.goBack(ctx, s, "values, mesh configuration or images changed before the control plane was created")
	}
	if current != nil {
		previous := &v1alpha1.FrozenRevision{
			Version: current.Spec.Version, BundleDigest: current.Spec.BundleDigest, InputsDigest: current.Spec.InputsDigest,
			Injection: current.Spec.Injection, Objects: current.Spec.Objects,
		}
		_, out, err := r.change(ctx, current, request, previous)
		return out, err
	}
	replicas, err := r.replicasOf(ctx, s.revision)
	if err != nil {
		return failed(err), err
	}
	_, out, err := r.create(ctx, s, request, replicas)
	return out, err
}

// restore puts back what a revision was before it was upgraded in place.
func (r *Reconciler) restore(ctx context.Context, s *scope, revision *v1alpha1.MeshRevision) (outcome, error) {
	previous := revision.Spec.Previous
	if previous == nil || previous.InputsDigest != s.active.Spec.Plan.From.InputsDigest {
		return outcome{behind: behind(v1alpha1.ReasonOldRevisionFailed, "what revision "+revision.Name+" was before is not there any more")}, nil
	}
	next := revision.DeepCopy()
	next.Spec.Version, next.Spec.BundleDigest, next.Spec.InputsDigest = previous.Version, previous.BundleDigest, previous.InputsDigest
	next.Spec.Injection, next.Spec.Objects, next.Spec.Previous = previous.Injection, previous.Objects, nil
	err := r.Client.Update(ctx, next)
	return outcome{}, err
}

// replicasOf are the replicas of istiod in force: an autoscaler may have raised them, and the canary has to carry as much.
func (r *Reconciler) replicasOf(ctx context.Context, revision *v1alpha1.MeshRevision) (int32, error) {
	if revision == nil {
		return 0, nil
	}
	key := client.ObjectKey{Namespace: revision.Spec.Namespace, Name: render.IstiodName(revision.Name)}
	found, err := r.Owned.Get(ctx, appsv1.SchemeGroupVersion.WithKind("Deployment"), key)
	if err != nil || found == nil {
		return 0, err
	}
	var istiod appsv1.Deployment
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found.Object, &istiod); err != nil || istiod.Spec.Replicas == nil {
		return 0, err
	}
	return *istiod.Spec.Replicas, nil
}

func (s *scope) find(revision string) *v1alpha1.MeshRevision {
	i := slices.IndexFunc(s.revisions, func(r *v1alpha1.MeshRevision) bool { return r.Name == revision })
	if i < 0 {
		return nil
	}
	return s.revisions[i]
}

// promote makes the revision that the walk wants the stable one. Default revision and tags, which point to it, were applied
// before this is written: see pointsTo.
func (r *Reconciler) promote(s *scope) {
	side := s.active.Spec.Plan.From.Revision
	if rollout.Promoted(&s.active.Spec.Plan, s.active.Status.Progress) {
		side = s.active.Spec.Plan.To.Revision
	}
	if next := s.find(side); next != nil && s.pointed(side) {
		s.revision, s.mesh.Status.StableRevision = next, side
	}
}

// pointed says whether every pointer that this reconcile wanted was applied: the inventory has no intent that is open.
func (s *scope) pointed(string) bool {
	return !slices.ContainsFunc(s.mesh.Status.Inventory, func(i v1alpha1.InventoryItem) bool { return i.Applied == "" })
}

// pointsTo is the revision that the default revision or a tag belongs to now: the stable one, unless the active rollout promotes,
// or moves the tag with its wave.
func (s *scope) pointsTo(name string) *v1alpha1.MeshRevision {
	course := s.course()
	if course == nil || course.Status.Progress.Outcome != "" {
		return s.revision
	}
	plan, p := &course.Spec.Plan, course.Status.Progress
	for _, w := range plan.Waves {
		if w.Tag == name && plan.Enrollment == v1alpha1.EnrollmentTag {
			return s.find(rollout.RevisionOf(plan, p, w.Name))
		}
	}
	if course.Status.Act != v1alpha1.ActPromote {
		return s.revision
	}
	if rollout.Promoted(plan, p) {
		return s.find(plan.To.Revision)
	}
	return s.find(plan.From.Revision)
}

// retire deletes the revision that the rollout is done with, after asking the API server itself once more who uses it.
func (r *Reconciler) retire(ctx context.Context, s *scope) error {
	plan := &s.active.Spec.Plan
	name := plan.From.Revision
	if s.active.Status.Progress.Back {
		name = plan.To.Revision
	}
	revision := s.find(name)
	if revision == nil || revision.DeletionTimestamp != nil || name == s.mesh.Status.StableRevision {
		return nil
	}
	if still, err := r.live(ctx, s); err != nil || !still {
		return err
	}
	users, err := dataplane.LiveUsersOfRevision(ctx, r.Live, name)
	if err != nil || len(users) > 0 {
		return err // the rollout sees them too, and says so
	}
	uid := revision.UID
	return client.IgnoreNotFound(r.Client.Delete(ctx, revision, client.Preconditions{UID: &uid}))
}

// finish takes in what a rollout came to, and forgets the oldest ones.
func (r *Reconciler) finish(ctx context.Context, s *scope) (outcome, error) {
	o := s.active
	if o.Status.Progress.Outcome == v1alpha1.OutcomeCompleted {
		s.mesh.Status.FailedTarget = nil
	} else if !rollout.Refresh(&o.Spec.Plan) {
		s.mesh.Status.FailedTarget = &v1alpha1.FailedTarget{
			Version: o.Spec.Plan.To.Version, InputsDigest: o.Spec.Plan.To.InputsDigest, Generation: s.mesh.Generation,
			Rollout: o.Name, Retries: o.Spec.Retries,
		}
	}
	if stable := s.find(s.mesh.Status.StableRevision); stable != nil && stable.Spec.Previous != nil {
		next := stable.DeepCopy()
		next.Spec.Previous = nil
		if err := r.Client.Update(ctx, next); err != nil {
			return failed(err), err
		}
	}
	s.mesh.Status.ActiveOperation, s.mesh.Status.CanaryRevision = nil, ""
	s.mesh.Status.Step, s.mesh.Status.PendingVersion = "", ""
	s.active = nil
	out := outcome{again: time.Second}
	if o.Status.Progress.Outcome != v1alpha1.OutcomeCompleted {
		// What the spec wants now is found out by the next look; until then nobody is told that it is reached.
		out.behind = behind(v1alpha1.ReasonTargetFailed, fmt.Sprintf("MeshRollout %s to %s did not get there", o.Name, o.Spec.Plan.To.Version))
	}
	return out, r.prune(ctx, s)
}

// prune deletes the oldest rollouts that have ended. The newest one is always kept: the next is numbered after it.
func (r *Reconciler) prune(ctx context.Context, s *scope) error {
	limit := max(1, int(s.mesh.Spec.Upgrade.RolloutHistoryLimit))
	for i := range max(0, len(s.rollouts)-limit) {
		o := &s.rollouts[i]
		if o.Status.Progress.Outcome == "" || o.DeletionTimestamp != nil {
			continue
		}
		uid := o.UID
		if err := r.Client.Delete(ctx, o, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

// underWay is what an active rollout means for UpToDate.
func underWay(o *v1alpha1.MeshRollout) *conditions.Verdict {
	if int(o.Status.Progress.Step) >= len(o.Spec.Plan.Steps) && !o.Status.Progress.Back {
		return nil // all that can be moved has moved; what has not is told by the counts
	}
	reason, message := v1alpha1.ReasonRollingOut, "MeshRollout "+o.Name+" is planned"
	for _, c := range o.Status.Conditions {
		if c.Type != v1alpha1.ConditionComplete {
			continue
		}
		message = "MeshRollout " + o.Name + ": " + c.Message
		if slices.Contains(awaited, c.Reason) || o.Status.Act == v1alpha1.ActHalt {
			reason = c.Reason
		}
	}
	if o.Status.Progress.Back && o.Status.Act != v1alpha1.ActHalt {
		reason = v1alpha1.ReasonRollingBack
	}
	return behind(reason, message)
}

// awaited are the reasons of a rollout that are worth a column: somebody or some time is waited for.
var awaited = []string{
	v1alpha1.ReasonAwaitingApproval, v1alpha1.ReasonOutsideWindow, v1alpha1.ReasonOvershoot, v1alpha1.ReasonAwaitingRestarts,
	v1alpha1.ReasonPaused, v1alpha1.ReasonUnproven,
}
