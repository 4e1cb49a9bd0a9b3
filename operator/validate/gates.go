// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

// analysisSteps checks that each step of type Analysis has something to judge, and something to judge by.
func analysisSteps(m *v1alpha1.MeshInstallation) (errs field.ErrorList) {
	moved, known := false, gates(m)
	for i, s := range m.Spec.Upgrade.Canary.Steps {
		path := stepPath(i)
		switch s.Type {
		case v1alpha1.StepGatewayWeight, v1alpha1.StepDataPlane:
			moved = true
		case v1alpha1.StepAnalysis:
			if !moved {
				detail := "nothing has moved by then: put it behind a step of type GatewayWeight or DataPlane, or use hooks with when Before"
				errs = append(errs, field.Invalid(path.Child("type"), s.Type, detail))
			}
			if len(known) == 0 {
				detail := "there is nothing to judge by: add metrics, or hooks with when During, to spec.upgrade.analysis"
				errs = append(errs, field.Invalid(path.Child("type"), s.Type, detail))
				continue
			}
			errs = append(errs, gateNames(path.Child("analysis", "gates"), s.Analysis, m, known)...)
		default:
		}
	}
	return errs
}

// gates are the names of those that can judge at a step of type Analysis.
func gates(m *v1alpha1.MeshInstallation) (names []string) {
	if shifts(m) {
		names = append(names, v1alpha1.HealthGate)
	}
	for _, metric := range m.Spec.Upgrade.Analysis.Metrics {
		names = append(names, metric.Name)
	}
	for _, h := range m.Spec.Upgrade.Analysis.Hooks {
		if h.When == v1alpha1.HookDuring {
			names = append(names, h.Name)
		}
	}
	return names
}

func gateNames(path *field.Path, s *v1alpha1.AnalysisStep, m *v1alpha1.MeshInstallation, known []string) (errs field.ErrorList) {
	if s == nil {
		return nil
	}
	for i, name := range s.Gates {
		if !slices.Contains(known, name) {
			errs = append(errs, field.Invalid(path.Index(i), name, noGate(m, name, known)))
		}
	}
	return errs
}

// noGate says why a name is that of no gate that could judge.
func noGate(m *v1alpha1.MeshInstallation, name string, known []string) string {
	hooks := m.Spec.Upgrade.Analysis.Hooks
	at := slices.IndexFunc(hooks, func(h v1alpha1.Hook) bool { return h.Name == name })
	switch {
	case name == v1alpha1.HealthGate && m.Spec.Upgrade.Type == v1alpha1.UpgradeInPlace:
		return "compares two versions of a gateway, and spec.upgrade.type InPlace has one revision only: leave it out"
	case name == v1alpha1.HealthGate:
		return "compares two versions of a gateway, and the mesh has no gateways that follow: leave it out"
	case at >= 0:
		return fmt.Sprintf("is a hook that is asked %s and at no step: set spec.upgrade.analysis.hooks[%d].when to During, or leave it out", hooks[at].When, at)
	}
	detail := "is no gate of spec.upgrade.analysis: write one of " + strings.Join(known, ", ")
	if near := nearest(name, known); near != "" {
		detail += fmt.Sprintf("; did you mean %q?", near)
	}
	return detail
}

// unasked warns of gates that no step asks: what is written down and never judges is taken for a safeguard.
func unasked(m *v1alpha1.MeshInstallation) (warnings []string) {
	from, to := v1alpha1.RolloutRevision{Revision: "from", Version: "1"}, v1alpha1.RolloutRevision{Revision: "to", Version: "2"}
	if m.Spec.Upgrade.Type == v1alpha1.UpgradeInPlace {
		to.Revision = from.Revision
	}
	asked := map[string]bool{v1alpha1.HealthGate: true}
	for _, s := range rollout.NewPlan(m, from, to, nil).Steps {
		if s.Analysis == nil {
			continue
		}
		for _, name := range s.Analysis.Gates {
			asked[name] = true
		}
	}
	path := field.NewPath("spec", "upgrade", "analysis")
	warn := func(path *field.Path, name string) {
		if !asked[name] {
			warnings = append(warnings, fmt.Sprintf("%s: no step of type Analysis asks %s, so that it never judges: add one to spec.upgrade.canary.steps", path, name))
		}
	}
	for i, metric := range m.Spec.Upgrade.Analysis.Metrics {
		warn(path.Child("metrics").Index(i), metric.Name)
	}
	for i, h := range m.Spec.Upgrade.Analysis.Hooks {
		if h.When == v1alpha1.HookDuring {
			warn(path.Child("hooks").Index(i), h.Name)
		}
	}
	return warnings
}
