// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
		case active != nil && active.Preempted == o.Name && o.Status.Progress.Outcome == "":
			s.preempted = o
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

// course is the rollout whose course the mesh is on: the active one, or one that stands still where it is.
func (s *scope) course() *v1alpha1.MeshRollout {
	if s.active != nil {
		return s.active
	}
	return s.preempted
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
		if out, waits := r.awaitAuthority(s); waits {
			return out, nil
		}
		revision, out, err := r.create(ctx, s, request, 0)
		s.revision = revision
		return out, err
	}
	if s.active != nil || s.revision == nil {
		return outcome{}, nil // it is carried on
	}
	if s.granted != nil {
		return outcome{}, nil // the CA is changed first, and UpToDate says so
	}
	same, err := request.Made(s.revision)
	if err != nil {
		return failed(err), err
	}
	switch move := rollout.MoveOf(s.revision, request.Revision, request.Bundle.Version(), same); {
	case move == rollout.MoveNone:
		return r.refresh(ctx, s)
	case move == rollout.MoveConfigure:
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
	found, err := r.preflight(ctx, s, known.Installed, request)
	if err != nil {
		return refusedBy(err), ignoreChart(err)
	}
	if first := found.blocking; len(first) > 0 {
		why := fmt.Sprintf("%d findings hold the rollout to %s back: %s: %s", len(first), to.Version, first[0].Name, first[0].Message)
		return outcome{behind: behind(v1alpha1.ReasonPreflight, why), again: found.again(r.Clock.Now())}, nil
	}
	if err := r.begin(ctx, s, sideOf(s.revision), to, found.findings); err != nil {
		return outcome{}, err
	}
	r.verdicts.forget(s.mesh.Name)
	return outcome{}, nil
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
	// Nothing of the rollout happens before it is granted.
	if err := conditions.Write(ctx, r.Client, s.before, s.mesh); err != nil {
		return err
	}
	s.before = s.mesh.DeepCopy()
	r.Recorder.Eventf(s.mesh, o, corev1.EventTypeNormal, v1alpha1.ReasonRollingOut, "Plan", "MeshRollout %s moves the mesh from %s to %s", o.Name, from.Revision, to.Revision)
	return nil
}

// failedBefore says why a target is not tried again; empty when it may be.
func (s *scope) failedBefore(to v1alpha1.RolloutRevision) string {
	last := s.mesh.Status.FailedTarget
	var o *v1alpha1.MeshRollout
	for i := range s.rollouts {
		if last != nil && s.rollouts[i].Name == last.Rollout {
			o = &s.rollouts[i]
		}
	}
	if !rollout.GivenUp(last, to, s.mesh.Generation, o) {
		return ""
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

// newest is what CRDs and base come from: the newest version that the mesh has or is about to have, so that CRDs are there before
// the istiod that reads them. They are never taken back.
func (r *Reconciler) newest(ctx context.Context, s *scope, request render.Request) (render.Request, error) {
	versions := []string{request.Bundle.Version()}
	if o := s.course(); o != nil {
		versions = []string{o.Spec.Plan.To.Version, o.Spec.Plan.From.Version}
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
