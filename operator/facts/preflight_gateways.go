// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/preflight"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/traffic"
)

// gateways are those of the mesh that move with it, each as the target's chart has it.
func (r *reading) gateways(ctx context.Context) error {
	if r.inquiry.Mesh == nil {
		return nil
	}
	bundle, err := r.gatherer.Library.Get(ctx, r.inquiry.To.String())
	if err != nil {
		return err
	}
	request, err := r.request(bundle)
	if err != nil {
		return err
	}
	moving, err := r.moving(ctx)
	if err != nil {
		return err
	}
	for i := range moving {
		g := &moving[i]
		refused := func(err error) {
			r.out.Gateways = append(r.out.Gateways, preflight.Gateway{Namespace: g.Namespace, Name: g.Name, Failure: err.Error()})
		}
		values, err := v1alpha1.DecodeMap(g.Spec.Values)
		if err != nil {
			refused(err)
			continue
		}
		full := render.GatewayRequest{Request: request, Name: g.Name, GatewayNamespace: g.Namespace, GatewayValues: values, Shift: g.Spec.Shift}
		objects, err := render.Gateway(full)
		if err != nil {
			refused(err)
			continue
		}
		has, _ := traffic.ReplicasOf(values)
		has = max(has, r.sizes[types.NamespacedName{Namespace: g.Namespace, Name: g.Name}])
		out, err := gatewayOf(full, objects, has, r.out.Move.InPlace)
		if err != nil {
			return err
		}
		r.out.Gateways = append(r.out.Gateways, out)
	}
	return nil
}

// moving are the gateways that move with the mesh: those that it lists, and those of teams.
func (r *reading) moving(ctx context.Context) (out []v1alpha1.MeshGateway, err error) {
	m := r.inquiry.Mesh
	add := func(namespace, name string, spec v1alpha1.MeshGatewaySpec) {
		if spec.VersionPolicy == v1alpha1.VersionHold {
			return
		}
		g := v1alpha1.MeshGateway{Spec: spec}
		g.Namespace, g.Name = namespace, name
		out = append(out, g)
	}
	listed := map[types.NamespacedName]bool{}
	for _, g := range m.Spec.Gateways {
		listed[types.NamespacedName{Namespace: g.Namespace, Name: g.Name}] = true
		add(g.Namespace, g.Name, v1alpha1.MeshGatewaySpec{Values: g.Values, VersionPolicy: g.VersionPolicy, Shift: g.Shift})
	}
	var all v1alpha1.MeshGatewayList
	err = r.live.List(ctx, &all)
	if apierrors.IsForbidden(err) {
		return out, nil // enrollment has told so
	}
	for _, g := range all.Items {
		if g.Spec.Mesh == m.Name && !listed[types.NamespacedName{Namespace: g.Namespace, Name: g.Name}] {
			add(g.Namespace, g.Name, g.Spec)
		}
	}
	slices.SortFunc(out, func(a, b v1alpha1.MeshGateway) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return out, err
}

// gatewayOf keeps of a gateway what is judged. Has is how many pods it has.
func gatewayOf(r render.GatewayRequest, objects render.GatewayObjects, has int32, inPlace bool) (preflight.Gateway, error) {
	out := preflight.Gateway{Namespace: r.GatewayNamespace, Name: r.Name}
	written := func(kind schema.GroupVersionKind) {
		resource, _ := meta.UnsafeGuessKindToResource(kind)
		out.Writes = append(out.Writes, resource.GroupResource())
	}
	for _, o := range slices.Concat(objects.Shared, objects.Workload) {
		written(o.GroupVersionKind())
	}
	if age := render.ConnectionAge(r, objects.Shared); age != nil {
		written(age.GroupVersionKind())
	}
	if r.Shift.Type == v1alpha1.ShiftHTTPRoute {
		written(schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"})
	}
	d, found, err := deploymentOf(objects.Workload)
	if err != nil || !found {
		return out, err
	}
	out.Labels, out.Containers, out.Pods = d.Spec.Template.Labels, requirements(d), has
	if inPlace {
		out.Pods = surge(d.Spec.Strategy, has)
	}
	return out, nil
}

// surge is how many pods more a rolling update can't do without. One that may take pods away goes on without any.
//
// Source: Kubernetes, pkg/controller/deployment/util, ResolveFenceposts; a quarter is the API server's default of both.
func surge(s appsv1.DeploymentStrategy, pods int32) int32 {
	if s.Type == appsv1.RecreateDeploymentStrategyType {
		return 0
	}
	quarter := intstr.FromString("25%")
	scaled := func(said *intstr.IntOrString, up bool) int {
		if said == nil {
			said = &quarter
		}
		n, err := intstr.GetScaledValueFromIntOrPercent(said, int(pods), up)
		if err != nil {
			return 0 // the API server refuses it
		}
		return n
	}
	var most, away *intstr.IntOrString
	if s.RollingUpdate != nil {
		most, away = s.RollingUpdate.MaxSurge, s.RollingUpdate.MaxUnavailable
	}
	if scaled(away, false) > 0 || scaled(most, true) == 0 {
		return 0
	}
	return 1 // one by one, if need be
}

// deploymentOf is the Deployment among objects.
func deploymentOf(objects []*unstructured.Unstructured) (out appsv1.Deployment, found bool, err error) {
	for _, o := range objects {
		if o.GetKind() == "Deployment" {
			err = runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &out)
			return out, true, err
		}
	}
	return out, false, nil
}
