// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/Masterminds/semver/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/version"
)

// Preflight is what has to be known of the cluster before a rollout is granted.
type Preflight struct {
	// EnvoyFilters and WasmPlugins of the cluster.
	EnvoyFilters, WasmPlugins []Extension
	// Budgets are the PodDisruptionBudgets of the mesh's namespaces.
	Budgets []Budget
	// Capacity for the canary's control plane.
	Capacity Capacity
}

// Extension is an EnvoyFilter or a WasmPlugin.
type Extension struct {
	Namespace, Name string
	Annotations     map[string]string
	// Spec as the API server has it: maps, lists, texts, numbers and booleans.
	Spec map[string]any
}

// Budget is a PodDisruptionBudget, as its status has it.
type Budget struct {
	Namespace, Name                  string
	DisruptionsAllowed, ExpectedPods int32
}

// Capacity is what one pod of the canary's istiod wants, and what there is. The zero Capacity is one that nobody knows.
type Capacity struct {
	// Wants is what the pod requests; empty when that is not known.
	Wants corev1.ResourceList
	// Nodes are those on which a pod without tolerations may be scheduled.
	Nodes []Node
}

// Node is a node that pods may be scheduled on.
type Node struct {
	Name string
	// Free is what it can allocate and no pod has requested, at least of each resource that is wanted. Of the resource pods it
	// is the number that still may be scheduled, where that is known.
	Free corev1.ResourceList
}

// The bounds of the findings in a plan, as the schema has them.
const (
	maxFindings = 100
	maxMessage  = 1024
)

// Findings judges what a move of the proxies from one version to another would meet. Findings are what was found, ordered by name
// and 100 at most; blocking are those among them that hold the rollout back: neither harmless nor acknowledged. When there are
// more than 100, the last one of the name More counts the rest, which are the less grave. A refresh, which is from a version to
// itself, meets budgets only.
func Findings(
	from, to *semver.Version, p Preflight, restart v1alpha1.RestartType, acknowledged []string,
) (findings, blocking []v1alpha1.Finding) {
	m := move{from: from.String(), to: to.String(), fromLine: version.LineOf(from), toLine: version.LineOf(to)}
	m.acrossMinors = m.fromLine != m.toLine
	var all []verdict
	if m.from != m.to {
		for _, f := range p.EnvoyFilters {
			all = append(all, m.envoyFilter(f))
		}
		for _, w := range p.WasmPlugins {
			all = append(all, m.wasmPlugin(w))
		}
		all = append(all, m.capacity(p.Capacity))
	}
	for _, b := range p.Budgets {
		all = append(all, budget(b, restart))
	}

	all = slices.DeleteFunc(all, func(v verdict) bool { return len(v.reasons) == 0 })
	slices.SortStableFunc(all, byName)
	all = slices.CompactFunc(all, func(a, b verdict) bool { return a.name == b.name }) // a plan has a name once
	for i := range all {
		all[i].acknowledged = all[i].blocks && slices.Contains(acknowledged, all[i].name)
	}
	return bounded(all), bounded(slices.DeleteFunc(slices.Clone(all), func(v verdict) bool { return v.weight() < holdsBack }))
}

// verdict is a finding in the making.
type verdict struct {
	name string
	// reasons say what was found; none: nothing was.
	reasons []string
	remedy  string
	// blocks says that it holds the rollout back unless it is acknowledged.
	blocks, acknowledged bool
}

func byName(a, b verdict) int { return strings.Compare(a.name, b.name) }

// acknowledge is how a verdict that blocks is answered by a person who knows better.
func (v verdict) acknowledge() string { return "add " + v.name + " to spec.upgrade.acknowledged" }

// holdsBack is the weight of what holds a rollout back.
const holdsBack = 2

// weight says how grave a verdict is.
func (v verdict) weight() int {
	switch {
	case v.acknowledged:
		return 1
	case v.blocks:
		return holdsBack
	}
	return 0
}

func (v verdict) finding() v1alpha1.Finding {
	what, remedy := strings.Join(v.reasons, "; "), ""
	if v.remedy != "" {
		remedy = ": " + v.remedy
	}
	// However much was found, the remedy stays readable.
	return v1alpha1.Finding{Name: v.name, Message: clip(what, maxMessage-len(remedy)) + remedy, Acknowledged: v.acknowledged}
}

