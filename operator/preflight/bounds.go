// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Wants is what the pod requests.
func (c Capacity) Wants() corev1.ResourceList {
	return c.sum(func(r corev1.ResourceRequirements) corev1.ResourceList { return r.Requests })
}

func (c Capacity) limits() corev1.ResourceList {
	return c.sum(func(r corev1.ResourceRequirements) corev1.ResourceList { return r.Limits })
}

func (c Capacity) sum(of func(corev1.ResourceRequirements) corev1.ResourceList) corev1.ResourceList {
	out := corev1.ResourceList{}
	for _, r := range c.Containers {
		for name, much := range of(r) {
			sum := out[name]
			sum.Add(much)
			out[name] = sum
		}
	}
	return out
}

// defaulted is the pod as the ranges of its namespace fill in what it does not say. The API server has their own defaults written into
// them already.
//
// Source: Kubernetes, plugin/pkg/admission/limitranger, mergeContainerResources.
func (c Capacity) defaulted(ranges []corev1.LimitRange) Capacity {
	out := Capacity{}
	for _, r := range c.Containers {
		filled := corev1.ResourceRequirements{Requests: maps.Clone(r.Requests), Limits: maps.Clone(r.Limits)}
		for i := range ranges {
			for _, item := range ranges[i].Spec.Limits {
				if item.Type == corev1.LimitTypeContainer {
					filled.Requests, filled.Limits = fill(filled.Requests, item.DefaultRequest), fill(filled.Limits, item.Default)
				}
			}
		}
		out.Containers = append(out.Containers, filled)
	}
	return out
}

func fill(list, defaults corev1.ResourceList) corev1.ResourceList {
	for name, much := range defaults {
		if list == nil {
			list = corev1.ResourceList{}
		}
		if _, said := list[name]; !said {
			list[name] = much
		}
	}
	return list
}

// bounds judges whether the namespace of control planes takes one more pod of istiod. Quotas and ranges don't grow by themselves.
func bounds(f *Facts) (out []Finding) {
	pod := f.Capacity.defaulted(f.LimitRanges)
	for i := range f.Quotas {
		q := &f.Quotas[i]
		if len(q.Spec.Scopes) > 0 || q.Spec.ScopeSelector != nil {
			continue // for pods of a kind; which kind istiod will be of, its class of quality for one, is not judged
		}
		object := Object{"ResourceQuota", q.Namespace, q.Name}
		if short := pod.over(q); len(short) > 0 {
			out = append(out, found(Quota, object, fmt.Sprintf("one pod of istiod %s more is too much for it: %s", f.Move.To, strings.Join(short, "; ")), "raise the quota"))
		}
		if silent := pod.unsaid(q); len(silent) > 0 {
			out = append(out, found(Quota, object,
				fmt.Sprintf("it bounds %s, and so refuses pods of istiod %s, of which a container does not say its own", strings.Join(silent, ", "), f.Move.To),
				"set resources in spec.controlPlane.values, or a default in a LimitRange of the namespace"))
		}
	}
	for i := range f.LimitRanges {
		l := &f.LimitRanges[i]
		if wrong := pod.outside(l); len(wrong) > 0 {
			out = append(out, found(Limits, Object{"LimitRange", l.Namespace, l.Name},
				fmt.Sprintf("pods of istiod %s would be refused: %s", f.Move.To, strings.Join(wrong, "; ")), "widen the range, or change resources in spec.controlPlane.values"))
		}
	}
	return out
}

