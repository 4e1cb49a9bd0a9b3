// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// hook is what validating and mutating webhooks have in common.
type hook struct {
	name               string
	fails, conditional bool
	service            *admissionv1.ServiceReference
	namespaces, object *metav1.LabelSelector
	rules              []admissionv1.RuleWithOperations
}

// write is one that a rollout makes.
type write struct {
	group, resource string
	operations      []admissionv1.OperationType
	// where it is made. What the operator itself writes in the namespace of a gateway depends on the gateway: see [Gateway].
	cluster, controlPlane, members, gateways bool
	// owner is the kind of workload without which nobody makes it; empty for none.
	owner string
}

// writes are those that a rollout can't do without: of the operator, of istiod, and of those who make pods anew. The API server never
// asks a webhook about webhooks.
var writes = []write{
	{resource: "pods", operations: []admissionv1.OperationType{admissionv1.Create}, controlPlane: true, members: true, gateways: true},
	{resource: "pods/eviction", operations: []admissionv1.OperationType{admissionv1.Create}, members: true},
	{group: "apps", resource: "deployments", operations: createUpdate, controlPlane: true, members: true},
	{group: "apps", resource: "replicasets", operations: createUpdate, controlPlane: true, members: true, gateways: true},
	{group: "apps", resource: "statefulsets", operations: update, members: true, owner: "StatefulSet"},
	{group: "apps", resource: "daemonsets", operations: update, members: true, owner: "DaemonSet"},
	{group: "argoproj.io", resource: "rollouts", operations: update, members: true, owner: "Rollout"},
	{resource: "namespaces", operations: update, members: true},
	{resource: "services", operations: createUpdate, controlPlane: true},
	{resource: "serviceaccounts", operations: createUpdate, controlPlane: true},
	{resource: "configmaps", operations: createUpdate, controlPlane: true, members: true, gateways: true},
	{group: "policy", resource: "poddisruptionbudgets", operations: createUpdate, controlPlane: true},
	{group: "autoscaling", resource: "horizontalpodautoscalers", operations: createUpdate, controlPlane: true},
	{group: "rbac.authorization.k8s.io", resource: "roles", operations: createUpdate, controlPlane: true},
	{group: "rbac.authorization.k8s.io", resource: "rolebindings", operations: createUpdate, controlPlane: true},
	{group: "rbac.authorization.k8s.io", resource: "clusterroles", operations: createUpdate, cluster: true},
	{group: "rbac.authorization.k8s.io", resource: "clusterrolebindings", operations: createUpdate, cluster: true},
	{group: "apiextensions.k8s.io", resource: "customresourcedefinitions", operations: createUpdate, cluster: true},
	{group: "networking.k8s.io", resource: "networkpolicies", operations: createUpdate},
	{group: "networking.istio.io", resource: "envoyfilters", operations: createUpdate},
	{group: "gateway.networking.k8s.io", resource: "httproutes", operations: createUpdate},
}

var (
	update       = []admissionv1.OperationType{admissionv1.Update}
	createUpdate = []admissionv1.OperationType{admissionv1.Create, admissionv1.Update}
)

// unavailableWebhooks judges webhooks that refuse what they are not asked about, and whose Service has nobody to answer.
func unavailableWebhooks(f *Facts) (out []Finding) {
	for i := range f.Mutating {
		c := &f.Mutating[i]
		for _, h := range c.Webhooks {
			if strings.HasSuffix(h.Name, istioSuffix) {
				continue // injectors are judged as such
			}
			out = append(out, f.unavailable(Object{Kind: "MutatingWebhookConfiguration", Name: c.Name}, hookOf(h.Name, h.FailurePolicy, h.MatchConditions,
				h.ClientConfig, h.NamespaceSelector, h.ObjectSelector, h.Rules))...)
		}
	}
	for i := range f.Validating {
		c := &f.Validating[i]
		if c.Labels[v1alpha1.LabelMesh] != "" {
			continue // istiod's own: that it serves is proven before anything begins
		}
		for _, h := range c.Webhooks {
			out = append(out, f.unavailable(Object{Kind: "ValidatingWebhookConfiguration", Name: c.Name}, hookOf(h.Name, h.FailurePolicy, h.MatchConditions,
				h.ClientConfig, h.NamespaceSelector, h.ObjectSelector, h.Rules))...)
		}
	}
	return out
}

func hookOf(
	name string, policy *admissionv1.FailurePolicyType, conditions []admissionv1.MatchCondition, to admissionv1.WebhookClientConfig,
	namespaces, object *metav1.LabelSelector, rules []admissionv1.RuleWithOperations,
) hook {
	return hook{
		name: name, fails: policy == nil || *policy == admissionv1.Fail, conditional: len(conditions) > 0,
		service: to.Service, namespaces: namespaces, object: object, rules: rules,
	}
}

