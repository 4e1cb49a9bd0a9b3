// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/rollout"
	"github.com/meshwright/meshwright/operator/validate"
)

// gatherRollouts reads the rollouts of the mesh. One that was created and not granted before the operator died is granted now.
func (r *Reconciler) gatherRollouts(ctx context.Context, s *scope) error {
	var all v1alpha1.MeshRolloutList
	if err := r.Client.List(ctx, &all); err != nil {
		return err
	}
	for _, o := range all.Items {
		if o.Spec.Plan.Mesh == s.mesh.Name {
			s.rollouts = append(s.rollouts, o)
		}
	}
	slices.SortFunc(s.rollouts, func(a, b v1alpha1.MeshRollout) int { return ordinal(&a) - ordinal(&b) })
	active := s.mesh.Status.ActiveOperation
	for i := range s.rollouts {
		o := &s.rollouts[i]
		switch {
		case active != nil && active.Kind == dataplane.RolloutKind && active.UID == o.UID:
			s.active = o
		case active == nil && s.active == nil && o.Status.Progress.Outcome == "":
			s.grant(o)
		}
	}
	if active != nil && active.Kind == dataplane.RolloutKind && s.active == nil {
		s.mesh.Status.ActiveOperation = nil // it was deleted
	}
	return nil
}

// ordinal is the number at the end of a rollout's name.
func ordinal(o *v1alpha1.MeshRollout) int {
	n, err := strconv.Atoi(o.Name[strings.LastIndex(o.Name, "-")+1:])
	if err != nil {
		return 0
	}
	return n
}

func (s *scope) grant(o *v1alpha1.MeshRollout) {
	s.active = o
	s.mesh.Status.ActiveOperation = &v1alpha1.ActiveOperation{Kind: dataplane.RolloutKind, Name: o.Name, UID: o.UID}
}

// sideOf is a revision as a plan names it.
func sideOf(r *v1alpha1.MeshRevision) v1alpha1.RolloutRevision {
	return v1alpha1.RolloutRevision{Revision: r.Name, Version: r.Spec.Version, InputsDigest: r.Spec.InputsDigest}
}

// move brings the mesh towards what the spec wants: an installation creates its first revision, other values change the stable one
// where it stands, and what needs a revision of its own, or another version, becomes a MeshRollout.
func (r *Reconciler) move(ctx context.Context, s *scope, known validate.Facts, request render.Request) (outcome, error) {
	if s.revision == nil && s.active == nil {
		revision, out, err := r.create(ctx, s, request, 0)
		s.revision = revision
		return out, err
	}
	if s.active != nil || s.revision == nil {
		return outcome{}, nil // it is carried on
	}
	same, err := s.same(request)
	if err != nil {
		return failed(err), err
	}
	switch {
	case same:
		return r.refresh(ctx, s)
	case request.Revision == s.revision.Name && request.Bundle.Version() == s.revision.Spec.Version:
		revision, out, err := r.change(ctx, s.revision, request, nil)
		if revision != nil {
			s.revision = revision
		}
		return out, err
	case !s.serving():
		return outcome{behind: behind(v1alpha1.ReasonProgressing, "the control plane of "+s.revision.Name+" does not serve: nothing moves before it does")}, nil
	}
	inputs, err := request.InputsDigest()
	if err != nil {
		return failed(err), err
	}
	to := v1alpha1.RolloutRevision{Revision: request.Revision, Version: request.Bundle.Version(), InputsDigest: inputs}
	return r.plan(ctx, s, known, request, to)
}

func behind(reason, message string) *conditions.Verdict {
	return &conditions.Verdict{Ready: metav1.ConditionFalse, Reason: reason, Message: message}
}

// preflightAgain is how soon what holds a rollout back is looked at again.
const preflightAgain = time.Minute

// plan creates a MeshRollout, unless the same target failed before or something has to be mended first.
func (r *Reconciler) plan(
	ctx context.Context, s *scope, known validate.Facts, request render.Request, to v1alpha1.RolloutRevision,
) (outcome, error) {
	if why := s.failedBefore(to); why != "" {
		return outcome{behind: behind(v1alpha1.ReasonTargetFailed, why)}, nil
	}
	if known.Installed == nil {
		return outcome{}, fmt.Errorf("the version of revision %s is not known", s.revision.Name)
	}
	findings, blocking, err := r.preflight(ctx, s, known.Installed, request)
	if err != nil {
		return refusedBy(err), ignoreChart(err)
	}
	if len(blocking) > 0 {
		why := fmt.Sprintf("%d findings hold the rollout to %s back: %s: %s", len(blocking), to.Version, blocking[0].Name, blocking[0].Message)
		return outcome{behind: behind(v1alpha1.ReasonPreflight, why), again: preflightAgain}, nil
	}
	return outcome{}, r.begin(ctx, s, sideOf(s.revision), to, findings)
}

// begin creates a MeshRollout and grants it. Its name follows from those that there are, so that a repeated create is the same one.
func (r *Reconciler) begin(ctx context.Context, s *scope, from, to v1alpha1.RolloutRevision, findings []v1alpha1.Finding) error {
	next := 1
	if n := len(s.rollouts); n > 0 {
		next = ordinal(&s.rollouts[n-1]) + 1
	}
	o := &v1alpha1.MeshRollout{
		ObjectMeta: metav1.ObjectMeta{
			Name: fmt.Sprintf("%s-%d", s.mesh.Name, next), Labels: map[string]string{v1alpha1.LabelMesh: s.mesh.Name},
		},
		Spec: v1alpha1.MeshRolloutSpec{Plan: rollout.NewPlan(s.mesh, from, to, findings), Goal: v1alpha1.GoalComplete},
	}
	if err := r.Client.Create(ctx, o); err != nil {
		return fmt.Errorf("MeshRollout %s: %w", o.Name, err)
	}
	s.rollouts = append(s.rollouts, *o)
	s.grant(o)
	s.mesh.Status.FailedTarget = nil
	r.Recorder.Eventf(s.mesh, o, corev1.EventTypeNormal, v1alpha1.ReasonRollingOut, "Plan", "MeshRollout %s moves the mesh from %s to %s", o.Name, from.Revision, to.Revision)
	return nil
}

