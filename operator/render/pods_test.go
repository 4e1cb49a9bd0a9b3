// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/probe"
)

// ingress is a gateway of a version, with the user's values.
func ingress(t *testing.T, version string, values map[string]any) GatewayRequest {
	t.Helper()
	return GatewayRequest{
		Request: canary(t, version, "1-29-1"), Name: "ingress", GatewayNamespace: "istio-ingress", GatewayValues: values,
		Shift: v1alpha1.GatewayShift{DrainSeconds: 30},
	}
}

// annotations of the pods of a gateway.
func annotations(t *testing.T, objects []*unstructured.Unstructured) map[string]string {
	t.Helper()
	out, _, err := unstructured.NestedStringMap(find(t, objects, "Deployment").Object, "spec", "template", "metadata", "annotations")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// configOf is how the pods of a gateway configure their proxies.
func configOf(t *testing.T, objects []*unstructured.Unstructured) map[string]any {
	t.Helper()
	var out map[string]any
	if err := yaml.Unmarshal([]byte(annotations(t, objects)[proxyConfig]), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// In every version, how a pod ends follows from one number, and its proxy counts what shares are measured by, beside what the chart itself
// annotates.
func TestPodsOfEveryVersion(t *testing.T) {
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range library.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			objects := must(t)(gateway(ingress(t, v.String(), nil)))
			wantConfig := map[string]any{
				"terminationDrainDuration": "30s",
				"proxyMetadata":            map[string]any{"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true", "MINIMUM_DRAIN_DURATION": "5s"},
			}
			if diff := cmp.Diff(wantConfig, configOf(t, objects)); diff != "" {
				t.Errorf("configuration of the proxies (-want +got):\n%s", diff)
			}
			all := annotations(t, objects)
			if got, want := all[probe.StatsAnnotation], strings.Join(probe.StatsRegexps, ","); got != want {
				t.Errorf("statistics %q, want %q", got, want)
			}
			if all["inject.istio.io/templates"] != "gateway" {
				t.Errorf("annotations %v lack the chart's own", all)
			}
			deployment := find(t, objects, "Deployment")
			if got := value(t, deployment, "spec", "template", "spec", "terminationGracePeriodSeconds"); got != int64(35) {
				t.Errorf("terminationGracePeriodSeconds = %v, want 35", got)
			}
			if got := value(t, deployment, "spec", "minReadySeconds"); got != int64(2) {
				t.Errorf("minReadySeconds = %v, want 2", got)
			}
		})
	}
}

// What a user writes into the same annotations stays, except for how a proxy drains, whose times hold together only.
func TestUsersAnnotationsAreMerged(t *testing.T) {
	drains := map[string]any{"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true", "MINIMUM_DRAIN_DURATION": "5s"}
	ours := strings.Join(probe.StatsRegexps, ",")
	for _, tc := range []struct {
		reason      string
		annotations map[string]any
		config      map[string]any
		statistics  string
	}{
		{
			"other settings and variables stay",
			map[string]any{proxyConfig: "concurrency: 2\nstatusPort: 15020\nproxyMetadata: {LOG: debug}\n"},
			map[string]any{
				"concurrency": 2.0, "statusPort": 15020.0, "terminationDrainDuration": "30s",
				"proxyMetadata": map[string]any{"LOG": "debug", "EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true", "MINIMUM_DRAIN_DURATION": "5s"},
			},
			ours,
		},
		{
			"JSON is YAML",
			map[string]any{proxyConfig: `{"holdApplicationUntilProxyStarts": true}`},
			map[string]any{"holdApplicationUntilProxyStarts": true, "terminationDrainDuration": "30s", "proxyMetadata": drains},
			ours,
		},
		{
			"how it drains is ours",
			map[string]any{proxyConfig: "terminationDrainDuration: 5s\nproxyMetadata: {MINIMUM_DRAIN_DURATION: 60s}\n"},
			map[string]any{"terminationDrainDuration": "30s", "proxyMetadata": drains},
			ours,
		},
		{
			"empty is nothing",
			map[string]any{proxyConfig: "", probe.StatsAnnotation: ""},
			map[string]any{"terminationDrainDuration": "30s", "proxyMetadata": drains},
			ours,
		},
		{
			"other statistics stay",
			map[string]any{probe.StatsAnnotation: `cluster\..*\.upstream_rq_time,server\..*`},
			map[string]any{"terminationDrainDuration": "30s", "proxyMetadata": drains},
			`cluster\..*\.upstream_rq_time,server\..*,` + ours,
		},
		{
			"statistics of the configuration move into the annotation, which would make Istio leave them out",
			map[string]any{proxyConfig: "proxyStatsMatcher: {inclusionRegexps: [\"a.*\", \"b.*\"], inclusionPrefixes: [c]}"},
			map[string]any{
				"proxyStatsMatcher":        map[string]any{"inclusionRegexps": []any{"a.*", "b.*"}, "inclusionPrefixes": []any{"c"}},
				"terminationDrainDuration": "30s", "proxyMetadata": drains,
			},
			"a.*,b.*," + ours,
		},
		{
			"statistics of the configuration stay left out where the user has set the annotation, too",
			map[string]any{proxyConfig: "proxyStatsMatcher: {inclusionRegexps: [\"a.*\"]}", probe.StatsAnnotation: "b.*"},
			map[string]any{
				"proxyStatsMatcher":        map[string]any{"inclusionRegexps": []any{"a.*"}},
				"terminationDrainDuration": "30s", "proxyMetadata": drains,
			},
			"b.*," + ours,
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			tc.annotations["mine"] = "yes"
			objects := must(t)(gateway(ingress(t, "1.29.1", map[string]any{podAnnotations: tc.annotations})))
			if diff := cmp.Diff(tc.config, configOf(t, objects)); diff != "" {
				t.Errorf("configuration of the proxies (-want +got):\n%s", diff)
			}
			all := annotations(t, objects)
			if all[probe.StatsAnnotation] != tc.statistics {
				t.Errorf("statistics %q, want %q", all[probe.StatsAnnotation], tc.statistics)
			}
			if all["mine"] != "yes" {
				t.Errorf("annotations %v lack the user's", all)
			}
		})
	}
}