// bounded writes verdicts that are ordered by name, the gravest when there are too many.
func bounded(all []verdict) (out []v1alpha1.Finding) {
	kept := all
	if len(all) > maxFindings {
		kept = slices.Clone(all)
		slices.SortStableFunc(kept, func(a, b verdict) int { return cmp.Compare(b.weight(), a.weight()) })
		kept = kept[:maxFindings-1]
		slices.SortFunc(kept, byName)
	}
	for _, v := range kept {
		out = append(out, v.finding())
	}
	if more := len(all) - len(kept); more > 0 {
		out = append(out, v1alpha1.Finding{Name: "More", Message: fmt.Sprintf("%d more were found: see to these first", more)})
	}
	return out
}

// clip cuts a text to a number of bytes, between two characters.
func clip(text string, limit int) string {
	const ellipsis = "..."
	if len(text) <= limit {
		return text
	}
	end := max(limit-len(ellipsis), 0)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}

// move is what the proxies do. Their version is that of the build (SetIstioVersion in Istio's pkg/bootstrap/config.go): 1.29.1.
type move struct {
	from, to string
	// Their lines: 1.29.
	fromLine, toLine string
	acrossMinors     bool
}

// envoyFilter judges what is bound to the proxy's version, or to the inside of Envoy, which has no stable API.
func (m move) envoyFilter(f Extension) verdict {
	v := verdict{name: "EnvoyFilter/" + f.Namespace + "/" + f.Name}
	patches, _, _ := unstructured.NestedFieldNoCopy(f.Spec, "configPatches")
	list, _ := patches.([]any)
	bound := false
	for i, item := range list {
		patch, _ := item.(map[string]any)
		where := fmt.Sprintf("configPatches[%d]", i)
		reason, blocks, applies := m.proxyVersion(text(patch, "match", "proxy", "proxyVersion"))
		if reason != "" {
			v.reasons, v.blocks, bound = append(v.reasons, where+" "+reason), v.blocks || blocks, bound || blocks
		}
		// What the proxies of the new version won't get can't break them.
		if what := internals(patch); applies && what != "" {
			v.reasons, v.blocks = append(v.reasons, where+" reaches into Envoy: "+what), v.blocks || m.acrossMinors
		}
	}
	v.remedy = "test it with Istio " + m.to
	if v.blocks {
		v.remedy += ", then " + v.acknowledge()
	}
	if bound {
		v.remedy = "mend its proxyVersion; " + v.remedy
	}
	return v
}

// longestProxyVersion is maxProxyVersionLen of Istio's pilot/pkg/model/envoyfilter.go.
const longestProxyVersion = 1024

