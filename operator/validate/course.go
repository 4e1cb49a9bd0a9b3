// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

// course checks how a mesh is to move: waves, steps and windows.
func course(m *v1alpha1.MeshInstallation) (errs field.ErrorList) {
	plane := field.NewPath("spec", "dataPlane")
	for i, w := range m.Spec.DataPlane.Waves {
		path := plane.Child("waves").Index(i)
		if w.Selector != nil {
			if _, err := metav1.LabelSelectorAsSelector(w.Selector); err != nil {
				errs = append(errs, field.Invalid(path.Child("selector"), w.Selector, err.Error()))
			}
		}
		if w.Tag == "" {
			continue
		}
		if !slices.ContainsFunc(m.Spec.Tags, func(t v1alpha1.Tag) bool { return t.Name == w.Tag }) {
			errs = append(errs, field.Invalid(path.Child("tag"), w.Tag, "is no tag of spec.tags: add it there"))
		}
		if slices.ContainsFunc(m.Spec.DataPlane.Waves[:i], func(other v1alpha1.Wave) bool { return other.Tag == w.Tag }) {
			errs = append(errs, field.Invalid(path.Child("tag"), w.Tag, "is that of another wave already: a wave needs a tag of its own"))
		}
	}
	errs = append(errs, steps(m)...)
	for i, w := range m.Spec.Upgrade.Windows {
		if _, err := rollout.ParseWindow(w); err != nil {
			errs = append(errs, field.Invalid(field.NewPath("spec", "upgrade", "windows").Index(i), w.Schedule, err.Error()))
		}
	}
	return errs
}

// steps checks what each step moves or judges.
func steps(m *v1alpha1.MeshInstallation) (errs field.ErrorList) {
	errs = append(errs, waveSteps(m)...)
	errs = append(errs, weightSteps(m)...)
	return append(errs, analysisSteps(m)...)
}

// waveSteps checks that each step names a wave, and that the percents of a wave grow.
func waveSteps(m *v1alpha1.MeshInstallation) (errs field.ErrorList) {
	known, reached := rollout.WavesOf(m), map[string]int32{}
	for i, s := range m.Spec.Upgrade.Canary.Steps {
		if s.DataPlane == nil {
			continue
		}
		path := stepPath(i).Child("dataPlane")
		wave, percent := s.DataPlane.Wave, s.DataPlane.Percent
		if !slices.Contains(known, wave) {
			errs = append(errs, field.Invalid(path.Child("wave"), wave, fmt.Sprintf("is no wave of spec.dataPlane.waves: write one of %v", known)))
		}
		if percent <= reached[wave] && reached[wave] > 0 {
			detail := fmt.Sprintf("an earlier step has moved %d percent of wave %s: write more, or leave the step out", reached[wave], wave)
			errs = append(errs, field.Invalid(path.Child("percent"), percent, detail))
		}
		reached[wave] = max(reached[wave], percent)
	}
	return errs
}
