// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package config

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// TestRulesOfGates tries what the schemas say of gateways that shift and of gates that judge.
func TestRulesOfGates(t *testing.T) {
	c := start(t)
	t.Run("steps", c.rulesOfSteps)
	t.Run("analysis", c.rulesOfAnalysis)
	t.Run("shifts", c.rulesOfShifts)
	t.Run("defaults", c.defaultsOfGates)
}

func (c *cluster) expectMesh(t *testing.T, spec, refused string) {
	t.Helper()
	o := object(t, `{"apiVersion": "meshwright.io/v1alpha1", "kind": "MeshInstallation", "metadata": {"name": "default"},
		"spec": {"version": "1.29", `+spec+`}}`)
	expectInvalid(t, c.admin.Create(t.Context(), o, client.DryRunAll), refused)
}

func (c *cluster) rulesOfSteps(t *testing.T) {
	const (
		weight   = "gatewayWeight is required for type GatewayWeight, and for no other"
		analysis = "analysis belongs to type Analysis only"
		plane    = "dataPlane is required for type DataPlane, and for no other"
	)
	for _, tc := range []struct{ reason, step, refused string }{
		{"a weight", `"type": "GatewayWeight", "gatewayWeight": {"percent": 25, "bakeSeconds": 60}`, ""},
		{"a version without traffic", `"type": "GatewayWeight", "gatewayWeight": {"percent": 0}`, ""},
		{"all traffic", `"type": "GatewayWeight", "gatewayWeight": {"percent": 100}`, ""},
		{"less than none", `"type": "GatewayWeight", "gatewayWeight": {"percent": -1}`, "percent"},
		{"more than all", `"type": "GatewayWeight", "gatewayWeight": {"percent": 101}`, "percent"},
		{"a weight of nothing", `"type": "GatewayWeight", "gatewayWeight": {}`, "percent"},
		{"a weight that says nothing", `"type": "GatewayWeight"`, weight},
		{"a wave with a weight", `"type": "DataPlane", "dataPlane": {"wave": "rest"}, "gatewayWeight": {"percent": 1}`, weight},
		{"a pause with a weight", `"type": "Pause", "gatewayWeight": {"percent": 1}`, weight},
		{"a weight that moves a wave", `"type": "GatewayWeight", "gatewayWeight": {"percent": 1}, "dataPlane": {"wave": "rest"}`, plane},
		{"a weight that pauses", `"type": "GatewayWeight", "gatewayWeight": {"percent": 1}, "pause": {"durationSeconds": 1}`, "pause belongs to type Pause only"},
		{"all gates judge", `"type": "Analysis"`, ""},
		{"some gates judge", `"type": "Analysis", "analysis": {"gates": ["health", "errors"]}`, ""},
		{"a gate twice", `"type": "Analysis", "analysis": {"gates": ["health", "health"]}`, "Duplicate value"},
		{"a weight that judges", `"type": "GatewayWeight", "gatewayWeight": {"percent": 1}, "analysis": {}`, analysis},
		{"a pause that judges", `"type": "Pause", "analysis": {"gates": ["health"]}`, analysis},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			c.expectMesh(t, `"upgrade": {"canary": {"steps": [{"name": "one", `+tc.step+`}]}}`, tc.refused)
		})
	}
}

