// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func teamGateway(values string) *v1alpha1.MeshGateway {
	return &v1alpha1.MeshGateway{
		ObjectMeta: metav1.ObjectMeta{Name: "mine", Namespace: "team"},
		Spec:       v1alpha1.MeshGatewaySpec{Mesh: "default", Values: raw(values)},
	}
}

// The operator applies gateways with its own rights: a team can't borrow them.
func TestTeamsCantBorrowRights(t *testing.T) {
	for _, tc := range []struct{ reason, values, field string }{
		{"a privileged container", `{"containerSecurityContext":{"privileged":true}}`, "containerSecurityContext"},
		{"root and the host's network", `{"securityContext":{"runAsUser":0}}`, "securityContext"},
		{"another service account", `{"serviceAccount":{"name":"istiod"}}`, "serviceAccount"},
		{"the host's files", `{"volumes":[{"name":"root","hostPath":{"path":"/"}}]}`, "volumes"},
		{"a container of its own", `{"additionalContainers":[{"image":"x"}]}`, "additionalContainers"},
		{"a first container of its own", `{"initContainers":[{"image":"x"}]}`, "initContainers"},
		{"secrets as environment", `{"envVarFrom":[{"name":"X"}]}`, "envVarFrom"},
		{"settings of the agent", `{"env":{"ISTIO_META_X":"y"}}`, "env"},
		{"another template of the injector", `{"podAnnotations":{"inject.istio.io/templates":"mine"}}`, "podAnnotations"},
		{"every node at once", `{"kind":"DaemonSet"}`, "kind"},
		{"the priority of the system", `{"priorityClassName":"system-node-critical"}`, "priorityClassName"},
		{"the charts' own defaults", `{"_internal_defaults_do_not_set":{"kind":"DaemonSet"}}`, "_internal_defaults_do_not_set"},
		{"defaults by their other name", `{"defaults":{}}`, "defaults"},
		{"a profile", `{"profile":"ambient"}`, "profile"},
		{"another gateway's pods", `{"service":{"selectorLabels":{"app":"other"}}}`, "service.selectorLabels"},
		{"an address of somebody else", `{"service":{"externalIPs":["10.0.0.1"]}}`, "service.externalIPs"},
		{"labels that its Service selects by", `{"labels":{"istio":"other"}}`, "labels.istio"},
		{"another revision", `{"labels":{"istio.io/rev":"canary"}}`, "labels.istio.io/rev"},
		{"another owner", `{"labels":{"meshwright.io/mesh":"other"}}`, "labels.meshwright.io/mesh"},
		{"an object of its own, behind a line break", `{"service":{"type":"ClusterIP\n---\nkind: ClusterRoleBinding"}}`, "service.type"},
		{"a field of its own, behind another kind of line break", `{"service":{"loadBalancerClass":"a\u2028externalIPs: []"}}`, "service.loadBalancerClass"},
		{"a field of its own, in a key", `{"resources":{"limits":{"cpu\n  hostNetwork":"true"}}}`, "resources.limits"},
		{"a field of its own, deep in a list", `{"topologySpreadConstraints":[{"topologyKey":"a\u0085b"}]}`, "topologySpreadConstraints[0].topologyKey"},
		{"a Service that leads elsewhere", `{"service":{"type":"ExternalName"}}`, "service.type"},
		{"a type that is no word", `{"service":{"type":{"a":"b"}}}`, "service.type"},
		{"a class that is no name", `{"service":{"loadBalancerClass":"{a: b}"}}`, "service.loadBalancerClass"},
		{"rights to read secrets", `{"rbac":{"enabled":true}}`, "rbac"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			errs, _ := Gateway(teamGateway(tc.values), mesh(nil), world(nil))
			if len(errs) == 0 || !strings.Contains(errs.ToAggregate().Error(), "spec.values."+tc.field) {
				t.Errorf("errors = %v, want one of spec.values.%s", errs.ToAggregate(), tc.field)
			}
		})
	}
}

func TestTeamsShapeTheirWorkload(t *testing.T) {
	values := `{"replicaCount":2,"autoscaling":{"enabled":false},"resources":{"requests":{"cpu":"1"}},"labels":{"team":"a"},
		"service":{"type":"LoadBalancer","annotations":{"a":"b"},"ports":[{"port":80}]},"podDisruptionBudget":{"minAvailable":1}}`
	if errs, _ := Gateway(teamGateway(values), mesh(nil), Facts{}); len(errs) > 0 {
		t.Error(errs.ToAggregate())
	}
}

// Whoever may write a MeshInstallation may give its gateways any value but those that decide names.
func TestListedGatewaysAreFree(t *testing.T) {
	m := mesh(func(m *v1alpha1.MeshInstallation) {
		m.Spec.Gateways = []v1alpha1.Gateway{{Name: "mine", Namespace: "team"}}
	})
	if errs, _ := Gateway(teamGateway(`{"securityContext":{"runAsUser":0}}`), m, Facts{}); len(errs) > 0 {
		t.Error(errs.ToAggregate())
	}
	if errs, _ := Gateway(teamGateway(`{"revision":"mine"}`), m, Facts{}); len(errs) == 0 {
		t.Error("a listed gateway chose its own revision")
	}
}

func TestGatewayWithoutAMeshIsWarnedOf(t *testing.T) {
	errs, warnings := Gateway(teamGateway(`{}`), nil, Facts{})
	if len(errs) > 0 || len(warnings) != 1 || !strings.Contains(warnings[0], "default") {
		t.Errorf("errors %v, warnings %v, want one warning that names the mesh", errs, warnings)
	}
}
