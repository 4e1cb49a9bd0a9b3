// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
)

// snapshot is what the cluster says of a mesh at a moment.
type snapshot struct {
	mesh *v1alpha1.MeshInstallation
	// others says that the cluster has more than one mesh, so that commands have to name theirs.
	others    bool
	revisions []v1alpha1.MeshRevision
	gateways  []v1alpha1.MeshGateway
	// rollouts and rotations of the mesh, the newest first.
	rollouts  []v1alpha1.MeshRollout
	rotations []v1alpha1.MeshRotation
	// tags that point to each revision.
	tags map[string][]string
	// unreadable is what this user may not read.
	unreadable []string
}

// take reads all that there is of a mesh. What the user may not read besides the mesh itself is noted, and left out.
func (f *factory) take(ctx context.Context, c client.Reader, name string) (*snapshot, error) {
	mesh, err := f.Mesh(ctx, c, name)
	if err != nil {
		return nil, err
	}
	s := &snapshot{mesh: mesh, tags: map[string][]string{}}
	var meshes v1alpha1.MeshInstallationList
	if err := s.list(ctx, c, &meshes, "MeshInstallations"); err != nil {
		return nil, err
	}
	s.others = len(meshes.Items) > 1
	if err := s.children(ctx, c); err != nil {
		return nil, err
	}
	for i := range s.revisions {
		revision := s.revisions[i].Name
		tags, err := dataplane.TagsOf(ctx, c, revision)
		if err != nil {
			if err := s.note(err, "revision tags (MutatingWebhookConfigurations)"); err != nil {
				return nil, err
			}
			break
		}
		for _, tag := range tags {
			s.tags[revision] = append(s.tags[revision], tag.Labels["istio.io/tag"])
		}
		slices.Sort(s.tags[revision])
	}
	return s, nil
}

// children reads what belongs to the mesh.
func (s *snapshot) children(ctx context.Context, c client.Reader) error {
	var revisions v1alpha1.MeshRevisionList
	if err := s.list(ctx, c, &revisions, "MeshRevisions"); err != nil {
		return err
	}
	var gateways v1alpha1.MeshGatewayList
	if err := s.list(ctx, c, &gateways, "MeshGateways"); err != nil {
		return err
	}
	var rollouts v1alpha1.MeshRolloutList
	if err := s.list(ctx, c, &rollouts, "MeshRollouts"); err != nil {
		return err
	}
	var rotations v1alpha1.MeshRotationList
	if err := s.list(ctx, c, &rotations, "MeshRotations"); err != nil {
		return err
	}
	name := s.mesh.Name
	for i := range revisions.Items {
		if revisions.Items[i].Spec.Mesh == name {
			s.revisions = append(s.revisions, revisions.Items[i])
		}
	}
	for i := range gateways.Items {
		if gateways.Items[i].Spec.Mesh == name {
			s.gateways = append(s.gateways, gateways.Items[i])
		}
	}
	for i := range rollouts.Items {
		if rollouts.Items[i].Spec.Plan.Mesh == name {
			s.rollouts = append(s.rollouts, rollouts.Items[i])
		}
	}
	for i := range rotations.Items {
		if rotations.Items[i].Spec.Mesh == name {
			s.rotations = append(s.rotations, rotations.Items[i])
		}
	}
	slices.SortStableFunc(s.rollouts, func(a, b v1alpha1.MeshRollout) int { return newest(&a, &b) })
	slices.SortStableFunc(s.rotations, func(a, b v1alpha1.MeshRotation) int { return newest(&a, &b) })
	return nil
}

// newest orders what was created last first, and of what was created in one second the higher name.
func newest(a, b metav1.Object) int {
	at, bt := a.GetCreationTimestamp(), b.GetCreationTimestamp()
	return cmp.Or(bt.Compare(at.Time), cmp.Compare(len(b.GetName()), len(a.GetName())), cmp.Compare(b.GetName(), a.GetName()))
}

func (s *snapshot) list(ctx context.Context, c client.Reader, list client.ObjectList, what string) error {
	err := c.List(ctx, list)
	if err == nil {
		return nil
	}
	return s.note(err, what)
}

// note keeps that something may not be read, and passes all other errors on.
func (s *snapshot) note(err error, what string) error {
	if !apierrors.IsForbidden(err) {
		return explain(err)
	}
	s.unreadable = append(s.unreadable, what+": you may not list them")
	return nil
}

// rollout is the one to show: the active one, else one that waits for its turn; nil for none.
func (s *snapshot) rollout() *v1alpha1.MeshRollout {
	active := s.mesh.Status.ActiveOperation
	for i := range s.rollouts {
		o := &s.rollouts[i]
		if active != nil && (active.UID == o.UID || active.Preempted == o.Name) {
			return o
		}
	}
	for i := range s.rollouts {
		if s.rollouts[i].Status.Progress.Outcome == "" {
			return &s.rollouts[i]
		}
	}
	return nil
}

// rotation is the one to show: the active one, else the oldest that has not ended; nil for none.
func (s *snapshot) rotation() *v1alpha1.MeshRotation {
	active := s.mesh.Status.ActiveOperation
	var out *v1alpha1.MeshRotation
	for i := range s.rotations {
		o := &s.rotations[i]
		if active != nil && active.UID == o.UID {
			return o
		}
		if o.Status.Progress.Outcome == "" {
			out = o
		}
	}
	return out
}

// roleOf is what a revision is to the mesh.
func (s *snapshot) roleOf(revision string) RevisionRole {
	switch revision {
	case s.mesh.Status.StableRevision:
		return RoleStable
	case s.mesh.Status.CanaryRevision:
		return RoleCanary
	}
	if o := s.rollout(); o != nil && o.Spec.Plan.To.Revision == revision && !o.Status.Progress.Back {
		return RoleCanary
	}
	if s.mesh.Status.StableRevision == "" {
		return RoleStable // the first one of a mesh that is being installed
	}
	return RoleRetiring
}