func (c *cluster) rulesOfAnalysis(t *testing.T) {
	const (
		server   = `"prometheus": {"address": "https://prometheus.monitoring:9090"}`
		xor      = "a metric has either a preset or a query"
		judged   = "a query needs a successCondition or a failureCondition"
		reserved = "health is the gate that needs no configuration"
		asked    = "webhook is required for type Webhook, and for no other"
		run      = "job is required for type Job, and for no other"
		webhook  = `"webhook": {"url": "https://gates.example.com"}`
		job      = `"job": {"cronJob": "smoke", "namespace": "tests"}`
	)
	analysis := func(text string) string { return `"upgrade": {"analysis": {` + text + `}}` }
	metric := func(text string) string { return analysis(server + `, "metrics": [{` + text + `}]`) }
	hook := func(text string) string { return analysis(`"hooks": [{` + text + `}]`) }
	prometheus := func(text string) string { return analysis(`"prometheus": {` + text + `}`) }
	url := func(address string) string {
		return fmt.Sprintf(`"upgrade": {"notifications": [{"name": "chat", "url": %q}]}`, address)
	}
	for _, tc := range []struct{ reason, spec, refused string }{
		{"a preset", metric(`"name": "a", "preset": "success-rate"`), ""},
		{"a preset with another condition", metric(`"name": "a", "preset": "success-rate", "successCondition": "result > 0.9"`), ""},
		{"a query", metric(`"name": "a", "query": "up", "failureCondition": "result < 1"`), ""},
		{"a preset and a query", metric(`"name": "a", "preset": "success-rate", "query": "up", "successCondition": "true"`), xor},
		{"neither", metric(`"name": "a", "successCondition": "true"`), xor},
		{"a query without a condition", metric(`"name": "a", "query": "up"`), judged},
		{"a preset that there is not", metric(`"name": "a", "preset": "luck"`), "Unsupported value"},
		{"a metric called health", metric(`"name": "health", "preset": "success-rate"`), reserved},
		{"a metric whose name is none", metric(`"name": "Errors", "preset": "success-rate"`), "metrics[0].name"},
		{"two metrics of one name", analysis(server + `, "metrics": [{"name": "a", "preset": "success-rate"}, {"name": "a", "preset": "latency-p99"}]`), "Duplicate value"},
		{"metrics without a server", analysis(`"metrics": [{"name": "a", "preset": "success-rate"}]`), "write its address into prometheus"},
		{"a server without metrics", analysis(server), ""},
		{"no interval", metric(`"name": "a", "preset": "success-rate", "intervalSeconds": 0`), "intervalSeconds"},
		{"no measurement", metric(`"name": "a", "preset": "success-rate", "count": 0`), "count"},
		{"too short a window", metric(`"name": "a", "preset": "success-rate", "windowSeconds": 4`), "windowSeconds"},

		{"a web server", hook(`"name": "a", "when": "During", "type": "Webhook", ` + webhook), ""},
		{"a Job", hook(`"name": "a", "when": "Before", "type": "Job", ` + job), ""},
		{"a web server that is none", hook(`"name": "a", "when": "During", "type": "Webhook"`), asked},
		{"a web server that is a Job", hook(`"name": "a", "when": "During", "type": "Webhook", ` + job), asked},
		{"a Job that is none", hook(`"name": "a", "when": "After", "type": "Job"`), run},
		{"a Job and a web server", hook(`"name": "a", "when": "After", "type": "Job", ` + job + `, ` + webhook), asked},
		{"at no time", hook(`"name": "a", "type": "Job", ` + job), "when"},
		{"at a time that there is not", hook(`"name": "a", "when": "Now", "type": "Job", ` + job), "Unsupported value"},
		{"a hook called health", hook(`"name": "health", "when": "During", "type": "Job", ` + job), reserved},
		{
			"a hook called like a metric",
			analysis(server + `, "metrics": [{"name": "a", "preset": "success-rate"}], "hooks": [{"name": "a", "when": "During", "type": "Job", ` + job + `}]`),
			"metrics and hooks: a gate needs a name of its own",
		},

		{"a server in the open", prometheus(`"address": "http://prometheus.monitoring:9090"`), ""},
		{"a server of another kind", prometheus(`"address": "ftp://prometheus.monitoring"`), "prometheus.address"},
		{"a server without a scheme", prometheus(`"address": "prometheus.monitoring:9090"`), "prometheus.address"},
		{"a query in an address", prometheus(`"address": "https://prometheus?x=y"`), "prometheus.address"},
		{"a token", prometheus(`"address": "https://prometheus", "auth": {"type": "Bearer", "secretName": "token"}`), ""},
		{"a kind of token that there is not", prometheus(`"address": "https://prometheus", "auth": {"type": "Digest", "secretName": "token"}`), "Unsupported value"},
		{"a token of no Secret", prometheus(`"address": "https://prometheus", "auth": {"type": "Bearer"}`), "secretName"},
		{"a header", prometheus(`"address": "https://prometheus", "headers": [{"name": "X-Scope-OrgID", "value": "mesh"}]`), ""},
		{"a header behind a line break", prometheus(`"address": "https://prometheus", "headers": [{"name": "A", "value": "b\nC: d"}]`), "headers[0].value"},
		{"a header whose name is none", prometheus(`"address": "https://prometheus", "headers": [{"name": "A B", "value": "c"}]`), "headers[0].name"},

		{"a web server on the way", url("https://hooks.example.com/mesh"), ""},
		{"one beside us, in the open", url("http://127.0.0.1:8080/mesh"), ""},
		{"one beside us, by name", url("http://localhost/mesh"), ""},
		{"one beside us, of another kind", url("http://[::1]:8080"), ""},
		{"one elsewhere, in the open", url("http://hooks.example.com/mesh"), "notifications[0].url"},
		{"one elsewhere that looks as if it were beside us", url("http://localhost.example.com/"), "notifications[0].url"},
		{"one elsewhere, behind a name", url("http://127.0.0.1@example.com/"), "notifications[0].url"},
		{"the same for a hook", hook(`"name": "a", "when": "During", "type": "Webhook", "webhook": {"url": "http://gates.example.com"}`), "hooks[0].webhook.url"},
		{"too many false alarms", analysis(`"health": {"falseAlarmPermille": 201}`), "falseAlarmPermille"},
		{"too few requests", analysis(`"health": {"minRequests": 9}`), "minRequests"},
	} {
		t.Run(tc.reason, func(t *testing.T) { c.expectMesh(t, tc.spec, tc.refused) })
	}
}

