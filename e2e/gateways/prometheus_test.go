// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && long

package gateways

import (
	"testing"
	"time"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// failing is the share of the new version's requests that fail, from the counters of vanilla Envoy.
const failing = `sum(rate(envoy_http_downstream_rq{response_code_class="5xx", namespace="$namespace", pod=~"$gateway-$revision-.*"}[$window]))
/ sum(rate(envoy_http_downstream_rq_total{namespace="$namespace", pod=~"$gateway-$revision-.*"}[$window]))`

// A gate asks a real Prometheus server, which is killed in the middle: the rollout says that nothing can be said, neither goes on nor back,
// and goes on by itself when the server is there again.
func TestPrometheus(t *testing.T) {
	env.TemporaryNamespace(t, framework.PrometheusNamespace, nil)
	if err := env.DeployPrometheus(t.Context()); err != nil {
		t.Fatal(err)
	}
	begin(t, func(m *v1alpha1.MeshInstallation) {
		m.Spec.Upgrade.Analysis = v1alpha1.Analysis{
			Prometheus: &v1alpha1.PrometheusServer{Address: framework.PrometheusAddress, TimeoutSeconds: 2},
			Metrics: []v1alpha1.Metric{{
				Name: "errors", Query: failing, SuccessCondition: "result < 0.01", WindowSeconds: 10,
				Cadence: v1alpha1.Cadence{IntervalSeconds: 1, Count: 10, InconclusiveLimit: 2},
			}},
		}
		m.Spec.Upgrade.Canary.Steps = append(weights(50),
			v1alpha1.Step{Name: "judge", Type: v1alpha1.StepAnalysis, Analysis: &v1alpha1.AnalysisStep{Gates: []string{"errors"}}})
	})
	moments := observed(t, "default-1")
	traffic := send(t, ingress)
	setVersion(t, framework.Istio129)

	wait(t, "default-1", "to have measured twice", func(o *v1alpha1.MeshRollout) bool { return gate(o).Succeeded >= 2 })
	if err := env.StopPrometheus(t.Context()); err != nil {
		t.Fatal(err)
	}
	away := time.Now()
	o := wait(t, "default-1", "to say that nothing can be said", framework.Acts(v1alpha1.ActWait, v1alpha1.ReasonInconclusive))
	t.Logf("%.1f s after the server was gone: %s", time.Since(away).Seconds(), framework.StateOf(o))
	judged := o.Status.Progress.Step
	// A server that is away for long is no worse than one that is away.
	o = wait(t, "default-1", "to have asked in vain five times", func(o *v1alpha1.MeshRollout) bool { return gate(o).Inconclusive >= 5 })
	if p := o.Status.Progress; p.Back || p.Step != judged || gate(o).State != v1alpha1.GateInconclusive || gate(o).Failed > 0 {
		t.Errorf("without a server it stands where it is: %s, gate %+v", framework.StateOf(o), gate(o))
	}
	if err := env.StartPrometheus(t.Context()); err != nil {
		t.Fatal(err)
	}
	o = wait(t, "default-1", "to have moved everything", allMoved)
	if len(o.Spec.Approvals) > 0 {
		t.Error("somebody approved something")
	}
	alone(t, rev129)
	allServed(t, traffic())
	unmoved(t, moments())
}

// gate is the progress of the gate that asks Prometheus.
func gate(o *v1alpha1.MeshRollout) v1alpha1.GateProgress {
	for _, g := range o.Status.Progress.Gates {
		if g.Name == "errors" {
			return g
		}
	}
	return v1alpha1.GateProgress{}
}