// over says of what a quota leaves too little for one more pod.
func (c Capacity) over(q *corev1.ResourceQuota) (out []string) {
	one := *resource.NewQuantity(1, resource.DecimalSI)
	wants := map[corev1.ResourceName]resource.Quantity{corev1.ResourcePods: one, "count/pods": one}
	for name, much := range c.Wants() {
		wants[name], wants["requests."+name] = much, much
	}
	for name, much := range c.limits() {
		wants["limits."+name] = much
	}
	for _, name := range slices.Sorted(maps.Keys(wants)) {
		hard, bounded := q.Status.Hard[name]
		if !bounded {
			continue
		}
		left := hard.DeepCopy()
		left.Sub(q.Status.Used[name])
		if want := wants[name]; left.Cmp(want) < 0 {
			out = append(out, fmt.Sprintf("%s: %s is wanted, %s is left", name, want.String(), left.String()))
		}
	}
	return out
}

// unsaid are the resources that each container has to say how much it takes of, where a quota bounds them, and that one does not.
//
// Source: Kubernetes, pkg/quota/v1/evaluator/core/pods.go, validationSet and enforcePodContainerConstraints.
func (c Capacity) unsaid(q *corev1.ResourceQuota) (out []string) {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		for _, key := range []corev1.ResourceName{name, "requests." + name, "limits." + name} {
			if _, bounded := q.Status.Hard[key]; !bounded {
				continue
			}
			if slices.ContainsFunc(c.Containers, func(r corev1.ResourceRequirements) bool {
				list := r.Requests
				if key == "limits."+name {
					list = r.Limits
				}
				_, said := list[name]
				return !said
			}) {
				out = append(out, string(key))
			}
		}
	}
	return out
}

// outside says what of a pod, or of its containers, a range does not allow.
//
// Source: Kubernetes, plugin/pkg/admission/limitranger: what has a least has to be requested, and what has a most has to be limited.
func (c Capacity) outside(l *corev1.LimitRange) (out []string) {
	for _, item := range l.Spec.Limits {
		var each []corev1.ResourceRequirements
		switch item.Type {
		case corev1.LimitTypeContainer:
			each = c.Containers
		case corev1.LimitTypePod:
			if len(c.Containers) > 0 {
				each = []corev1.ResourceRequirements{{Requests: c.Wants(), Limits: c.limits()}}
			}
		default:
			continue
		}
		for _, r := range each {
			out = append(out, below(r, item)...)
			out = append(out, above(r, item)...)
		}
	}
	return out
}

func below(r corev1.ResourceRequirements, item corev1.LimitRangeItem) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(item.Min)) {
		least := item.Min[name]
		request, requested := r.Requests[name]
		switch limit, limited := r.Limits[name]; {
		case !requested:
			out = append(out, fmt.Sprintf("%s: none is requested, %s is the least", name, least.String()))
		case request.Cmp(least) < 0:
			out = append(out, fmt.Sprintf("%s: %s is requested, %s is the least", name, request.String(), least.String()))
		case limited && limit.Cmp(least) < 0:
			out = append(out, fmt.Sprintf("%s: the limit is %s, %s is the least", name, limit.String(), least.String()))
		}
	}
	return out
}

func above(r corev1.ResourceRequirements, item corev1.LimitRangeItem) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(item.Max)) {
		most := item.Max[name]
		limit, limited := r.Limits[name]
		switch request, requested := r.Requests[name]; {
		case requested && request.Cmp(most) > 0:
			out = append(out, fmt.Sprintf("%s: %s is requested, %s is the most", name, request.String(), most.String()))
		case !limited:
			out = append(out, fmt.Sprintf("%s: there is no limit, %s is the most", name, most.String()))
		case limit.Cmp(most) > 0:
			out = append(out, fmt.Sprintf("%s: the limit is %s, %s is the most", name, limit.String(), most.String()))
		}
	}
	// A default that is less than what is requested makes a pod that no API server takes.
	for _, name := range slices.Sorted(maps.Keys(item.Default)) {
		if request, limit := r.Requests[name], r.Limits[name]; limit.Cmp(item.Default[name]) == 0 && request.Cmp(limit) > 0 {
			out = append(out, fmt.Sprintf("%s: %s is requested, %s is the limit by default", name, request.String(), limit.String()))
		}
	}
	return out
}
