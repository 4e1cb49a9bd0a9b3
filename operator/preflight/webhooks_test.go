// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// policy is a validating webhook of a policy engine.
func policy(change func(*admissionv1.ValidatingWebhook)) func(*Facts) {
	return func(f *Facts) {
		c := from[admissionv1.ValidatingWebhookConfiguration](`
metadata: {name: policy}
webhooks:
- name: policy.example.com
  clientConfig: {service: {namespace: policy, name: engine}}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]`)
		change(&c.Webhooks[0])
		f.Validating = append(f.Validating, c)
		f.Backends = map[types.NamespacedName]Backend{{Namespace: "policy", Name: "engine"}: {Exists: true}}
	}
}

func ruleOf(text string) []admissionv1.RuleWithOperations {
	return from[[]admissionv1.RuleWithOperations](text)
}

const closed = "Error MW401 ValidatingWebhookConfiguration/policy: webhook policy.example.com fails closed, its Service policy/engine has no ready endpoint, and it is asked about "

var webhookCases = []testCase{
	{
		reason: "nobody answers a webhook that pods need", change: policy(func(*admissionv1.ValidatingWebhook) {}),
		want: []string{closed + "pods in namespace istio-system"},
	},
	{reason: "somebody answers", change: changes(policy(func(*admissionv1.ValidatingWebhook) {}), backend("policy", "engine", Backend{Exists: true, Ready: true}))},
	{reason: "whether somebody answers is not known", change: changes(policy(func(*admissionv1.ValidatingWebhook) {}), func(f *Facts) { f.Backends = nil })},
	{
		reason: "without a Service nobody answers either", change: changes(policy(func(*admissionv1.ValidatingWebhook) {}), backend("policy", "engine", Backend{})),
		want: []string{"Error MW401 ValidatingWebhookConfiguration/policy: webhook policy.example.com fails closed, its Service policy/engine does not exist, and it is " +
			"asked about pods in namespace istio-system"},
	},
	{reason: "it fails open", change: policy(func(h *admissionv1.ValidatingWebhook) { h.FailurePolicy = new(admissionv1.Ignore) })},
	{reason: "it is somewhere else", change: policy(func(h *admissionv1.ValidatingWebhook) {
		h.ClientConfig = admissionv1.WebhookClientConfig{URL: new("https://x")}
	})},
	{
		reason: "conditions may leave it out",
		change: policy(func(h *admissionv1.ValidatingWebhook) {
			h.MatchConditions = []admissionv1.MatchCondition{{Name: "x", Expression: "true"}}
		}),
		want: []string{"Warning MW401..."},
	},
	{
		reason: "other namespaces only",
		change: policy(func(h *admissionv1.ValidatingWebhook) {
			h.NamespaceSelector = selectorOf(`{matchLabels: {kubernetes.io/metadata.name: other}}`)
		}),
	},
	{
		reason: "a namespace of the mesh",
		change: policy(func(h *admissionv1.ValidatingWebhook) {
			h.NamespaceSelector = selectorOf(`{matchLabels: {kubernetes.io/metadata.name: shop}}`)
			h.Rules = ruleOf(`[{apiGroups: ["*"], apiVersions: ["*"], operations: ["*"], resources: ["*/*"], scope: "*"}]`)
		}),
		want: []string{closed + "pods in namespace shop"},
	},
	{
		reason: "pods of the mesh by their labels",
		change: policy(func(h *admissionv1.ValidatingWebhook) { h.ObjectSelector = selectorOf(`{matchLabels: {app: cart}}`) }),
		want:   []string{closed + "pods in namespace shop"},
	},
	{
		reason: "istiod by its labels",
		change: policy(func(h *admissionv1.ValidatingWebhook) {
			h.ObjectSelector = selectorOf(`{matchLabels: {istio.io/rev: 1-29-1}}`)
		}),
		want: []string{closed + "pods in namespace istio-system"},
	},
	{
		reason: "istiod as its chart labels it",
		change: policy(func(h *admissionv1.ValidatingWebhook) {
			h.ObjectSelector = selectorOf(`{matchLabels: {istio: istiod}}`)
		}),
		want: []string{closed + "pods in namespace istio-system"},
	},
	{
		reason: "a canary's istiod is labelled otherwise than one in place",
		change: policy(func(h *admissionv1.ValidatingWebhook) { h.ObjectSelector = selectorOf(`{matchLabels: {istio: pilot}}`) }),
	},
	{reason: "pods that nobody has", change: policy(func(h *admissionv1.ValidatingWebhook) { h.ObjectSelector = selectorOf(`{matchLabels: {app: x}}`) })},
	{
		reason: "what the cluster has",
		change: policy(func(h *admissionv1.ValidatingWebhook) {
			h.Rules = ruleOf(`[{apiGroups: [rbac.authorization.k8s.io], operations: [UPDATE], resources: [clusterroles], scope: Cluster}]`)
		}),
		want: []string{closed + "clusterroles of the cluster"},
	},
	{
		reason: "the label of a namespace",
		change: policy(func(h *admissionv1.ValidatingWebhook) {
			h.Rules = ruleOf(`[{apiGroups: [""], operations: [UPDATE], resources: [namespaces]}]`)
		}),
		want: []string{closed + "namespaces in namespace shop"},
	},
	{
		reason: "evictions",
		change: policy(func(h *admissionv1.ValidatingWebhook) {
			h.Rules = ruleOf(`[{apiGroups: [""], operations: [CREATE], resources: [pods/eviction]}]`)
		}),
		want: []string{closed + "pods/eviction in namespace shop"},
	},
	{
		reason: "the namespace of a gateway",
		change: policy(func(h *admissionv1.ValidatingWebhook) {
			h.NamespaceSelector = selectorOf(`{matchLabels: {kubernetes.io/metadata.name: istio-ingress}}`)
		}),
		want: []string{closed + "pods in namespace istio-ingress"},
	},
	{
		reason: "what the operator writes for a gateway",
		change: policy(func(h *admissionv1.ValidatingWebhook) {
			h.NamespaceSelector = selectorOf(`{matchLabels: {kubernetes.io/metadata.name: istio-ingress}}`)
			h.Rules = ruleOf(`[{apiGroups: [""], operations: [UPDATE], resources: [services]}]`)
		}),
		want: []string{closed + "services in namespace istio-ingress"},
	},
	{
		reason: "a gateway's new pods by their labels",
		change: policy(func(h *admissionv1.ValidatingWebhook) { h.ObjectSelector = selectorOf(`{matchLabels: {istio: edge}}`) }),
		want:   []string{closed + "pods in namespace istio-ingress"},
	},
	{
		reason: "the maximum age of a gateway's connections, in its own namespace",
		change: changes(policy(func(h *admissionv1.ValidatingWebhook) {
			h.Rules = ruleOf(`[{apiGroups: [networking.istio.io], operations: ["*"], resources: [envoyfilters]}]`)
		}), func(f *Facts) {
			f.Gateways[0].Writes = []schema.GroupResource{{Group: "networking.istio.io", Resource: "envoyfilters"}}
		}),
		want: []string{closed + "envoyfilters in namespace istio-ingress"},
	},
	{
		reason: "EnvoyFilters that the operator does not write",
		change: policy(func(h *admissionv1.ValidatingWebhook) {
			h.Rules = ruleOf(`[{apiGroups: [networking.istio.io], operations: ["*"], resources: [envoyfilters]}]`)
		}),
	},
	{
		reason: "a StatefulSet that is restarted",
		change: changes(policy(func(h *admissionv1.ValidatingWebhook) {
			h.Rules = ruleOf(`[{apiGroups: [apps], operations: [UPDATE], resources: [statefulsets, daemonsets]}]`)
		}), func(f *Facts) { f.Pods[0].Owner = "StatefulSet/cart" }),
		want: []string{closed + "statefulsets in namespace shop"},
	},
	{
		reason: "a DaemonSet that is restarted",
		change: changes(policy(func(h *admissionv1.ValidatingWebhook) {
			h.Rules = ruleOf(`[{apiGroups: [apps], operations: [UPDATE], resources: [statefulsets, daemonsets]}]`)
		}), func(f *Facts) { f.Pods[0].Owner = "DaemonSet/cart" }),
		want: []string{closed + "daemonsets in namespace shop"},
	},
	{
		reason: "kinds of workloads that the mesh does not have",
		change: policy(func(h *admissionv1.ValidatingWebhook) {
			h.Rules = ruleOf(`[{apiGroups: [apps], operations: ["*"], resources: [statefulsets, daemonsets]}]`)
		}),
	},
	{
		reason: "what a rollout does not write",
		change: policy(func(h *admissionv1.ValidatingWebhook) {
			h.Rules = ruleOf(`[{apiGroups: [""], operations: [DELETE], resources: [pods]}, {apiGroups: [""], operations: ["*"], resources: [pods/exec, secrets]},
  {apiGroups: [apps], operations: ["*"], resources: [deployments], scope: Cluster}, {apiGroups: [rbac.authorization.k8s.io], operations: ["*"], resources: [clusterroles], scope: Namespaced}]`)
		}),
	},
	{
		reason: "istiod's own validator: that istiod serves is proven anyway",
		change: changes(policy(func(*admissionv1.ValidatingWebhook) {}), func(f *Facts) { f.Validating[0].Labels = map[string]string{v1alpha1.LabelMesh: "default"} }),
	},
	{
		reason: "mutating webhooks, too",
		change: func(f *Facts) {
			f.Mutating = []admissionv1.MutatingWebhookConfiguration{from[admissionv1.MutatingWebhookConfiguration](`
metadata: {name: defaults}
webhooks:
- name: defaults.example.com
  clientConfig: {service: {namespace: policy, name: engine}}
  rules: [{apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}]`)}
			backend("policy", "engine", Backend{Exists: true})(f)
		},
		want: []string{"Error MW401 MutatingWebhookConfiguration/defaults: webhook defaults.example.com fails closed, its Service policy/engine has no ready " +
			"endpoint, and it is asked about deployments in namespace istio-system"},
	},
}

