// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Misbehaviour is how one version of a gateway is worse than the other.
type Misbehaviour string

// The ways of misbehaving.
const (
	// FailsRequests answers 40% of the requests with 503.
	FailsRequests Misbehaviour = "fails-requests"
	// Slow answers each request 300 ms later.
	Slow Misbehaviour = "slow"
	// NeverReady waits for configuration that never comes before it listens, so that a pod that starts is never ready. It rejects nothing.
	NeverReady Misbehaviour = "never-ready"
	// Rejects rejects its routes: a pod that serves goes on with those it has, and one that starts is ready and knows none.
	Rejects Misbehaviour = "rejects"
)

// FailingPercent is the share of requests that [FailsRequests] fails.
const FailingPercent = 40

// noSuchFilter is configuration that no proxy knows. It stands for a filter that a version of Envoy has no more: istiod passes on what
// is inside a TypedStruct without looking at it.
const noSuchFilter = `{"@type": type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/no.such.Filter}`

// insertFilter is a patch that puts a filter before all others of the requests.
const insertFilter = `
- applyTo: HTTP_FILTER
  match:
    context: GATEWAY
    listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}
  patch:
    operation: INSERT_FIRST
    value: {name: misbehaviour, %s}`

// patches of the proxies.
var patches = map[Misbehaviour]string{
	FailsRequests: fmt.Sprintf(insertFilter, fmt.Sprintf(`typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault,
      abort: {http_status: 503, percentage: {numerator: %d}}}`, FailingPercent)),
	Slow: fmt.Sprintf(insertFilter, `typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault,
      delay: {fixed_delay: 0.3s, percentage: {numerator: 100}}}`),
	NeverReady: fmt.Sprintf(insertFilter, `config_discovery: {
      config_source: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s},
      type_urls: [type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault]}`),
	Rejects: fmt.Sprintf(`
- applyTo: VIRTUAL_HOST
  match: {context: GATEWAY}
  patch:
    operation: MERGE
    value: {typed_per_filter_config: {misbehaviour: %s}}`, noSuchFilter),
}

// Misbehave makes the pods of one revision of a gateway misbehave by an EnvoyFilter that selects nothing else, until Behave. A rollout
// between minors is not granted while there is such a filter, so it is created when one has begun.
func (e *Env) Misbehave(ctx context.Context, gateway client.ObjectKey, revision string, how Misbehaviour) error {
	filter := misbehaving(gateway)
	var list []any
	if err := yaml.Unmarshal([]byte(patches[how]), &list); err != nil {
		return fmt.Errorf("patches of %s: %w", how, err)
	}
	filter.Object["spec"] = map[string]any{
		"workloadSelector": map[string]any{"labels": map[string]any{"app": gateway.Name, v1alpha1.IstioRevision: revision}},
		"configPatches":    list,
	}
	return e.apply(ctx, filter)
}

// Behave takes back what Misbehave did.
func (e *Env) Behave(ctx context.Context, gateway client.ObjectKey) error {
	err := e.Client.Delete(ctx, misbehaving(gateway))
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func misbehaving(gateway client.ObjectKey) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1alpha3",
		"kind":       "EnvoyFilter",
		"metadata":   map[string]any{"namespace": gateway.Namespace, "name": gateway.Name + "-misbehaviour"},
	}}
}
