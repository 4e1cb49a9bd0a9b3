// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/meshwright/meshwright/operator/analysis"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// gatewayOf has three replicas, so that a quarter is the least share.
func gatewayOf(m *v1alpha1.MeshInstallation) {
	m.Spec.Gateways = []v1alpha1.Gateway{{
		Name: "ingress", Namespace: "istio-ingress",
		Values: &apiextensionsv1.JSON{Raw: []byte(`{"autoscaling":{"enabled":false},"replicaCount":3}`)},
	}}
}

func weigh(name string, percent int32) v1alpha1.Step {
	return v1alpha1.Step{Name: name, Type: v1alpha1.StepGatewayWeight, GatewayWeight: &v1alpha1.GatewayWeightStep{Percent: percent}}
}

func judge(gates ...string) v1alpha1.Step {
	return v1alpha1.Step{Name: "look", Type: v1alpha1.StepAnalysis, Analysis: &v1alpha1.AnalysisStep{Gates: gates}}
}

// door is a shop with a gateway, whose new version takes four seconds to start, and whose shares take five to be measured.
func door(change func(*v1alpha1.MeshInstallation)) *Cluster {
	c := shop(func(m *v1alpha1.MeshInstallation) {
		gatewayOf(m)
		if change != nil {
			change(m)
		}
	})
	c.Gateways = []*Gateway{{Name: "istio-ingress/ingress", StartSeconds: 4, MeasureSeconds: 5}}
	return c
}

// success is a metric that asks every ten seconds and passes with the second success.
func success(m *v1alpha1.MeshInstallation) {
	m.Spec.Upgrade.Analysis = v1alpha1.Analysis{
		Prometheus: &v1alpha1.PrometheusServer{Address: "https://prometheus.monitoring:9090"},
		Metrics: []v1alpha1.Metric{{
			Name: "success-rate", Preset: v1alpha1.PresetSuccessRate, Cadence: v1alpha1.Cadence{IntervalSeconds: 10, Count: 2, InconclusiveLimit: 1},
		}},
	}
}

func always(outcome analysis.Outcome) func(*Cluster) analysis.Outcome {
	return func(*Cluster) analysis.Outcome { return outcome }
}

// between says nothing from one second to another, and is a success otherwise.
func between(begin, end int) func(*Cluster) analysis.Outcome {
	return func(c *Cluster) analysis.Outcome {
		if c.turn >= begin && c.turn < end {
			return analysis.Inconclusive
		}
		return analysis.Success
	}
}

func hook(when v1alpha1.HookTime) func(*v1alpha1.MeshInstallation) {
	return func(m *v1alpha1.MeshInstallation) {
		m.Spec.Upgrade.Analysis.Hooks = []v1alpha1.Hook{{Name: "ask", When: when, Type: v1alpha1.HookWebhook, Webhook: &v1alpha1.WebhookHook{}}}
	}
}

