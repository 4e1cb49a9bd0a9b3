// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package install

import (
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

const header = "apiVersion: meshwright.io/v1alpha1\nkind: MeshInstallation\n"

// A user's mistakes are refused by kubectl apply, with the field and a remedy.
func TestBadInputIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		manifest string
		want     []string
	}{
		"malformed version":   {"metadata: {name: bad}\nspec: {version: one}", []string{"spec.version", "one"}},
		"malformed range":     {"metadata: {name: bad}\nspec: {version: '>=1.28 <'}", []string{"spec.version"}},
		"version nobody has":  {"metadata: {name: bad}\nspec: {version: 1.29.77}", []string{"spec.version", "1.29.77", "1.29.1"}},
		"unsupported cluster": {"metadata: {name: bad}\nspec: {version: 1.26.1}", []string{"spec.version", "1.34", "1.33", "unsupportedKubernetes"}},
		"two gateways of one name": {
			"metadata: {name: bad}\nspec: {version: '1.29', gateways: [{name: a, namespace: b}, {name: a, namespace: b}]}",
			[]string{"spec.gateways", "uplicate"},
		},
		"values of the operator": {
			"metadata: {name: bad}\nspec: {version: '1.29', controlPlane: {values: {revision: mine}}}",
			[]string{"spec.controlPlane.values", "revision"},
		},
		"values that are no map": {
			"metadata: {name: bad}\nspec: {version: '1.29', controlPlane: {values: [1]}}",
			[]string{"spec.controlPlane.values"},
		},
		"mesh configuration that does not parse": {
			"metadata: {name: bad}\nspec: {version: '1.29', controlPlane: {meshConfig: {accessLogFiel: /dev/stdout}}}",
			[]string{"spec.controlPlane.meshConfig", "accessLogFiel", "accessLogFile"},
		},
		"the default tag": {
			"metadata: {name: bad}\nspec: {version: '1.29', tags: [{name: default}]}",
			[]string{"spec.tags", "defaultRevision"},
		},
		"gateway beside istiod": {
			"metadata: {name: bad}\nspec: {version: '1.29', gateways: [{name: a, namespace: istio-system}]}",
			[]string{"gateways", "namespace of its own"},
		},
		"weights of a mesh without gateways": {
			bad("canary: {steps: [{name: a, type: GatewayWeight, gatewayWeight: {percent: 50}}]}", ""),
			[]string{"steps[0].type", "no gateways that follow", "leave the step out"},
		},
		"weights that fall": {
			bad("canary: {steps: [{name: a, type: GatewayWeight, gatewayWeight: {percent: 50}}, {name: b, type: GatewayWeight, gatewayWeight: {percent: 0}}]}", gateway("{}")),
			[]string{"steps[1].gatewayWeight.percent", "write more"},
		},
		"a weight out of range": {
			bad("canary: {steps: [{name: a, type: GatewayWeight, gatewayWeight: {percent: 101}}]}", gateway("{}")), []string{"gatewayWeight.percent", "100"},
		},
		"a weight that the replicas don't allow": {
			bad("canary: {steps: [{name: a, type: GatewayWeight, gatewayWeight: {percent: 10}}]}", gateway("{}")),
			[]string{"steps[0].gatewayWeight.percent", "nearest share is 50 percent", "autoscaling.minReplicas to 6", "HTTPRoute"},
		},
		"a gate without a query": {
			bad("analysis: {prometheus: {address: 'https://p'}, metrics: [{name: a, successCondition: result < 1}]}", ""),
			[]string{"metrics[0]", "either a preset or a query"},
		},
		"a query that does not parse": {
			bad("analysis: {prometheus: {address: 'https://p'}, metrics: [{name: a, query: 'sum(', successCondition: result < 1}]}", ""),
			[]string{"spec.upgrade.analysis.metrics[0].query", "parse error"},
		},
		"a condition that does not compile": {
			bad("analysis: {prometheus: {address: 'https://p'}, metrics: [{name: a, query: up, successCondition: result <}]}", ""),
			[]string{"spec.upgrade.analysis.metrics[0].successCondition", "result < 0.01"},
		},
		"a Secret that is missing": {
			bad("analysis: {prometheus: {address: 'https://p', auth: {type: Bearer, secretName: nowhere}}}", ""),
			[]string{"spec.upgrade.analysis.prometheus.auth.secretName", "there is no Secret nowhere in namespace", "create it with key token"},
		},
		"an outer Gateway that is missing": {
			bad("", gateway("{type: HTTPRoute, httpRoute: {parentRefs: [{name: nowhere}]}}")),
			[]string{"spec.gateways[0].shift.httpRoute.parentRefs[0].name", "nowhere", "Gateway"},
		},
		"unknown field": {"metadata: {name: bad}\nspec: {version: '1.29', gatewys: []}", []string{"gatewys"}},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, header+tc.manifest, tc.want...)
		})
	}
}

