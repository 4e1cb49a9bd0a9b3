// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// envoyFilters judges what is bound to the proxy's version, or to the inside of Envoy, which has no stable API, and what depends on
// the order in which filters are patched.
func envoyFilters(f *Facts) (out []Finding) {
	bound := boundNames(f.EnvoyFilters)
	for _, e := range f.EnvoyFilters {
		out = append(out, f.Move.envoyFilter(e)...)
		out = append(out, relativePatches(e, bound)...)
	}
	return out
}

func patchesOf(e Extension) (out []map[string]any) {
	patches, _, _ := unstructured.NestedFieldNoCopy(e.Spec, "configPatches")
	list, _ := patches.([]any)
	for _, item := range list {
		patch, _ := item.(map[string]any)
		out = append(out, patch) // nil for what the schema would refuse: indexes stay
	}
	return out
}

func at(i int) string { return fmt.Sprintf("configPatches[%d]", i) }

func (m Move) envoyFilter(e Extension) (out []Finding) {
	object := Object{"EnvoyFilter", e.Namespace, e.Name}
	test := "test it with Istio " + m.To.String()
	for i, patch := range patchesOf(e) {
		reason, stops, applies := m.proxyVersion(text(patch, "match", "proxy", "proxyVersion"))
		switch {
		case reason != "" && stops:
			out = append(out, found(EnvoyFilterVersion, object, at(i)+" "+reason, "mend its proxyVersion; "+test))
		case reason != "":
			out = append(out, found(EnvoyFilterBegins, object, at(i)+" "+reason, test))
		}
		// What the proxies of the new version won't get can't break them.
		what := internals(patch)
		if !applies || what == "" {
			continue
		}
		reaches := found(EnvoyFilterInternals, object, at(i)+" reaches into Envoy: "+what, test)
		if !m.acrossMinors() {
			reaches = reaches.as(SeverityInfo) // a patch release keeps its Envoy, but for mended mistakes
		}
		out = append(out, reaches)
	}
	return out
}

// longestProxyVersion is maxProxyVersionLen of Istio's pilot/pkg/model/envoyfilter.go.
const longestProxyVersion = 1024

// proxyVersion judges match.proxy.proxyVersion of a patch: what is wrong with it, if anything; whether the patch is lost or goes
// astray by it; and whether it applies to proxies of the new version. Their version is that of the build (SetIstioVersion in Istio's
// pkg/bootstrap/config.go): 1.29.1.
//
// Istio (convertToEnvoyFilterWrapper and proxyMatch in pilot/pkg/model/envoyfilter.go) compiles it as RE2 by Go's regexp, and looks
// for it anywhere in the proxy's version: it is not anchored. The prefixes it takes instead for ^1\.16.* up to ^1\.23.* match the
// same. It ignores what does not compile, so that the patch applies to every version; its webhook refuses such a text, where it is
// asked. Istio 1.31 lets a text of more than 1024 bytes match no version; 1.29.1 still matched it.
func (m Move) proxyVersion(expression string) (reason string, stops, applies bool) {
	if expression == "" {
		return "", false, true
	}
	if len(expression) > longestProxyVersion {
		return fmt.Sprintf("has a proxyVersion of %d bytes: newer Istio lets one of more than %d match no proxy",
			len(expression), longestProxyVersion), true, true
	}
	compiled, err := regexp.Compile(expression)
	if err != nil {
		return fmt.Sprintf("has a proxyVersion that is no regular expression, and so applies to proxies of any version (%s)",
			clip(err.Error(), 200)), true, true
	}
	from, to := m.From.String(), m.To.String()
	before, after := compiled.MatchString(from), compiled.MatchString(to)
	shown := clip(expression, 100)
	switch {
	case before && !after:
		return fmt.Sprintf("is for proxyVersion %q and would stop applying: %s matches, %s does not", shown, from, to), true, false
	case after && !before:
		// Its twin, which stops, is what blocks.
		return fmt.Sprintf("is for proxyVersion %q and would begin to apply: %s matches, %s does not", shown, to, from), false, true
	}
	return "", false, after
}

// structures are what Envoy is built of, by applyTo. Routes and virtual hosts are not among them: they are configuration as
// VirtualServices are.
var structures = []string{"NETWORK_FILTER", "HTTP_FILTER", "LISTENER_FILTER", "FILTER_CHAIN", "LISTENER", "CLUSTER", "BOOTSTRAP"}

// filterNames are the places at which the match of a patch names a filter of Envoy, the innermost first.
var filterNames = [][]string{
	{"match", "listener", "filterChain", "filter", "subFilter", "name"},
	{"match", "listener", "filterChain", "filter", "name"},
	{"match", "listener", "listenerFilter"},
	{"match", "waypoint", "filter", "subFilter", "name"},
	{"match", "waypoint", "filter", "name"},
}

