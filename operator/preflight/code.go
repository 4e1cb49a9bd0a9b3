// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import "slices"

// Code is the stable name of a kind of finding. It has a page in the runbook.
type Code string

// Severity says what a finding means for a rollout.
type Severity string

// The severities, the gravest first. An error holds a rollout back unless spec.upgrade.acknowledged names it.
const (
	SeverityError   Severity = "Error"
	SeverityWarning Severity = "Warning"
	SeverityInfo    Severity = "Info"
)

// Severities are all of them, the gravest first.
func Severities() []Severity { return []Severity{SeverityError, SeverityWarning, SeverityInfo} }

// rank is the place of a severity among all, 0 for the gravest.
func (s Severity) rank() int { return slices.Index(Severities(), s) }

// AtLeast says whether a severity is as grave as another one.
func (s Severity) AtLeast(other Severity) bool { return s.rank() <= other.rank() }

// The codes. The first digit says what they are about: 1 extensions of the proxy, 2 APIs, 3 configuration of the control plane, 4
// webhooks and injection, 5 versions, 6 workloads, 7 room for the control plane, 8 the network, 9 what is around.
const (
	EnvoyFilterVersion   Code = "MW101"
	EnvoyFilterBegins    Code = "MW102"
	EnvoyFilterInternals Code = "MW103"
	EnvoyFilterRelative  Code = "MW104"
	EnvoyFilterIgnored   Code = "MW105"
	WasmPluginVersion    Code = "MW106"
	WasmPluginABI        Code = "MW107"

	RemovedAPI           Code = "MW201"
	DeprecatedField      Code = "MW202"
	DeprecatedAnnotation Code = "MW203"
	AlphaAnnotation      Code = "MW204"
	RemovedVersion       Code = "MW205"
	NewerCRD             Code = "MW206"
	ForeignCRD           Code = "MW207"
	GatewayAPIVersion    Code = "MW208"
	GatewayAPIBundle     Code = "MW209"

	UnknownValue         Code = "MW301"
	DeprecatedMeshConfig Code = "MW302"
	ChartFails           Code = "MW303"

	WebhookUnavailable Code = "MW401"
	InjectorService    Code = "MW402"
	InjectorOverlap    Code = "MW403"
	ForeignInjector    Code = "MW404"
	NamespaceLabels    Code = "MW405"
	TagRevision        Code = "MW406"
	NamespaceRevision  Code = "MW407"
	ProxyImage         Code = "MW408"
	MissingProxy       Code = "MW409"
	ImageAuto          Code = "MW410"

	KubernetesVersion Code = "MW501"
	VersionSkew       Code = "MW502"
	ProxySkew         Code = "MW503"

	DisruptionBudget Code = "MW601"
	Unmovable        Code = "MW602"
	PodSecurity      Code = "MW603"

	NoRoom            Code = "MW701"
	Quota             Code = "MW702"
	Limits            Code = "MW703"
	AutoscalerAtLimit Code = "MW704"

	NetworkToIstiod  Code = "MW801"
	NetworkToGateway Code = "MW802"
	NetworkToXDS     Code = "MW803"

	NotChecked        Code = "MW901"
	MissingPermission Code = "MW902"
	CertificateExpiry Code = "MW903"
)

// Info is what is known of a code.
type Info struct {
	Code Code
	// Name is a word for it.
	Name string
	// Severity at its gravest: a finding may be less, where it says so.
	Severity Severity
	// Meaning in one line.
	Meaning string
	// Istioctl are the codes by which istioctl says the same.
	Istioctl []string
}

