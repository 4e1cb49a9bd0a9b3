// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"github.com/Masterminds/semver/v3"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func semverOf(v string) *semver.Version { return semver.MustParse(v) }

func selectorOf(text string) *metav1.LabelSelector {
	out := from[metav1.LabelSelector](text)
	return &out
}

func tight(f *Facts) {
	f.Budgets = []Budget{{Namespace: "shop", Name: "cart", Selector: selectorOf(`{matchLabels: {app: cart}}`), ExpectedPods: 3}}
}

var workloadCases = []testCase{
	{
		reason: "evictions would wait for ever", change: changes(tight, restart(v1alpha1.RestartEvict)),
		want: []string{"Error MW601 PodDisruptionBudget/shop/cart: it allows no eviction now"},
	},
	{
		reason: "rolling updates ask no budget", change: tight,
		want: []string{"Info MW601 PodDisruptionBudget/shop/cart: it allows no eviction now; workloads are rolled out, which asks no budget"},
	},
	{
		reason: "people may evict", change: changes(tight, restart(v1alpha1.RestartManual)),
		want: []string{"Info MW601 PodDisruptionBudget/shop/cart: it allows no eviction now; restarts are left to you, and will be refused when they evict"},
	},
	{
		reason: "budgets that allow one, or are for nothing",
		change: changes(restart(v1alpha1.RestartEvict), func(f *Facts) { f.Budgets = []Budget{{Name: "a", DisruptionsAllowed: 1, ExpectedPods: 3}, {Name: "b"}} }),
	},
	{
		reason: "a budget of pods that are not in the mesh",
		change: changes(tight, restart(v1alpha1.RestartEvict), func(f *Facts) { f.Pods[0].Proxy, f.Pods[0].Injected, f.Pods[0].OptedOut = "", false, true }),
	},
	{
		reason: "a budget of other pods, or of none",
		change: changes(tight, restart(v1alpha1.RestartEvict), func(f *Facts) {
			f.Budgets[0].Selector = selectorOf(`{matchLabels: {app: other}}`)
			f.Budgets = append(f.Budgets, Budget{Namespace: "shop", Name: "none", ExpectedPods: 1})
		}),
	},
	{
		reason: "a budget of one of our gateways, which are not evicted",
		change: changes(tight, restart(v1alpha1.RestartEvict), func(f *Facts) { f.Pods[0].Labels[v1alpha1.LabelGateway] = "cart" }),
	},
	{
		reason: "a budget of all pods",
		change: changes(tight, restart(v1alpha1.RestartEvict), func(f *Facts) { f.Budgets[0].Selector = selectorOf(`{}`) }),
		want:   []string{"Error MW601 PodDisruptionBudget/shop/cart: it allows no eviction now"},
	},
	{
		reason: "what can't be moved",
		change: func(f *Facts) {
			f.Unmovable = []v1alpha1.UnmovableWorkload{{Workload: "Pod/shop/debug", Reason: "BarePod", Message: "nothing would make it anew"}}
		},
		want: []string{"Info MW602 Pod/shop/debug: BarePod: nothing would make it anew"},
	},
	{
		reason: "a namespace that refuses istio-init", change: func(f *Facts) { f.Namespaces[1].Labels[enforced] = "baseline" },
		want: []string{"Error MW603 Namespace/shop: it enforces Pod Security baseline, which refuses the container istio-init: pods with a sidecar can't be made anew here"},
	},
	{reason: "the CNI agent redirects", change: func(f *Facts) { f.CNI, f.Namespaces[1].Labels[enforced] = true, "restricted" }},
	{reason: "others than the mesh", change: func(f *Facts) { f.Namespaces[3].Labels[enforced] = "restricted" }},
}

