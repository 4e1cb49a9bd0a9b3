// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

var update = flag.Bool("update", false, "write testdata anew")

// What each built-in version consists of, by kind and name. A new version's differences show as a diff of this list: names
// are what istioctl, Helm and people's policies know.
func TestNamesOfEveryVersion(t *testing.T) {
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, v := range library.Versions() {
		for _, revision := range []string{"rev", "default"} {
			r := canary(t, v.String(), revision)
			g := GatewayRequest{Request: r, Name: "ingress", GatewayNamespace: "istio-ingress"}
			for _, part := range []struct {
				name    string
				objects []*unstructured.Unstructured
			}{
				{"base", must(t)(Base(r))},
				{"control plane", must(t)(controlPlane(r))},
				{"default revision", must(t)(DefaultRevision(r))},
				{"tag stable", must(t)(Tag(r, "stable"))},
				{"gateway", must(t)(gateway(g))},
				{"gateway with all that it can have", everything(t, g)},
			} {
				fmt.Fprintf(&out, "%s, revision %s, %s\n", v, revision, part.name)
				for _, name := range names(part.objects) {
					fmt.Fprintf(&out, "  %s\n", name)
				}
			}
		}
	}
	golden := filepath.Join("testdata", "names.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(out.String(), "\n")); diff != "" {
		t.Errorf("names changed; if they should, run this test with -update (-want +got):\n%s", diff)
	}
}

// everything is a gateway whose traffic shifts by a route, with a policy for the network and an age of connections.
func everything(t *testing.T, g GatewayRequest) []*unstructured.Unstructured {
	t.Helper()
	g.GatewayValues = map[string]any{"global": map[string]any{"networkPolicy": map[string]any{"enabled": true}}}
	g.Shift = v1alpha1.GatewayShift{
		Type: v1alpha1.ShiftHTTPRoute, HTTPRoute: &v1alpha1.RouteShift{ParentRefs: []v1alpha1.RouteParent{{Name: "edge"}}, Port: 80},
		MaxConnectionAgeSeconds: 600,
	}
	objects := rendered(t, g)
	route := must(t)(Route(g, objects.Shared, "", g.Revision, 100))
	return slices.Concat(objects.Shared, objects.Workload, route, []*unstructured.Unstructured{ConnectionAge(g, objects.Shared)})
}

// A gateway without autoscaler sets replicas, and a budget of the user's replaces ours, in every version.
func TestGatewayOfFixedSize(t *testing.T) {
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range library.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			objects := must(t)(gateway(GatewayRequest{
				Request: canary(t, v.String(), "rev"), Name: "ingress", GatewayNamespace: "istio-ingress",
				GatewayValues: map[string]any{
					"autoscaling": map[string]any{"enabled": false}, "replicaCount": 3,
					"podDisruptionBudget": map[string]any{"minAvailable": 2},
				},
			}))
			if got := fmt.Sprint(value(t, find(t, objects, "Deployment"), "spec", "replicas")); got != "3" {
				t.Errorf("replicas = %s, want the user's 3", got)
			}
			budgets := slices.DeleteFunc(slices.Clone(objects), func(o *unstructured.Unstructured) bool { return o.GetKind() != "PodDisruptionBudget" })
			if len(budgets) != 1 {
				t.Fatalf("%d budgets over the same pods, want 1", len(budgets))
			}
			if got := fmt.Sprint(value(t, budgets[0], "spec", "minAvailable")); got != "2" {
				t.Errorf("minAvailable = %s, want the user's 2", got)
			}
			want := map[string]any{"app": "ingress", "istio": "ingress"}
			if diff := cmp.Diff(want, value(t, budgets[0], "spec", "selector", "matchLabels")); diff != "" {
				t.Errorf("selector of the budget (-want +got):\n%s", diff)
			}
			for _, o := range objects {
				if o.GetKind() == "HorizontalPodAutoscaler" {
					t.Error("there is an autoscaler, though it was turned off")
				}
			}
		})
	}
}

func value(t *testing.T, o *unstructured.Unstructured, path ...string) any {
	t.Helper()
	got, found, err := unstructured.NestedFieldNoCopy(o.Object, path...)
	if err != nil || !found {
		t.Fatalf("%s has no %v: %v", o.GetKind(), path, err)
	}
	return got
}
