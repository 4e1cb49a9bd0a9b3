// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"github.com/meshwright/meshwright/operator/version"
)

// rule judges one thing.
type rule struct {
	judge func(*Facts) []Finding
	// emits are the codes of its findings.
	emits []Code
	// restarts says that it is about restarts, which are all that there is of some moves.
	restarts bool
}

// rules are all of them.
var rules = []rule{
	{judge: envoyFilters, emits: []Code{EnvoyFilterVersion, EnvoyFilterBegins, EnvoyFilterInternals, EnvoyFilterRelative, EnvoyFilterIgnored}},
	{judge: wasmPlugins, emits: []Code{WasmPluginVersion, WasmPluginABI}},
	{judge: removedAPIs, emits: []Code{RemovedAPI}},
	{judge: deprecatedFields, emits: []Code{DeprecatedField}},
	{judge: annotations, emits: []Code{DeprecatedAnnotation, AlphaAnnotation}},
	{judge: istioCRDs, emits: []Code{RemovedVersion, NewerCRD, ForeignCRD}},
	{judge: gatewayAPI, emits: []Code{GatewayAPIVersion, GatewayAPIBundle}},
	{judge: charts, emits: []Code{UnknownValue, DeprecatedMeshConfig, ChartFails}},
	{judge: unavailableWebhooks, emits: []Code{WebhookUnavailable}, restarts: true},
	{judge: injectors, emits: []Code{InjectorService, InjectorOverlap, ForeignInjector, TagRevision}, restarts: true},
	{judge: injectionLabels, emits: []Code{NamespaceLabels, NamespaceRevision}},
	{judge: proxies, emits: []Code{ProxyImage, MissingProxy, ProxySkew}},
	{judge: autoImages, emits: []Code{ImageAuto}, restarts: true},
	{judge: versions, emits: []Code{KubernetesVersion, VersionSkew}},
	{judge: budgets, emits: []Code{DisruptionBudget}, restarts: true},
	{judge: unmovable, emits: []Code{Unmovable}, restarts: true},
	{judge: podSecurity, emits: []Code{PodSecurity}, restarts: true},
	{judge: room, emits: []Code{NoRoom}},
	{judge: bounds, emits: []Code{Quota, Limits}},
	{judge: autoscalers, emits: []Code{AutoscalerAtLimit}},
	{judge: network, emits: []Code{NetworkToIstiod, NetworkToGateway, NetworkToXDS}},
	{judge: notChecked, emits: []Code{NotChecked}, restarts: true},
	{judge: permissions, emits: []Code{MissingPermission}},
	{judge: certificates, emits: []Code{CertificateExpiry}},
}

// Check judges facts: of a move that only restarts pods, what is about restarts. Findings are in the order of [Sort]; none of them is acknowledged.
func Check(f *Facts) []Finding {
	var out []Finding
	for _, r := range rules {
		if f.Move.Restarts && !r.restarts {
			continue
		}
		out = append(out, r.judge(f)...)
	}
	Sort(out)
	return out
}

// acrossMinors says whether the move leaves the line of its version.
func (m Move) acrossMinors() bool { return version.LineOf(m.From) != version.LineOf(m.To) }

// atLeast says whether the target is of a minor of Istio 1, or of a later one.
func (m Move) atLeast(minor uint64) bool { return m.To.Major() > 1 || m.To.Minor() >= minor }