var catalogue = []Info{
	{EnvoyFilterVersion, "EnvoyFilterVersion", SeverityError, "An EnvoyFilter is bound to a version of the proxy, and would stop to apply.", nil},
	{EnvoyFilterBegins, "EnvoyFilterBegins", SeverityWarning, "An EnvoyFilter is bound to the new version of the proxy, and would begin to apply.", nil},
	{EnvoyFilterInternals, "EnvoyFilterInternals", SeverityError, "An EnvoyFilter reaches into Envoy, which has no stable API.", nil},
	{EnvoyFilterRelative, "EnvoyFilterRelative", SeverityWarning, "An EnvoyFilter patches relative to other filters, and has no priority.", []string{"IST0151", "IST0155"}},
	{EnvoyFilterIgnored, "EnvoyFilterIgnored", SeverityWarning, "An EnvoyFilter has an operation that istiod ignores at its place.", []string{"IST0152", "IST0153", "IST0154"}},
	{WasmPluginVersion, "WasmPluginVersion", SeverityError, "A WasmPlugin names the version of the proxy that the move leaves.", nil},
	{WasmPluginABI, "WasmPluginABI", SeverityWarning, "A WasmPlugin runs in another Envoy than it was built for.", nil},

	{RemovedAPI, "RemovedAPI", SeverityWarning, "A kind of an Istio of old is still there; no Istio reads it any more.", []string{"IST0002"}},
	{DeprecatedField, "DeprecatedField", SeverityWarning, "An object uses a field that Istio has deprecated or ignores.", []string{"IST0002"}},
	{DeprecatedAnnotation, "DeprecatedAnnotation", SeverityWarning, "A workload, Service or namespace has an annotation that Istio has deprecated.", []string{"IST0135"}},
	{AlphaAnnotation, "AlphaAnnotation", SeverityInfo, "A workload, Service or namespace has an annotation that Istio may change without notice.", []string{"IST0136"}},
	{RemovedVersion, "RemovedVersion", SeverityError, "A CRD stores or serves a version of its kind that the target does not have.", nil},
	{NewerCRD, "NewerCRD", SeverityWarning, "A CRD is of a newer Istio than the target, and is left as it is.", nil},
	{ForeignCRD, "ForeignCRD", SeverityWarning, "Another tool writes a CRD of Istio, too.", nil},
	{GatewayAPIVersion, "GatewayAPIVersion", SeverityError, "A CRD of the Gateway API does not serve the version that the target reads.", []string{"IST0156", "IST0172"}},
	{GatewayAPIBundle, "GatewayAPIBundle", SeverityWarning, "A CRD of the Gateway API is older than the target takes; it ignores the kind.", []string{"IST0176"}},

	{UnknownValue, "UnknownValue", SeverityWarning, "A Helm value is unknown to the target's chart.", nil},
	{DeprecatedMeshConfig, "DeprecatedMeshConfig", SeverityWarning, "The mesh configuration uses a deprecated field.", nil},
	{ChartFails, "ChartFails", SeverityError, "The target's chart does not take the values.", nil},

	{WebhookUnavailable, "WebhookUnavailable", SeverityError, "A webhook that nobody answers would refuse writes that the rollout needs.", nil},
	{InjectorService, "InjectorService", SeverityError, "An injector points at a Service that does not exist.", []string{"IST0139"}},
	{InjectorOverlap, "InjectorOverlap", SeverityError, "Two injectors would inject the same pod.", []string{"IST0139"}},
	{ForeignInjector, "ForeignInjector", SeverityWarning, "An injector of another mesh works on the same cluster or namespaces.", nil},
	{NamespaceLabels, "NamespaceLabels", SeverityWarning, "A namespace has injection labels that contradict each other.", []string{"IST0123"}},
	{TagRevision, "TagRevision", SeverityError, "A revision tag points at a revision that does not exist.", []string{"IST0139"}},
	{NamespaceRevision, "NamespaceRevision", SeverityWarning, "A namespace names a revision or tag that does not exist.", nil},
	{ProxyImage, "ProxyImage", SeverityWarning, "Pods have another proxy than their revision injects.", []string{"IST0158"}},
	{MissingProxy, "MissingProxy", SeverityWarning, "Pods have no proxy, and will get one when the rollout restarts them.", []string{"IST0103"}},
	{ImageAuto, "ImageAuto", SeverityError, "A workload leaves its image to an injector that does not select it.", []string{"IST0146"}},

	{KubernetesVersion, "KubernetesVersion", SeverityError, "The target does not support this version of Kubernetes.", []string{"IST0142"}},
	{VersionSkew, "VersionSkew", SeverityError, "Istio does not support the move from the one version to the other.", nil},
	{ProxySkew, "ProxySkew", SeverityError, "Proxies are older than the target supports, or newer than it.", nil},

	{DisruptionBudget, "DisruptionBudget", SeverityError, "A PodDisruptionBudget allows no eviction.", nil},
	{Unmovable, "Unmovable", SeverityInfo, "A workload can't be restarted, and will keep its old proxy.", nil},
	{PodSecurity, "PodSecurity", SeverityError, "A namespace refuses pods with the container that redirects their traffic.", nil},

	{NoRoom, "NoRoom", SeverityWarning, "No node has room for one more istiod.", nil},
	{Quota, "Quota", SeverityError, "A ResourceQuota leaves too little for one more istiod or more gateway pods, or wants them to say what they lack.", nil},
	{Limits, "Limits", SeverityError, "A LimitRange does not allow what istiod or a gateway requests, or may use.", nil},
	{AutoscalerAtLimit, "AutoscalerAtLimit", SeverityWarning, "The autoscaler of istiod is at its upper limit.", nil},

	{NetworkToIstiod, "NetworkToIstiod", SeverityWarning, "NetworkPolicies keep the operator, proxies or the API server from istiod.", nil},
	{NetworkToGateway, "NetworkToGateway", SeverityWarning, "NetworkPolicies keep the operator from what a gateway has counted.", nil},
	{NetworkToXDS, "NetworkToXDS", SeverityWarning, "NetworkPolicies keep the proxies of a namespace from the new istiod.", nil},

	{NotChecked, "NotChecked", SeverityError, "Something could not be read, and was not checked.", nil},
	{MissingPermission, "MissingPermission", SeverityWarning, "Who installs Istio may not create what it needs.", []string{"IST0141"}},
	{CertificateExpiry, "CertificateExpiry", SeverityError, "A certificate of the mesh's CA is about to expire.", nil},
}

// Codes is the catalogue, in the order of the codes.
func Codes() []Info { return slices.Clone(catalogue) }

// InfoOf is what is known of a code.
func InfoOf(c Code) (Info, bool) {
	i := slices.IndexFunc(catalogue, func(i Info) bool { return i.Code == c })
	if i < 0 {
		return Info{}, false
	}
	return catalogue[i], true
}