// The same shifts stand in a mesh and in a gateway of a team.
func (c *cluster) rulesOfShifts(t *testing.T) {
	const member = "httpRoute is required for type HTTPRoute, and for no other"
	for _, tc := range []struct{ reason, shift, refused string }{
		{"by replicas", `{"type": "Replicas", "tolerancePercent": 5, "minSamples": 100}`, ""},
		{"by default", `{}`, ""},
		{"at once", `{"type": "Selector"}`, ""},
		{"by a route", `{"type": "HTTPRoute", "httpRoute": {"parentRefs": [{"name": "edge"}]}}`, ""},
		{"by a route of nothing", `{"type": "HTTPRoute"}`, member},
		{"by a route without a Gateway", `{"type": "HTTPRoute", "httpRoute": {"parentRefs": []}}`, "httpRoute.parentRefs"},
		{"by replicas and a route", `{"type": "Replicas", "httpRoute": {"parentRefs": [{"name": "edge"}]}}`, member},
		{"by default and a route", `{"httpRoute": {"parentRefs": [{"name": "edge"}]}}`, member},
		{"at once and by a route", `{"type": "Selector", "httpRoute": {"parentRefs": [{"name": "edge"}]}}`, member},
		{"by something else", `{"type": "Luck"}`, "Unsupported value"},
		{"with too short a drain", `{"drainSeconds": 4}`, "drainSeconds"},
		{"with too long a drain", `{"drainSeconds": 3601}`, "drainSeconds"},
		{"without tolerance", `{"tolerancePercent": 0}`, "tolerancePercent"},
		{"to a port that is none", `{"type": "HTTPRoute", "httpRoute": {"parentRefs": [{"name": "edge"}], "port": 65536}}`, "httpRoute.port"},
	} {
		t.Run(tc.reason+", of a mesh", func(t *testing.T) {
			c.expectMesh(t, `"gateways": [{"name": "ingress", "namespace": "istio-ingress", "shift": `+tc.shift+`}]`, tc.refused)
		})
		t.Run(tc.reason+", of a team", func(t *testing.T) {
			o := object(t, `{"apiVersion": "meshwright.io/v1alpha1", "kind": "MeshGateway",
				"metadata": {"name": "ingress", "namespace": "team"}, "spec": {"shift": `+tc.shift+`}}`)
			expectInvalid(t, c.admin.Create(t.Context(), o, client.DryRunAll), tc.refused)
		})
	}
	for _, tc := range []struct{ reason, gateway, refused string }{
		{"a gateway that holds back and takes over", `"versionPolicy": "Hold", "adoption": "Adopt"`, ""},
		{"a policy that there is not", `"versionPolicy": "Lead"`, "Unsupported value"},
		{"an adoption that there is not", `"adoption": "Steal"`, "Unsupported value"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			c.expectMesh(t, `"gateways": [{"name": "ingress", "namespace": "istio-ingress", `+tc.gateway+`}]`, tc.refused)
		})
	}
}