func backend(namespace, name string, b Backend) func(*Facts) {
	return func(f *Facts) {
		if f.Backends == nil {
			f.Backends = map[types.NamespacedName]Backend{}
		}
		f.Backends[types.NamespacedName{Namespace: namespace, Name: name}] = b
	}
}

// hooks adds injectors: name, labels and namespaceSelector, with a Service each.
func injecting(name, labels, namespaces string) func(*Facts) {
	return func(f *Facts) {
		f.Mutating = append(f.Mutating, from[admissionv1.MutatingWebhookConfiguration](`
metadata: {name: `+name+`, labels: `+labels+`}
webhooks:
- name: rev.namespace.sidecar-injector.istio.io
  clientConfig: {service: {namespace: istio-system, name: `+name+`}}
  namespaceSelector: `+namespaces))
	}
}

const (
	ours128   = `{istio.io/rev: 1-28-3, meshwright.io/mesh: default}`
	select128 = `{matchLabels: {istio.io/rev: 1-28-3}, matchExpressions: [{key: istio-injection, operator: DoesNotExist}]}`
)

var injectionCases = []testCase{
	{reason: "one injector for each label", change: changes(injecting("a", ours128, select128), injecting("b", `{istio.io/rev: 1-28-3, istio.io/tag: stable}`,
		`{matchExpressions: [{key: istio.io/rev, operator: In, values: [stable]}, {key: istio-injection, operator: DoesNotExist}]}`))},
	{
		reason: "an injector that is left over", change: changes(injecting("a", ours128, select128), injecting("old", `{istio.io/rev: old}`,
			`{matchLabels: {istio.io/rev: old}, matchExpressions: [{key: istio-injection, operator: DoesNotExist}]}`), backend("istio-system", "old", Backend{})),
		want: []string{
			"Error MW402 MutatingWebhookConfiguration/old: its Service istio-system/old does not exist: pods that it selects can't be made",
			"Warning MW404 MutatingWebhookConfiguration/old: it injects proxies of revision old, which Meshwright does not keep",
		},
	},
	{
		reason: "a tag that points nowhere", change: changes(injecting("a", ours128, select128), injecting("tag", `{istio.io/rev: gone, istio.io/tag: prod}`,
			`{matchLabels: {istio.io/rev: prod}, matchExpressions: [{key: istio-injection, operator: DoesNotExist}]}`), backend("istio-system", "tag", Backend{})),
		want: []string{"Error MW406 MutatingWebhookConfiguration/tag: tag prod points at revision gone, whose Service istio-system/tag does not exist: pods " +
			"that it selects can't be made"},
	},
	{
		reason: "two for the same pods", change: changes(injecting("a", ours128, select128), injecting("b", ours128, `{matchLabels: {istio.io/rev: 1-28-3}}`)),
		want: []string{
			"Error MW403 MutatingWebhookConfiguration/a: webhook rev.namespace.sidecar-injector.istio.io takes pods that b/rev.namespace.sidecar-injector.istio.io takes, too",
			"Error MW403 MutatingWebhookConfiguration/b: webhook rev.namespace.sidecar-injector.istio.io takes pods that a/rev.namespace.sidecar-injector.istio.io takes, too",
		},
	},
	{
		reason: "another mesh is asked about our pods",
		change: func(f *Facts) {
			f.Mutating = []admissionv1.MutatingWebhookConfiguration{from[admissionv1.MutatingWebhookConfiguration](`
metadata: {name: linkerd}
webhooks: [{name: linkerd-proxy-injector.linkerd.io, namespaceSelector: {matchExpressions: [{key: config.linkerd.io/admission-webhooks, operator: NotIn, values: [disabled]}]}}]`)}
		},
		want: []string{"Warning MW404 MutatingWebhookConfiguration/linkerd: Linkerd is asked about the pods of namespace shop, which is in the mesh"},
	},
	{
		reason: "where Meshwright keeps no mesh, no Istio is foreign",
		change: changes(injecting("old", `{istio.io/rev: 1-28-3}`, select128), func(f *Facts) { f.Mesh = nil }),
	},
	{
		reason: "labels that contradict each other",
		change: func(f *Facts) {
			f.Namespaces[3].Labels = map[string]string{v1alpha1.IstioInjection: "enabled", v1alpha1.IstioRevision: "1-28-3"}
		},
		want: []string{"Warning MW405 Namespace/other: it is labelled istio-injection=enabled and istio.io/rev=1-28-3: istio-injection beats istio.io/rev, so that " +
			"the rollout can't move it by its revision"},
	},
	{
		reason: "sidecars and ambient",
		change: func(f *Facts) {
			f.Namespaces[3].Labels = map[string]string{v1alpha1.IstioRevision: "1-28-3", "istio.io/dataplane-mode": "ambient"}
		},
		want: []string{"Warning MW405 Namespace/other: it is labelled istio.io/rev=1-28-3 and istio.io/dataplane-mode=ambient: its pods get a sidecar, and ambient leaves out those " +
			"that have one"},
	},
	{
		reason: "sidecars by the default revision, and ambient",
		change: func(f *Facts) {
			f.Namespaces[3].Labels = map[string]string{v1alpha1.IstioInjection: "enabled", "istio.io/dataplane-mode": "ambient"}
		},
		want: []string{"Warning MW405 Namespace/other: it is labelled istio-injection=enabled and istio.io/dataplane-mode=ambient: its pods get a sidecar, and ambient " +
			"leaves out those that have one"},
	},
	{
		reason: "sidecars, and expressly no ambient",
		change: func(f *Facts) {
			f.Namespaces[3].Labels = map[string]string{v1alpha1.IstioRevision: "1-28-3", "istio.io/dataplane-mode": "none"}
		},
	},
	{
		reason: "two labels for sidecars, and expressly no ambient",
		change: func(f *Facts) {
			f.Namespaces[3].Labels = map[string]string{v1alpha1.IstioInjection: "enabled", v1alpha1.IstioRevision: "1-28-3", "istio.io/dataplane-mode": "none"}
		},
		want: []string{"Warning MW405 Namespace/other: it is labelled istio-injection=enabled and istio.io/rev=1-28-3: istio-injection beats istio.io/rev..."},
	},
	{
		reason: "who wants no injection contradicts nothing",
		change: func(f *Facts) {
			f.Namespaces[3].Labels = map[string]string{v1alpha1.IstioInjection: "disabled", v1alpha1.IstioRevision: "1-28-3"}
		},
	},
	{
		reason: "a revision that is not there",
		change: changes(injecting("a", ours128, select128), func(f *Facts) { f.Namespaces[3].Labels = map[string]string{v1alpha1.IstioRevision: "gone"} }),
		want:   []string{"Warning MW407 Namespace/other: it names revision or tag gone, for which there is no injector: its new pods get no proxy"},
	},
	{
		reason: "an older proxy than the revision injects; variants and images of the pod's own are no others",
		change: func(f *Facts) {
			old, variant, own := cart(), cart(), cart()
			old.Name, old.Proxy = "old", "docker.io/istio/proxyv2:1.28.2"
			variant.Proxy += "-distroless"
			own.Proxy, own.Annotations = "example.com/proxy:1", map[string]string{"sidecar.istio.io/proxyImage": "example.com/proxy:1"}
			f.Pods = []Pod{old, variant, own}
		},
		want: []string{
			"Warning MW408 Namespace/shop: 1 pods have another proxy than its revision injects: old",
			"Info MW204 Deployment/shop/cart: the annotation sidecar.istio.io/proxyImage is alpha...",
		},
	},
	{
		reason: "a namespace follows a tag, or the default",
		change: changes(injecting("a", `{istio.io/rev: 1-28-3, istio.io/tag: stable, meshwright.io/mesh: default}`, `{matchLabels: {istio.io/rev: stable}}`), func(f *Facts) {
			f.Namespaces[1].Labels = map[string]string{v1alpha1.IstioRevision: "stable"}
			f.Namespaces[3].Labels, f.Namespaces[3].Member = map[string]string{v1alpha1.IstioInjection: "enabled"}, true
			f.Proxies["default"] = proxy128
			for _, n := range []string{"shop", "other"} {
				p := cart()
				p.Namespace, p.Proxy = n, "docker.io/istio/proxyv2:1.28.2"
				f.Pods = append(f.Pods, p)
			}
		}),
		want: []string{
			"Warning MW408 Namespace/other: 1 pods have another proxy than its revision injects: cart-1",
			"Warning MW408 Namespace/shop: 1 pods have another proxy than its revision injects: cart-1",
		},
	},
	{
		reason: "pods without a proxy, except where none is wanted",
		change: func(f *Facts) {
			bare, none := cart(), cart()
			bare.Proxy, bare.Injected, none.Proxy, none.Injected, none.OptedOut = "", false, "", false, true
			f.Pods = []Pod{bare, bare, none}
		},
		want: []string{"Warning MW409 Deployment/shop/cart: 2 of its pods have no proxy, in a namespace of the mesh: they get one when the rollout restarts them"},
	},
	{
		reason: "an image that nobody fills in",
		change: changes(injecting("a", ours128, select128), func(f *Facts) {
			f.Annotated = []Annotated{{Kind: "Deployment", Namespace: "istio-ingress", Name: "edge", AutoImage: true}, {Kind: "Deployment", Namespace: "shop", Name: "edge", AutoImage: true}}
		}),
		want: []string{"Error MW410 Deployment/istio-ingress/edge: its image is auto, which the injector would fill in, and no injector selects its pods: new ones can't start"},
	},
	{
		reason: "this Kubernetes", change: func(f *Facts) { f.Kubernetes = semverOf("1.36.0") },
		want: []string{"Error MW501 MeshInstallation/default: Istio 1.29 supports Kubernetes 1.31 to 1.35, this cluster is 1.36"},
	},
	{
		reason: "who has accepted it is told all the same", change: func(f *Facts) { f.Kubernetes, f.Move.AnyKubernetes = semverOf("1.36.0"), true },
		want: []string{"Warning MW501 MeshInstallation/default: ..."},
	},
	{
		reason: "three minors", change: func(f *Facts) { f.Move.From, f.Pods = semverOf("1.26.1"), nil },
		want: []string{"Error MW502 MeshInstallation/default: from Istio 1.26.1 to 1.29.1: two minors at most are supported by a canary revision: go to 1.28 first"},
	},
	{
		reason: "two minors in place, accepted", change: func(f *Facts) { f.Move.From, f.Move.InPlace, f.Move.AnySkew = semverOf("1.27.9"), true, true },
		want: []string{"Warning MW502 MeshInstallation/default: from Istio 1.27.9 to 1.29.1: one minor at most is supported in place: go to 1.28 first"},
	},
	{
		reason: "proxies that were left behind, by a canary", change: changes(func(f *Facts) { f.Proxies = nil }, aged("1.26.1")),
		want: []string{"Warning MW503 Deployment/shop/cart: its proxy is of 1.26.1, too old for Istio 1.29.1"},
	},
	{
		reason: "in place they would be served by the new one at once", change: changes(func(f *Facts) { f.Proxies, f.Move.InPlace = nil, true }, aged("1.27.9")),
		want: []string{"Error MW503 Deployment/shop/cart: its proxy is of 1.27.9, too old for Istio 1.29.1"},
	},
	{
		reason: "proxies of another mesh are not moved",
		change: changes(func(f *Facts) { f.Move.InPlace = true }, elsewhere("theirs")),
	},
	{
		reason: "a proxy of the mesh, whatever its namespace is labelled",
		change: changes(func(f *Facts) { f.Move.InPlace = true }, elsewhere("1-28-3")),
		want:   []string{"Error MW503 Deployment/other/cart: its proxy is of 1.26.1, too old for Istio 1.29.1"},
	},
	{
		reason: "where Meshwright keeps no mesh, all are looked at",
		change: changes(func(f *Facts) { f.Mesh, f.Revisions = nil, nil }, elsewhere("theirs")),
		want:   []string{"Warning MW503 Deployment/other/cart: its proxy is of 1.26.1, too old for Istio 1.29.1"},
	},
	{
		reason: "in a namespace of the mesh, one of a revision that is no more",
		change: changes(func(f *Facts) { f.Proxies, f.Pods[0].Revision = nil, "1-26-1" }, aged("1.26.1")),
		want:   []string{"Warning MW503 Deployment/shop/cart: its proxy is of 1.26.1, too old for Istio 1.29.1"},
	},
	{
		reason: "in a namespace of the mesh, one whose pods ask for another one",
		change: changes(injecting("ours", ours128, select128), injecting("theirs", `{istio.io/rev: theirs, meshwright.io/mesh: other}`, `{matchLabels: {istio.io/rev: theirs}}`),
			func(f *Facts) { f.Proxies, f.Pods[0].Revision = nil, "theirs" }, aged("1.26.1")),
	},
	{
		reason: "proxies must not be ahead", change: changes(func(f *Facts) { f.Proxies = nil }, aged("1.31.0")),
		want: []string{"Warning MW503 Deployment/shop/cart: its proxy is of 1.31.0, newer than Istio 1.29.1: a proxy must not be ahead of its control plane"},
	},
}

// elsewhere is a proxy of 1.26.1 of a revision, in a namespace of no mesh.
func elsewhere(revision string) func(*Facts) {
	return func(f *Facts) {
		p := cart()
		p.Namespace, p.Proxy, p.Revision = "other", "docker.io/istio/proxyv2:1.26.1", revision
		f.Pods = append(f.Pods, p)
	}
}

func aged(v string) func(*Facts) {
	return func(f *Facts) { f.Pods[0].Proxy = "registry.example.com/istio/proxyv2:" + v + "-distroless" }
}