func (f *Facts) unavailable(object Object, h hook) []Finding {
	if !h.fails || h.service == nil {
		return nil
	}
	service := types.NamespacedName{Namespace: h.service.Namespace, Name: h.service.Name}
	backend, asked := f.Backends[service]
	if !asked || backend.Ready {
		return nil
	}
	for _, w := range writes {
		where := f.intercepts(h, w)
		if where == "" {
			continue
		}
		state := "has no ready endpoint"
		if !backend.Exists {
			state = "does not exist"
		}
		v := found(WebhookUnavailable, object, fmt.Sprintf("webhook %s fails closed, its Service %s %s, and it is asked about %s %s",
			h.name, service, state, w.resource, where), "bring its server up, or remove the webhook")
		if h.conditional { // what its matchConditions leave out is not known here
			v = v.as(SeverityWarning)
		}
		return []Finding{v}
	}
	return nil
}

// intercepts says where a webhook is asked about a write; empty for nowhere.
func (f *Facts) intercepts(h hook, w write) string {
	if !slices.ContainsFunc(h.rules, func(r admissionv1.RuleWithOperations) bool { return covers(r, w) }) {
		return ""
	}
	if w.cluster {
		if emptySelector(h.object) { // a namespaceSelector leaves out nothing that has no namespace
			return "of the cluster"
		}
		return ""
	}
	for _, n := range f.Namespaces {
		control := w.controlPlane && n.Name == f.Move.Namespace
		member := w.members && n.Member && (w.owner == "" || f.owns(n.Name, w.owner))
		gateway := slices.ContainsFunc(f.Gateways, func(g Gateway) bool { return g.Namespace == n.Name && g.writes(w) })
		if !control && !member && !gateway || !matches(h.namespaces, n.Labels) {
			continue
		}
		if emptySelector(h.object) || w.resource == "pods" && f.selectsPod(h.object, n.Name, control) {
			return "in namespace " + n.Name
		}
	}
	return ""
}

// writes says whether the move of a gateway makes a write in its namespace.
func (g Gateway) writes(w write) bool {
	return w.gateways || slices.Contains(g.Writes, schema.GroupResource{Group: w.group, Resource: w.resource})
}

// owns says whether a pod of a namespace would be made anew by a workload of a kind.
func (f *Facts) owns(namespace, kind string) bool {
	return slices.ContainsFunc(f.Pods, func(p Pod) bool { return p.Namespace == namespace && strings.HasPrefix(p.Owner, kind+"/") })
}

// selectsPod says whether a selector matches a pod that there is, or one of the new istiod, or of the next version of a gateway.
func (f *Facts) selectsPod(s *metav1.LabelSelector, namespace string, control bool) bool {
	if control && f.Charts.Failure == "" && matches(s, f.Istiod) {
		return true
	}
	if slices.ContainsFunc(f.Gateways, func(g Gateway) bool { return g.Namespace == namespace && matches(s, g.Labels) }) {
		return true
	}
	return slices.ContainsFunc(f.Pods, func(p Pod) bool { return p.Namespace == namespace && matches(s, p.Labels) })
}

func covers(r admissionv1.RuleWithOperations, w write) bool {
	in := func(all []string, one string) bool { return slices.Contains(all, "*") || slices.Contains(all, one) }
	resource, sub, _ := strings.Cut(w.resource, "/")
	named := slices.ContainsFunc(r.Resources, func(s string) bool {
		base, ofSub, _ := strings.Cut(s, "/")
		return (base == "*" || base == resource) && (ofSub == sub || ofSub == "*")
	})
	if !named || !in(r.APIGroups, w.group) {
		return false
	}
	if r.Scope != nil && (*r.Scope == admissionv1.NamespacedScope && (w.cluster || w.resource == "namespaces") ||
		*r.Scope == admissionv1.ClusterScope && !w.cluster && w.resource != "namespaces") {
		return false
	}
	return slices.ContainsFunc(r.Operations, func(o admissionv1.OperationType) bool {
		return o == admissionv1.OperationAll || slices.Contains(w.operations, o)
	})
}

func emptySelector(s *metav1.LabelSelector) bool {
	return s == nil || len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0
}

// matches says whether a selector of a webhook or of a NetworkPolicy matches labels. None matches all.
func matches(s *metav1.LabelSelector, of map[string]string) bool {
	if s == nil {
		return true
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(of))
}
