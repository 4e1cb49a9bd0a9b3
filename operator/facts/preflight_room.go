// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/meshwright/meshwright/operator/preflight"
)

// requirements are what the containers of one pod of a Deployment request, and may use. One that has only a limit requests that.
func requirements(d appsv1.Deployment) (out []corev1.ResourceRequirements) {
	for i := range d.Spec.Template.Spec.Containers {
		c := d.Spec.Template.Spec.Containers[i].Resources
		said := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: c.Limits}
		maps.Copy(said.Requests, c.Limits)
		maps.Copy(said.Requests, c.Requests)
		out = append(out, said)
	}
	return out
}

// nodes are what each node that takes pods without tolerations can allocate, by name. Pods are charged for later. Where nothing is
// wanted, nothing is read.
func (r *reading) nodes(ctx context.Context) (map[string]corev1.ResourceList, error) {
	free := map[string]corev1.ResourceList{} // the same lists as in the facts
	wanted := r.out.Capacity.Wants()
	if len(wanted) == 0 {
		return free, nil
	}
	before := len(r.out.Unread)
	err := pages(ctx, r, "nodes", "", func() *corev1.NodeList { return &corev1.NodeList{} }, func(list *corev1.NodeList) {
		for i := range list.Items {
			n := &list.Items[i]
			if !schedulable(n) {
				continue
			}
			free[n.Name] = corev1.ResourceList{}
			for name := range wanted {
				free[n.Name][name] = n.Status.Allocatable[name].DeepCopy()
			}
			if places, known := n.Status.Allocatable[corev1.ResourcePods]; known {
				free[n.Name][corev1.ResourcePods] = places.DeepCopy()
			}
			r.out.Capacity.Nodes = append(r.out.Capacity.Nodes, preflight.Node{Name: n.Name, Free: free[n.Name]})
		}
	})
	r.out.Capacity.Unknown = len(r.out.Unread) > before
	return free, err
}

// charge takes from what is free on a node what a pod requests.
func charge(left corev1.ResourceList, p *corev1.Pod) {
	for name := range left {
		if name == corev1.ResourcePods {
			take(left, name, *resource.NewQuantity(1, resource.DecimalSI))
			continue
		}
		take(left, name, requested(p, name))
	}
}

func take(from corev1.ResourceList, name corev1.ResourceName, much resource.Quantity) {
	left := from[name]
	left.Sub(much)
	from[name] = left
}

func schedulable(n *corev1.Node) bool {
	return !n.Spec.Unschedulable && n.DeletionTimestamp == nil && !slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	})
}

// requested is what a pod that runs requests of a resource: that of its containers and of the init containers that stay, which
// Istio's proxies are among. Init containers that end are not counted.
func requested(p *corev1.Pod, name corev1.ResourceName) resource.Quantity {
	sum := p.Spec.Overhead[name].DeepCopy()
	if p.Spec.Resources != nil {
		if whole, set := p.Spec.Resources.Requests[name]; set { // of the pod as a whole, whatever its containers say
			sum.Add(whole)
			return sum
		}
	}
	for i := range p.Spec.Containers {
		sum.Add(p.Spec.Containers[i].Resources.Requests[name])
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sum.Add(c.Resources.Requests[name])
		}
	}
	return sum
}

// bounds are what bounds the pods of istiod and of gateways in their namespaces.
func (r *reading) bounds(ctx context.Context) error {
	namespaces := map[string]bool{r.out.Move.Namespace: true}
	for _, g := range r.out.Gateways {
		if g.Pods > 0 {
			namespaces[g.Namespace] = true
		}
	}
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		err := pages(ctx, r, "resourcequotas", namespace, func() *corev1.ResourceQuotaList { return &corev1.ResourceQuotaList{} },
			func(list *corev1.ResourceQuotaList) { r.out.Quotas = append(r.out.Quotas, list.Items...) })
		if err != nil {
			return err
		}
		err = pages(ctx, r, "limitranges", namespace, func() *corev1.LimitRangeList { return &corev1.LimitRangeList{} },
			func(list *corev1.LimitRangeList) { r.out.LimitRanges = append(r.out.LimitRanges, list.Items...) })
		if err != nil {
			return err
		}
	}
	return pages(ctx, r, "horizontalpodautoscalers.autoscaling", r.out.Move.Namespace,
		func() *autoscalingv2.HorizontalPodAutoscalerList { return &autoscalingv2.HorizontalPodAutoscalerList{} },
		func(list *autoscalingv2.HorizontalPodAutoscalerList) {
			for _, h := range list.Items {
				if h.Spec.ScaleTargetRef.Kind == "Deployment" && strings.HasPrefix(h.Spec.ScaleTargetRef.Name, "istiod") {
					r.out.Autoscalers = append(r.out.Autoscalers, h)
				}
			}
		})
}

// network are the NetworkPolicies of the namespaces that matter.
func (r *reading) network(ctx context.Context) error {
	return pages(ctx, r, "networkpolicies.networking.k8s.io", "", func() *networkingv1.NetworkPolicyList { return &networkingv1.NetworkPolicyList{} },
		func(list *networkingv1.NetworkPolicyList) {
			for _, p := range list.Items {
				if r.relevant[p.Namespace] {
					r.out.NetworkPolicies = append(r.out.NetworkPolicies, p)
				}
			}
		})
}

// created is what installing Istio takes, by resource; true for what is in the namespace of the control plane.
//
// Source: Istio, istioctl/pkg/precheck.
var created = map[string]struct {
	group      string
	namespaced bool
}{
	"namespaces":                      {"", false},
	"clusterroles":                    {"rbac.authorization.k8s.io", false},
	"clusterrolebindings":             {"rbac.authorization.k8s.io", false},
	"customresourcedefinitions":       {"apiextensions.k8s.io", false},
	"roles":                           {"rbac.authorization.k8s.io", true},
	"rolebindings":                    {"rbac.authorization.k8s.io", true},
	"serviceaccounts":                 {"", true},
	"services":                        {"", true},
	"deployments":                     {"apps", true},
	"configmaps":                      {"", true},
	"mutatingwebhookconfigurations":   {"admissionregistration.k8s.io", false},
	"validatingwebhookconfigurations": {"admissionregistration.k8s.io", false},
}

// operatorAccount is the service account of the operator.
const operatorAccount = "meshwright"

// permissions asks what the operator may not create. Where no operator is, nobody is asked about: who will install it is not known.
func (r *reading) permissions(ctx context.Context) error {
	if r.inquiry.Reviewer == nil || r.out.Move.Operator.Namespace == "" {
		return nil
	}
	who := fmt.Sprintf("system:serviceaccount:%s:%s", r.out.Move.Operator.Namespace, operatorAccount)
	for _, name := range slices.Sorted(maps.Keys(created)) {
		about := &authorizationv1.ResourceAttributes{Verb: "create", Group: created[name].group, Resource: name}
		if created[name].namespaced {
			about.Namespace = r.out.Move.Namespace
		}
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: who, Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + r.out.Move.Operator.Namespace, "system:authenticated"},
			ResourceAttributes: about,
		}}
		err := r.inquiry.Reviewer.Create(ctx, review)
		if apierrors.IsForbidden(err) {
			return r.unless(err, "subjectaccessreviews.authorization.k8s.io", "create", "")
		}
		if err != nil {
			return err
		}
		if !review.Status.Allowed {
			r.out.Permissions = append(r.out.Permissions, preflight.Permission{Who: "the operator", Resource: name, Namespace: about.Namespace})
		}
	}
	return nil
}
