// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Gather gathers what enrollment needs of every installation, in the order of their names, and which of them are paused.
func Gather(ctx context.Context, reader client.Reader) ([]Named, map[string]bool, error) {
	var installations v1alpha1.MeshInstallationList
	if err := reader.List(ctx, &installations); err != nil {
		return nil, nil, err
	}
	var gateways v1alpha1.MeshGatewayList
	if err := reader.List(ctx, &gateways); err != nil {
		return nil, nil, err
	}
	var out []Named
	paused := map[string]bool{}
	for i := range installations.Items {
		m := &installations.Items[i]
		if m.Spec.Paused {
			paused[m.Name] = true
		}
		mesh, err := MeshOf(m, gateways.Items)
		if err != nil {
			continue // a selector that does not parse is reported by the installation
		}
		out = append(out, Named{Name: m.Name, Mesh: mesh})
	}
	slices.SortFunc(out, func(a, b Named) int { return strings.Compare(a.Name, b.Name) })
	return out, paused, nil
}
