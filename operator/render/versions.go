// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Unrevisioned stands for the version of a gateway that was adopted and has no revision of its own yet: the Deployment that bears the
// plain name of the gateway. No revision can be called so.
const Unrevisioned = "(adopted)"

// RevisionOf is the revision of a gateway's Deployment.
func RevisionOf(deployment *unstructured.Unstructured, gateway string) string {
	if deployment.GetName() == gateway {
		return Unrevisioned
	}
	revision, _, _ := unstructured.NestedString(deployment.Object, "spec", "selector", "matchLabels", revisionLabel)
	return revision
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
