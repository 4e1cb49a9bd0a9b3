// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"strings"
	"testing"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// The same rules hold for the gateways that a mesh lists and for those of teams; only the paths differ.
func TestShifts(t *testing.T) {
	byRoute := func(change func(*v1alpha1.RouteShift)) func(*v1alpha1.Gateway) {
		return func(g *v1alpha1.Gateway) {
			values := g.Values
			*g = shiftBy(v1alpha1.ShiftHTTPRoute, `{}`)
			g.Values = values
			change(g.Shift.HTTPRoute)
		}
	}
	parents := func(all ...v1alpha1.RouteParent) func(*v1alpha1.Gateway) {
		return byRoute(func(r *v1alpha1.RouteShift) { r.ParentRefs = all })
	}
	hosts := func(all ...string) func(*v1alpha1.Gateway) {
		return byRoute(func(r *v1alpha1.RouteShift) { r.Hostnames = all })
	}
	drain := func(seconds int32) func(*v1alpha1.Gateway) {
		return func(g *v1alpha1.Gateway) { g.Shift.DrainSeconds = seconds }
	}
	const preStop = `{"terminationGracePeriodSeconds":40,"lifecycle":{"preStop":`
	for _, tc := range []struct {
		reason, values string
		gateway        func(*v1alpha1.Gateway)
		// listed says that only a mesh may set such values.
		listed bool
		want   []string
	}{
		{"nothing but defaults", `{}`, nil, false, nil},
		{"a route", `{}`, byRoute(func(r *v1alpha1.RouteShift) { r.Hostnames = []string{"shop.example.com", "*.example.com"} }), false, nil},
		{"an outer Gateway of another namespace", `{}`, parents(v1alpha1.RouteParent{Name: "edge", Namespace: "edge"}), false, nil},
		{"two listeners of one outer Gateway", `{}`, parents(
			v1alpha1.RouteParent{Name: "edge", SectionName: "a"}, v1alpha1.RouteParent{Name: "edge", SectionName: "b"},
		), false, nil},
		{"one outer Gateway twice", `{}`, parents(
			v1alpha1.RouteParent{Name: "edge", SectionName: "a"}, v1alpha1.RouteParent{Name: "edge", Namespace: "istio-ingress"},
		), false, []string{"SHIFT.httpRoute.parentRefs[1].name", "parentRefs[0]", "sectionName of its own"}},
		{"an outer Gateway that can't be one", `{}`, parents(v1alpha1.RouteParent{Name: "Edge"}), false, []string{"SHIFT.httpRoute.parentRefs[0].name", "no name of a Gateway"}},
		{"a namespace that can't be one", `{}`, parents(v1alpha1.RouteParent{Name: "edge", Namespace: "a.b"}), false, []string{"SHIFT.httpRoute.parentRefs[0].namespace"}},
		{"a listener that can't be one", `{}`, parents(v1alpha1.RouteParent{Name: "edge", SectionName: "a b"}), false, []string{"SHIFT.httpRoute.parentRefs[0].sectionName"}},
		{"an address as a host", `{}`, hosts("10.0.0.1"), false, []string{"SHIFT.httpRoute.hostnames[0]", "is an address", "shop.example.com"}},
		{"another kind of address", `{}`, hosts("::1"), false, []string{"SHIFT.httpRoute.hostnames[0]", "is an address"}},
		{"a host with a port", `{}`, hosts("a.example.com", "b.example.com:80"), false, []string{"SHIFT.httpRoute.hostnames[1]", "no host name"}},
		{"a wildcard in the middle", `{}`, hosts("a.*.example.com"), false, []string{"SHIFT.httpRoute.hostnames[0]", "*.example.com"}},
		{"a port that the Service has by the chart", `{}`, byRoute(func(r *v1alpha1.RouteShift) { r.Port = 443 }), false, nil},
		{"a port that it has not", `{}`, byRoute(func(r *v1alpha1.RouteShift) { r.Port = 8080 }), false, []string{
			"SHIFT.httpRoute.port", "15021 80 443", "VALUES.service.ports",
		}},
		{"a port of the user's", `{"service":{"ports":[{"port":8080}]}}`, byRoute(func(r *v1alpha1.RouteShift) { r.Port = 8080 }), false, nil},
		{
			"a port of the chart's that the user's take the place of", `{"service":{"ports":[{"port":8080}]}}`,
			byRoute(func(*v1alpha1.RouteShift) {}), false,
			[]string{"SHIFT.httpRoute.port", "8080"},
		},

		{"enough time to drain", `{"terminationGracePeriodSeconds":31,"minReadySeconds":10}`, nil, false, nil},
		{"killed before they have drained", `{"terminationGracePeriodSeconds":30}`, nil, false, []string{"VALUES.terminationGracePeriodSeconds", "30", "at least 31", "shift.drainSeconds"}},
		{"a longer drain", `{"terminationGracePeriodSeconds":60}`, drain(60), false, []string{"VALUES.terminationGracePeriodSeconds", "at least 61"}},
		{"a grace period that is no number", `{"terminationGracePeriodSeconds":"1m"}`, nil, false, []string{"VALUES.terminationGracePeriodSeconds", "whole number of seconds"}},
		{"a part of a second", `{"minReadySeconds":1.5}`, nil, false, []string{"VALUES.minReadySeconds", "whole number of seconds"}},
		{"less than none", `{"minReadySeconds":-1}`, nil, false, []string{"VALUES.minReadySeconds"}},
		{"what is set to nothing is not set", `{"minReadySeconds":null}`, nil, false, nil},
		{"a sleep that fits", preStop + `{"sleep":{"seconds":9}}}}`, nil, true, nil},
		{"a sleep that does not", preStop + `{"sleep":{"seconds":10}}}}`, nil, true, []string{"VALUES.terminationGracePeriodSeconds", "preStop 10", "at least 41"}},
		{"a sleep as a command", preStop + `{"exec":{"command":["/bin/sleep","10"]}}}}`, nil, true, []string{"VALUES.terminationGracePeriodSeconds", "preStop 10"}},
		{"a sleep in a shell", preStop + `{"exec":{"command":["/bin/sh","-c","sleep 10s"]}}}}`, nil, true, []string{"VALUES.terminationGracePeriodSeconds", "preStop 10"}},

		{
			"a drain of the user's", `{"podAnnotations":{"proxy.istio.io/config":"terminationDrainDuration: 10s"}}`, nil, true,
			[]string{"VALUES.podAnnotations[proxy.istio.io/config]", "terminationDrainDuration", "set SHIFT.drainSeconds"},
		},
		{
			"a drain of the user's by a variable", `{"podAnnotations":{"proxy.istio.io/config":"proxyMetadata:\n  MINIMUM_DRAIN_DURATION: 10s"}}`, nil, true,
			[]string{"VALUES.podAnnotations[proxy.istio.io/config]", "MINIMUM_DRAIN_DURATION", "set SHIFT.drainSeconds"},
		},
		{
			"a variable of the container", `{"env":{"EXIT_ON_ZERO_ACTIVE_CONNECTIONS":"false","A":"b"}}`, nil, true,
			[]string{"VALUES.env", "EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "set SHIFT.drainSeconds"},
		},
		{"a configuration of something else", `{"podAnnotations":{"proxy.istio.io/config":"concurrency: 2\nproxyMetadata: {A: b}"}}`, nil, true, nil},
		{
			"a configuration that is none", `{"podAnnotations":{"proxy.istio.io/config":"- a"}}`, nil, true,
			[]string{"VALUES.podAnnotations[proxy.istio.io/config]", "ProxyConfig in YAML"},
		},
		{
			"a configuration that is no text", `{"podAnnotations":{"proxy.istio.io/config":{"concurrency":2}}}`, nil, true,
			[]string{"VALUES.podAnnotations[proxy.istio.io/config]", "has to be a text"},
		},
	} {
		entry := shiftBy(v1alpha1.ShiftReplicas, tc.values)
		if tc.gateway != nil {
			tc.gateway(&entry)
		}
		said := func(shift, values string) (want []string) {
			for _, w := range tc.want {
				want = append(want, strings.NewReplacer("SHIFT", shift, "VALUES", values).Replace(w))
			}
			return want
		}
		t.Run(tc.reason+", of a mesh", func(t *testing.T) {
			m := mesh(func(m *v1alpha1.MeshInstallation) { moving(m, entry) })
			errs, _ := Installation(m, world(nil))
			expectError(t, errs, said("spec.gateways[0].shift", "spec.gateways[0].values")...)
		})
		g := &v1alpha1.MeshGateway{Spec: v1alpha1.MeshGatewaySpec{Mesh: "default", Values: entry.Values, Shift: entry.Shift}}
		g.Name, g.Namespace = entry.Name, entry.Namespace
		t.Run(tc.reason+", as it was written", func(t *testing.T) {
			errs, _ := Gateway(g, mesh(func(m *v1alpha1.MeshInstallation) { moving(m, entry) }), world(nil))
			expectError(t, errs, said("spec.shift", "spec.values")...)
		})
		if tc.listed {
			continue
		}
		t.Run(tc.reason+", of a team", func(t *testing.T) {
			errs, _ := Gateway(g, mesh(nil), world(nil))
			expectError(t, errs, said("spec.shift", "spec.values")...)
		})
	}
}

// How long something else than a sleep takes can't be told.
func TestAnUnknownPreStopIsWarnedOf(t *testing.T) {
	for _, values := range []string{
		`{"lifecycle":{"preStop":{"exec":{"command":["/drain"]}}}}`, `{"lifecycle":{"preStop":{"httpGet":{"path":"/drain","port":1}}}}`,
	} {
		m := mesh(func(m *v1alpha1.MeshInstallation) { moving(m, shiftBy(v1alpha1.ShiftReplicas, values)) })
		errs, warnings := Installation(m, world(func(f *Facts) { f.KnownValues = nil }))
		expectError(t, errs)
		if len(warnings) != 1 || !strings.Contains(warnings[0], "spec.gateways[0].values.lifecycle.preStop: how long it takes can't be told") {
			t.Errorf("warnings %q of %s", warnings, values)
		}
	}
}

// Whoever takes a gateway over does so with the operator's rights.
func TestAdoption(t *testing.T) {
	listed := mesh(func(m *v1alpha1.MeshInstallation) {
		m.Spec.Gateways = []v1alpha1.Gateway{{Name: "mine", Namespace: "team"}}
	})
	for _, tc := range []struct {
		reason string
		policy v1alpha1.AdoptionPolicy
		mesh   *v1alpha1.MeshInstallation
		want   []string
	}{
		{"a gateway that the mesh lists", v1alpha1.AdoptionAdopt, listed, nil},
		{"one of a team", v1alpha1.AdoptionAdopt, mesh(nil), []string{"spec.adoption", "spec.gateways of the MeshInstallation"}},
		{"one of a mesh that there is not yet", v1alpha1.AdoptionAdopt, nil, []string{"spec.adoption"}},
		{"one of a team that takes nothing over", v1alpha1.AdoptionRefuse, mesh(nil), nil},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			g := teamGateway(`{}`)
			g.Spec.Adoption = tc.policy
			errs, _ := Gateway(g, tc.mesh, Facts{})
			expectError(t, errs, tc.want...)
		})
	}
}

