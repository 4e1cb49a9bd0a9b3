// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"cmp"
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/rollout"
	"github.com/meshwright/meshwright/operator/traffic"
	"github.com/meshwright/meshwright/operator/validate"
)

// gateways are the gateways that follow a mesh, and how far each is with what the rollout wants of it by now.
func (r *Reconciler) gateways(ctx context.Context, o *v1alpha1.MeshRollout, mesh *v1alpha1.MeshInstallation) ([]rollout.Gateway, error) {
	var all v1alpha1.MeshGatewayList
	if err := r.Client.List(ctx, &all); err != nil {
		return nil, err
	}
	sorter := rollout.NewSorter(&o.Spec.Plan)
	out := []rollout.Gateway{}
	for i := range all.Items {
		g := &all.Items[i]
		if g.Spec.Mesh != mesh.Name || g.Spec.VersionPolicy == v1alpha1.VersionHold || g.DeletionTimestamp != nil {
			continue
		}
		namespace := &metav1.PartialObjectMetadata{}
		namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
		if err := r.Client.Get(ctx, client.ObjectKey{Name: g.Namespace}, namespace); client.IgnoreNotFound(err) != nil {
			return nil, err
		}
		listed := validate.Listed(g, mesh)
		want := rollout.ShiftOf(&o.Spec.Plan, o.Status.Progress, listed, sorter.WaveOf(namespace.Labels, false))
		out = append(out, gatewayOf(o, g, want, listed))
	}
	slices.SortFunc(out, func(a, b rollout.Gateway) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// gatewayOf reads off the status of a gateway how far it is with a shift. A status that speaks of another shift, or of an older spec, says
// nothing.
func gatewayOf(o *v1alpha1.MeshRollout, g *v1alpha1.MeshGateway, want rollout.Shift, listed bool) rollout.Gateway {
	out := rollout.Gateway{
		Name: g.Namespace + "/" + g.Name, Listed: listed, Weight: want.Weight, State: v1alpha1.ShiftProgressing,
		Note: "its controller has not taken the step up yet",
	}
	plan, shift := &o.Spec.Plan, g.Status.Shift
	moved := func(v v1alpha1.GatewayVersion) bool { return v.Revision == plan.To.Revision }
	if o.Status.Progress.Back && shift == nil && !listed && !slices.ContainsFunc(g.Status.Versions, moved) {
		out.State, out.Note = v1alpha1.ShiftReached, "nothing of it has moved" // one that never came up must not hold the workloads
		return out
	}
	if g.Status.ObservedGeneration < g.Generation {
		return out
	}
	if shift == nil {
		only := func(revision string) bool {
			return len(g.Status.Versions) == 1 && g.Status.Versions[0].Revision == revision
		}
		if only(render.Unrevisioned) && !want.MovesAll(plan) {
			out.State, out.Note, out.Adopted = v1alpha1.ShiftReached, "it was adopted, and moves when all of its traffic does", true
			return out
		}
		at := want.New
		if want.Weight == 0 && !want.Wanted {
			at = want.Old
		}
		if only(at) && want.Weight != 0 == (at == want.New) {
			out.State, out.Note = v1alpha1.ShiftReached, "all at "+at
		}
		return out
	}
	if shift.Rollout != o.Name || shift.To != want.New || shift.Weight != traffic.Effective(g.Spec.Shift.Type, g.Status.Base, want.Weight) {
		return out
	}
	out.Weight, out.State, out.Note = shift.Weight, shift.State, shift.Message
	if listed {
		out.Failing = shift.Failing
	}
	for _, v := range g.Status.Versions {
		if v.Revision == want.New {
			out.Measured = v.Measured
		}
	}
	return out
}

// maxGateways is what the API allows in status.
const maxGateways = 20

// gatewaysOf are the gateways for the status.
func gatewaysOf(seen rollout.Observation) (out []v1alpha1.RolloutGateway) {
	for _, g := range seen.Gateways[:min(len(seen.Gateways), maxGateways)] {
		out = append(out, v1alpha1.RolloutGateway{Gateway: g.Name, Weight: g.Weight, Measured: g.Measured, State: g.State})
	}
	return out
}