// bad is a mesh that upgrades so, with such gateways.
func bad(upgrade, gateways string) string {
	return fmt.Sprintf("metadata: {name: bad}\nspec: {version: '1.29', upgrade: {%s}, gateways: [%s]}", upgrade, gateways)
}

func gateway(shift string) string {
	return "{name: ingress, namespace: istio-ingress, shift: " + shift + "}"
}

// refused asks the API server for all it would say of a manifest: one that it accepts all the same is not kept.
func refused(t *testing.T, manifest string, want ...string) {
	t.Helper()
	out, err := env.KubectlApply(t.Context(), manifest, "--dry-run=server")
	if err == nil {
		t.Fatalf("accepted:\n%s\n%s", manifest, out)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the refusal does not mention %q: %v", w, err)
		}
	}
	t.Log(err)
}

// What a second installation, a team's gateway and a change of an installed mesh may not do.
func TestBadInputBesideAnInstalledMesh(t *testing.T) {
	mesh := framework.Mesh("default", framework.Istio129)
	mesh.Spec.Tags = []v1alpha1.Tag{{Name: "stable"}}
	env.Install(t, mesh)
	env.TemporaryNamespace(t, "team", nil)

	t.Run("same namespace", func(t *testing.T) {
		refused(t, header+"metadata: {name: second}\nspec: {version: '1.28', defaultRevision: Leave}", "spec.namespace", "default")
	})
	t.Run("same revision name", func(t *testing.T) {
		refused(t, header+"metadata: {name: second}\nspec: {version: 1.29.1, namespace: other, defaultRevision: Leave}", "spec.version", "1-29-1")
	})
	t.Run("same tag", func(t *testing.T) {
		refused(t, header+"metadata: {name: second}\nspec: {version: '1.28', namespace: other, defaultRevision: Leave, tags: [{name: stable}]}", "spec.tags", "stable")
	})
	t.Run("second default", func(t *testing.T) {
		refused(t, header+"metadata: {name: second}\nspec: {version: '1.28', namespace: other}", "spec.defaultRevision", "Leave")
	})
	t.Run("another namespace", func(t *testing.T) {
		_, err := env.Kubectl(t.Context(), "patch", "mesh", "default", "--type=merge", "-p", `{"spec":{"namespace":"elsewhere"}}`)
		if err == nil || !strings.Contains(err.Error(), "namespace is immutable") {
			t.Errorf("a change of namespace: %v", err)
		}
	})
	t.Run("team gateway with the operator's rights", func(t *testing.T) {
		refused(t, `
apiVersion: meshwright.io/v1alpha1
kind: MeshGateway
metadata: {name: mine, namespace: team}
spec: {values: {securityContext: {runAsUser: 0}}}`, "spec.values", "securityContext")
	})
	t.Run("unknown key is a warning with the nearest key", func(t *testing.T) {
		warnings := &recorder{}
		cl, err := env.ClientWithWarnings(warnings)
		if err != nil {
			t.Fatal(err)
		}
		var current v1alpha1.MeshInstallation
		if err := cl.Get(t.Context(), client.ObjectKeyFromObject(mesh), &current); err != nil {
			t.Fatal(err)
		}
		values := framework.ControlPlaneValues()
		values["autoscaleMni"] = 2
		current.Spec.ControlPlane.Values = framework.Values(values)
		if err := cl.Update(t.Context(), &current, client.DryRunAll); err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(warnings.seen, "\n"); !strings.Contains(text, "autoscaleMni") || !strings.Contains(text, "autoscaleMin") {
			t.Errorf("warnings = %q, want the key and its nearest", text)
		}
	})
}

type recorder struct{ seen []string }

func (r *recorder) HandleWarningHeader(_ int, _ string, text string) { r.seen = append(r.seen, text) }

// With the webhook away, the controller says in conditions what the webhook would have refused, and a correction heals.
func TestBadInputWithoutTheWebhook(t *testing.T) {
	restore, err := env.WithoutWebhook(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := restore(); err != nil {
			t.Error(err)
		}
	})
	mesh := framework.Mesh("default", "1.29.77")
	env.Create(t, mesh)
	stalled, err := env.WaitCondition(t.Context(), mesh.Name, v1alpha1.ConditionReady, "False", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range stalled.Status.Conditions {
		if c.Type == v1alpha1.ConditionReady && !strings.Contains(c.Message, "1.29.1") {
			t.Errorf("Ready says %q, want the nearest version named", c.Message)
		}
	}
	if _, err := env.WaitCondition(t.Context(), mesh.Name, v1alpha1.ConditionStalled, "True", ""); err != nil {
		t.Error(err)
	}
	if _, err := env.Kubectl(t.Context(), "patch", "mesh", "default", "--type=merge", "-p", `{"spec":{"version":"1.29.1"}}`); err != nil {
		t.Fatal(err)
	}
	if _, err := env.WaitReady(t.Context(), mesh.Name); err != nil {
		t.Error(err)
	}
}