// failedBefore says why a target is not tried again; empty when it may be.
func (s *scope) failedBefore(to v1alpha1.RolloutRevision) string {
	last := s.mesh.Status.FailedTarget
	if last == nil || last.Version != to.Version || last.InputsDigest != to.InputsDigest || last.Generation != s.mesh.Generation {
		return ""
	}
	for i := range s.rollouts {
		if o := &s.rollouts[i]; o.Name == last.Rollout && o.Spec.Retries > last.Retries {
			return ""
		}
	}
	return fmt.Sprintf("MeshRollout %s to %s did not get there: change the spec, or raise spec.retries of that MeshRollout by one", last.Rollout, to.Version)
}

// refresh moves pods that have an older sidecar than their revision injects now, once for each change of it.
func (r *Reconciler) refresh(ctx context.Context, s *scope) (outcome, error) {
	self := sideOf(s.revision)
	if s.revision.Spec.Injection == "" || s.mesh.Spec.DataPlane.Restart.Type == v1alpha1.RestartManual || !s.serving() || !r.Index.Whole() {
		return outcome{}, nil
	}
	for i := range s.rollouts {
		if plan := &s.rollouts[i].Spec.Plan; plan.To == self {
			return outcome{}, nil // what it could not move, nothing can
		}
	}
	stale, err := r.stale(ctx, s)
	if err != nil || !stale {
		return outcome{}, err
	}
	return outcome{}, r.begin(ctx, s, self, self, nil)
}

// stale says whether a workload that can be moved has pods with an older sidecar than the stable revision injects now.
func (r *Reconciler) stale(ctx context.Context, s *scope) (bool, error) {
	owners := r.Index.StaleOwners(s.revision.Name, s.revision.Spec.Injection)
	if len(owners) == 0 {
		return false, nil
	}
	meshes, err := dataplane.Gather(ctx, r.Client, r.Namespace)
	if err != nil {
		return false, err
	}
	towards := dataplane.Towards{
		Revision: s.revision.Name, Injection: s.revision.Spec.Injection, Type: s.mesh.Spec.DataPlane.Restart.Type, Now: r.Clock.Now(),
	}
	for _, m := range meshes {
		for i := range s.namespaces {
			member, is := dataplane.MemberOf(m, &s.namespaces[i])
			if m.Name != s.mesh.Name || !is {
				continue
			}
			for _, w := range r.Index.Workloads(member, towards) {
				if owners[w.Name] && w.Movable() {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// injections are the revisions of the mesh, with the digest of what each injects now.
func (s *scope) injections() map[string]string {
	out := map[string]string{}
	for _, r := range s.revisions {
		out[r.Name] = r.Spec.Injection
	}
	return out
}

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
	switch status.Act {
	case v1alpha1.ActCreate:
		if out, err := r.createSide(ctx, s); err != nil || out.problem != nil {
			return out, err
		}
	case v1alpha1.ActPromote:
		r.promote(s)
	case v1alpha1.ActRetire:
		if err := r.retire(ctx, s); err != nil {
			return failed(err), err
		}
	default:
	}
	return outcome{behind: underWay(s.active)}, nil
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
		return outcome{}, err
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
	if s.active == nil || s.active.Status.Progress.Outcome != "" {
		return s.revision
	}
	plan, p := &s.active.Spec.Plan, s.active.Status.Progress
	for _, w := range plan.Waves {
		if w.Tag == name && plan.Enrollment == v1alpha1.EnrollmentTag {
			return s.find(rollout.RevisionOf(plan, p, w.Name))
		}
	}
	if s.active.Status.Act != v1alpha1.ActPromote {
		return s.revision
	}
	if rollout.Promoted(plan, p) {
		return s.find(plan.To.Revision)
	}
	return s.find(plan.From.Revision)
}

// newest is what CRDs and base come from: the newest version that the mesh has or is about to have, so that CRDs are there before
// the istiod that reads them. They are never taken back.
func (r *Reconciler) newest(ctx context.Context, s *scope, request render.Request) (render.Request, error) {
	versions := []string{request.Bundle.Version()}
	if s.active != nil {
		versions = []string{s.active.Spec.Plan.To.Version, s.active.Spec.Plan.From.Version}
	} else if s.revision != nil {
		versions = []string{s.revision.Spec.Version}
	}
	var best *semver.Version
	for _, text := range versions {
		v, err := semver.NewVersion(text)
		if err != nil {
			return request, err
		}
		if best == nil || v.GreaterThan(best) {
			best = v
		}
	}
	return r.request(ctx, s.mesh, best, validate.RevisionName(s.mesh, best))
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
	return outcome{again: time.Second}, r.prune(ctx, s)
}

// prune deletes the oldest rollouts that have ended. The newest one is always kept: the next is numbered after it.
func (r *Reconciler) prune(ctx context.Context, s *scope) error {
	limit := max(1, int(s.mesh.Spec.Upgrade.RolloutHistoryLimit))
	for i := 0; i < len(s.rollouts)-limit; i++ {
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
