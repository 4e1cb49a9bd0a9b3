// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Ports that have to be reached. The operator asks istiod for configuration at xds, for what it signs with at ca and for metrics; proxies
// are at ca; the API server is at webhook; what a gateway has counted is at stats (operator/probe).
const (
	portXDS     = 15010
	portCA      = 15012
	portMetrics = 15014
	portWebhook = 15017
	portStats   = 15090
)

// nameLabel is on every namespace, and is its name.
const nameLabel = corev1.LabelMetadataName

// network judges NetworkPolicies. Whether anything enforces them is not known; addresses of others than pods (the API server's) are not
// compared.
func network(f *Facts) []Finding {
	if f.Charts.Failure != "" { // what can't be rendered has no labels yet, and is told as such
		return f.gatewayPolicies()
	}
	istiod := Peer{Namespace: f.Move.Namespace, Labels: f.Istiod}
	return slices.Concat(f.istiodPolicies(istiod), f.gatewayPolicies(), f.egressPolicies(istiod))
}

// istiodPolicies judges what keeps others from the new istiod.
func (f *Facts) istiodPolicies(istiod Peer) []Finding {
	ingress := f.selecting(istiod, networkingv1.PolicyTypeIngress)
	if len(ingress) == 0 {
		return nil
	}
	var closed []string
	for _, port := range []int{portXDS, portCA, portMetrics} {
		if f.Move.Operator.Namespace != "" && !f.admitted(ingress, f.Move.Operator, port) {
			closed = append(closed, fmt.Sprintf("the operator from port %d", port))
		}
	}
	for _, n := range f.Namespaces {
		if n.Member && !f.admitted(ingress, Peer{Namespace: n.Name, Labels: f.somePod(n.Name)}, portCA) {
			closed = append(closed, fmt.Sprintf("the proxies of namespace %s from port %d", n.Name, portCA))
			break
		}
	}
	if !anyone(ingress, portWebhook) {
		closed = append(closed, fmt.Sprintf("the API server from port %d", portWebhook))
	}
	if len(closed) == 0 {
		return nil
	}
	return []Finding{found(NetworkToIstiod, Object{"NetworkPolicy", istiod.Namespace, ingress[0].Name},
		fmt.Sprintf("it and its like (%s) keep %s of the new istiod", policyNames(ingress), strings.Join(closed, ", ")),
		"admit them to these ports of the pods labelled app=istiod")}
}

// gatewayPolicies judges what keeps the operator from counting the requests of gateways.
func (f *Facts) gatewayPolicies() (out []Finding) {
	said := map[string]bool{}
	for _, p := range f.Pods {
		if !p.Edge || !p.Ours || f.Move.Operator.Namespace == "" {
			continue
		}
		ingress := f.selecting(Peer{Namespace: p.Namespace, Labels: p.Labels}, networkingv1.PolicyTypeIngress)
		if len(ingress) == 0 || f.admitted(ingress, f.Move.Operator, portStats) || said[p.Namespace+"/"+ingress[0].Name] {
			continue
		}
		said[p.Namespace+"/"+ingress[0].Name] = true
		out = append(out, found(NetworkToGateway, Object{"NetworkPolicy", p.Namespace, ingress[0].Name},
			fmt.Sprintf("it and its like (%s) keep the operator from port %d of %s: the share of a gateway's traffic can't be measured", policyNames(ingress), portStats, p.Owner),
			"admit the pods of namespace "+f.Move.Operator.Namespace+" to the port"))
	}
	return out
}

// egressPolicies judges what keeps proxies from the new istiod: a policy that names the revision of the old one, for example.
func (f *Facts) egressPolicies(istiod Peer) (out []Finding) {
	said := map[string]bool{}
	for _, p := range f.Pods {
		n := f.namespace(p.Namespace)
		if !n.Member && !p.Injected {
			continue
		}
		egress := f.selecting(Peer{Namespace: p.Namespace, Labels: p.Labels}, networkingv1.PolicyTypeEgress)
		if len(egress) == 0 || said[p.Namespace+"/"+egress[0].Name] || f.lets(egress, istiod, portCA) {
			continue
		}
		said[p.Namespace+"/"+egress[0].Name] = true
		out = append(out, found(NetworkToXDS, Object{"NetworkPolicy", p.Namespace, egress[0].Name},
			fmt.Sprintf("it and its like (%s) keep the proxies of %s from port %d of the new istiod", policyNames(egress), p.Owner, portCA),
			fmt.Sprintf("let pods out to port %d of the pods labelled app=istiod in namespace %s, of any revision", portCA, istiod.Namespace)))
	}
	return out
}