var gatewaySituations = []situation{
	{"gateways-move-first-by-default", func() *Cluster { return door(nil) }, v1alpha1.OutcomeCompleted},
	{"gateways-in-three-weights", func() *Cluster {
		return door(steps(weigh("quarter", 25), judge(), weigh("half", 50), weigh("all", 100)))
	}, v1alpha1.OutcomeCompleted},
	{"a-gateway-without-steps-moves-at-promotion", func() *Cluster {
		return door(steps(move("early", "early", 100)))
	}, v1alpha1.OutcomeCompleted},
	{"a-new-version-that-fails-requests", func() *Cluster {
		c := door(nil)
		c.Gateways[0].Worse = func(weight int32) bool { return weight > 0 }
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"a-new-version-that-fails-requests-after-workloads-moved", func() *Cluster {
		c := door(steps(move("early", "early", 100), weigh("half", 50)))
		c.Gateways[0].Worse = func(weight int32) bool { return weight > 0 }
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"a-new-version-that-rejects-configuration", func() *Cluster {
		c := door(nil)
		c.Gateways[0].Worse = func(int32) bool { return true }
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"a-new-version-that-crashes", func() *Cluster {
		c := door(nil)
		c.Gateways[0].Crashes = true
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"a-new-version-that-never-gets-ready", func() *Cluster {
		c := door(nil)
		c.Gateways[0].StartSeconds = 10000
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"a-new-version-that-fails-requests-and-on-failure-pause", func() *Cluster {
		c := door(pauseOnFailure)
		worse := true
		c.Gateways[0].Worse = func(weight int32) bool { return worse && weight > 0 }
		c.At(100, func(*Cluster) { worse = false })
		c.At(120, Retry)
		return c
	}, v1alpha1.OutcomeCompleted},
	{"too-little-traffic", func() *Cluster {
		c := door(nil)
		c.Gateways[0].Quiet = true
		c.At(200, Approve("gateways-25"))
		c.At(400, Approve("judge"))
		return c
	}, v1alpha1.OutcomeCompleted},
	{"rollback-from-a-weight", func() *Cluster {
		c := door(steps(weigh("quarter", 25), pause("go", 0)))
		c.At(60, Goal(v1alpha1.GoalRollBack))
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"rollback-of-gateways-after-promotion", func() *Cluster {
		c := door(nil)
		c.At(90, Goal(v1alpha1.GoalRollBack))
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"rollback-of-gateways-while-the-old-revision-is-down", func() *Cluster {
		c := door(steps(weigh("quarter", 25), pause("go", 0)))
		c.At(50, func(c *Cluster) { c.From.StartSeconds = -1 })
		c.At(60, Goal(v1alpha1.GoalRollBack))
		c.At(120, func(c *Cluster) { c.From.StartSeconds = 0 })
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"a-metric-that-passes", func() *Cluster {
		c := door(both(steps(judge("success-rate")), success))
		c.Gates = map[string]func(*Cluster) analysis.Outcome{"success-rate": always(analysis.Success)}
		return c
	}, v1alpha1.OutcomeCompleted},
	{"a-metric-that-fails", func() *Cluster {
		c := door(both(steps(weigh("quarter", 25), judge("success-rate")), success))
		c.Gates = map[string]func(*Cluster) analysis.Outcome{"success-rate": always(analysis.Failure)}
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"a-server-that-is-away-for-a-while", func() *Cluster {
		c := door(both(steps(weigh("quarter", 25), judge("success-rate")), success))
		c.Gates = map[string]func(*Cluster) analysis.Outcome{"success-rate": between(20, 100)}
		return c
	}, v1alpha1.OutcomeCompleted},
	{"a-hook-that-says-no-before-anything-moves", func() *Cluster {
		c := door(hook(v1alpha1.HookBefore))
		c.Gates = map[string]func(*Cluster) analysis.Outcome{"ask": always(analysis.Failure)}
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"a-hook-that-says-no-before-promotion", func() *Cluster {
		c := door(hook(v1alpha1.HookAfter))
		c.Gates = map[string]func(*Cluster) analysis.Outcome{"ask": always(analysis.Failure)}
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"weights-outside-the-window", func() *Cluster {
		return door(func(m *v1alpha1.MeshInstallation) { m.Spec.Upgrade.Windows = []v1alpha1.Window{berlin} })
	}, v1alpha1.OutcomeCompleted},
}

// No data is never success: a gate that is never measured passes nothing.
func TestAGateThatIsNotMeasuredPassesNothing(t *testing.T) {
	c := door(both(steps(judge("success-rate")), success, pauseOnFailure))
	c.Run(1800)
	if p := c.Progress(); p.Step != 0 || !p.Halted {
		t.Errorf("step %d, halted %t: the step was passed without a measurement\n%s", p.Step, p.Halted, c.Trace())
	}
}

// When a gateway goes back, that comes before any workload moves back.
func TestWeightsGoBackFirst(t *testing.T) {
	c := door(steps(move("early", "early", 100), weigh("half", 50), pause("go", 0)))
	c.At(60, Goal(v1alpha1.GoalRollBack))
	c.Run(600)
	if problems := c.Problems(); len(problems) > 0 {
		t.Errorf("%v\n%s", problems, c.Trace())
	}
	lines := strings.Split(c.Trace(), "\n")
	weight := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "ingress 0%") })
	restart := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "restart") && strings.HasPrefix(l, "t+1m") })
	if weight < 0 || restart < 0 || weight > restart {
		t.Errorf("the weight goes back in line %d, the first workload in line %d\n%s", weight, restart, c.Trace())
	}
}
