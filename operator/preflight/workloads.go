// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// budgets judges PodDisruptionBudgets of pods that the rollout moves. Only the eviction API asks them; controllers that replace their
// pods don't.
func budgets(f *Facts) (out []Finding) {
	for _, b := range f.Budgets {
		if b.DisruptionsAllowed > 0 || b.ExpectedPods <= 0 || !slices.ContainsFunc(f.Pods, func(p Pod) bool { return f.moves(p) && b.selects(p) }) {
			continue
		}
		v := found(DisruptionBudget, Object{"PodDisruptionBudget", b.Namespace, b.Name}, "it allows no eviction now",
			"let it allow one (more replicas, or a larger maxUnavailable)")
		switch f.Move.Restart {
		case v1alpha1.RestartEvict:
			v.Remedy += ", or set spec.dataPlane.restart.type to Rollout"
		case v1alpha1.RestartManual:
			v = v.as(SeverityInfo)
			v.Why += "; restarts are left to you, and will be refused when they evict"
		case v1alpha1.RestartRollout:
			fallthrough
		default:
			v = v.as(SeverityInfo)
			v.Why += "; workloads are rolled out, which asks no budget"
		}
		out = append(out, v)
	}
	return out
}

// selects says whether a budget is one of a pod.
func (b Budget) selects(p Pod) bool {
	return b.Namespace == p.Namespace && b.Selector != nil && matches(b.Selector, p.Labels)
}

// moves says whether a rollout would make a pod anew as one of the mesh. The mesh's gateways move otherwise.
func (f *Facts) moves(p Pod) bool {
	return f.namespace(p.Namespace).Member && !p.OptedOut && p.Labels[v1alpha1.LabelGateway] == ""
}

// unmovable are the workloads that the rollout will not be able to move.
func unmovable(f *Facts) (out []Finding) {
	for _, w := range f.Unmovable {
		out = append(out, found(Unmovable, objectOf(w.Workload), w.Reason+": "+w.Message, "restart it yourself, or let it go with its old proxy"))
	}
	return out
}

// objectOf reads kind/namespace/name.
func objectOf(text string) Object {
	parts := strings.SplitN(text, "/", 3)
	if len(parts) < 3 {
		return Object{Kind: parts[0], Name: parts[len(parts)-1]}
	}
	return Object{parts[0], parts[1], parts[2]}
}

// enforced is the label by which a namespace refuses pods.
//
// Source: Kubernetes, Pod Security Standards: baseline allows to add neither NET_ADMIN nor NET_RAW, which istio-init adds (Istio,
// manifests/charts/istio-control/istio-discovery/files/injection-template.yaml) unless the CNI agent redirects.
const enforced = "pod-security.kubernetes.io/enforce"

// podSecurity judges namespaces whose new pods would be refused.
func podSecurity(f *Facts) (out []Finding) {
	if f.CNI || f.Charts.Failure != "" { // what can't be rendered says nothing of it, and is told as such
		return nil
	}
	for _, n := range f.Namespaces {
		level := n.Labels[enforced]
		if !n.Member || level != "baseline" && level != "restricted" {
			continue
		}
		out = append(out, found(PodSecurity, Object{Kind: "Namespace", Name: n.Name},
			fmt.Sprintf("it enforces Pod Security %s, which refuses the container istio-init: pods with a sidecar can't be made anew here", level),
			"install Istio's CNI agent (value cni.enabled), or let the namespace enforce privileged"))
	}
	return out
}

// autoImages judges workloads whose image the injector fills in. Kubernetes can't pull an image called auto.
func autoImages(f *Facts) (out []Finding) {
	hooks := istioHooks(f)
	for _, a := range f.Annotated {
		if !a.AutoImage {
			continue
		}
		labels := f.namespace(a.Namespace).Labels
		if slices.ContainsFunc(hooks, func(h injector) bool { return h.selects(labels, a.Template) }) {
			continue
		}
		out = append(out, found(ImageAuto, Object{a.Kind, a.Namespace, a.Name},
			"its image is auto, which the injector would fill in, and no injector selects its pods: new ones can't start",
			"label its pods or its namespace for a revision that exists"))
	}
	return out
}

// namespace of a name; empty for one that is not known.
func (f *Facts) namespace(name string) Namespace {
	for _, n := range f.Namespaces {
		if n.Name == name {
			return n
		}
	}
	return Namespace{Name: name}
}