var controlPlaneCases = []testCase{
	{
		reason: "room that is on different nodes is no room",
		change: func(f *Facts) {
			f.Capacity.Nodes = []Node{{Name: "a", Free: resources("4", "1Gi")}, {Name: "b", Free: resources("100m", "8Gi")}}
		},
		want: []string{"Warning MW701 Deployment/istio-system/istiod-1-29-1: istiod 1.29.1 requests cpu 500m, memory 2Gi, and none of 2 schedulable nodes without taints " +
			"has room for it (the most that is free on one: cpu 4, memory 8Gi)"},
	},
	{
		reason: "no node at all, in place", change: func(f *Facts) { f.Capacity.Nodes, f.Move.Revision = nil, "default" },
		want: []string{"Warning MW701 Deployment/istio-system/istiod: istiod 1.29.1 requests cpu 500m, memory 2Gi, and none of 0 schedulable nodes without taints has room for it"},
	},
	{
		reason: "a node that takes no more pods has no room",
		change: func(f *Facts) { f.Capacity.Nodes[0].Free[corev1.ResourcePods] = resource.MustParse("0") },
		want:   []string{"Warning MW701..."},
	},
	{reason: "nodes that could not be read", change: func(f *Facts) { f.Capacity.Nodes, f.Capacity.Unknown = nil, true }},
	{reason: "what requests nothing fits everywhere", change: func(f *Facts) { f.Capacity = Capacity{} }},
	{
		reason: "a quota that leaves too little",
		change: func(f *Facts) {
			f.Quotas = []corev1.ResourceQuota{from[corev1.ResourceQuota](`
metadata: {namespace: istio-system, name: team}
status: {hard: {requests.memory: 3Gi, pods: "9", cpu: "1", count/pods: "5"}, used: {requests.memory: 2Gi, pods: "1", cpu: 500m, count/pods: "5"}}`)}
		},
		want: []string{"Error MW702 ResourceQuota/istio-system/team: one pod of istiod 1.29.1 more is too much for it: count/pods: 1 is wanted, 0 is left; requests.memory: 2Gi is wanted, 1Gi is left"},
	},
	{
		reason: "a quota of limits",
		change: func(f *Facts) {
			f.Capacity.Containers[0].Limits = resources("2", "4Gi")
			f.Quotas = []corev1.ResourceQuota{from[corev1.ResourceQuota](`
metadata: {namespace: istio-system, name: team}
status: {hard: {limits.cpu: "1"}}`)}
		},
		want: []string{"Error MW702 ResourceQuota/istio-system/team: one pod of istiod 1.29.1 more is too much for it: limits.cpu: 2 is wanted, 1 is left"},
	},
	{
		reason: "a quota of what istiod does not say",
		change: func(f *Facts) {
			f.Quotas = []corev1.ResourceQuota{from[corev1.ResourceQuota](`
metadata: {namespace: istio-system, name: team}
status: {hard: {limits.cpu: "100", limits.memory: 100Gi, requests.cpu: "100", memory: 100Gi}}`)}
		},
		want: []string{"Error MW702 ResourceQuota/istio-system/team: it bounds limits.cpu, limits.memory, and so refuses pods of istiod 1.29.1, of which a container does " +
			"not say its own"},
	},
	{
		reason: "one of several containers says no request",
		change: func(f *Facts) {
			f.Capacity.Containers = append(f.Capacity.Containers, corev1.ResourceRequirements{Limits: resources("1", "1Gi")})
			f.Quotas = []corev1.ResourceQuota{from[corev1.ResourceQuota](`
metadata: {namespace: istio-system, name: team}
status: {hard: {requests.memory: 100Gi}}`)}
		},
		want: []string{"Error MW702 ResourceQuota/istio-system/team: it bounds requests.memory..."},
	},
	{
		reason: "a range fills in what istiod does not say, and that counts",
		change: func(f *Facts) {
			f.Quotas = []corev1.ResourceQuota{from[corev1.ResourceQuota](`
metadata: {namespace: istio-system, name: team}
status: {hard: {limits.cpu: "1", limits.memory: 100Gi}}`)}
			f.LimitRanges = []corev1.LimitRange{from[corev1.LimitRange](`
metadata: {namespace: istio-system, name: team}
spec: {limits: [{type: Container, default: {cpu: "2", memory: 4Gi}}]}`)}
		},
		want: []string{"Error MW702 ResourceQuota/istio-system/team: one pod of istiod 1.29.1 more is too much for it: limits.cpu: 2 is wanted, 1 is left"},
	},
	{
		reason: "a default that is less than the request",
		change: func(f *Facts) {
			f.LimitRanges = []corev1.LimitRange{from[corev1.LimitRange](`
metadata: {namespace: istio-system, name: small}
spec: {limits: [{type: Container, default: {memory: 512Mi}, defaultRequest: {memory: 256Mi}}]}`)}
		},
		want: []string{"Error MW703 LimitRange/istio-system/small: pods of istiod 1.29.1 would be refused: memory: 2Gi is requested, 512Mi is the limit by default"},
	},
	{
		reason: "limits that are too high, or too low, or missing",
		change: func(f *Facts) {
			f.Capacity.Containers[0].Limits = resources("4", "2Gi")
			f.LimitRanges = []corev1.LimitRange{from[corev1.LimitRange](`
metadata: {namespace: istio-system, name: small}
spec: {limits: [{type: Pod, max: {cpu: "2", memory: 8Gi, ephemeral-storage: 1Gi}, min: {ephemeral-storage: 1Mi}}]}`)}
		},
		want: []string{"Error MW703 LimitRange/istio-system/small: pods of istiod 1.29.1 would be refused: ephemeral-storage: none is requested, 1Mi is the least; cpu: the " +
			"limit is 4, 2 is the most; ephemeral-storage: there is no limit, 1Gi is the most"},
	},
	{
		reason: "a quota for pods of a kind",
		change: func(f *Facts) {
			f.Quotas = []corev1.ResourceQuota{from[corev1.ResourceQuota](`{metadata: {namespace: istio-system}, spec: {scopes: [BestEffort]}, status: {hard: {pods: "0"}}}`)}
		},
	},
	{
		reason: "a range that istiod is outside of",
		change: func(f *Facts) {
			f.LimitRanges = []corev1.LimitRange{from[corev1.LimitRange](`
metadata: {namespace: istio-system, name: small}
spec: {limits: [{type: Container, max: {memory: 1Gi}, min: {cpu: "1"}}, {type: PersistentVolumeClaim, max: {memory: 1Gi}}]}`)}
		},
		want: []string{"Error MW703 LimitRange/istio-system/small: pods of istiod 1.29.1 would be refused: cpu: 500m is requested, 1 is the least; memory: 2Gi is requested, 1Gi is the most"},
	},
	{
		reason: "a quota where a gateway needs as many pods again",
		change: func(f *Facts) {
			f.Quotas = []corev1.ResourceQuota{from[corev1.ResourceQuota](`
metadata: {namespace: istio-ingress, name: edges}
status: {hard: {pods: "3", requests.cpu: 400m, limits.cpu: "6"}, used: {pods: "2", requests.cpu: 200m, limits.cpu: "4"}}`)}
		},
		want: []string{"Error MW702 ResourceQuota/istio-ingress/edges: 2 pods of gateway edge more are too much for it: limits.cpu: 4 is wanted, 2 is left; pods: 2 is wanted, 1 is left"},
	},
	{
		reason: "a quota that the gateway does not need more of, or that is of another namespace",
		change: func(f *Facts) {
			f.Quotas = []corev1.ResourceQuota{
				from[corev1.ResourceQuota](`{metadata: {namespace: istio-ingress, name: edges}, status: {hard: {pods: "4", requests.cpu: 400m}, used: {pods: "2", requests.cpu: 200m}}}`),
				from[corev1.ResourceQuota](`{metadata: {namespace: shop, name: all}, status: {hard: {pods: "1"}, used: {pods: "1"}}}`),
			}
		},
	},
	{
		reason: "a gateway beside istiod: both take of one quota",
		change: func(f *Facts) {
			f.Gateways[0].Namespace = "istio-system"
			f.Quotas = []corev1.ResourceQuota{from[corev1.ResourceQuota](`
metadata: {namespace: istio-system, name: team}
status: {hard: {pods: "4"}, used: {pods: "2"}}`)}
		},
		want: []string{"Error MW702 ResourceQuota/istio-system/team: one pod of istiod 1.29.1 and 2 pods of gateway edge more are too much for it: pods: 3 is wanted, 2 is left"},
	},
	{
		reason: "a gateway that stays where it is takes nothing",
		change: func(f *Facts) {
			f.Gateways[0].Pods = 0
			f.Quotas = []corev1.ResourceQuota{from[corev1.ResourceQuota](`{metadata: {namespace: istio-ingress, name: edges}, status: {hard: {pods: "0"}}}`)}
		},
	},
	{
		reason: "a range that a gateway is outside of",
		change: func(f *Facts) {
			f.LimitRanges = []corev1.LimitRange{from[corev1.LimitRange](`
metadata: {namespace: istio-ingress, name: small}
spec: {limits: [{type: Container, max: {cpu: "1"}}]}`)}
		},
		want: []string{"Error MW703 LimitRange/istio-ingress/small: pods of gateway edge would be refused: cpu: the limit is 2, 1 is the most"},
	},
	{
		reason: "an autoscaler that can't do more",
		change: func(f *Facts) {
			f.Autoscalers = []autoscalingv2.HorizontalPodAutoscaler{from[autoscalingv2.HorizontalPodAutoscaler](`
metadata: {namespace: istio-system, name: istiod-1-28-3}
spec: {maxReplicas: 5, scaleTargetRef: {kind: Deployment, name: istiod-1-28-3}}
status: {conditions: [{type: ScalingLimited, status: "True", reason: TooManyReplicas}]}`)}
		},
		want: []string{"Warning MW704 HorizontalPodAutoscaler/istio-system/istiod-1-28-3: istiod-1-28-3 wants more than its 5 replicas already"},
	},
	{
		reason: "one that would like less",
		change: func(f *Facts) {
			f.Autoscalers = []autoscalingv2.HorizontalPodAutoscaler{from[autoscalingv2.HorizontalPodAutoscaler](`
status: {conditions: [{type: ScalingLimited, status: "True", reason: TooFewReplicas}]}`)}
		},
	},
}

