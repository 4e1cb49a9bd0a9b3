// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// naming is a mesh that names a Secret for each use of one, and an outer Gateway of each kind of namespace.
func naming(m *v1alpha1.MeshInstallation) {
	judged(m)
	g := shiftBy(v1alpha1.ShiftHTTPRoute, `{}`)
	g.Shift.HTTPRoute.ParentRefs = []v1alpha1.RouteParent{{Name: "edge"}, {Name: "edge", Namespace: "edge", SectionName: "https"}}
	moving(m, g)
	m.Spec.Upgrade.Analysis.Prometheus.Auth = &v1alpha1.ServerAuth{Type: v1alpha1.AuthBasic, SecretName: "prometheus"}
	m.Spec.Upgrade.Analysis.Hooks = []v1alpha1.Hook{{
		Name: "ask", When: v1alpha1.HookDuring, Type: v1alpha1.HookWebhook,
		Webhook: &v1alpha1.WebhookHook{Endpoint: v1alpha1.Endpoint{URL: "https://a", SecretName: "ask"}},
	}}
	m.Spec.Upgrade.Notifications = []v1alpha1.Notification{
		{Name: "chat", Endpoint: v1alpha1.Endpoint{URL: "https://b", SecretName: "chat"}}, {Name: "log", Endpoint: v1alpha1.Endpoint{URL: "https://c"}},
	}
}

func outerGateway(namespace string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: "edge"}
}

func TestWhatIsNamed(t *testing.T) {
	want := Outside{
		Keys:      []SecretKey{{"prometheus", "username"}, {"prometheus", "password"}, {"ask", "hmac"}, {"chat", "hmac"}},
		Listeners: []Listener{{outerGateway("istio-ingress"), ""}, {outerGateway("edge"), "https"}},
	}
	if diff := cmp.Diff(want, OutsideOf(mesh(naming))); diff != "" {
		t.Errorf("of a mesh (-want +got):\n%s", diff)
	}
	g := teamGateway(`{}`)
	g.Spec.Shift.HTTPRoute = &v1alpha1.RouteShift{ParentRefs: []v1alpha1.RouteParent{{Name: "edge"}}}
	if diff := cmp.Diff(Outside{Listeners: []Listener{{outerGateway("team"), ""}}}, OutsideOfGateway(g)); diff != "" {
		t.Errorf("of a gateway (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Outside{}, OutsideOf(mesh(nil))); diff != "" {
		t.Errorf("of a mesh that names nothing (-want +got):\n%s", diff)
	}
}

// What was accepted is not judged again; what the same Secret has to hold besides is.
func TestWhatIsNamedAnew(t *testing.T) {
	before, after := mesh(naming), mesh(naming)
	before.Spec.Upgrade.Analysis.Prometheus.Auth.Type = v1alpha1.AuthBearer
	before.Spec.Gateways[0].Shift.HTTPRoute.ParentRefs[1].SectionName = ""
	want := Outside{
		Keys:      []SecretKey{{"prometheus", "username"}, {"prometheus", "password"}},
		Listeners: []Listener{{outerGateway("edge"), "https"}},
	}
	if diff := cmp.Diff(want, OutsideOf(after).Without(OutsideOf(before))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	secret := func(name string, s Secret) func(*Facts) {
		return func(f *Facts) { f.Secrets[name] = s }
	}
	edge := func(o OuterGateway) func(*Facts) {
		return func(f *Facts) { f.OuterGateways[outerGateway("edge")] = o }
	}
	for _, tc := range []struct {
		reason string
		facts  func(*Facts)
		want   []string
	}{
		{"all of it is there", func(*Facts) {}, nil},
		{"nothing was looked for", func(f *Facts) { f.Secrets, f.OuterGateways = nil, nil }, nil},
		{
			"a Secret for the server", secret("prometheus", Secret{}), []string{
				"spec.upgrade.analysis.prometheus.auth.secretName", "there is no Secret prometheus in namespace meshwright-system: create it with keys username and password",
			},
		},
		{
			"a key of it", secret("prometheus", Secret{Exists: true, Keys: []string{"username", "token"}}), []string{
				"spec.upgrade.analysis.prometheus.auth.secretName", "Secret prometheus in namespace meshwright-system lacks key password", "add it",
			},
		},
		{
			"a Secret for a hook", secret("ask", Secret{}),
			[]string{"spec.upgrade.analysis.hooks[0].webhook.secretName", "there is no Secret ask in namespace meshwright-system: create it with key hmac"},
		},
		{
			"a Secret for a notification", secret("chat", Secret{}),
			[]string{"spec.upgrade.notifications[0].secretName", "there is no Secret chat in namespace meshwright-system: create it with key hmac"},
		},
		{
			"the Gateway API", edge(OuterGateway{NoAPI: true}), []string{
				"spec.gateways[0].shift.httpRoute.parentRefs[1].name", "the cluster has no Gateway API: install its CRDs, or use shift.type Replicas",
			},
		},
		{
			"an outer Gateway", edge(OuterGateway{}),
			[]string{"spec.gateways[0].shift.httpRoute.parentRefs[1].name", "there is no Gateway edge in namespace edge: create it"},
		},
		{
			"one of the MeshGateway's own namespace", func(f *Facts) { f.OuterGateways[outerGateway("istio-ingress")] = OuterGateway{} },
			[]string{"spec.gateways[0].shift.httpRoute.parentRefs[0].name", "there is no Gateway edge in namespace istio-ingress"},
		},
		{
			"a listener of an outer Gateway", edge(OuterGateway{Exists: true, Listeners: []string{"http", "tls"}}),
			[]string{"spec.gateways[0].shift.httpRoute.parentRefs[1].sectionName", "Gateway edge/edge has no such listener: write one of http, tls"},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			f := world(func(f *Facts) {
				f.OperatorNamespace = "meshwright-system"
				signed := Secret{Exists: true, Keys: []string{"hmac"}}
				f.Secrets = map[string]Secret{"ask": signed, "chat": signed, "prometheus": {Exists: true, Keys: []string{"password", "username"}}}
				f.OuterGateways = map[types.NamespacedName]OuterGateway{
					outerGateway("istio-ingress"): {Exists: true}, outerGateway("edge"): {Exists: true, Listeners: []string{"http", "https"}},
				}
				tc.facts(f)
			})
			errs, _ := Installation(mesh(naming), f)
			expectError(t, errs, tc.want...)
		})
	}
}
