// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"
)

func rendered(t *testing.T, r GatewayRequest) GatewayObjects {
	t.Helper()
	out, err := Gateway(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// What exists once is apart from what each version has, and selects the pods of all versions.
func TestSharedAndWorkload(t *testing.T) {
	fixed := map[string]any{
		"autoscaling": map[string]any{"enabled": false}, "replicaCount": int64(2),
		"global": map[string]any{"networkPolicy": map[string]any{"enabled": true}},
	}
	for _, tc := range []struct {
		reason, version  string
		values           map[string]any
		shared, workload []string
	}{
		{
			"by default", "1.26.1", nil,
			[]string{"PodDisruptionBudget ingress", "Role ingress", "RoleBinding ingress", "Service ingress", "ServiceAccount ingress"},
			[]string{"Deployment ingress-1-29-1", "HorizontalPodAutoscaler ingress-1-29-1"},
		},
		{
			"of fixed size, with a policy for the network", "1.31.0", fixed,
			[]string{"PodDisruptionBudget ingress", "Role ingress", "RoleBinding ingress", "Service ingress", "ServiceAccount ingress"},
			[]string{"Deployment ingress-1-29-1", "NetworkPolicy ingress-1-29-1"},
		},
		{
			"a version whose chart knows no policy for the network", "1.27.9", fixed,
			[]string{"PodDisruptionBudget ingress", "Role ingress", "RoleBinding ingress", "Service ingress", "ServiceAccount ingress"},
			[]string{"Deployment ingress-1-29-1"},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			got := rendered(t, ingress(t, tc.version, tc.values))
			plain := func(objects []*unstructured.Unstructured) (out []string) {
				for _, name := range names(objects) {
					out = append(out, strings.Replace(name, "istio-ingress/", "", 1))
				}
				return out
			}
			if diff := cmp.Diff(tc.shared, plain(got.Shared)); diff != "" {
				t.Errorf("shared (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.workload, plain(got.Workload)); diff != "" {
				t.Errorf("workload (-want +got):\n%s", diff)
			}
			all := map[string]any{"app": "ingress", "istio": "ingress"}
			for _, o := range slices.Concat(got.Shared, got.Workload) {
				path := map[string][]string{
					"Service": {"spec", "selector"}, "PodDisruptionBudget": {"spec", "selector", "matchLabels"},
					"NetworkPolicy": {"spec", "podSelector", "matchLabels"},
				}[o.GetKind()]
				if path == nil {
					continue
				}
				if diff := cmp.Diff(all, value(t, o, path...)); diff != "" {
					t.Errorf("%s selects something else than the pods of all versions (-want +got):\n%s", o.GetKind(), diff)
				}
			}
		})
	}
}

func TestPointAt(t *testing.T) {
	service := find(t, rendered(t, ingress(t, "1.29.1", nil)).Shared, "Service")
	for _, tc := range []struct {
		reason, revision string
		want             map[string]any
	}{
		{"at one version", "1-29-1", map[string]any{"app": "ingress", "istio": "ingress", "istio.io/rev": "1-29-1"}},
		{"at another one", "1-28-2", map[string]any{"app": "ingress", "istio": "ingress", "istio.io/rev": "1-28-2"}},
		{"at all", "", map[string]any{"app": "ingress", "istio": "ingress"}},
		{"at one again", "1-29-1", map[string]any{"app": "ingress", "istio": "ingress", "istio.io/rev": "1-29-1"}},
		{"at one that was adopted and has no label", Unrevisioned, map[string]any{"app": "ingress", "istio": "ingress"}},
	} {
		PointAt(service, tc.revision)
		if diff := cmp.Diff(tc.want, value(t, service, "spec", "selector")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
		}
	}
}

func TestScale(t *testing.T) {
	fixed := map[string]any{"autoscaling": map[string]any{"enabled": false}, "replicaCount": int64(3)}
	scaled := map[string]any{"autoscaling": map[string]any{"minReplicas": int64(2), "maxReplicas": int64(6)}}
	for _, tc := range []struct {
		reason          string
		values          map[string]any
		replicas, limit int32
		want            size
	}{
		{"a fixed size is set exactly", fixed, 1, 0, size{Replicas: int64(1)}},
		{"a limit is for autoscalers", fixed, 5, 2, size{Replicas: int64(5)}},
		{"no pods at all", fixed, 0, 0, size{Replicas: int64(0)}},
		{"a negative number changes nothing", fixed, -1, 0, size{Replicas: int64(3)}},
		{"an autoscaler has as many at least", scaled, 4, 0, size{Min: int64(4), Max: int64(6)}},
		{"never fewer than the user wants at least", scaled, 1, 0, size{Min: int64(2), Max: int64(6)}},
		{"never more than the user wants at most", scaled, 9, 0, size{Min: int64(6), Max: int64(6)}},
		{"a limit lowers both bounds", scaled, 1, 1, size{Min: int64(1), Max: int64(1)}},
		{"a limit above the user's does not raise it", scaled, 3, 9, size{Min: int64(3), Max: int64(6)}},
		{"a negative number changes no autoscaler", scaled, -1, 1, size{Min: int64(2), Max: int64(6)}},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			given := rendered(t, ingress(t, "1.29.1", tc.values)).Workload
			before := copies(given)
			out, err := Scale(given, tc.replicas, tc.limit)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, sizeOf(out)); diff != "" {
				t.Errorf("size (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, given); diff != "" {
				t.Errorf("the objects that were given were changed (-before +after):\n%s", diff)
			}
		})
	}
}

