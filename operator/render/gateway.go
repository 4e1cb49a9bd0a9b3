// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// GatewayRequest is what one version of a gateway is rendered from.
type GatewayRequest struct {
	Request
	// Name and GatewayNamespace of the MeshGateway.
	Name, GatewayNamespace string
	// GatewayValues of the gateway chart, as the user wrote them.
	GatewayValues map[string]any
	// Shift says how its traffic moves, and how its pods end.
	Shift v1alpha1.GatewayShift
}

// GatewayObjects are the objects of one version of a gateway.
type GatewayObjects struct {
	// Shared exist once, over all versions: ServiceAccount and its rights, Service, PodDisruptionBudget.
	Shared []*unstructured.Unstructured
	// Workload is the version's own: Deployment, HorizontalPodAutoscaler, NetworkPolicy. A NetworkPolicy is its version's by its name,
	// as the chart has it, and selects the pods of all: policies add up, and pods that drain stay covered when their own goes.
	Workload []*unstructured.Unstructured
}

// WorkloadName is the name of a gateway's Deployment and HorizontalPodAutoscaler for one revision: the plain name of the gateway for a
// version that was adopted.
func (r GatewayRequest) WorkloadName() string {
	if r.Revision == Unrevisioned {
		return r.Name
	}
	return r.Name + "-" + r.Revision
}

// Gateway are the objects of one version of a gateway. The Deployment and its autoscaler carry the revision in their name and
// selector, so that a second version can stand beside the first without either counting the other's pods; ServiceAccount, Service
// and PodDisruptionBudget exist once, over all versions.
func Gateway(r GatewayRequest) (GatewayObjects, error) {
	var out GatewayObjects
	all, err := gateway(r)
	for _, o := range all {
		switch o.GetKind() {
		case "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy":
			out.Workload = append(out.Workload, o)
		default:
			out.Shared = append(out.Shared, o)
		}
	}
	return out, err
}

func gateway(r GatewayRequest) ([]*unstructured.Unstructured, error) {
	ours := map[string]any{
		"name":           r.Name,
		"revision":       r.Revision,
		"serviceAccount": map[string]any{"create": true, "name": r.Name},
	}
	if len(r.Images.PullSecrets) > 0 {
		secrets := make([]any, len(r.Images.PullSecrets))
		for i, name := range r.Images.PullSecrets {
			secrets[i] = map[string]any{"name": name}
		}
		ours["imagePullSecrets"] = secrets
	}
	values, err := withTimes(r.GatewayValues, r.Shift)
	if err != nil {
		return nil, err
	}
	all, err := objects(r.Request, istio.ChartGateway, r.Name, r.GatewayNamespace, merge(values, ours))
	if err != nil {
		return nil, err
	}
	if err := onlyItsOwn(all, r); err != nil {
		return nil, err
	}
	selector := map[string]string{}
	budget := false
	for _, o := range all {
		switch o.GetKind() {
		case "Deployment":
			if selector, err = versioned(o, r); err != nil {
				return nil, err
			}
		case "HorizontalPodAutoscaler":
			o.SetName(r.WorkloadName())
			if err := unstructured.SetNestedField(o.Object, r.WorkloadName(), "spec", "scaleTargetRef", "name"); err != nil {
				return nil, err
			}
		case "PodDisruptionBudget":
			budget = true
		}
	}
	if len(selector) == 0 {
		return nil, fmt.Errorf("chart %s of Istio %s rendered no Deployment", istio.ChartGateway, r.Bundle.Version())
	}
	if !budget {
		all = append(all, defaultBudget(r, selector))
	}
	own(all, map[string]string{v1alpha1.LabelMesh: r.Mesh, v1alpha1.LabelGateway: r.Name})
	return all, nil
}

// gatewayKinds are the kinds that a gateway consists of.
var gatewayKinds = []schema.GroupVersionKind{
	{Version: "v1", Kind: "Service"},
	{Version: "v1", Kind: "ServiceAccount"},
	{Group: "apps", Version: "v1", Kind: "Deployment"},
	{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"},
	{Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy"},
	{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "Role"},
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleBinding"},
}

// onlyItsOwn refuses whatever is no part of a gateway. Charts print some values as they are, so that a value could carry
// objects along; teams write values, and the operator applies objects with its own rights.
func onlyItsOwn(all []*unstructured.Unstructured, r GatewayRequest) error {
	seen := map[schema.GroupVersionKind]bool{}
	for _, o := range all {
		kind := o.GroupVersionKind()
		named := o.GetName() == r.Name || kind.Kind == "NetworkPolicy" && o.GetName() == r.WorkloadName()
		if !slices.Contains(gatewayKinds, kind) || seen[kind] || !named || o.GetNamespace() != r.GatewayNamespace {
			return fmt.Errorf("the values of gateway %s/%s render %s %s/%s, which is no part of a gateway: look for line breaks in them",
				r.GatewayNamespace, r.Name, kind.Kind, o.GetNamespace(), o.GetName())
		}
		seen[kind] = true
	}
	return nil
}

// revisionLabel tells istiod's injector which revision a pod belongs to.
const revisionLabel = "istio.io/rev"

// versioned puts the revision into the name and selector of a gateway's Deployment, and returns the selector that it had:
// the one over all versions.
func versioned(deployment *unstructured.Unstructured, r GatewayRequest) (map[string]string, error) {
	shared, _, err := unstructured.NestedStringMap(deployment.Object, "spec", "selector", "matchLabels")
	if err != nil {
		return nil, err
	}
	deployment.SetName(r.WorkloadName())
	for _, where := range [][]string{{"spec", "selector", "matchLabels"}, {"spec", "template", "metadata", "labels"}} {
		if err := unstructured.SetNestedField(deployment.Object, r.Revision, append(where, revisionLabel)...); err != nil {
			return nil, err
		}
	}
	return shared, nil
}

// defaultBudget lets one pod of a gateway be away at a time: the chart itself writes a budget only when it is asked for one
// and more than one replica runs at least.
func defaultBudget(r GatewayRequest, selector map[string]string) *unstructured.Unstructured {
	labels := map[string]any{}
	for key, value := range selector {
		labels[key] = value
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "policy/v1",
		"kind":       "PodDisruptionBudget",
		"metadata":   map[string]any{"name": r.Name, "namespace": r.GatewayNamespace},
		"spec":       map[string]any{"maxUnavailable": int64(1), "selector": map[string]any{"matchLabels": labels}},
	}}
}
