// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func routed(t *testing.T) GatewayRequest {
	t.Helper()
	r := ingress(t, "1.29.1", nil)
	r.Shift.Type = v1alpha1.ShiftHTTPRoute
	r.Shift.HTTPRoute = &v1alpha1.RouteShift{
		ParentRefs: []v1alpha1.RouteParent{{Name: "edge", Namespace: "edge", SectionName: "https"}, {Name: "inner"}},
		Hostnames:  []string{"shop.example.com"}, Port: 80,
	}
	return r
}

// strictly reads an object into the type of its API, which has to know every field.
func strictly(t *testing.T, o *unstructured.Unstructured, into any) {
	t.Helper()
	raw, err := json.Marshal(o.Object)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(raw, into); err != nil {
		t.Fatal(err)
	}
}

// Each version has a Service of its own, and the route of the outer Gateways divides the requests between them.
func TestRoute(t *testing.T) {
	const both = 30
	for _, tc := range []struct {
		reason, old, next string
		weight            int32
		services          map[string]string // the revision that each selects
		weights           map[string]int32
	}{
		{
			"two versions",
			"1-28-2", "1-29-1", both,
			map[string]string{"ingress-1-28-2": "1-28-2", "ingress-1-29-1": "1-29-1"},
			map[string]int32{"ingress-1-28-2": 70, "ingress-1-29-1": 30},
		},
		{
			"the new version gets nothing yet",
			"1-28-2", "1-29-1", 0,
			map[string]string{"ingress-1-28-2": "1-28-2", "ingress-1-29-1": "1-29-1"},
			map[string]int32{"ingress-1-28-2": 100, "ingress-1-29-1": 0},
		},
		{
			"the only version gets everything, whatever the weight",
			"", "1-29-1", 0,
			map[string]string{"ingress-1-29-1": "1-29-1"},
			map[string]int32{"ingress-1-29-1": 100},
		},
		{
			"so does the old one when the new one goes",
			"1-28-2", "", 100,
			map[string]string{"ingress-1-28-2": "1-28-2"},
			map[string]int32{"ingress-1-28-2": 100},
		},
		{
			"one that was adopted is behind the gateway's own Service",
			"", Unrevisioned, 100,
			map[string]string{},
			map[string]int32{"ingress": 100},
		},
		{
			"and leaves it to a version of ours",
			Unrevisioned, "1-29-1", 100,
			map[string]string{"ingress-1-29-1": "1-29-1"},
			map[string]int32{"ingress": 0, "ingress-1-29-1": 100},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			r := routed(t)
			shared := rendered(t, r).Shared
			before := copies(shared)
			objects := must(t)(Route(r, shared, tc.old, tc.next, tc.weight))
			services, weights := map[string]string{}, map[string]int32{}
			var route gatewayv1.HTTPRoute
			for _, o := range objects {
				if o.GetLabels()[v1alpha1.LabelMesh] != "default" || o.GetLabels()[v1alpha1.LabelGateway] != "ingress" || o.GetNamespace() != "istio-ingress" {
					t.Errorf("%s %s/%s with labels %v is not marked as the gateway's", o.GetKind(), o.GetNamespace(), o.GetName(), o.GetLabels())
				}
				if o.GetKind() == "HTTPRoute" {
					strictly(t, o, &route)
					for service := range tc.weights {
						weights[service] = RouteWeight(o, service)
					}
					continue
				}
				selector, _, _ := unstructured.NestedStringMap(o.Object, "spec", "selector")
				services[o.GetName()] = selector[revisionLabel]
			}
			if diff := cmp.Diff(tc.services, services); diff != "" {
				t.Errorf("Services and the revisions that they select (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.weights, weights); diff != "" {
				t.Errorf("weights, as they are read back (-want +got):\n%s", diff)
			}
			if len(route.Spec.Rules) != 1 || len(route.Spec.Rules[0].BackendRefs) != len(tc.weights) {
				t.Errorf("rules %+v, want one with %d backends", route.Spec.Rules, len(tc.weights))
			}
			if diff := cmp.Diff(before, shared); diff != "" {
				t.Errorf("the gateway's own objects were changed (-before +after):\n%s", diff)
			}
		})
	}
}

// The route is what the Gateway API knows, and hangs where the user says.
func TestRouteHangs(t *testing.T) {
	r := routed(t)
	shared := rendered(t, r).Shared
	var route gatewayv1.HTTPRoute
	strictly(t, find(t, must(t)(Route(r, shared, "1-28-2", "1-29-1", 10)), "HTTPRoute"), &route)
	group, kind := gatewayv1.Group("gateway.networking.k8s.io"), gatewayv1.Kind("Gateway")
	want := []gatewayv1.ParentReference{
		{Group: &group, Kind: &kind, Name: "edge", Namespace: new(gatewayv1.Namespace("edge")), SectionName: new(gatewayv1.SectionName("https"))},
		{Group: &group, Kind: &kind, Name: "inner"},
	}
	if diff := cmp.Diff(want, route.Spec.ParentRefs); diff != "" {
		t.Errorf("parents (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]gatewayv1.Hostname{"shop.example.com"}, route.Spec.Hostnames); diff != "" {
		t.Errorf("hostnames (-want +got):\n%s", diff)
	}
	if got := route.Spec.Rules[0].BackendRefs[1].Port; got == nil || *got != 80 {
		t.Errorf("port %v, want 80", got)
	}
	r.Shift.HTTPRoute.Hostnames = nil
	o := find(t, must(t)(Route(r, shared, "1-28-2", "1-29-1", 10)), "HTTPRoute")
	if _, set, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "hostnames"); set {
		t.Error("without hostnames the route is to take all of the outer Gateway")
	}
	if RouteWeight(o, "another") != 0 {
		t.Error("a Service that the route does not name has a weight")
	}
}

// The Service of a version has the ports of the gateway's own, inside the cluster only: nothing of a load balancer or of nodes.
func TestServiceOfAVersion(t *testing.T) {
	r := routed(t)
	r.GatewayValues = map[string]any{"service": map[string]any{
		"type": "LoadBalancer", "loadBalancerIP": "192.0.2.1", "externalTrafficPolicy": "Local", "externalIPs": []any{"192.0.2.2"},
		"annotations": map[string]any{"cloud": "yes"},
		"ports":       []any{map[string]any{"name": "http2", "port": int64(80), "targetPort": int64(8080), "nodePort": int64(30080), "appProtocol": "http"}},
	}}
	service := find(t, must(t)(Route(r, rendered(t, r).Shared, "1-28-2", "1-29-1", 10)), "Service")
	want := map[string]any{
		"type": "ClusterIP", "selector": map[string]any{"app": "ingress", "istio": "ingress", "istio.io/rev": "1-28-2"},
		"ports": []any{map[string]any{"name": "http2", "port": int64(80), "targetPort": int64(8080), "appProtocol": "http"}},
	}
	if diff := cmp.Diff(want, service.Object["spec"]); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	if len(service.GetAnnotations()) > 0 {
		t.Errorf("annotations %v, which are for the load balancer", service.GetAnnotations())
	}
}