// A gateway is as its entry has it in all that the entry says.
func TestSame(t *testing.T) {
	entry := shiftBy(v1alpha1.ShiftHTTPRoute, `{"replicaCount":2}`)
	entry.Adoption = v1alpha1.AdoptionRefuse
	for _, tc := range []struct {
		reason string
		change func(*v1alpha1.MeshGatewaySpec)
		want   bool
	}{
		{"as it was written", func(*v1alpha1.MeshGatewaySpec) {}, true},
		{"the same values in another spelling", func(s *v1alpha1.MeshGatewaySpec) { s.Values = raw(` { "replicaCount": 2 } `) }, true},
		{"no host names in another spelling", func(s *v1alpha1.MeshGatewaySpec) { s.Shift.HTTPRoute.Hostnames = []string{} }, true},
		{"other values", func(s *v1alpha1.MeshGatewaySpec) { s.Values = raw(`{"replicaCount":3}`) }, false},
		{"values that are no map", func(s *v1alpha1.MeshGatewaySpec) { s.Values = raw(`[]`) }, false},
		{"another policy", func(s *v1alpha1.MeshGatewaySpec) { s.VersionPolicy = v1alpha1.VersionHold }, false},
		{"another way to shift", func(s *v1alpha1.MeshGatewaySpec) { s.Shift.Type, s.Shift.HTTPRoute = v1alpha1.ShiftReplicas, nil }, false},
		{"another drain", func(s *v1alpha1.MeshGatewaySpec) { s.Shift.DrainSeconds = 5 }, false},
		{"another outer Gateway", func(s *v1alpha1.MeshGatewaySpec) { s.Shift.HTTPRoute.ParentRefs[0].Name = "other" }, false},
		{"an adoption that nobody asked for", func(s *v1alpha1.MeshGatewaySpec) { s.Adoption = v1alpha1.AdoptionAdopt }, false},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			g := &v1alpha1.MeshGateway{Spec: v1alpha1.MeshGatewaySpec{
				Values: entry.Values, VersionPolicy: entry.VersionPolicy, Shift: *entry.Shift.DeepCopy(), Adoption: entry.Adoption,
			}}
			tc.change(&g.Spec)
			if got := Same(g, entry); got != tc.want {
				t.Errorf("same is %t, want %t", got, tc.want)
			}
		})
	}
}
