// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package analysis

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// recorded are series as Prometheus has them of a gateway's pods and of istiods, one point each 15 seconds: with Istio's telemetry, and
// with Envoy's alone. The old version's, and another gateway's, are beside them, and are not to be counted.
const (
	ofIstio = `
load 15s
  istio_requests_total{namespace="istio-ingress", pod="ingress-1-29-1-7d9f8b6c5-abcde", reporter="source", response_code="200"} 0+980x20
  istio_requests_total{namespace="istio-ingress", pod="ingress-1-29-1-7d9f8b6c5-abcde", reporter="source", response_code="503"} 0+20x20
  istio_requests_total{namespace="istio-ingress", pod="ingress-1-28-2-7d9f8b6c5-abcde", reporter="source", response_code="503"} 0+5000x20
  istio_requests_total{namespace="istio-ingress", pod="ingress-inner-1-29-1-7d9f8b6c5-abcde", reporter="source", response_code="503"} 0+5000x20
  istio_request_duration_milliseconds_bucket{namespace="istio-ingress", pod="ingress-1-29-1-7d9f8b6c5-abcde", le="50"} 0+900x20
  istio_request_duration_milliseconds_bucket{namespace="istio-ingress", pod="ingress-1-29-1-7d9f8b6c5-abcde", le="100"} 0+1000x20
  istio_request_duration_milliseconds_bucket{namespace="istio-ingress", pod="ingress-1-29-1-7d9f8b6c5-abcde", le="+Inf"} 0+1000x20
  envoy_cluster_upstream_cx_connect_fail{namespace="istio-ingress", pod="ingress-1-29-1-7d9f8b6c5-abcde", cluster_name="outbound|80||cart"} 0+3x20
  pilot_info{namespace="istio-system", pod="istiod-1-29-1-7d9f8b6c5-abcde", version="1.29.1"} 1+0x20
  pilot_total_xds_rejects{namespace="istio-system", pod="istiod-1-28-2-7d9f8b6c5-abcde"} 0+9x20
`
	ofEnvoy = `
load 15s
  envoy_http_downstream_rq_total{namespace="istio-ingress", pod="ingress-1-29-1-7d9f8b6c5-abcde", http_conn_manager_prefix="outbound_0.0.0.0_80"} 0+1000x20
  envoy_http_downstream_rq{namespace="istio-ingress", pod="ingress-1-29-1-7d9f8b6c5-abcde", http_conn_manager_prefix="outbound_0.0.0.0_80", response_code_class="5xx"} 0+20x20
  envoy_http_downstream_rq{namespace="istio-ingress", pod="ingress-1-29-1-7d9f8b6c5-abcde", http_conn_manager_prefix="agent", response_code_class="5xx"} 0+800x20
  envoy_http_downstream_rq_time_bucket{namespace="istio-ingress", pod="ingress-1-29-1-7d9f8b6c5-abcde", http_conn_manager_prefix="outbound_0.0.0.0_80", le="50"} 0+900x20
  envoy_http_downstream_rq_time_bucket{namespace="istio-ingress", pod="ingress-1-29-1-7d9f8b6c5-abcde", http_conn_manager_prefix="outbound_0.0.0.0_80", le="100"} 0+1000x20
  envoy_http_downstream_rq_time_bucket{namespace="istio-ingress", pod="ingress-1-29-1-7d9f8b6c5-abcde", http_conn_manager_prefix="outbound_0.0.0.0_80", le="+Inf"} 0+1000x20
`
	// Every request is answered with an error, so that there is no other series.
	outage = `
load 15s
  istio_requests_total{namespace="istio-ingress", pod="ingress-1-29-1-7d9f8b6c5-abcde", response_code="503"} 0+20x20
`
	// The counter of rejections comes with the first ones, and stays as it is.
	firstRejects = `
load 15s
  pilot_info{namespace="istio-system", pod="istiod-1-29-1-7d9f8b6c5-abcde", version="1.29.1"} 1+0x20
  pilot_total_xds_rejects{namespace="istio-system", pod="istiod-1-29-1-7d9f8b6c5-abcde", type="lds"} _x18 7 7 7
`
)

// ask evaluates a query in the engine of Prometheus.
func ask(t *testing.T, series, query string) []float64 {
	t.Helper()
	storage := promqltest.LoadedStorage(t, series)
	t.Cleanup(func() { _ = storage.Close() })
	engine := promqltest.NewTestEngine(t, false, 0, promqltest.DefaultMaxSamplesPerQuery)
	q, err := engine.NewInstantQuery(t.Context(), storage, nil, query, time.Unix(300, 0).UTC())
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	result := q.Exec(t.Context())
	if result.Err != nil {
		t.Fatal(result.Err)
	}
	var out []float64
	vector, err := result.Vector()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range vector {
		out = append(out, s.F)
	}
	return out
}

func TestPresetsOnRecordedSeries(t *testing.T) {
	tests := []struct {
		preset v1alpha1.MetricPreset
		series string
		from   string
		want   float64
		judged Outcome
	}{
		{v1alpha1.PresetSuccessRate, ofIstio, "Istio", 0.98, Inconclusive},
		{v1alpha1.PresetSuccessRate, ofEnvoy, "Envoy", 0.98, Inconclusive},
		{v1alpha1.PresetLatencyP99, ofIstio, "Istio", 95, Success},
		{v1alpha1.PresetLatencyP99, ofEnvoy, "Envoy", 95, Success},
		{v1alpha1.PresetTCPConnectFailures, ofIstio, "Envoy", 0.2, Inconclusive},
		{v1alpha1.PresetIstiodPushErrors, ofIstio, "istiod", 0, Success},
		{v1alpha1.PresetSuccessRate, outage, "an outage", 0, Failure},
		{v1alpha1.PresetIstiodPushErrors, firstRejects, "an istiod whose first configurations were rejected", 7, Failure},
	}
	for _, tt := range tests {
		t.Run(string(tt.preset)+" from "+tt.from, func(t *testing.T) {
			resolved, err := Resolve(v1alpha1.Metric{Name: "m", Preset: tt.preset})
			if err != nil {
				t.Fatal(err)
			}
			query, err := Query(resolved.Query, sample)
			if err != nil {
				t.Fatal(err)
			}
			got := ask(t, tt.series, query)
			if len(got) != 1 || math.Abs(got[0]-tt.want) > 0.01*math.Max(1, tt.want) {
				t.Fatalf("%s gives %v, want %v", query, got, tt.want)
			}
			if outcome, note := Judge(resolved, got); outcome != tt.judged {
				t.Errorf("%v is judged %s (%s), want %s", got, outcome, note, tt.judged)
			}
		})
	}
}

// Without series there is no data, and no preset passes.
func TestPresetsWithoutSeries(t *testing.T) {
	for _, p := range Presets() {
		resolved, err := Resolve(v1alpha1.Metric{Name: "m", Preset: p.Name})
		if err != nil {
			t.Fatal(err)
		}
		query, err := Query(resolved.Query, sample)
		if err != nil {
			t.Fatal(err)
		}
		if outcome, note := Judge(resolved, ask(t, "load 15s\n  up 1x20\n", query)); outcome != Inconclusive {
			t.Errorf("%s: %s: %s", p.Name, outcome, note)
		}
	}
}