func TestTimesOfPods(t *testing.T) {
	for _, tc := range []struct {
		reason          string
		shift           int32
		values          map[string]any
		grace, minReady any
		minimum, drain  string
	}{
		{"a long drain", 3600, nil, int64(3605), int64(2), "5s", "3600s"},
		{"the shortest drain", 5, nil, int64(10), int64(2), "5s", "5s"},
		{"the user's grace period and time to be ready", 30, map[string]any{"terminationGracePeriodSeconds": 90.0, "minReadySeconds": 10.0}, int64(90), int64(10), "5s", "30s"},
		{"no time to be ready at all", 30, map[string]any{"minReadySeconds": int64(0)}, int64(35), nil, "5s", "30s"},
		{"what is null is not set", 30, map[string]any{"terminationGracePeriodSeconds": nil, "minReadySeconds": nil}, int64(35), int64(2), "5s", "30s"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			r := ingress(t, "1.29.1", tc.values)
			r.Shift.DrainSeconds = tc.shift
			objects := must(t)(gateway(r))
			spec := find(t, objects, "Deployment").Object["spec"].(map[string]any)
			if got := spec["template"].(map[string]any)["spec"].(map[string]any)["terminationGracePeriodSeconds"]; got != tc.grace {
				t.Errorf("terminationGracePeriodSeconds = %v, want %v", got, tc.grace)
			}
			if got := spec["minReadySeconds"]; got != tc.minReady {
				t.Errorf("minReadySeconds = %v, want %v", got, tc.minReady)
			}
			config := configOf(t, objects)
			if config["terminationDrainDuration"] != tc.drain || config["proxyMetadata"].(map[string]any)["MINIMUM_DRAIN_DURATION"] != tc.minimum {
				t.Errorf("configuration %v, want a drain of %s and %s at least", config, tc.drain, tc.minimum)
			}
		})
	}
}

// What can't be merged is refused, and not lost.
func TestAnnotationsThatCanNotBeMerged(t *testing.T) {
	for reason, values := range map[string]any{
		"proxy.istio.io/config has to be a map in YAML":           map[string]any{proxyConfig: "concurrency: [2"},
		"proxy.istio.io/config has to be a map in YAML: ":         map[string]any{proxyConfig: "just words"},
		"proxy.istio.io/config has to be a text, such as a block": map[string]any{proxyConfig: map[string]any{"concurrency": 2}},
		probe.StatsAnnotation + " has to be a text":               map[string]any{probe.StatsAnnotation: []any{"a.*"}},
		"values.podAnnotations has to be a map of annotations":    "a: b",
	} {
		_, err := Gateway(ingress(t, "1.29.1", map[string]any{podAnnotations: values}))
		if err == nil || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), "values.podAnnotations") {
			t.Errorf("%v: error %v, want one that says %q and names values.podAnnotations", values, err, reason)
		}
	}
}

// The user's values are left as they are: they are rendered again for the other version.
func TestValuesAreNotChanged(t *testing.T) {
	values := func() map[string]any {
		return map[string]any{podAnnotations: map[string]any{proxyConfig: "concurrency: 2"}, "replicaCount": int64(2)}
	}
	given := values()
	must(t)(gateway(ingress(t, "1.29.1", given)))
	if diff := cmp.Diff(values(), given); diff != "" {
		t.Errorf("values after rendering (-before +after):\n%s", diff)
	}
}

// Whatever of a shift is rendered makes another digest of inputs: what is kept of an earlier rendering must not be taken for it.
func TestDigestOfAShift(t *testing.T) {
	seen := map[string]string{}
	for reason, shift := range map[string]v1alpha1.GatewayShift{
		"as it is by default": {DrainSeconds: 30}, "a longer drain": {DrainSeconds: 31},
		"an age of connections": {DrainSeconds: 30, MaxConnectionAgeSeconds: 60},
	} {
		r := ingress(t, "1.29.1", nil)
		r.Shift = shift
		digest, err := r.InputsDigest()
		if err != nil {
			t.Fatal(err)
		}
		if other, known := seen[digest]; known {
			t.Errorf("%s and %s have the same digest", reason, other)
		}
		seen[digest] = reason
	}
}
