// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
)

// extension is one of shop/headers, with a spec as users write it.
func extension(spec string) Extension {
	return Extension{Namespace: "shop", Name: "headers", Spec: from[map[string]any](spec)}
}

// annotated adds annotations.
func annotated(e Extension, annotations map[string]string) Extension {
	e.Annotations = annotations
	return e
}

// bound is an EnvoyFilter of a route for a proxy version.
func bound(proxyVersion string) Extension {
	return extension(fmt.Sprintf(`
configPatches:
- applyTo: HTTP_ROUTE
  match: {proxy: {proxyVersion: %q}}
  patch: {operation: MERGE, value: {name: x}}`, proxyVersion))
}

// filters and plugins are as they are kept: what is trimmed must not be missed.
func filters(all ...Extension) func(*Facts) { return func(f *Facts) { f.EnvoyFilters = trimmed(all) } }

func plugins(all ...Extension) func(*Facts) { return func(f *Facts) { f.WasmPlugins = trimmed(all) } }

func trimmed(all []Extension) (out []Extension) {
	for _, e := range all {
		out = append(out, Trim(e))
	}
	return out
}

const lua = `
priority: 1
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

const luaWords = "configPatches[0] reaches into Envoy: INSERT_BEFORE HTTP_FILTER at envoy.filters.http.router with envoy.extensions.filters.http.lua.v3.Lua"

var filterCases = []testCase{
	{
		reason: "a patch for the old line would be lost without a word", change: filters(bound(`^1\.28.*`)),
		want: []string{`Error MW101 EnvoyFilter/shop/headers: configPatches[0] is for proxyVersion "^1\\.28.*" and would stop applying: 1.28.3 matches, 1.29.1 does not`},
	},
	{
		reason: "a patch for the old patch release only is lost within a line, too", change: changes(to("1.28.4"), filters(bound(`^1\.28\.3$`))),
		want: []string{`Error MW101 EnvoyFilter/shop/headers: configPatches[0] is for proxyVersion "^1\\.28\\.3$" and would stop applying: 1.28.3 matches, 1.28.4 does not`},
	},
	{reason: "a patch for both", change: filters(bound(`^1\.(28|29)\..*`))},
	{reason: "a patch for the line, which stays", change: changes(to("1.28.4"), filters(bound(`^1\.28.*`)))},
	{reason: "Istio anchors nothing: 8 is found in 1.28.3, and 9 in both", change: filters(bound(`9|8`))},
	{reason: "a patch for neither, left over from an older move", change: filters(bound(`^1\.20.*`))},
	{
		reason: "a patch for the new version only begins to apply", change: filters(bound(`^1\.29.*`)),
		want: []string{`Warning MW102 EnvoyFilter/shop/headers: configPatches[0] is for proxyVersion "^1\\.29.*" and would begin to apply: 1.29.1 matches, 1.28.3 does not`},
	},
	{
		reason: "Istio ignores what is no regular expression; RE2 knows no lookahead", change: filters(bound(`^(?!1\.2)`)),
		want: []string{"Error MW101 EnvoyFilter/shop/headers: configPatches[0] has a proxyVersion that is no regular expression, and so applies to proxies " +
			"of any version (error parsing regexp: invalid or unsupported Perl syntax: `(?!`)"},
	},
	{
		reason: "newer Istio gives up on long texts", change: filters(bound(strings.Repeat(".", 1020) + ".*.*.")),
		want: []string{"Error MW101 EnvoyFilter/shop/headers: configPatches[0] has a proxyVersion of 1025 bytes: newer Istio lets one of more than 1024 match no proxy"},
	},
	{
		reason: "Envoy's inside has no stable API: another line needs a test", change: filters(extension(lua)),
		want: []string{"Error MW103 EnvoyFilter/shop/headers: " + luaWords},
	},
	{
		reason: "a patch release changes less", change: changes(to("1.28.4"), filters(extension(lua))),
		want: []string{"Info MW103 EnvoyFilter/shop/headers: " + luaWords},
	},
	{
		reason: "a wrapped type is found in routes, too",
		change: filters(extension(`
configPatches:
- applyTo: HTTP_ROUTE
  patch: {operation: MERGE, value: {typed_per_filter_config: {x: [{"@type": type.googleapis.com/udpa.type.v1.TypedStruct,
    type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, value: {"@type": 7}}]}}}`)),
		want: []string{"Error MW103 EnvoyFilter/shop/headers: configPatches[0] reaches into Envoy: MERGE HTTP_ROUTE with " +
			"envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"},
	},
	{
		reason: "each patch is judged; one that the new proxies won't get can't break them",
		change: filters(extension(`
priority: -1
configPatches:
- {applyTo: CLUSTER, patch: {operation: ADD, value: {name: x}}}
- {applyTo: VIRTUAL_HOST, patch: {operation: MERGE, value: {name: x}}}
- {applyTo: CLUSTER, match: {proxy: {proxyVersion: "^1.2[0-7]"}}, patch: {operation: MERGE, value: {name: x}}}
- {applyTo: BOOTSTRAP, patch: {operation: MERGE, value: {x: y}}}
- {applyTo: HTTP_FILTER, match: {listener: {filterChain: {filter: {name: envoy.tcp}}}}, patch: {operation: REMOVE}}`)),
		want: []string{
			"Error MW103 EnvoyFilter/shop/headers: configPatches[3] reaches into Envoy: MERGE BOOTSTRAP",
			"Error MW103 EnvoyFilter/shop/headers: configPatches[4] reaches into Envoy: REMOVE HTTP_FILTER at envoy.tcp",
		},
	},
	{reason: "what the schema would refuse is passed over", change: filters(extension(`configPatches: [7, {match: [], patch: "x"}]`))},
	{
		reason: "relative patches want a priority",
		change: changes(to("1.28.4"), filters(extension(`
configPatches:
- {applyTo: CLUSTER, patch: {operation: REMOVE}}
- {applyTo: VIRTUAL_HOST, patch: {operation: INSERT_AFTER, value: {name: twin}}}`),
			extension(`
configPatches:
- {applyTo: VIRTUAL_HOST, match: {proxy: {proxyVersion: "^1"}}, patch: {operation: ADD, value: {name: twin}}}`))),
		want: []string{
			"Warning MW104 EnvoyFilter/shop/headers: configPatches[0] is placed relative to other filters (REMOVE CLUSTER), and has no priority",
			"Warning MW104 EnvoyFilter/shop/headers: configPatches[1] is placed relative to other filters (INSERT_AFTER VIRTUAL_HOST), and has no priority; " +
				"a patch of the same name is bound to a version of the proxy, in shop/headers",
		},
	},
	{
		reason: "what istiod ignores",
		change: filters(extension(`
configPatches:
- {applyTo: HTTP_ROUTE, patch: {operation: ADD, value: {name: x}}}
- {applyTo: ROUTE_CONFIGURATION, patch: {operation: REMOVE}}
- {applyTo: VIRTUAL_HOST, patch: {operation: REPLACE, value: {name: x}}}`)),
		want: []string{
			"Warning MW105 EnvoyFilter/shop/headers: configPatches[0] has the operation ADD, which istiod ignores for HTTP_ROUTE",
			"Warning MW105 EnvoyFilter/shop/headers: configPatches[1] has the operation REMOVE, which istiod ignores for ROUTE_CONFIGURATION",
			"Warning MW105 EnvoyFilter/shop/headers: configPatches[2] has the operation REPLACE, which istiod ignores for VIRTUAL_HOST",
		},
	},
}

var wasmCases = []testCase{
	{
		reason: "what a module was built against can't be seen", change: plugins(extension("url: oci://example.com/headers:v3")),
		want: []string{"Warning MW107 WasmPlugin/shop/headers: its module was built against the ABI of a proxy, and Envoy is another one in 1.29.1"},
	},
	{
		reason: "an image for the old proxy", change: plugins(extension("url: oci://example.com/headers:istio-1.28")),
		want: []string{"Error MW106 WasmPlugin/shop/headers: spec.url names proxy version 1.28, which the move leaves"},
	},
	{
		reason: "an annotation for the old proxy; what kubectl leaves behind tells nothing",
		change: plugins(annotated(extension("url: x"), map[string]string{
			"example.com/proxy": "v1.28.3", corev1.LastAppliedConfigAnnotation: `{"spec": {"pluginConfig": "1.28"}}`,
		})),
		want: []string{"Error MW106 WasmPlugin/shop/headers: annotation example.com/proxy names proxy version 1.28, which the move leaves"},
	},
	{reason: "modules stay within a line", change: changes(to("1.28.4"), plugins(extension("url: oci://example.com/headers:1.28")))},
	{
		reason: "one for the old patch release is worth a word", change: changes(to("1.28.4"), plugins(extension("url: oci://example.com/h:1.28.3"))),
		want: []string{"Warning MW106 WasmPlugin/shop/headers: spec.url names proxy version 1.28.3, which the move leaves"},
	},
}

// What is not judged is not kept: programs, and the object once more in an annotation.
func TestTrim(t *testing.T) {
	e := extension(`
priority: 2
workloadSelector: {labels: {app: x}}
configPatches:
- applyTo: HTTP_FILTER
  match: {proxy: {proxyVersion: x}}
  patch:
    operation: ADD
    value: {name: lua, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua, inlineCode: a long program}, list: [{x: y}, {inner: {type_url: z}}]}
- applyTo: CLUSTER
  patch: {operation: MERGE, value: {connect_timeout: 1s}}`)
	e.Annotations = map[string]string{"example.com/version": "1.28", "kubectl.kubernetes.io/last-applied-configuration": "all of it"}
	want := extension(`
priority: 2
configPatches:
- applyTo: HTTP_FILTER
  match: {proxy: {proxyVersion: x}}
  patch: {operation: ADD, value: {name: lua, typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}, list: [{inner: {type_url: z}}]}}
- applyTo: CLUSTER
  match:
  patch: {operation: MERGE, value: {}}`)
	want.Annotations = map[string]string{"example.com/version": "1.28"}
	if diff := cmp.Diff(want, Trim(e), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
