// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// proxyContainer is the container of a gateway's pod, whether Istio's gateway chart or istioctl made it.
const proxyContainer = "istio-proxy"

// Adoptable says why the Deployment that bears the plain name of a gateway can't be adopted, and what to do; nil when it can: it is a
// gateway of Istio's, and the Service among the shared objects, which takes the place of its own, selects its pods, so that nothing that
// is sent to the gateway is lost.
func Adoptable(deployment *unstructured.Unstructured, shared []*unstructured.Unstructured) error {
	why := unadoptable(deployment, shared)
	if why == "" {
		return nil
	}
	return fmt.Errorf("gateway %s/%s can't be adopted: %s", deployment.GetNamespace(), deployment.GetName(), why)
}

func unadoptable(deployment *unstructured.Unstructured, shared []*unstructured.Unstructured) string {
	containers, _, _ := unstructured.NestedSlice(deployment.Object, "spec", "template", "spec", "containers")
	isProxy := func(c any) bool {
		container, _ := c.(map[string]any)
		return container["name"] == proxyContainer
	}
	if !slices.ContainsFunc(containers, isProxy) {
		return "its Deployment has no container " + proxyContainer + ", as gateways of Istio's have: choose another name for the gateway"
	}
	i := slices.IndexFunc(shared, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Service" })
	if i < 0 {
		return "it is rendered without a Service"
	}
	labels, _, _ := unstructured.NestedStringMap(deployment.Object, "spec", "template", "metadata", "labels")
	selector, _, _ := unstructured.NestedStringMap(shared[i].Object, "spec", "selector")
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		if key != revisionLabel && labels[key] != selector[key] {
			return fmt.Sprintf("its Service would select pods with %s=%s, and those that are there have %s=%q: set values.labels.%s to that",
				key, selector[key], key, labels[key], key)
		}
	}
	return ""
}