// policies are NetworkPolicies.
func policies(all ...string) func(*Facts) {
	return func(f *Facts) {
		for _, text := range all {
			f.NetworkPolicies = append(f.NetworkPolicies, from[networkingv1.NetworkPolicy](text))
		}
	}
}

const denyAll = `{metadata: {namespace: istio-system, name: deny}, spec: {podSelector: {}, policyTypes: [Ingress]}}`

var networkCases = []testCase{
	{
		reason: "nobody gets to istiod", change: policies(denyAll),
		want: []string{"Warning MW801 NetworkPolicy/istio-system/deny: it and its like (deny) keep the operator from port 15010, the operator from port 15012, the operator " +
			"from port 15014, the proxies of namespace shop from port 15012, the API server from port 15017 of the new istiod"},
	},
	{
		reason: "another policy lets in who has to",
		change: policies(denyAll, `
metadata: {namespace: istio-system, name: istiod}
spec:
  podSelector: {matchLabels: {app: istiod}}
  ingress:
  - {from: [{namespaceSelector: {}}], ports: [{port: 15010, endPort: 15014}]}
  - {from: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 15017}]}`),
	},
	{
		reason: "who is let in has to be named rightly",
		change: policies(`
metadata: {namespace: istio-system, name: istiod}
spec:
  podSelector: {}
  ingress:
  - {from: [{podSelector: {}}, {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: meshwright-system}}, podSelector: {matchLabels: {app: x}}}]}
  - {from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}], ports: [{port: 15012, protocol: UDP}, {port: grpc}]}`),
		want: []string{"Warning MW801 NetworkPolicy/istio-system/istiod: it and its like (istiod) keep the operator from port 15010, the operator from port 15012, the " +
			"operator from port 15014 of the new istiod"},
	},
	{
		reason: "the old revision's pods, and what Meshwright applies, are not the new istiod's",
		change: policies(`{metadata: {namespace: istio-system, name: old}, spec: {podSelector: {matchLabels: {istio.io/rev: 1-28-3}}}}`,
			`{metadata: {namespace: istio-system, name: ours, labels: {meshwright.io/mesh: default}}, spec: {podSelector: {}}}`),
	},
	{
		reason: "policies about an istiod in place, and those that let pods out to it, are not about a canary",
		change: policies(`{metadata: {namespace: istio-system, name: pilot}, spec: {podSelector: {matchLabels: {istio: pilot}}}}`, `
metadata: {namespace: shop, name: out}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {istio: pilot}}}]}]`),
		want: []string{"Warning MW803 NetworkPolicy/shop/out: ..."},
	},
	{
		reason: "policies about a canary's istiod",
		change: policies(`{metadata: {namespace: istio-system, name: istiod}, spec: {podSelector: {matchLabels: {istio: istiod}}}}`),
		want:   []string{"Warning MW801 NetworkPolicy/istio-system/istiod: ..."},
	},
	{
		reason: "an istiod that does not render has no labels to judge by",
		change: changes(policies(denyAll), func(f *Facts) { f.Charts.Failure, f.Istiod = "no", nil }),
		want:   []string{"Error MW303 MeshInstallation/default: ..."},
	},
	{
		reason: "a gateway's counters",
		change: changes(func(f *Facts) {
			f.Pods = append(f.Pods, Pod{Namespace: "istio-ingress", Name: "edge-1", Owner: "Deployment/edge", Labels: map[string]string{"istio": "edge"}, Ours: true, Edge: true})
		}, policies(`{metadata: {namespace: istio-ingress, name: web}, spec: {podSelector: {}, ingress: [{ports: [{port: 8080}]}]}}`)),
		want: []string{"Warning MW802 NetworkPolicy/istio-ingress/web: it and its like (web) keep the operator from port 15090 of Deployment/edge: the share of a gateway's " +
			"traffic can't be measured"},
	},
	{
		reason: "pods are let out to the old revision only",
		change: policies(`
metadata: {namespace: shop, name: out}
spec:
  podSelector: {matchLabels: {app: cart}}
  policyTypes: [Egress]
  egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {istio.io/rev: 1-28-3}}}]}]`),
		want: []string{"Warning MW803 NetworkPolicy/shop/out: it and its like (out) keep the proxies of Deployment/cart from port 15012 of the new istiod"},
	},
	{
		reason: "an egress rule without a type is one all the same",
		change: policies(`{metadata: {namespace: shop, name: out}, spec: {podSelector: {}, ingress: [{}], egress: [{ports: [{port: 53, protocol: UDP}]}]}}`),
		want:   []string{"Warning MW803 NetworkPolicy/shop/out: ..."},
	},
	{
		reason: "let out to any istiod",
		change: policies(`{metadata: {namespace: shop, name: out}, spec: {podSelector: {}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {}}], ports: [{port: 15012}]}]}}`),
	},
}
