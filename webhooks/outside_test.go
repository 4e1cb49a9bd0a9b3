// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

const operatorNamespace = "meshwright-system"

func secret(namespace, key string) client.Object {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "prometheus"}, Data: map[string][]byte{key: []byte("sesame")}}
}

func edge() client.Object {
	o := &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{"listeners": []any{map[string]any{"name": "http"}}},
	}}
	o.SetGroupVersionKind(schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "Gateway"})
	o.SetNamespace("edge")
	o.SetName("edge")
	return o
}

func byRoute(listener string) v1alpha1.GatewayShift {
	return v1alpha1.GatewayShift{
		Type: v1alpha1.ShiftHTTPRoute, TolerancePercent: 5, MinSamples: 100, DrainSeconds: 30,
		HTTPRoute: &v1alpha1.RouteShift{ParentRefs: []v1alpha1.RouteParent{{Name: "edge", Namespace: "edge", SectionName: listener}}, Port: 80},
	}
}

// names is a mesh that names a Secret and an outer Gateway.
func names(change func(*v1alpha1.MeshInstallation)) *v1alpha1.MeshInstallation {
	m := &v1alpha1.MeshInstallation{Spec: v1alpha1.MeshInstallationSpec{Version: "1.29.1", Namespace: "istio-system"}}
	m.Name = "default"
	m.Spec.Upgrade.Analysis.Prometheus = &v1alpha1.PrometheusServer{
		Address: "https://prometheus:9090", Auth: &v1alpha1.ServerAuth{Type: v1alpha1.AuthBearer, SecretName: "prometheus"},
	}
	m.Spec.Gateways = []v1alpha1.Gateway{{Name: "ingress", Namespace: "istio-ingress", Shift: byRoute("http")}}
	if change != nil {
		change(m)
	}
	return m
}

func dependencies(t *testing.T, live ...client.Object) Dependencies {
	t.Helper()
	facts := gatherer(t)
	facts.Namespace = operatorNamespace
	return Dependencies{Reader: reader(t, nil), Live: reader(t, live), Facts: facts}
}

// expectRefusal wants an error that says something, or none when it is to say nothing.
func expectRefusal(t *testing.T, err error, refused string) {
	t.Helper()
	if refused == "" && err != nil || refused != "" && (err == nil || !strings.Contains(err.Error(), refused)) {
		t.Errorf("error %v, want one with %q", err, refused)
	}
}

// What an installation names has to be there, beside the operator, before it is accepted.
func TestWhatAnInstallationNamesIsLookedFor(t *testing.T) {
	const path = "spec.upgrade.analysis.prometheus.auth.secretName"
	for _, tc := range []struct {
		reason  string
		live    []client.Object
		refused string
	}{
		{"all is there", []client.Object{secret(operatorNamespace, "token"), edge()}, ""},
		{"no Secret", []client.Object{edge()}, path + `: Invalid value: "prometheus": there is no Secret prometheus in namespace meshwright-system: create it with key token`},
		{"one of another namespace", []client.Object{secret("istio-system", "token"), edge()}, "there is no Secret prometheus in namespace meshwright-system"},
		{"one without the key", []client.Object{secret(operatorNamespace, "password"), edge()}, path + `: Invalid value: "prometheus": Secret prometheus in namespace meshwright-system lacks key token`},
		{"no outer Gateway", []client.Object{secret(operatorNamespace, "token")}, "spec.gateways[0].shift.httpRoute.parentRefs[0].name"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			_, err := (&installation{dependencies(t, tc.live...)}).ValidateCreate(t.Context(), names(nil))
			expectRefusal(t, err, tc.refused)
			if err != nil && strings.Contains(err.Error(), "sesame") {
				t.Errorf("the error tells what a Secret holds: %v", err)
			}
		})
	}
}

// What is gone since must not keep a mesh from being paused; what is named anew is looked for all the same.
func TestOnlyWhatIsNamedAnewIsLookedFor(t *testing.T) {
	for _, tc := range []struct {
		reason  string
		change  func(*v1alpha1.MeshInstallation)
		refused string
	}{
		{"a pause", func(m *v1alpha1.MeshInstallation) { m.Spec.Paused = true }, ""},
		{"another Secret", func(m *v1alpha1.MeshInstallation) { m.Spec.Upgrade.Analysis.Prometheus.Auth.SecretName = "other" }, "there is no Secret other"},
		{"other keys of the same", func(m *v1alpha1.MeshInstallation) { m.Spec.Upgrade.Analysis.Prometheus.Auth.Type = v1alpha1.AuthBasic }, "keys username and password"},
		{"another gateway behind the same outer one", func(m *v1alpha1.MeshInstallation) {
			m.Spec.Gateways = append(m.Spec.Gateways, v1alpha1.Gateway{Name: "second", Namespace: "istio-ingress", Shift: byRoute("http")})
		}, ""},
		{"another listener", func(m *v1alpha1.MeshInstallation) {
			m.Spec.Gateways[0].Shift = byRoute("https")
		}, "spec.gateways[0].shift.httpRoute.parentRefs[0].name"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			_, err := (&installation{dependencies(t)}).ValidateUpdate(t.Context(), names(nil), names(tc.change))
			expectRefusal(t, err, tc.refused)
		})
	}
}

// The same for a team's gateway, whose outer Gateway may be that of another namespace.
func TestWhatAGatewayNamesIsLookedFor(t *testing.T) {
	team := func(listener string) *v1alpha1.MeshGateway {
		g := &v1alpha1.MeshGateway{Spec: v1alpha1.MeshGatewaySpec{Mesh: "default", Shift: byRoute(listener)}}
		g.Name, g.Namespace = "mine", "team"
		return g
	}
	for _, tc := range []struct {
		reason        string
		live          []client.Object
		before, after *v1alpha1.MeshGateway
		refused       string
	}{
		{"it is there", []client.Object{edge()}, nil, team("http"), ""},
		{"it is not", nil, nil, team("http"), "spec.shift.httpRoute.parentRefs[0].name"},
		{"it has no such listener", []client.Object{edge()}, nil, team("https"), "Gateway edge/edge has no such listener: write one of http"},
		{"it is gone since", nil, team("http"), team("http"), ""},
		{"another listener of one that is gone", nil, team("http"), team("https"), "spec.shift.httpRoute.parentRefs[0].name"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			w := &gateway{dependencies(t, tc.live...)}
			var err error
			if tc.before == nil {
				_, err = w.ValidateCreate(t.Context(), tc.after)
			} else {
				_, err = w.ValidateUpdate(t.Context(), tc.before, tc.after)
			}
			expectRefusal(t, err, tc.refused)
		})
	}
}
