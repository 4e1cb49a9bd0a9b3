// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/apply"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/traffic"
)

// request is what names a version of the gateway.
func request(s *scope, revision string) render.GatewayRequest {
	return render.GatewayRequest{
		Request: render.Request{Revision: revision}, Name: s.gateway.Name, GatewayNamespace: s.gateway.Namespace,
	}
}

// unavailableError says that the charts of a version can't be had now.
type unavailableError struct{ err error }

func (e *unavailableError) Error() string { return e.err.Error() }
func (e *unavailableError) Unwrap() error { return e.err }

// version renders one version of the gateway.
func (r *Reconciler) version(ctx context.Context, s *scope, values map[string]any, revision string) (render.GatewayObjects, render.GatewayRequest, error) {
	full := request(s, revision)
	bundle, err := r.Library.Get(ctx, s.revisions[revision].Spec.Version)
	if err != nil {
		return render.GatewayObjects{}, full, &unavailableError{err}
	}
	full.Bundle, full.KubeVersion, full.Mesh = bundle, r.KubeVersion, s.mesh.Name
	full.Namespace, full.Images, full.GatewayValues, full.Shift = s.mesh.Spec.Namespace, s.mesh.Spec.Images, values, s.gateway.Spec.Shift
	objects, err := r.rendered.gateway(types.NamespacedName{Namespace: s.gateway.Namespace, Name: s.gateway.Name}, full)
	return objects, full, err
}

// phases renders what the decision wants. The Service and what else exists once stand in a phase of their own, as the version has them
// that gets the traffic: the address must not depend on a workload.
func (r *Reconciler) phases(ctx context.Context, s *scope, values map[string]any, d traffic.Decision) ([]apply.Phase, error) {
	sizes := map[string]int32{s.want.New: d.New}
	limits := map[string]int32{}
	if s.old != "" {
		sizes[s.old], limits[s.old] = d.Old, d.Cap
	}
	objects, full, err := r.version(ctx, s, values, s.leading(d.Pointer).Name)
	if err != nil {
		return nil, err
	}
	ours, err := additions(s, full, objects, d)
	if err != nil {
		return nil, err
	}
	var workloads []*unstructured.Unstructured
	for _, revision := range slices.Sorted(maps.Keys(sizes)) {
		if s.revisions[revision] == nil || sizes[revision] < 0 {
			continue
		}
		objects, _, err := r.version(ctx, s, values, revision)
		if err != nil {
			return nil, err
		}
		scaled, err := render.Scale(objects.Workload, sizes[revision], limits[revision])
		if err != nil {
			return nil, err
		}
		workloads = append(workloads, scaled...)
	}
	phases := make([]apply.Phase, 3)
	phases[0].Adopt = adopts(s)
	for i, group := range [][]*unstructured.Unstructured{shared(s, objects, d), ours, workloads} {
		if phases[i].Objects, err = apply.Want(group); err != nil {
			return nil, err
		}
	}
	return phases, nil
}

// leading is the revision whose charts make what exists once: the one that the traffic goes to. It is nil while there is none.
func (s *scope) leading(p traffic.Pointer) *v1alpha1.MeshRevision {
	if old := s.revisions[s.old]; old != nil && p != traffic.ToNew {
		return old
	}
	if next := s.revisions[s.want.New]; next != nil {
		return next
	}
	if s.want.New == render.Unrevisioned {
		return s.revisions[s.mesh.Status.StableRevision]
	}
	return nil
}

// shared are the objects of the chart that exist once over both versions, with the Service pointed as decided.
func shared(s *scope, objects render.GatewayObjects, d traffic.Decision) (out []*unstructured.Unstructured) {
	pointed := map[traffic.Pointer]string{traffic.ToOld: s.old, traffic.ToNew: s.want.New, traffic.ToBoth: ""}[d.Pointer]
	for _, o := range objects.Shared {
		if o.GetKind() == serviceKind.Kind {
			o = o.DeepCopy()
			render.PointAt(o, pointed)
		}
		out = append(out, o)
	}
	return out
}

// additions are what a shift adds to the chart's objects: the maximum age of connections, and a route that divides requests as decided.
// They are never taken over from somebody else.
func additions(s *scope, full render.GatewayRequest, objects render.GatewayObjects, d traffic.Decision) (out []*unstructured.Unstructured, err error) {
	if age := render.ConnectionAge(full, objects.Shared); age != nil {
		out = append(out, age)
	}
	if full.Shift.Type != v1alpha1.ShiftHTTPRoute {
		return out, nil
	}
	next := s.want.New
	if d.New < 0 {
		next = ""
	}
	route, err := render.Route(full, objects.Shared, s.old, next, d.Route)
	return append(out, route...), err
}
