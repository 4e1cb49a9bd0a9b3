// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"strings"
	"testing"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func judge(gates ...string) v1alpha1.Step {
	return v1alpha1.Step{Name: "judge", Type: v1alpha1.StepAnalysis, Analysis: &v1alpha1.AnalysisStep{Gates: gates}}
}

func wave() v1alpha1.Step {
	return v1alpha1.Step{Name: "wave", Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: "rest", Percent: 10}}
}

// judged is a mesh with a gateway, a metric called errors, and a hook for each time.
func judged(m *v1alpha1.MeshInstallation) {
	moving(m, shiftBy(v1alpha1.ShiftReplicas, threePods))
	m.Spec.Upgrade.ProgressDeadlineSeconds = 1800
	m.Spec.Upgrade.Analysis = v1alpha1.Analysis{
		Prometheus: &v1alpha1.PrometheusServer{Address: "https://prometheus:9090"},
		Metrics: []v1alpha1.Metric{{
			Name: "errors", Query: `sum(rate(istio_requests_total{response_code=~"5.."}[$window]))`, SuccessCondition: "result < 0.01",
			Cadence: v1alpha1.Cadence{IntervalSeconds: 30, Count: 3},
		}},
		Hooks: []v1alpha1.Hook{job("ready", v1alpha1.HookBefore), job("smoke", v1alpha1.HookDuring), job("done", v1alpha1.HookAfter)},
	}
}

func job(name string, when v1alpha1.HookTime) v1alpha1.Hook {
	return v1alpha1.Hook{
		Name: name, When: when, Type: v1alpha1.HookJob, Job: &v1alpha1.JobHook{CronJob: name, Namespace: "tests", TimeoutSeconds: 600},
	}
}

func TestStepsThatJudge(t *testing.T) {
	with := func(steps ...v1alpha1.Step) func(*v1alpha1.MeshInstallation) {
		return func(m *v1alpha1.MeshInstallation) {
			judged(m)
			m.Spec.Upgrade.Canary.Steps = steps
		}
	}
	for _, tc := range []struct {
		reason string
		mesh   func(*v1alpha1.MeshInstallation)
		want   []string
	}{
		{"all gates behind a weight", with(weights(25)[0], judge()), nil},
		{"gates by name behind a wave", with(wave(), judge("errors", "smoke", "health")), nil},
		{
			"before anything moves", with(judge("errors"), wave()),
			[]string{"spec.upgrade.canary.steps[0].type", "nothing has moved by then", "behind a step of type GatewayWeight or DataPlane", "Before"},
		},
		{
			"behind a pause, with nothing moved", with(v1alpha1.Step{Name: "go", Type: v1alpha1.StepPause}, judge("errors"), wave()),
			[]string{"spec.upgrade.canary.steps[1].type", "nothing has moved"},
		},
		{
			"a gate that there is not", with(wave(), judge("health", "erors")),
			[]string{"spec.upgrade.canary.steps[1].analysis.gates[1]", "health, errors, smoke", `did you mean "errors"?`},
		},
		{
			"a hook that is asked before everything", with(wave(), judge("ready")),
			[]string{"analysis.gates[0]", "asked Before", "spec.upgrade.analysis.hooks[0].when to During"},
		},
		{
			"a hook that is asked after everything", with(wave(), judge("done")),
			[]string{"analysis.gates[0]", "asked After", "spec.upgrade.analysis.hooks[2].when to During"},
		},
		{
			"health without gateways", func(m *v1alpha1.MeshInstallation) {
				with(wave(), judge("health"))(m)
				m.Spec.Gateways = nil
			}, []string{"analysis.gates[0]", "the mesh has no gateways that follow: leave it out"},
		},
		{
			"health in place", func(m *v1alpha1.MeshInstallation) {
				with(wave(), judge("health", "errors"))(m)
				m.Spec.Upgrade.Type = v1alpha1.UpgradeInPlace
			}, []string{"analysis.gates[0]", "InPlace has one revision only: leave it out"},
		},
		{
			"metrics in place", func(m *v1alpha1.MeshInstallation) {
				with(wave(), judge("errors"))(m)
				m.Spec.Upgrade.Type = v1alpha1.UpgradeInPlace
			}, nil,
		},
		{
			"nothing to judge by", func(m *v1alpha1.MeshInstallation) {
				moving(m)
				m.Spec.Upgrade.Canary.Steps = []v1alpha1.Step{wave(), judge()}
			}, []string{"spec.upgrade.canary.steps[1].type", "nothing to judge by", "add metrics, or hooks with when During, to spec.upgrade.analysis"},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			errs, _ := Installation(mesh(tc.mesh), world(nil))
			expectError(t, errs, tc.want...)
		})
	}
}

// What looks like a safeguard and is never asked is warned of.
func TestGatesThatNobodyAsks(t *testing.T) {
	for _, tc := range []struct {
		reason string
		mesh   func(*v1alpha1.MeshInstallation)
		want   []string
	}{
		{"by default gateways are judged by all", func(m *v1alpha1.MeshInstallation) { judged(m) }, nil},
		{
			"without a step of type Analysis", func(m *v1alpha1.MeshInstallation) {
				judged(m)
				m.Spec.Upgrade.Canary.Steps = []v1alpha1.Step{wave()}
			}, []string{"spec.upgrade.analysis.metrics[0]: no step of type Analysis asks errors", "spec.upgrade.analysis.hooks[1]: no step of type Analysis asks smoke"},
		},
		{
			"by a step that names others", func(m *v1alpha1.MeshInstallation) {
				judged(m)
				m.Spec.Upgrade.Canary.Steps = []v1alpha1.Step{wave(), judge("errors")}
			}, []string{"spec.upgrade.analysis.hooks[1]: no step of type Analysis asks smoke"},
		},
		{
			"by default, in a mesh without gateways", func(m *v1alpha1.MeshInstallation) {
				judged(m)
				m.Spec.Gateways, m.Spec.Upgrade.Analysis.Hooks = nil, nil
			}, []string{"spec.upgrade.analysis.metrics[0]: no step of type Analysis asks errors"},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			errs, warnings := Installation(mesh(tc.mesh), world(func(f *Facts) { f.KnownValues = nil }))
			expectError(t, errs)
			if len(warnings) != len(tc.want) {
				t.Fatalf("warnings %q, want %q", warnings, tc.want)
			}
			for i, want := range tc.want {
				if !strings.Contains(warnings[i], want) {
					t.Errorf("warning %q, want one with %q", warnings[i], want)
				}
			}
		})
	}
}
