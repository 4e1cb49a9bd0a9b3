// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/probe"
	"github.com/meshwright/meshwright/operator/traffic"
)

// proxyConfig is the annotation by which a pod configures its own proxy.
const proxyConfig = "proxy.istio.io/config"

// withTimes lays over the user's values how pods end, and what their proxies count. Times that the user sets are the user's.
func withTimes(values map[string]any, shift v1alpha1.GatewayShift) (map[string]any, error) {
	times := traffic.TimesOf(max(1, shift.DrainSeconds))
	annotations, _ := values["podAnnotations"].(map[string]any)
	written, _ := annotations[proxyConfig].(string)
	config := map[string]any{}
	if err := yaml.Unmarshal([]byte(written), &config); err != nil {
		return nil, fmt.Errorf("values.podAnnotations: %s is no YAML: %w", proxyConfig, err)
	}
	config = merge(config, map[string]any{
		"terminationDrainDuration": fmt.Sprintf("%ds", times.DrainSeconds),
		"proxyMetadata": map[string]any{
			"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true",
			"MINIMUM_DRAIN_DURATION":          fmt.Sprintf("%ds", times.MinimumSeconds),
		},
	})
	text, err := yaml.Marshal(config)
	if err != nil {
		return nil, err
	}
	statistics := strings.Join(probe.StatsRegexps, ",")
	if asked, _ := annotations[probe.StatsAnnotation].(string); asked != "" {
		statistics = asked + "," + statistics
	}
	out := merge(values, map[string]any{"podAnnotations": map[string]any{proxyConfig: string(text), probe.StatsAnnotation: statistics}})
	for name, seconds := range map[string]int32{"terminationGracePeriodSeconds": times.GraceSeconds, "minReadySeconds": times.MinReadySeconds} {
		if out[name] == nil {
			out[name] = int64(seconds)
		}
	}
	return out, nil
}

// PointAt makes a Service select the pods of one revision; all pods of the gateway when it is empty.
func PointAt(service *unstructured.Unstructured, revision string) {
	if revision == "" || revision == Unrevisioned {
		unstructured.RemoveNestedField(service.Object, "spec", "selector", revisionLabel)
		return
	}
	_ = unstructured.SetNestedField(service.Object, revision, "spec", "selector", revisionLabel)
}

// Scale gives a workload a number of pods: exactly without an autoscaler, at least with one, whose bound is lowered to limit unless that
// is 0. The objects that were given are left as they are. Negative replicas change nothing.
func Scale(workload []*unstructured.Unstructured, replicas, limit int32) ([]*unstructured.Unstructured, error) {
	if replicas < 0 {
		return workload, nil
	}
	scaler := slices.IndexFunc(workload, func(o *unstructured.Unstructured) bool { return o.GetKind() == "HorizontalPodAutoscaler" })
	var out []*unstructured.Unstructured
	for i, o := range workload {
		switch {
		case i == scaler:
			o = o.DeepCopy()
			most, _, err := unstructured.NestedInt64(o.Object, "spec", "maxReplicas")
			if err != nil {
				return nil, err
			}
			least, _, err := unstructured.NestedInt64(o.Object, "spec", "minReplicas")
			if err != nil {
				return nil, err
			}
			least = max(least, int64(replicas))
			if limit > 0 {
				most, least = min(most, int64(limit)), min(least, int64(limit))
			}
			if err := unstructured.SetNestedField(o.Object, min(least, most), "spec", "minReplicas"); err != nil {
				return nil, err
			}
			if err := unstructured.SetNestedField(o.Object, most, "spec", "maxReplicas"); err != nil {
				return nil, err
			}
		case scaler < 0 && o.GetKind() == "Deployment":
			o = o.DeepCopy()
			if err := unstructured.SetNestedField(o.Object, int64(replicas), "spec", "replicas"); err != nil {
				return nil, err
			}
		}
		out = append(out, o)
	}
	return out, nil
}

// Route are the objects of a shift of type HTTPRoute: a Service for each version, and the route of the outer Gateways that divides the
// requests between them. New is empty while only one version is there.
func Route(r GatewayRequest, shared []*unstructured.Unstructured, old, next string, weight int32) ([]*unstructured.Unstructured, error) {
	i := slices.IndexFunc(shared, func(o *unstructured.Unstructured) bool { return o.GetKind() == "Service" })
	if i < 0 {
		return nil, fmt.Errorf("gateway %s/%s has no Service to route to", r.GatewayNamespace, r.Name)
	}
	var out []*unstructured.Unstructured
	var backends []any
	for _, side := range []struct {
		revision string
		weight   int32
	}{{old, 100 - weight}, {next, weight}} {
		if side.revision == "" {
			continue
		}
		r.Revision = side.revision
		service, err := versionService(shared[i], r)
		if err != nil {
			return nil, err
		}
		out = append(out, service)
		backends = append(backends, map[string]any{"name": service.GetName(), "port": int64(r.Shift.HTTPRoute.Port), "weight": int64(side.weight)})
	}
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
		var names []any
		for _, h := range r.Shift.HTTPRoute.Hostnames {
			names = append(names, h)
		}
		spec["hostnames"] = names
	}
	route := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
		"metadata": map[string]any{"name": r.Name, "namespace": r.GatewayNamespace}, "spec": spec,
	}}
	own([]*unstructured.Unstructured{route}, map[string]string{v1alpha1.LabelMesh: r.Mesh, v1alpha1.LabelGateway: r.Name})
	return append(out, route), nil
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

// ConnectionAge closes the connections of a gateway's clients after a while; nil where that is not wanted. Envoy asks a client to go
// elsewhere and lets what is under way end.
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
				}}},
			}},
		},
	}}
	own([]*unstructured.Unstructured{out}, map[string]string{v1alpha1.LabelMesh: r.Mesh, v1alpha1.LabelGateway: r.Name})
	return out
}
