// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// ConnectionAge closes the connections of a gateway's clients after a while, for all its versions; nil where that is not wanted. Envoy
// asks a client to go elsewhere, over HTTP/2 at once and over HTTP/1 with the answer to its next request, and lets what is under way end.
// An idle connection over HTTP/1 stays: to close it could cross with a request.
func ConnectionAge(r GatewayRequest, shared []*unstructured.Unstructured) *unstructured.Unstructured {
	i := slices.IndexFunc(shared, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Service" })
	if r.Shift.MaxConnectionAgeSeconds <= 0 || i < 0 {
		return nil
	}
	pods := map[string]any{}
	selector, _, _ := unstructured.NestedStringMap(shared[i].Object, "spec", "selector")
	for key, value := range selector {
		if key != revisionLabel {
			pods[key] = value
		}
	}
	out := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
		"metadata": map[string]any{"name": r.Name + "-connection-age", "namespace": r.GatewayNamespace},
		"spec": map[string]any{
			"workloadSelector": map[string]any{"labels": pods},
			"configPatches": []any{map[string]any{
				"applyTo": "NETWORK_FILTER",
				"match": map[string]any{
					"context":  "GATEWAY",
					"listener": map[string]any{"filterChain": map[string]any{"filter": map[string]any{"name": "envoy.filters.network.http_connection_manager"}}},
				},
				"patch": map[string]any{"operation": "MERGE", "value": map[string]any{"typed_config": map[string]any{
					"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
					"common_http_protocol_options": map[string]any{
						"max_connection_duration": fmt.Sprintf("%ds", r.Shift.MaxConnectionAgeSeconds),
					},
					"http1_safe_max_connection_duration": true,
				}}},
			}},
		},
	}}
	own([]*unstructured.Unstructured{out}, map[string]string{v1alpha1.LabelMesh: r.Mesh, v1alpha1.LabelGateway: r.Name})
	return out
}
