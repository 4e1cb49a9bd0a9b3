// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/traffic"
)

// follows says whether a gateway moves with the rollouts of its mesh.
func follows(g v1alpha1.Gateway) bool { return g.VersionPolicy != v1alpha1.VersionHold }

// shifts says whether the mesh has gateways of which a rollout makes a second version.
func shifts(m *v1alpha1.MeshInstallation) bool {
	return m.Spec.Upgrade.Type != v1alpha1.UpgradeInPlace && slices.ContainsFunc(m.Spec.Gateways, follows)
}

func stepPath(i int) *field.Path {
	return field.NewPath("spec", "upgrade", "canary", "steps").Index(i)
}

// weightSteps checks that the shares of the gateways grow, and that each gateway can have them.
func weightSteps(m *v1alpha1.MeshInstallation) (errs field.ErrorList) {
	reached := int32(-1)
	for i, s := range m.Spec.Upgrade.Canary.Steps {
		if s.GatewayWeight == nil {
			continue
		}
		path, percent := stepPath(i), s.GatewayWeight.Percent
		switch {
		case m.Spec.Upgrade.Type == v1alpha1.UpgradeInPlace:
			detail := "spec.upgrade.type InPlace has one revision only, so that a gateway has no second version: leave the step out; weights need type Canary"
			errs = append(errs, field.Invalid(path.Child("type"), s.Type, detail))
			continue
		case !shifts(m):
			errs = append(errs, field.Invalid(path.Child("type"), s.Type, "the mesh has no gateways that follow: leave the step out"))
			continue
		}
		path = path.Child("gatewayWeight", "percent")
		if percent <= reached {
			detail := fmt.Sprintf("an earlier step has given the new version %d percent: write more, or leave the step out", reached)
			if reached == 100 {
				detail = "an earlier step has given the new version all traffic: leave the step out"
			}
			errs = append(errs, field.Invalid(path, percent, detail))
		}
		reached = max(reached, percent)
		for j, g := range m.Spec.Gateways {
			if follows(g) {
				errs = append(errs, share(path, percent, field.NewPath("spec", "gateways").Index(j), g)...)
			}
		}
	}
	return errs
}

// share refuses a share that the method of a gateway can't make of the pods that the gateway has, with the nearest one that it can.
func share(path *field.Path, percent int32, entry *field.Path, g v1alpha1.Gateway) field.ErrorList {
	decoded, err := v1alpha1.DecodeMap(g.Values)
	if err != nil {
		return nil // said already
	}
	kind, tolerance := g.Shift.Type, g.Shift.TolerancePercent
	base, bound := traffic.ReplicasOf(decoded)
	if traffic.Allows(kind, base, percent, tolerance) {
		return nil
	}
	name, method := g.Namespace+"/"+g.Name, entry.Child("shift", "type")
	if kind == v1alpha1.ShiftSelector {
		detail := fmt.Sprintf("gateway %s moves all of its traffic at once (%s is Selector): write 0 or 100, or set it to Replicas or HTTPRoute", name, method)
		return field.ErrorList{field.Invalid(path, percent, detail)}
	}
	near := traffic.Effective(kind, base, percent)
	detail := fmt.Sprintf("gateway %s has %s, by which the nearest share is %d percent: write that, ", name, pods(base), near)
	detail += fmt.Sprintf("raise %s, or set %s to HTTPRoute", raise(entry.Child("values"), least(kind, base, percent, tolerance), bound), method)
	return field.ErrorList{field.Invalid(path, percent, detail)}
}

func pods(n int32) string {
	if n == 1 {
		return "one pod"
	}
	return fmt.Sprintf("%d pods", n)
}

// raise names the values that give a gateway a number of pods. Bound is that of its autoscaler, 0 when it has none.
func raise(values *field.Path, n, bound int32) string {
	if bound == 0 {
		return fmt.Sprintf("%s to %d", values.Child("replicaCount"), n)
	}
	out := fmt.Sprintf("%s to %d", values.Child("autoscaling", "minReplicas"), n)
	if bound < n {
		out += fmt.Sprintf(" and %s with it", values.Child("autoscaling", "maxReplicas"))
	}
	return out
}

// manyPods is more than any remedy asks for: so many make every percent.
const manyPods = 200

// least is the least number of pods, more than base, that allows a share.
func least(kind v1alpha1.ShiftType, base, percent, tolerance int32) int32 {
	n := base + 1
	for n < manyPods && !traffic.Allows(kind, n, percent, tolerance) {
		n++
	}
	return n
}