// internals says what of Envoy's inside a patch depends on, empty for nothing.
func internals(patch map[string]any) string {
	applyTo, operation := text(patch, "applyTo"), text(patch, "patch", "operation")
	depends := slices.Contains(structures, applyTo) &&
		(strings.HasPrefix(operation, "MERGE") || operation == "REPLACE" || strings.HasPrefix(operation, "INSERT_"))
	what := operation + " " + applyTo
	for _, path := range filterNames {
		if name := text(patch, path...); name != "" {
			what, depends = what+" at "+clip(name, 100), true
			break
		}
	}
	value, _, _ := unstructured.NestedFieldNoCopy(patch, "patch", "value")
	types := map[string]bool{}
	filterTypes(value, types)
	if len(types) > 0 {
		what, depends = what+" with "+clip(strings.Join(slices.Sorted(maps.Keys(types)), ", "), 300), true
	}
	if !depends {
		return ""
	}
	return what
}

// filterTypes collects the types of Envoy's filters that a value names. A typed_config says @type; a TypedStruct in it says the
// type that it stands for as type_url.
func filterTypes(value any, into map[string]bool) {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			url, isText := inner.(string)
			if !isText {
				filterTypes(inner, into)
				continue
			}
			name := url[strings.LastIndex(url, "/")+1:]
			if !isTypeKey(key) {
				continue
			}
			if strings.HasPrefix(name, "envoy.extensions.filters.") || strings.HasPrefix(name, "envoy.config.filter.") {
				into[name] = true
			}
		}
	case []any:
		for _, inner := range value {
			filterTypes(inner, into)
		}
	}
}

func isTypeKey(key string) bool { return key == "@type" || key == "type_url" || key == "typeUrl" }

// patchName is what a patch is about: the name of its value, else that of the filter it is placed at.
func patchName(patch map[string]any) string {
	if name := text(patch, "patch", "value", "name"); name != "" {
		return name
	}
	return text(patch, "match", "listener", "filterChain", "filter", "name")
}

// boundNames are the names of the patches that are for some versions of the proxy, by the object that has them.
func boundNames(all []Extension) map[string][]string {
	out := map[string][]string{}
	for _, e := range all {
		for _, patch := range patchesOf(e) {
			if name := patchName(patch); name != "" && text(patch, "match", "proxy", "proxyVersion") != "" {
				out[name] = append(out[name], e.Namespace+"/"+e.Name)
			}
		}
	}
	return out
}

// relativePatches judges the operations of patches. Istio (pilot/pkg/networking/core/envoyfilter, and the analyzer of its
// pkg/config/analysis/analyzers/envoyfilter) applies filters of one priority in the order of their age and name: one that is placed
// at another filter is dropped without a word where that is not there yet. Two filters of one name, one for the old proxies and one
// for the new, are how people carry a patch over an upgrade, and meet that.
func relativePatches(e Extension, bound map[string][]string) (out []Finding) {
	object := Object{"EnvoyFilter", e.Namespace, e.Name}
	priority, _, _ := unstructured.NestedFieldNoCopy(e.Spec, "priority")
	prior := priority != nil && fmt.Sprint(priority) != "0"
	for i, patch := range patchesOf(e) {
		applyTo, operation := text(patch, "applyTo"), text(patch, "patch", "operation")
		route := applyTo == "ROUTE_CONFIGURATION" || applyTo == "HTTP_ROUTE"
		filter := applyTo == "NETWORK_FILTER" || applyTo == "HTTP_FILTER"
		relative := operation == "INSERT_BEFORE" || operation == "INSERT_AFTER" || operation == "REMOVE" && !route || operation == "REPLACE" && filter
		switch {
		case operation == "ADD" && route, operation == "REMOVE" && route, operation == "REPLACE" && !filter:
			out = append(out, found(EnvoyFilterIgnored, object, fmt.Sprintf("%s has the operation %s, which istiod ignores for %s", at(i), operation, applyTo),
				"write what is meant as an operation that "+applyTo+" has, or remove the patch: nothing promises that the next version ignores it, too"))
		case relative && !prior:
			why := fmt.Sprintf("%s is placed relative to other filters (%s %s), and has no priority", at(i), operation, applyTo)
			if twins := bound[patchName(patch)]; len(twins) > 0 {
				why += "; a patch of the same name is bound to a version of the proxy, in " + clip(strings.Join(slices.Compact(twins), ", "), 200)
			}
			out = append(out, found(EnvoyFilterRelative, object, why, "set spec.priority, so that the order does not depend on what was created first"))
		}
	}
	return out
}

// text is a text deep in an object, empty when there is none.
func text(object map[string]any, path ...string) string {
	out, _, _ := unstructured.NestedString(object, path...)
	return out
}
