// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/meshwright/meshwright/operator/version"
)

// istiod is the Deployment of the new control plane. One of the revision default has no suffix.
func (m Move) istiod() Object {
	name := "istiod"
	if m.Revision != "" && m.Revision != version.DefaultRevisionName {
		name += "-" + m.Revision
	}
	return Object{"Deployment", m.Namespace, name}
}

// room judges whether one more istiod has room. It never holds a rollout back: a cluster may grow when it has to.
func room(f *Facts) []Finding {
	c := f.Capacity
	if len(c.Wants) == 0 || c.Unknown || slices.ContainsFunc(c.Nodes, func(n Node) bool { return fits(c.Wants, n.Free) }) {
		return nil
	}
	var wanted, left []string
	for _, name := range slices.Sorted(maps.Keys(c.Wants)) {
		q := c.Wants[name]
		wanted = append(wanted, fmt.Sprintf("%s %s", name, q.String()))
		if free := mostFree(c.Nodes, name); free != nil {
			left = append(left, fmt.Sprintf("%s %s", name, free.String()))
		}
	}
	reason := fmt.Sprintf("istiod %s requests %s, and none of %d schedulable nodes without taints has room for it",
		f.Move.To, strings.Join(wanted, ", "), len(c.Nodes))
	if len(left) > 0 {
		reason += " (the most that is free on one: " + strings.Join(left, ", ") + ")"
	}
	return []Finding{found(NoRoom, f.Move.istiod(), reason, "make room, unless the cluster grows by itself")}
}

func fits(wants, free corev1.ResourceList) bool {
	for name, q := range wants {
		if have := free[name]; have.Cmp(q) < 0 {
			return false
		}
	}
	places, known := free[corev1.ResourcePods]
	return !known || places.Sign() > 0
}

// mostFree is the most of a resource that is free on one node, nil without nodes.
func mostFree(nodes []Node, name corev1.ResourceName) (out *resource.Quantity) {
	for _, n := range nodes {
		if free := n.Free[name]; out == nil || free.Cmp(*out) > 0 {
			out = &free
		}
	}
	return out
}

// quotas judges whether the namespace of control planes takes one more pod of istiod. Quotas and ranges don't grow by themselves.
func quotas(f *Facts) (out []Finding) {
	for i := range f.Quotas {
		q := &f.Quotas[i]
		if len(q.Spec.Scopes) > 0 || q.Spec.ScopeSelector != nil {
			continue // for pods of a kind; which kind istiod will be of, its class of quality for one, is not judged
		}
		if short := f.Capacity.over(q); len(short) > 0 {
			out = append(out, found(Quota, Object{"ResourceQuota", q.Namespace, q.Name},
				fmt.Sprintf("one pod of istiod %s more is too much for it: %s", f.Move.To, strings.Join(short, "; ")), "raise the quota"))
		}
	}
	for i := range f.LimitRanges {
		l := &f.LimitRanges[i]
		if wrong := f.Capacity.outside(l); len(wrong) > 0 {
			out = append(out, found(Limits, Object{"LimitRange", l.Namespace, l.Name},
				fmt.Sprintf("pods of istiod %s would be refused: %s", f.Move.To, strings.Join(wrong, "; ")), "widen the range, or change what istiod requests"))
		}
	}
	return out
}

// over says of what a quota leaves too little for one more pod.
func (c Capacity) over(q *corev1.ResourceQuota) (out []string) {
	one := *resource.NewQuantity(1, resource.DecimalSI)
	wants := map[corev1.ResourceName]resource.Quantity{corev1.ResourcePods: one, "count/pods": one}
	for name, much := range c.Wants {
		wants[name], wants["requests."+name] = much, much
	}
	for name, much := range c.Limits {
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

// outside says what of a pod's requests a range does not allow.
func (c Capacity) outside(l *corev1.LimitRange) (out []string) {
	for _, item := range l.Spec.Limits {
		if item.Type != corev1.LimitTypeContainer && item.Type != corev1.LimitTypePod {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(c.Wants)) {
			want := c.Wants[name]
			if least, bounded := item.Min[name]; bounded && want.Cmp(least) < 0 {
				out = append(out, fmt.Sprintf("%s: %s is requested, %s is the least", name, want.String(), least.String()))
			}
			if most, bounded := item.Max[name]; bounded && want.Cmp(most) > 0 {
				out = append(out, fmt.Sprintf("%s: %s is requested, %s is the most", name, want.String(), most.String()))
			}
		}
	}
	return out
}

// autoscalers judges those of istiod. While pods are moved, istiod has more to do than in peace.
func autoscalers(f *Facts) (out []Finding) {
	for i := range f.Autoscalers {
		h := &f.Autoscalers[i]
		limited := slices.ContainsFunc(h.Status.Conditions, func(c autoscalingv2.HorizontalPodAutoscalerCondition) bool {
			return c.Type == autoscalingv2.ScalingLimited && c.Status == corev1.ConditionTrue && c.Reason == "TooManyReplicas"
		})
		if !limited {
			continue
		}
		out = append(out, found(AutoscalerAtLimit, Object{"HorizontalPodAutoscaler", h.Namespace, h.Name},
			fmt.Sprintf("%s wants more than its %d replicas already", h.Spec.ScaleTargetRef.Name, h.Spec.MaxReplicas),
			"raise the value autoscaleMax: proxies that move ask for all of their configuration at once"))
	}
	return out
}
