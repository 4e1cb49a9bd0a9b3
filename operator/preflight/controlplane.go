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
	wants := c.Wants()
	if len(wants) == 0 || c.Unknown || slices.ContainsFunc(c.Nodes, func(n Node) bool { return fits(wants, n.Free) }) {
		return nil
	}
	var wanted, left []string
	for _, name := range slices.Sorted(maps.Keys(wants)) {
		q := wants[name]
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
