// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/validate"
)

// The kinds that change what istiod writes for proxies.
var (
	envoyFilter = schema.GroupVersionKind{Group: "networking.istio.io", Version: "v1alpha3", Kind: "EnvoyFilter"}
	wasmPlugin  = schema.GroupVersionKind{Group: "extensions.istio.io", Version: "v1alpha1", Kind: "WasmPlugin"}
)

// Preflight gathers what has to be known before a rollout is granted. It asks the API server itself, page by page: this is once a
// rollout, and no reason to cache every pod in full. Budgets are those of namespaces that are true. Wants is what one pod of the
// canary's istiod requests; when it is empty, nodes and pods are not read, and the capacity is not known. An error names the right
// that is missing, if that is why.
func (*Gatherer) Preflight(
	ctx context.Context, live client.Reader, namespaces map[string]bool, wants corev1.ResourceList,
) (out validate.Preflight, err error) {
	if out.EnvoyFilters, err = extensions(ctx, live, envoyFilter, "envoyfilters.networking.istio.io"); err != nil {
		return validate.Preflight{}, err
	}
	if out.WasmPlugins, err = extensions(ctx, live, wasmPlugin, "wasmplugins.extensions.istio.io"); err != nil {
		return validate.Preflight{}, err
	}
	if out.Budgets, err = budgets(ctx, live, namespaces); err != nil {
		return validate.Preflight{}, err
	}
	if len(wants) == 0 {
		return out, nil
	}
	out.Capacity.Wants = wants
	if out.Capacity.Nodes, err = room(ctx, live, wants); err != nil {
		return validate.Preflight{}, err
	}
	return out, nil
}

// pageSize is how many objects the API server is asked for at a time.
const pageSize = 500

// pages lists all objects of a kind of the cluster. Each page is a list of its own: decoding into the last one could leave traces
// of it. Resources are named as a right names them.
func pages[L client.ObjectList](ctx context.Context, live client.Reader, resources string, fresh func() L, each func(L)) error {
	for token := ""; ; {
		list := fresh()
		err := live.List(ctx, list, client.Limit(pageSize), client.Continue(token))
		if apierrors.IsForbidden(err) {
			return fmt.Errorf("the checks before a rollout need the right to list %s of the whole cluster: %w", resources, err)
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", resources, err)
		}
		each(list)
		if token = list.GetContinue(); token == "" {
			return nil
		}
	}
}

// extensions are all objects of a kind of Istio's; none when the cluster has no such kind.
func extensions(
	ctx context.Context, live client.Reader, kind schema.GroupVersionKind, resources string,
) (out []validate.Extension, err error) {
	err = pages(ctx, live, resources, func() *unstructured.UnstructuredList {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		return list
	}, func(list *unstructured.UnstructuredList) {
		for i := range list.Items {
			item := &list.Items[i]
			if item.GetLabels()[v1alpha1.LabelMesh] != "" {
				continue // ours, and made for every version
			}
			spec, _, _ := unstructured.NestedFieldNoCopy(item.Object, "spec")
			written, _ := spec.(map[string]any)
			out = append(out, validate.Extension{
				Namespace: item.GetNamespace(), Name: item.GetName(), Annotations: item.GetAnnotations(), Spec: written,
			})
		}
	})
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil, nil
	}
	return out, err
}

// budgets of some namespaces. They are listed once for all: a request for each of many namespaces would be more.
func budgets(ctx context.Context, live client.Reader, namespaces map[string]bool) (out []validate.Budget, err error) {
	err = pages(ctx, live, "poddisruptionbudgets.policy", func() *policyv1.PodDisruptionBudgetList {
		return &policyv1.PodDisruptionBudgetList{}
	}, func(list *policyv1.PodDisruptionBudgetList) {
		for _, b := range list.Items {
			if namespaces[b.Namespace] {
				out = append(out, validate.Budget{
					Namespace: b.Namespace, Name: b.Name,
					DisruptionsAllowed: b.Status.DisruptionsAllowed, ExpectedPods: b.Status.ExpectedPods,
				})
			}
		}
	})
	return out, err
}

// room is what is free on each node that takes pods without tolerations.
func room(ctx context.Context, live client.Reader, wants corev1.ResourceList) ([]validate.Node, error) {
	var nodes []validate.Node
	free := map[string]corev1.ResourceList{} // of nodes by name; the same lists as in nodes
	err := pages(ctx, live, "nodes", func() *corev1.NodeList { return &corev1.NodeList{} }, func(list *corev1.NodeList) {
		for i := range list.Items {
			n := &list.Items[i]
			if !schedulable(n) {
				continue
			}
			free[n.Name] = corev1.ResourceList{}
			for name := range wants {
				free[n.Name][name] = n.Status.Allocatable[name].DeepCopy()
			}
			if places, known := n.Status.Allocatable[corev1.ResourcePods]; known {
				free[n.Name][corev1.ResourcePods] = places.DeepCopy()
			}
			nodes = append(nodes, validate.Node{Name: n.Name, Free: free[n.Name]})
		}
	})
	if err != nil {
		return nil, err
	}
	one := *resource.NewQuantity(1, resource.DecimalSI)
	err = pages(ctx, live, "pods", func() *corev1.PodList { return &corev1.PodList{} }, func(list *corev1.PodList) {
		for i := range list.Items {
			p := &list.Items[i]
			left := free[p.Spec.NodeName]
			if left == nil || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
				continue
			}
			for name := range wants {
				take(left, name, requested(p, name))
			}
			if _, known := left[corev1.ResourcePods]; known {
				take(left, corev1.ResourcePods, one)
			}
		}
	})
	return nodes, err
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
