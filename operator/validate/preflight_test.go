// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	stdcmp "cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// extension is one of shop/headers, with a spec as users write it.
func extension(t *testing.T, spec string) Extension {
	t.Helper()
	out := Extension{Namespace: "shop", Name: "headers"}
	if err := yaml.Unmarshal([]byte(spec), &out.Spec); err != nil {
		t.Fatal(err)
	}
	return out
}

// annotated adds annotations.
func annotated(e Extension, annotations map[string]string) Extension {
	e.Annotations = annotations
	return e
}

func resources(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

// roomy is a capacity that suffices.
func roomy() Capacity {
	return Capacity{Wants: resources("500m", "2Gi"), Nodes: []Node{{Name: "a", Free: resources("4", "8Gi")}}}
}

// bound is an EnvoyFilter of a route for a proxy version.
func bound(t *testing.T, proxyVersion string) Extension {
	t.Helper()
	return extension(t, fmt.Sprintf(`
configPatches:
- applyTo: HTTP_ROUTE
  match: {proxy: {proxyVersion: %q}}
  patch: {operation: MERGE, value: {name: x}}`, proxyVersion))
}

const lua = `
configPatches:
- applyTo: HTTP_FILTER
  match:
    context: SIDECAR_INBOUND
    listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}
  patch:
    operation: INSERT_BEFORE
    value:
      name: lua
      typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, inlineCode: "x()"}`

const luaMessage = "configPatches[0] reaches into Envoy: INSERT_BEFORE HTTP_FILTER at envoy.filters.http.router with " +
	"envoy.extensions.filters.http.lua.v3.Lua: test it with Istio "

func TestFindings(t *testing.T) {
	const filter, plugin, pdb = "EnvoyFilter/shop/headers", "WasmPlugin/shop/headers", "PodDisruptionBudget/shop/cart"
	filters := func(e Extension) Preflight { return Preflight{EnvoyFilters: []Extension{e}, Capacity: roomy()} }
	plugins := func(e Extension) Preflight { return Preflight{WasmPlugins: []Extension{e}, Capacity: roomy()} }
	tight := Preflight{Budgets: []Budget{{Namespace: "shop", Name: "cart", ExpectedPods: 3}}, Capacity: roomy()}
	for _, tc := range []struct {
		reason       string
		to           string // from 1.28.3; 1.29.1 where empty
		preflight    Preflight
		restart      v1alpha1.RestartType
		acknowledged []string
		want         []v1alpha1.Finding
		blocks       bool
	}{
		{reason: "nothing stands in the way", preflight: Preflight{Capacity: roomy()}},
		{
			reason:    "a patch for the old line would be lost without a word",
			preflight: filters(bound(t, `^1\.28.*`)), blocks: true,
			want: []v1alpha1.Finding{{Name: filter, Message: `configPatches[0] is for proxyVersion "^1\\.28.*" and would stop applying: ` +
				`1.28.3 matches, 1.29.1 does not: mend its proxyVersion; test it with Istio 1.29.1, then add EnvoyFilter/shop/headers to ` +
				`spec.upgrade.acknowledged`}},
		},
		{
			reason:    "a patch for the old patch release only is lost within a line too",
			to:        "1.28.4",
			preflight: filters(bound(t, `^1\.28\.3$`)), blocks: true,
			want: []v1alpha1.Finding{{Name: filter, Message: `configPatches[0] is for proxyVersion "^1\\.28\\.3$" and would stop applying: ` +
				`1.28.3 matches, 1.28.4 does not: mend its proxyVersion; test it with Istio 1.28.4, then add EnvoyFilter/shop/headers to ` +
				`spec.upgrade.acknowledged`}},
		},
		{reason: "a patch for both", preflight: filters(bound(t, `^1\.(28|29)\..*`))},
		{reason: "a patch for the line, which stays", to: "1.28.4", preflight: filters(bound(t, `^1\.28.*`))},
		{reason: "Istio anchors nothing: 8 is found in 1.28.3, and 9 in both", preflight: filters(bound(t, `9|8`))},
		{reason: "a patch for neither, left over from an older move", preflight: filters(bound(t, `^1\.20.*`))},
		{
			reason:    "a patch for the new version only begins to apply",
			preflight: filters(bound(t, `^1\.29.*`)),
			want: []v1alpha1.Finding{{Name: filter, Message: `configPatches[0] is for proxyVersion "^1\\.29.*" and would begin to apply: ` +
				`1.29.1 matches, 1.28.3 does not: test it with Istio 1.29.1`}},
		},
		{
			reason:    "Istio ignores what is no regular expression; RE2 knows no lookahead",
			preflight: filters(bound(t, `^(?!1\.2)`)), blocks: true,
			want: []v1alpha1.Finding{{Name: filter, Message: "configPatches[0] has a proxyVersion that is no regular expression, and so applies " +
				"to proxies of any version (error parsing regexp: invalid or unsupported Perl syntax: `(?!`): mend its proxyVersion; test it " +
				"with Istio 1.29.1, then add EnvoyFilter/shop/headers to spec.upgrade.acknowledged"}},
		},
		{
			reason:    "newer Istio gives up on long texts",
			preflight: filters(bound(t, strings.Repeat(".", 1020)+".*.*.")), blocks: true,
			want: []v1alpha1.Finding{{Name: filter, Message: "configPatches[0] has a proxyVersion of 1025 bytes: newer Istio lets one of more " +
				"than 1024 match no proxy: mend its proxyVersion; test it with Istio 1.29.1, then add EnvoyFilter/shop/headers to " +
				"spec.upgrade.acknowledged"}},
		},
		{
			reason:    "Envoy's inside has no stable API: another line needs a test",
			preflight: filters(extension(t, lua)), blocks: true,
			want: []v1alpha1.Finding{{
				Name: filter, Message: luaMessage + "1.29.1, then add EnvoyFilter/shop/headers to spec.upgrade.acknowledged",
			}},
		},
		{
			reason: "a patch release changes less", to: "1.28.4", preflight: filters(extension(t, lua)),
			want: []v1alpha1.Finding{{Name: filter, Message: luaMessage + "1.28.4"}},
		},
		{
			reason:    "the tested filter no longer holds the rollout back, and is still told",
			preflight: filters(extension(t, lua)), acknowledged: []string{"EnvoyFilter/other/headers", filter},
			want: []v1alpha1.Finding{{
				Name: filter, Acknowledged: true,
				Message: luaMessage + "1.29.1, then add EnvoyFilter/shop/headers to spec.upgrade.acknowledged",
			}},
		},
		{
			reason: "what would not hold it back needs no acknowledgement", to: "1.28.4",
			preflight: filters(extension(t, lua)), acknowledged: []string{filter},
			want: []v1alpha1.Finding{{Name: filter, Message: luaMessage + "1.28.4"}},
		},
		{
			reason: "a wrapped type is found in routes too",
			preflight: filters(extension(t, `
configPatches:
- applyTo: HTTP_ROUTE
  patch: {operation: MERGE, value: {typed_per_filter_config: {x: [{"@type": type.googleapis.com/udpa.type.v1.TypedStruct,
    type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, value: {"@type": 7}}]}}}`)), blocks: true,
			want: []v1alpha1.Finding{{Name: filter, Message: "configPatches[0] reaches into Envoy: MERGE HTTP_ROUTE with envoy.extensions." +
				"filters.http.local_ratelimit.v3.LocalRateLimit: test it with Istio 1.29.1, then add EnvoyFilter/shop/headers to " +
				"spec.upgrade.acknowledged"}},
		},
		{
			reason: "each patch is judged; one that the new proxies won't get can't break them",
			preflight: filters(extension(t, `
configPatches:
- {applyTo: CLUSTER, patch: {operation: ADD, value: {name: x}}}
- {applyTo: VIRTUAL_HOST, patch: {operation: MERGE, value: {name: x}}}
- {applyTo: CLUSTER, match: {proxy: {proxyVersion: "^1.2[0-7]"}}, patch: {operation: MERGE, value: {name: x}}}
- {applyTo: BOOTSTRAP, patch: {operation: MERGE, value: {x: y}}}
- {applyTo: HTTP_FILTER, match: {listener: {filterChain: {filter: {name: envoy.tcp}}}}, patch: {operation: REMOVE}}`)), blocks: true,
			want: []v1alpha1.Finding{{Name: filter, Message: "configPatches[3] reaches into Envoy: MERGE BOOTSTRAP; configPatches[4] reaches " +
				"into Envoy: REMOVE HTTP_FILTER at envoy.tcp: test it with Istio 1.29.1, then add EnvoyFilter/shop/headers to " +
				"spec.upgrade.acknowledged"}},
		},
		{reason: "what the schema would refuse is passed over", preflight: filters(extension(t, `configPatches: [7, {match: [], patch: "x"}]`))},
		{
			reason:    "what a module was built against can't be seen",
			preflight: plugins(extension(t, "url: oci://example.com/headers:v3")),
			want: []v1alpha1.Finding{{Name: plugin, Message: "its module was built against the ABI of a proxy, and Envoy is another one in " +
				"1.29.1: test it with Istio 1.29.1"}},
		},
		{
			reason:    "an image for the old proxy",
			preflight: plugins(extension(t, "url: oci://example.com/headers:istio-1.28")), blocks: true,
			want: []v1alpha1.Finding{{Name: plugin, Message: "spec.url names proxy version 1.28, which the move leaves: give it a module for " +
				"1.29.1; test it with Istio 1.29.1, then add WasmPlugin/shop/headers to spec.upgrade.acknowledged"}},
		},
		{
			reason: "an annotation for the old proxy; what kubectl leaves behind tells nothing",
			preflight: plugins(annotated(extension(t, "url: x"), map[string]string{
				"example.com/proxy": "v1.28.3", corev1.LastAppliedConfigAnnotation: `{"spec": {"pluginConfig": "1.28"}}`,
			})), blocks: true,
			want: []v1alpha1.Finding{{Name: plugin, Message: "annotation example.com/proxy names proxy version 1.28, which the move leaves: " +
				"give it a module for 1.29.1; test it with Istio 1.29.1, then add WasmPlugin/shop/headers to spec.upgrade.acknowledged"}},
		},
		{reason: "modules stay within a line", to: "1.28.4", preflight: plugins(extension(t, "url: oci://example.com/headers:1.28"))},
		{
			reason: "one for the old patch release is worth a word", to: "1.28.4", preflight: plugins(extension(t, "url: oci://example.com/h:1.28.3")),
			want: []v1alpha1.Finding{{
				Name: plugin, Message: "spec.url names proxy version 1.28.3, which the move leaves: test it with Istio 1.28.4",
			}},
		},
		{
			reason: "evictions would wait for ever", preflight: tight, restart: v1alpha1.RestartEvict, blocks: true,
			want: []v1alpha1.Finding{{Name: pdb, Message: "it allows no eviction now: let it allow one (more replicas, or a larger " +
				"maxUnavailable), set spec.dataPlane.restart.type to Rollout, or add PodDisruptionBudget/shop/cart to spec.upgrade.acknowledged"}},
		},
		{
			reason: "a refresh evicts too", to: "1.28.3", preflight: tight, restart: v1alpha1.RestartEvict, acknowledged: []string{pdb},
			want: []v1alpha1.Finding{{Name: pdb, Acknowledged: true, Message: "it allows no eviction now: let it allow one (more replicas, or a " +
				"larger maxUnavailable), set spec.dataPlane.restart.type to Rollout, or add PodDisruptionBudget/shop/cart to " +
				"spec.upgrade.acknowledged"}},
		},
		{
			reason: "rolling updates ask no budget", preflight: tight, restart: v1alpha1.RestartRollout,
			want: []v1alpha1.Finding{{Name: pdb, Message: "it allows no eviction now; workloads are rolled out, which asks no budget"}},
		},
		{
			reason: "people may evict", preflight: tight, restart: v1alpha1.RestartManual,
			want: []v1alpha1.Finding{{
				Name: pdb, Message: "it allows no eviction now; restarts are left to you, and will be refused when they evict",
			}},
		},
		{
			reason: "budgets that allow one, or are for nothing", restart: v1alpha1.RestartEvict,
			preflight: Preflight{Capacity: roomy(), Budgets: []Budget{{Name: "a", DisruptionsAllowed: 1, ExpectedPods: 3}, {Name: "b"}}},
		},
		{
			reason: "what is not known is no pass",
			want: []v1alpha1.Finding{{
				Name: "Capacity/istiod", Message: "what istiod 1.29.1 requests is not known: whether a node has room for it was not checked",
			}},
		},
		{
			reason: "room that is on different nodes is no room",
			preflight: Preflight{Capacity: Capacity{Wants: resources("500m", "2Gi"), Nodes: []Node{
				{Name: "a", Free: resources("4", "1Gi")}, {Name: "b", Free: resources("100m", "8Gi")},
			}}},
			want: []v1alpha1.Finding{{Name: "Capacity/istiod", Message: "istiod 1.29.1 requests cpu 500m, memory 2Gi, and none of 2 schedulable " +
				"nodes without taints has room for it (the most that is free on one: cpu 4, memory 8Gi): make room, unless the cluster grows " +
				"by itself"}},
		},
		{
			reason:    "no node at all",
			preflight: Preflight{Capacity: Capacity{Wants: resources("500m", "2Gi")}},
			want: []v1alpha1.Finding{{Name: "Capacity/istiod", Message: "istiod 1.29.1 requests cpu 500m, memory 2Gi, and none of 0 schedulable " +
				"nodes without taints has room for it: make room, unless the cluster grows by itself"}},
		},
		{reason: "a refresh moves no proxy to another version", to: "1.28.3", preflight: filters(extension(t, lua))},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			to := semver.MustParse(stdcmp.Or(tc.to, "1.29.1"))
			findings, blocking := Findings(semver.MustParse("1.28.3"), to, tc.preflight, tc.restart, tc.acknowledged)
			if diff := cmp.Diff(tc.want, findings); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			want := tc.want
			if !tc.blocks {
				want = nil
			}
			if diff := cmp.Diff(want, blocking); diff != "" {
				t.Errorf("blocking (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPlacesForPods(t *testing.T) {
	full := resources("4", "8Gi")
	full[corev1.ResourcePods] = resource.MustParse("0")
	c := Capacity{Wants: resources("500m", "2Gi"), Nodes: []Node{{Name: "a", Free: full}}}
	findings, blocking := Findings(semver.MustParse("1.28.3"), semver.MustParse("1.29.1"), Preflight{Capacity: c}, v1alpha1.RestartRollout, nil)
	if len(findings) != 1 || len(blocking) != 0 {
		t.Errorf("a node that takes no more pods has no room: %v, %v", findings, blocking)
	}
}

// A plan holds 100 findings, of 1024 characters each.
func TestFindingsAreBounded(t *testing.T) {
	p := Preflight{Capacity: roomy()}
	for i := range 150 {
		p.Budgets = append(p.Budgets, Budget{Namespace: "shop", Name: fmt.Sprintf("b%03d", 149-i), ExpectedPods: 1})
		p.WasmPlugins = append(p.WasmPlugins, Extension{Namespace: "shop", Name: fmt.Sprintf("w%03d", i)})
	}
	var patches []any
	for range 50 {
		patches = append(patches, map[string]any{"applyTo": "CLUSTER", "patch": map[string]any{"operation": "MERGE"}})
	}
	p.EnvoyFilters = []Extension{
		{Namespace: "z", Name: "last", Spec: map[string]any{"configPatches": patches}},
		{Namespace: "z", Name: "last", Spec: map[string]any{"configPatches": patches}},
	}

	from, to := semver.MustParse("1.28.3"), semver.MustParse("1.29.1")
	findings, blocking := Findings(from, to, p, v1alpha1.RestartRollout, nil)
	if len(findings) != 100 || len(blocking) != 1 {
		t.Fatalf("%d findings and %d that block, not 100 and 1", len(findings), len(blocking))
	}
	if diff := cmp.Diff(v1alpha1.Finding{Name: "More", Message: "202 more were found: see to these first"}, findings[99]); diff != "" {
		t.Error(diff)
	}
	byName := func(a, b v1alpha1.Finding) int { return strings.Compare(a.Name, b.Name) }
	if !slices.IsSortedFunc(findings[:99], byName) {
		t.Error("the findings are not in order")
	}
	if findings[0].Name != "EnvoyFilter/z/last" {
		t.Errorf("%s is first: what blocks is cut off before what does not", findings[0].Name)
	}
	const remedy = "...: test it with Istio 1.29.1, then add EnvoyFilter/z/last to spec.upgrade.acknowledged"
	if got := findings[0].Message; len(got) != 1024 || !strings.HasSuffix(got, remedy) {
		t.Errorf("%d bytes: %s", len(got), got)
	}

	slices.Reverse(p.Budgets)
	slices.Reverse(p.WasmPlugins)
	again, _ := Findings(from, to, p, v1alpha1.RestartRollout, nil)
	if diff := cmp.Diff(findings, again); diff != "" {
		t.Errorf("the order of the facts shows (-one +other):\n%s", diff)
	}
	if _, blocking = Findings(from, to, p, v1alpha1.RestartEvict, nil); len(blocking) != 100 {
		t.Errorf("%d block, not 100", len(blocking))
	}
}

func TestVersionsInTexts(t *testing.T) {
	for text, want := range map[string]bool{
		"1.28": true, "v1.28": true, "proxy:1.28.3": true, "proxy-1.28-alpine": true, "plugin.1.28.wasm": true, "11.28 and 1.28": true,
		"": false, "1.280": false, "11.28": false, "0.1.28": false, "10.1.28.4": false, "1-28": false, "1.2": false,
	} {
		if got := names(text, "1.28"); got != want {
			t.Errorf("%q: %v, not %v", text, got, want)
		}
	}
}

func TestTextsAreCutBetweenCharacters(t *testing.T) {
	for limit := range 12 {
		got := clip("aäöü€x", limit)
		if !utf8.ValidString(got) || len(got) > max(limit, len("...")) {
			t.Errorf("%d: %q", limit, got)
		}
	}
}