func policyNames(all []*networkingv1.NetworkPolicy) string {
	var out []string
	for _, p := range all {
		out = append(out, p.Name)
	}
	return examples(out)
}

// somePod are the labels of a pod of a namespace that has a proxy, or would have one.
func (f *Facts) somePod(namespace string) map[string]string {
	for _, p := range f.Pods {
		if p.Namespace == namespace && !p.OptedOut {
			return p.Labels
		}
	}
	return nil
}

// selecting are the policies of a direction that select a pod, by name.
func (f *Facts) selecting(p Peer, direction networkingv1.PolicyType) (out []*networkingv1.NetworkPolicy) {
	for i := range f.NetworkPolicies {
		n := &f.NetworkPolicies[i]
		types := n.Spec.PolicyTypes
		if len(types) == 0 { // the API server's default
			types = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
			if len(n.Spec.Egress) > 0 {
				types = append(types, networkingv1.PolicyTypeEgress)
			}
		}
		// What Meshwright applies is rendered anew for the next version.
		if n.Namespace == p.Namespace && n.Labels[v1alpha1.LabelMesh] == "" && slices.Contains(types, direction) && matches(&n.Spec.PodSelector, p.Labels) {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b *networkingv1.NetworkPolicy) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// admitted says whether policies let a pod in at a port.
func (f *Facts) admitted(policies []*networkingv1.NetworkPolicy, from Peer, port int) bool {
	for _, p := range policies {
		for _, r := range p.Spec.Ingress {
			if open(r.Ports, port) && f.among(r.From, from, p.Namespace) {
				return true
			}
		}
	}
	return false
}

// lets says whether policies let pods out to a port of another one.
func (f *Facts) lets(policies []*networkingv1.NetworkPolicy, to Peer, port int) bool {
	for _, p := range policies {
		for _, r := range p.Spec.Egress {
			if open(r.Ports, port) && f.among(r.To, to, p.Namespace) {
				return true
			}
		}
	}
	return false
}

// anyone says whether policies let anyone in at a port, wherever from.
func anyone(policies []*networkingv1.NetworkPolicy, port int) bool {
	for _, p := range policies {
		for _, r := range p.Spec.Ingress {
			if open(r.Ports, port) {
				return true
			}
		}
	}
	return false
}

// open says whether a port is among those of a rule. What a name stands for is not known here, and is taken to be the port.
func open(ports []networkingv1.NetworkPolicyPort, port int) bool {
	if len(ports) == 0 {
		return true
	}
	return slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		switch {
		case p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP:
			return false
		case p.Port == nil || p.Port.Type == intstr.String:
			return true
		case p.EndPort != nil:
			return port >= p.Port.IntValue() && port <= int(*p.EndPort)
		}
		return p.Port.IntValue() == port
	})
}

// among says whether a pod is one of those that a rule of a policy in a namespace names. A block of addresses may hold any.
func (f *Facts) among(peers []networkingv1.NetworkPolicyPeer, p Peer, home string) bool {
	if len(peers) == 0 {
		return true
	}
	return slices.ContainsFunc(peers, func(n networkingv1.NetworkPolicyPeer) bool {
		if n.IPBlock != nil {
			return true
		}
		if n.NamespaceSelector == nil {
			return p.Namespace == home && matches(n.PodSelector, p.Labels)
		}
		labels := map[string]string{nameLabel: p.Namespace}
		maps.Copy(labels, f.namespace(p.Namespace).Labels)
		return matches(n.NamespaceSelector, labels) && matches(n.PodSelector, p.Labels)
	})
}