// proxyVersion judges match.proxy.proxyVersion of a patch: what is wrong with it, if anything; whether that holds a rollout back;
// and whether the patch applies to proxies of the new version.
//
// Istio (convertToEnvoyFilterWrapper and proxyMatch in pilot/pkg/model/envoyfilter.go) compiles it as RE2 by Go's regexp, and looks
// for it anywhere in the proxy's version: it is not anchored. The prefixes it takes instead for ^1\.16.* up to ^1\.23.* match the
// same. It ignores what does not compile, so that the patch applies to every version; its webhook refuses such a text, where it is
// asked. Istio 1.31 lets a text of more than 1024 bytes match no version; 1.29.1 still matched it.
func (m move) proxyVersion(expression string) (reason string, blocks, applies bool) {
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
	before, after := compiled.MatchString(m.from), compiled.MatchString(m.to)
	shown := clip(expression, 100)
	switch {
	case before && !after:
		return fmt.Sprintf("is for proxyVersion %q and would stop applying: %s matches, %s does not", shown, m.from, m.to), true, false
	case after && !before:
		// Its twin, which stops, is what blocks.
		return fmt.Sprintf("is for proxyVersion %q and would begin to apply: %s matches, %s does not", shown, m.to, m.from), false, true
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
			if key != "@type" && key != "type_url" && key != "typeUrl" {
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

// text is a text deep in an object, empty when there is none.
func text(object map[string]any, path ...string) string {
	out, _, _ := unstructured.NestedString(object, path...)
	return out
}

// wasmPlugin judges code that runs in the proxy. What it was built against can't be seen, except where its image or annotations
// tell.
func (m move) wasmPlugin(w Extension) verdict {
	v := verdict{name: "WasmPlugin/" + w.Namespace + "/" + w.Name, remedy: "test it with Istio " + m.to}
	where := m.boundTo(w)
	switch {
	case where != "" && m.acrossMinors:
		v.blocks = true
		v.reasons = []string{where + " names proxy version " + m.fromLine + ", which the move leaves"}
		v.remedy = "give it a module for " + m.to + "; " + v.remedy + ", then " + v.acknowledge()
	case where != "":
		v.reasons = []string{where + " names proxy version " + m.from + ", which the move leaves"}
	case m.acrossMinors:
		v.reasons = []string{"its module was built against the ABI of a proxy, and Envoy is another one in " + m.to}
	}
	return v
}

// boundTo is where a WasmPlugin names the version that is left and not the new one, empty for nowhere. Across minors the line is
// enough: 1.28.
func (m move) boundTo(w Extension) string {
	before, after := m.from, m.to
	if m.acrossMinors {
		before, after = m.fromLine, m.toLine
	}
	if url := text(w.Spec, "url"); names(url, before) && !names(url, after) {
		return "spec.url"
	}
	for _, key := range slices.Sorted(maps.Keys(w.Annotations)) {
		if key == corev1.LastAppliedConfigAnnotation { // that is the object once more, with configuration that may say anything
			continue
		}
		if value := w.Annotations[key]; names(value, before) && !names(value, after) {
			return "annotation " + clip(key, 320)
		}
	}
	return ""
}

// names says whether a text has a version in it, and not as a part of another number: 1.28 is in proxy:v1.28.3, but neither in
// 11.28 and 1.280 nor in 0.1.28.
func names(text, written string) bool {
	digit := func(i int) bool { return i >= 0 && i < len(text) && text[i] >= '0' && text[i] <= '9' }
	for from := 0; ; {
		i := strings.Index(text[from:], written)
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(written)
		inNumber := digit(start-1) || start > 0 && text[start-1] == '.' && digit(start-2)
		if !inNumber && !digit(end) {
			return true
		}
		from = start + 1
	}
}

// budget judges a PodDisruptionBudget. Only the eviction API asks budgets; controllers that replace their pods don't.
func budget(b Budget, restart v1alpha1.RestartType) verdict {
	v := verdict{name: "PodDisruptionBudget/" + b.Namespace + "/" + b.Name}
	if b.DisruptionsAllowed > 0 || b.ExpectedPods <= 0 {
		return v
	}
	v.reasons = []string{"it allows no eviction now"}
	switch restart {
	case v1alpha1.RestartEvict:
		v.blocks = true
		v.remedy = "let it allow one (more replicas, or a larger maxUnavailable), " +
			"set spec.dataPlane.restart.type to Rollout, or " + v.acknowledge()
	case v1alpha1.RestartManual:
		v.reasons = append(v.reasons, "restarts are left to you, and will be refused when they evict")
	case v1alpha1.RestartRollout:
		fallthrough
	default:
		v.reasons = append(v.reasons, "workloads are rolled out, which asks no budget")
	}
	return v
}

// capacity judges whether one more istiod has room. It never holds a rollout back: a cluster may grow when it has to.
func (m move) capacity(c Capacity) verdict {
	v := verdict{name: "Capacity/istiod"}
	if len(c.Wants) == 0 {
		v.reasons = []string{"what istiod " + m.to + " requests is not known: whether a node has room for it was not checked"}
		return v
	}
	if slices.ContainsFunc(c.Nodes, func(n Node) bool { return fits(c.Wants, n.Free) }) {
		return v
	}
	var wanted, left []string
	for _, name := range slices.Sorted(maps.Keys(c.Wants)) {
		q := c.Wants[name]
		wanted = append(wanted, fmt.Sprintf("%s %s", name, q.String()))
		if free := mostFree(c.Nodes, name); free != nil {
			left = append(left, fmt.Sprintf("%s %s", name, free.String()))
		}
	}
	reason := fmt.Sprintf("istiod %s requests %s, and none of %d schedulable nodes without taints has room for it",
		m.to, strings.Join(wanted, ", "), len(c.Nodes))
	if len(left) > 0 {
		reason += " (the most that is free on one: " + strings.Join(left, ", ") + ")"
	}
	v.reasons, v.remedy = []string{reason}, "make room, unless the cluster grows by itself"
	return v
}

func fits(wants, free corev1.ResourceList) bool {
	for name, q := range wants {
		if have := free[name]; have.Cmp(q) < 0 {
			return false
		}
	}
	places, known := free[corev1.ResourcePods]
	return !known || places.Sign() > 0
}

// mostFree is the most of a resource that is free on one node, nil without nodes.
func mostFree(nodes []Node, name corev1.ResourceName) (out *resource.Quantity) {
	for _, n := range nodes {
		if free := n.Free[name]; out == nil || free.Cmp(*out) > 0 {
			out = &free
		}
	}
	return out
}
