// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
	"github.com/meshwright/meshwright/operator/version"
)

// Gather gathers what enrollment needs of every installation, in the order of their names. The operator's own namespace is
// never enrolled; empty for none.
func Gather(ctx context.Context, reader client.Reader, operator string) ([]Named, error) {
	var installations v1alpha1.MeshInstallationList
	if err := reader.List(ctx, &installations); err != nil {
		return nil, err
	}
	var gateways v1alpha1.MeshGatewayList
	if err := reader.List(ctx, &gateways); err != nil {
		return nil, err
	}
	around := Around{Reserved: map[string]bool{operator: operator != ""}, Gateways: map[string]bool{}, Teams: map[string]bool{}}
	for _, m := range installations.Items {
		around.Reserved[m.Spec.Namespace] = true
		for _, g := range m.Spec.Gateways {
			around.Gateways[g.Namespace] = true
		}
	}
	for _, g := range gateways.Items {
		around.Teams[g.Namespace] = true
	}
	var out []Named
	for i := range installations.Items {
		m := &installations.Items[i]
		mesh, err := MeshOf(m, around)
		active, activeErr := ActiveRollout(ctx, reader, m)
		if activeErr != nil {
			return nil, activeErr
		}
		if active != nil {
			mesh.Course = &Course{Plan: &active.Spec.Plan, Sorter: rollout.NewSorter(&active.Spec.Plan), Progress: active.Status.Progress}
		}
		out = append(out, Named{Name: m.Name, Mesh: mesh, Still: m.Spec.Paused && !Removing(m) || err != nil})
	}
	slices.SortFunc(out, func(a, b Named) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// ActiveRollout is the MeshRollout whose course a mesh is on: the one that may act, or stands still where it is while a rotation does; nil for none.
func ActiveRollout(ctx context.Context, reader client.Reader, m *v1alpha1.MeshInstallation) (*v1alpha1.MeshRollout, error) {
	active := m.Status.ActiveOperation
	if active == nil || active.Kind != RolloutKind && active.Preempted == "" {
		return nil, nil
	}
	name := active.Name
	if active.Kind != RolloutKind {
		name = active.Preempted
	}
	out := &v1alpha1.MeshRollout{}
	err := reader.Get(ctx, client.ObjectKey{Name: name}, out)
	if apierrors.IsNotFound(err) || err == nil && active.Kind == RolloutKind && out.UID != active.UID {
		return nil, nil
	}
	return out, err
}

// RolloutKind is the kind of a MeshRollout in status.activeOperation.
const RolloutKind = "MeshRollout"

// Retiring says whether a rollout has decided that a revision goes.
func Retiring(r *v1alpha1.MeshRollout, revision string) bool {
	if r == nil || r.Status.Act != v1alpha1.ActRetire || r.Spec.Plan.From.Revision == r.Spec.Plan.To.Revision {
		return false
	}
	if r.Status.Progress.Back {
		return revision == r.Spec.Plan.To.Revision
	}
	return revision == r.Spec.Plan.From.Revision
}

// Members are the namespaces of a mesh whose workloads a rollout counts, by wave.
func Members(mesh Named, namespaces []metav1.PartialObjectMetadata) map[string][]Member {
	out := map[string][]Member{}
	for i := range namespaces {
		member, is := MemberOf(mesh, &namespaces[i])
		if !is {
			continue
		}
		wave := mesh.Wave(namespaces[i].Labels)
		out[wave] = append(out[wave], member)
	}
	return out
}

// MemberOf is a namespace as a rollout of a mesh counts it, if it does.
func MemberOf(mesh Named, n *metav1.PartialObjectMetadata) (Member, bool) {
	if !Judge(mesh.Mesh, n).Member || n.DeletionTimestamp != nil || mesh.Gateways[n.Name] {
		return Member{}, false
	}
	member := Member{Name: n.Name, Excluded: n.Annotations[v1alpha1.AnnotationRestart] == excluded}
	follows := mesh.Follows(n.Labels)
	if !OwnsLabel(n) && !follows {
		member.Blocked = "its namespace is labelled " + RevisionLabel + "=" + n.Labels[RevisionLabel] + " by " + setter(n) + ": label it there, or remove the label"
	}
	switch {
	case n.Labels[InjectionLabel] != "": // it beats the label of a revision
		member.Tag = version.DefaultRevisionName
	case OwnsLabel(n):
		member.Label, member.Since = n.Labels[RevisionLabel], labelledAt(n)
	case follows:
		member.Tag = n.Labels[RevisionLabel]
	}
	return member, true
}
