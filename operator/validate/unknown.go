// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"github.com/Masterminds/semver/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// UnknownValues are the values of an installation that the charts of a version don't know, each as a sentence with its field. Known
// are the defaults of a chart, nil where they can't be had.
func UnknownValues(m *v1alpha1.MeshInstallation, v *semver.Version, known func(v *semver.Version, chart string) map[string]any) (out []string) {
	if tree := known(v, istiodChart); tree != nil {
		if decoded, err := v1alpha1.DecodeMap(m.Spec.ControlPlane.Values); err == nil {
			for _, s := range scopesOf(istiodChart, field.NewPath("spec", "controlPlane", "values"), decoded) {
				out = append(out, unknown(s.path, s.values, tree)...)
			}
		}
	}
	tree := known(v, gatewayChart)
	if tree == nil {
		return out
	}
	for i, g := range m.Spec.Gateways {
		if decoded, err := v1alpha1.DecodeMap(g.Values); err == nil {
			out = append(out, unknown(field.NewPath("spec", "gateways").Index(i).Child("values"), decoded, tree)...)
		}
	}
	return out
}
