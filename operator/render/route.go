// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// wholeWeight is the weight of a backend that gets everything.
const wholeWeight = 100

// Route are the objects of a shift of type HTTPRoute: a Service for each version, and the route of the outer Gateways that divides the
// requests between them. Weight is the percent of the next version. Either revision may be empty while only one version is there, which gets
// everything then. A version that was adopted has no Service of its own: it is reached by the gateway's.
func Route(r GatewayRequest, shared []*unstructured.Unstructured, old, next string, weight int32) ([]*unstructured.Unstructured, error) {
	i := slices.IndexFunc(shared, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Service" })
	if i < 0 {
		return nil, fmt.Errorf("gateway %s/%s has no Service to route to", r.GatewayNamespace, r.Name)
	}
	weights := map[string]int32{old: wholeWeight - weight, next: weight}
	if old == "" || next == "" {
		weights = map[string]int32{old + next: wholeWeight}
	}
	var out []*unstructured.Unstructured
	var backends []any
	for _, revision := range []string{old, next} {
		if revision == "" {
			continue
		}
		r.Revision = revision
		backends = append(backends, map[string]any{
			"name": r.WorkloadName(), "port": int64(r.Shift.HTTPRoute.Port), "weight": int64(weights[revision]),
		})
		if revision == Unrevisioned {
			continue
		}
		service, err := versionService(shared[i], r)
		if err != nil {
			return nil, err
		}
		out = append(out, service)
	}
	return append(out, route(r, backends)), nil
}

// route is the HTTPRoute of a gateway.
func route(r GatewayRequest, backends []any) *unstructured.Unstructured {
	var parents []any
	for _, p := range r.Shift.HTTPRoute.ParentRefs {
		parent := map[string]any{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": p.Name}
		for field, value := range map[string]string{"namespace": p.Namespace, "sectionName": p.SectionName} {
			if value != "" {
				parent[field] = value
			}
		}
		parents = append(parents, parent)
	}
	spec := map[string]any{"parentRefs": parents, "rules": []any{map[string]any{"backendRefs": backends}}}
	if len(r.Shift.HTTPRoute.Hostnames) > 0 {
		spec["hostnames"] = anySlice(r.Shift.HTTPRoute.Hostnames)
	}
	out := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
		"metadata": map[string]any{"name": r.Name, "namespace": r.GatewayNamespace}, "spec": spec,
	}}
	own([]*unstructured.Unstructured{out}, map[string]string{v1alpha1.LabelMesh: r.Mesh, v1alpha1.LabelGateway: r.Name})
	return out
}

// versionService is a Service inside the cluster over the pods of one version, with the ports of the gateway's own.
func versionService(shared *unstructured.Unstructured, r GatewayRequest) (*unstructured.Unstructured, error) {
	selector, _, err := unstructured.NestedStringMap(shared.Object, "spec", "selector")
	if err != nil {
		return nil, err
	}
	ports, _, err := unstructured.NestedSlice(shared.Object, "spec", "ports")
	if err != nil {
		return nil, err
	}
	for _, p := range ports {
		if port, is := p.(map[string]any); is {
			delete(port, "nodePort")
		}
	}
	out := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service",
		"metadata": map[string]any{"name": r.WorkloadName(), "namespace": r.GatewayNamespace},
		"spec":     map[string]any{"type": "ClusterIP", "ports": ports},
	}}
	out.SetLabels(shared.GetLabels())
	if err := unstructured.SetNestedStringMap(out.Object, selector, "spec", "selector"); err != nil {
		return nil, err
	}
	PointAt(out, r.Revision)
	return out, nil
}

// RouteWeight is the weight, of 100, that a route gives to a Service.
func RouteWeight(route *unstructured.Unstructured, service string) int32 {
	rules, _, _ := unstructured.NestedSlice(route.Object, "spec", "rules")
	for _, r := range rules {
		rule, _ := r.(map[string]any)
		backends, _ := rule["backendRefs"].([]any)
		for _, b := range backends {
			backend, _ := b.(map[string]any)
			if backend["name"] != service {
				continue
			}
			weight, set := backend["weight"].(int64)
			if !set {
				return 100 // the only one
			}
			return int32(weight) //nolint:gosec // we write at most 100
		}
	}
	return 0
}