// size is what says how many pods a workload has: Replicas of its Deployment, Min and Max of its autoscaler.
type size struct{ Replicas, Min, Max any }

func sizeOf(workload []*unstructured.Unstructured) (out size) {
	for _, o := range workload {
		spec, _ := o.Object["spec"].(map[string]any)
		switch o.GetKind() {
		case "Deployment":
			out.Replicas = spec["replicas"]
		case "HorizontalPodAutoscaler":
			out.Min, out.Max = spec["minReplicas"], spec["maxReplicas"]
		}
	}
	return out
}

func copies(objects []*unstructured.Unstructured) (out []*unstructured.Unstructured) {
	for _, o := range objects {
		out = append(out, o.DeepCopy())
	}
	return out
}

// Whatever is asked for, an autoscaler's bounds are in order and within the user's upper one, and as many pods as were asked for are there
// where the bounds allow it.
func TestScaleWithinBounds(t *testing.T) {
	objects := rendered(t, ingress(t, "1.29.1", nil)).Workload
	scaler := find(t, objects, "HorizontalPodAutoscaler")
	rapid.Check(t, func(t *rapid.T) {
		least := rapid.Int64Range(1, 20).Draw(t, "least")
		most := rapid.Int64Range(least, 40).Draw(t, "most")
		replicas, limit := rapid.Int32Range(0, 50).Draw(t, "replicas"), rapid.Int32Range(0, 50).Draw(t, "limit")
		spec, _ := scaler.Object["spec"].(map[string]any)
		spec["minReplicas"], spec["maxReplicas"] = least, most
		out, err := Scale(objects, replicas, limit)
		if err != nil {
			t.Fatal(err)
		}
		got := sizeOf(out)
		low, high := got.Min.(int64), got.Max.(int64)
		if low < 1 || low > high || high > most || limit > 0 && high > int64(limit) {
			t.Fatalf("from %d to %d, of %d to %d with limit %d", low, high, least, most, limit)
		}
		if wanted := max(least, int64(replicas)); low != wanted && low != high {
			t.Fatalf("%d pods at least, want %d or the upper bound %d", low, wanted, high)
		}
	})
}

func TestBoundsThatAreNone(t *testing.T) {
	for name, autoscaling := range map[string]map[string]any{
		"values.autoscaling.maxReplicas": {"maxReplicas": nil}, "values.autoscaling.minReplicas": {"minReplicas": 1.5},
	} {
		_, err := Scale(rendered(t, ingress(t, "1.26.1", map[string]any{"autoscaling": autoscaling})).Workload, 1, 0)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v, want one that names %s", err, name)
		}
	}
}

// The Deployments of two versions, and the one that was there before either, are told apart.
func TestRevisionOf(t *testing.T) {
	r := ingress(t, "1.29.1", nil)
	deployment := find(t, rendered(t, r).Workload, "Deployment")
	if got := RevisionOf(deployment, "ingress"); got != "1-29-1" {
		t.Errorf("revision %q, want 1-29-1", got)
	}
	deployment.SetName("ingress")
	if got := RevisionOf(deployment, "ingress"); got != Unrevisioned {
		t.Errorf("revision %q of a Deployment of the plain name, want %s", got, Unrevisioned)
	}
	r.Revision = Unrevisioned
	if r.WorkloadName() != "ingress" {
		t.Errorf("the Deployment that was adopted is called %s, want its plain name", r.WorkloadName())
	}
}