// Every default is written out, and that of an entry is that of the gateway which is written from it.
func (c *cluster) defaultsOfGates(t *testing.T) {
	mesh := object(t, `{"apiVersion": "meshwright.io/v1alpha1", "kind": "MeshInstallation", "metadata": {"name": "default"}, "spec": {
		"version": "1.29", "gateways": [{"name": "ingress", "namespace": "istio-ingress"}], "upgrade": {
			"analysis": {"prometheus": {"address": "https://prometheus"}, "metrics": [{"name": "a", "preset": "success-rate"}]},
			"notifications": [{"name": "chat", "url": "https://hooks.example.com"}]
		}
	}}`)
	if err := c.admin.Create(t.Context(), mesh, client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	var got v1alpha1.MeshInstallation
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(mesh.Object, &got); err != nil {
		t.Fatal(err)
	}
	shift := v1alpha1.GatewayShift{Type: v1alpha1.ShiftReplicas, TolerancePercent: 5, MinSamples: 100, DrainSeconds: 30}
	entry := v1alpha1.Gateway{
		Name: "ingress", Namespace: "istio-ingress", VersionPolicy: v1alpha1.VersionFollow, Shift: shift, Adoption: v1alpha1.AdoptionRefuse,
	}
	if diff := cmp.Diff([]v1alpha1.Gateway{entry}, got.Spec.Gateways); diff != "" {
		t.Errorf("gateways (-want +got):\n%s", diff)
	}
	analysis := v1alpha1.Analysis{
		Health:     v1alpha1.Health{MinRequests: 50, FalseAlarmPermille: 10},
		Prometheus: &v1alpha1.PrometheusServer{Address: "https://prometheus", TimeoutSeconds: 10},
		Metrics: []v1alpha1.Metric{{
			Name: "a", Preset: v1alpha1.PresetSuccessRate, WindowSeconds: 60,
			Cadence: v1alpha1.Cadence{IntervalSeconds: 30, Count: 3, InconclusiveLimit: 3},
		}},
	}
	if diff := cmp.Diff(analysis, got.Spec.Upgrade.Analysis); diff != "" {
		t.Errorf("analysis (-want +got):\n%s", diff)
	}
	chat := v1alpha1.Notification{Name: "chat", Endpoint: v1alpha1.Endpoint{URL: "https://hooks.example.com", TimeoutSeconds: 10, Retries: 3}}
	if diff := cmp.Diff([]v1alpha1.Notification{chat}, got.Spec.Upgrade.Notifications); diff != "" {
		t.Errorf("notifications (-want +got):\n%s", diff)
	}
	gateway := &v1alpha1.MeshGateway{ObjectMeta: metav1.ObjectMeta{Name: "ingress", Namespace: "team"}}
	if err := c.admin.Create(t.Context(), gateway, client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	spec := v1alpha1.MeshGatewaySpec{Mesh: "default", VersionPolicy: entry.VersionPolicy, Shift: shift, Adoption: entry.Adoption}
	if diff := cmp.Diff(spec, gateway.Spec); diff != "" {
		t.Errorf("a gateway (-want +got):\n%s", diff)
	}
}
