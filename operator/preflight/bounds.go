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

// demand is what a move takes of a namespace, beside what there is.
type demand struct {
	// whose the pods are, and where their resources are written.
	whose, values string
	namespace     string
	pod           Capacity
	pods          int32
}

// demands are those of the next istiod, of which one pod more is certain, and of the gateways.
func (f *Facts) demands() []demand {
	out := []demand{{whose: "istiod " + f.Move.To.String(), values: "spec.controlPlane.values", namespace: f.Move.Namespace, pod: f.Capacity, pods: 1}}
	for _, g := range f.Gateways {
		if g.Pods > 0 {
			out = append(out, demand{
				whose: "gateway " + g.Name, values: "the values of the gateway", namespace: g.Namespace, pod: Capacity{Containers: g.Containers}, pods: g.Pods,
			})
		}
	}
	for i := range out {
		var ranges []corev1.LimitRange
		for _, l := range f.LimitRanges {
			if l.Namespace == out[i].namespace {
				ranges = append(ranges, l)
			}
		}
		out[i].pod = out[i].pod.defaulted(ranges)
	}
	return out
}

func (d demand) String() string {
	if d.pods == 1 {
		return "one pod of " + d.whose
	}
	return fmt.Sprintf("%d pods of %s", d.pods, d.whose)
}

// bounds judges whether the namespaces of control planes and gateways take the pods that the move adds. Quotas and ranges don't grow by
// themselves.
func bounds(f *Facts) (out []Finding) {
	all := f.demands()
	in := func(namespace string) []demand {
		return slices.DeleteFunc(slices.Clone(all), func(d demand) bool { return d.namespace != namespace })
	}
	for i := range f.Quotas {
		q := &f.Quotas[i]
		if len(q.Spec.Scopes) > 0 || q.Spec.ScopeSelector != nil {
			continue // for pods of a kind; which kind these will be of, its class of quality for one, is not judged
		}
		object := Object{"ResourceQuota", q.Namespace, q.Name}
		here := in(q.Namespace)
		if short := over(q, here); len(short) > 0 {
			out = append(out, found(Quota, object, together(here)+" too much for it: "+strings.Join(short, "; "), "raise the quota"))
		}
		for _, d := range here {
			if silent := d.pod.unsaid(q); len(silent) > 0 {
				out = append(out, found(Quota, object,
					fmt.Sprintf("it bounds %s, and so refuses pods of %s, of which a container does not say its own", strings.Join(silent, ", "), d.whose),
					"set resources in "+d.values+", or a default in a LimitRange of the namespace"))
			}
		}
	}
	for i := range f.LimitRanges {
		l := &f.LimitRanges[i]
		for _, d := range in(l.Namespace) {
			if wrong := d.pod.outside(l); len(wrong) > 0 {
				out = append(out, found(Limits, Object{"LimitRange", l.Namespace, l.Name},
					fmt.Sprintf("pods of %s would be refused: %s", d.whose, strings.Join(wrong, "; ")), "widen the range, or change resources in "+d.values))
			}
		}
	}
	return out
}

// together names all that is demanded.
func together(all []demand) string {
	var names []string
	for _, d := range all {
		names = append(names, d.String())
	}
	verb := "are"
	if len(all) == 1 && all[0].pods == 1 {
		verb = "is"
	}
	return strings.Join(names, " and ") + " more " + verb
}

// over says of what a quota leaves too little for what is demanded.
func over(q *corev1.ResourceQuota, all []demand) (out []string) {
	wants := corev1.ResourceList{}
	add := func(name corev1.ResourceName, much resource.Quantity, times int32) {
		sum := wants[name]
		for range times {
			sum.Add(much)
		}
		wants[name] = sum
	}
	one := *resource.NewQuantity(1, resource.DecimalSI)
	for _, d := range all {
		add(corev1.ResourcePods, one, d.pods)
		add("count/pods", one, d.pods)
		for name, much := range d.pod.Wants() {
			add(name, much, d.pods)
			add("requests."+name, much, d.pods)
		}
		for name, much := range d.pod.limits() {
			add("limits."+name, much, d.pods)
		}
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
