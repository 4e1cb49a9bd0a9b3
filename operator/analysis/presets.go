// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"fmt"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Preset is a ready-made metric. Its query takes the series of Istio's telemetry where they are there, and Envoy's where they are not.
// Pods are told by the labels namespace and pod, as Prometheus gives them to what it finds in Kubernetes.
type Preset struct {
	Name v1alpha1.MetricPreset
	// Istio and Envoy are the queries by kind of telemetry; Envoy is empty where both have the same.
	Istio, Envoy string
	// Success and Failure are the conditions.
	Success, Failure string
	// Says what it measures, in a sentence.
	Says string
}

// pods selects the pods of the new version of a gateway: <gateway>-<revision>-<hash>-<pod>.
const pods = `namespace="$namespace",pod=~"$gateway-$revision-[a-z0-9]+-[a-z0-9]+"`

// istiods selects the pods of the new version's istiod.
const istiods = `pod=~"istiod-$revision-[a-z0-9]+-[a-z0-9]+"`

// Presets are the ready-made metrics.
//
// Source of the names: istio.io/docs/reference/config/metrics, pilot/pkg/xds/monitoring.go, and Envoy's statistics with the tags of
// Istio's bootstrap.
func Presets() []Preset {
	return []Preset{
		{
			Name: v1alpha1.PresetSuccessRate, Says: "share of the requests to the new version that are not answered with 5xx",
			Istio: `1 - (sum(rate(istio_requests_total{` + pods + `,response_code=~"5.."}[$window])) or vector(0)) / ` +
				`sum(rate(istio_requests_total{` + pods + `}[$window]))`,
			Envoy: `1 - (sum(rate(envoy_http_downstream_rq{` + pods + `,http_conn_manager_prefix=~"outbound_.*",response_code_class="5xx"}[$window])) or vector(0)) / ` +
				`sum(rate(envoy_http_downstream_rq_total{` + pods + `,http_conn_manager_prefix=~"outbound_.*"}[$window]))`,
			Success: "result >= 0.99", Failure: "result < 0.95",
		},
		{
			Name: v1alpha1.PresetLatencyP99, Says: "time within which 99 of 100 requests to the new version are answered, in milliseconds",
			Istio: `histogram_quantile(0.99, sum by (le) (rate(istio_request_duration_milliseconds_bucket{` + pods + `}[$window])))`,
			Envoy: `histogram_quantile(0.99, sum by (le) (rate(envoy_http_downstream_rq_time_bucket{` + pods +
				`,http_conn_manager_prefix=~"outbound_.*"}[$window])))`,
			Success: "result <= 500.0", Failure: "result > 1000.0",
		},
		{
			Name: v1alpha1.PresetTCPConnectFailures, Says: "connections a second that the new version could not open to what it forwards to",
			Istio:   `sum(rate(envoy_cluster_upstream_cx_connect_fail{` + pods + `}[$window]))`,
			Success: "result <= 0.1", Failure: "result > 1.0",
		},
		{
			Name: v1alpha1.PresetIstiodPushErrors, Says: "configurations that proxies rejected of the new version's istiod within the window, or that it could not send",
			// A counter of istiod is not there before the first thing that it counts; pilot_info is always.
			Istio: `0 * sum(pilot_info{` + istiods + `}) + ` + grown("pilot_total_xds_rejects") + ` + ` + grown("pilot_total_xds_internal_errors") + ` + ` +
				grown("pilot_xds_write_timeout"),
			Success: "result == 0.0", Failure: "result > 5.0",
		},
	}
}

// grown is by how much a counter of istiod has grown within the window, also when it was not there before; 0 where it is not there.
func grown(counter string) string {
	of := counter + `{` + istiods + `}`
	return `clamp_min((sum(` + of + `) or vector(0)) - (sum(` + of + ` offset $window) or vector(0)), 0)`
}

// Query takes the series that are there.
func (p Preset) Query() string {
	if p.Envoy == "" {
		return p.Istio
	}
	return "(" + p.Istio + ") or (" + p.Envoy + ")"
}

// Resolved is a metric that can be asked and judged. One of the conditions may be nil.
type Resolved struct {
	Query            string
	Success, Failure *Condition
}

// Resolve compiles the conditions of a metric, and looks up its preset. What the user wrote beside a preset takes the place of its
// conditions. The error names the field.
func Resolve(m v1alpha1.Metric) (Resolved, error) {
	out := Resolved{Query: m.Query}
	success, failure := m.SuccessCondition, m.FailureCondition
	for _, p := range Presets() {
		if p.Name != m.Preset {
			continue
		}
		out.Query = p.Query()
		if success == "" && failure == "" {
			success, failure = p.Success, p.Failure
		}
	}
	if out.Query == "" {
		return out, fmt.Errorf("preset %q is none that there is", m.Preset)
	}
	if success == "" && failure == "" {
		return out, fmt.Errorf("metric %s has neither successCondition nor failureCondition", m.Name)
	}
	for field, c := range map[string]struct {
		text string
		into **Condition
	}{"successCondition": {success, &out.Success}, "failureCondition": {failure, &out.Failure}} {
		if c.text == "" {
			continue
		}
		compiled, err := Compile(c.text)
		if err != nil {
			return out, fmt.Errorf("%s %w", field, err)
		}
		*c.into = compiled
	}
	return out, nil
}
