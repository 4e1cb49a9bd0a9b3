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

// Gather gathers what enrollment needs of every installation, in the order of their names. The operator's own namespace is
// never enrolled; empty for none.
func Gather(ctx context.Context, reader client.Reader, operator string) ([]Named, error) {
	var installations v1alpha1.MeshInstallationList
	if err := reader.List(ctx, &installations); err != nil {
		return nil, err
	}
	var gateways v1alpha1.MeshGatewayList
	if err := reader.List(ctx, &gateways); err != nil {
		return nil, err
	}
	around := Around{Reserved: map[string]bool{operator: operator != ""}, Gateways: map[string]bool{}, Teams: map[string]bool{}}
	for _, m := range installations.Items {
		around.Reserved[m.Spec.Namespace] = true
		for _, g := range m.Spec.Gateways {
			around.Gateways[g.Namespace] = true
		}
	}
	for _, g := range gateways.Items {
		around.Teams[g.Namespace] = true
	}
	var out []Named
	for i := range installations.Items {
		m := &installations.Items[i]
		mesh, err := MeshOf(m, around)
		out = append(out, Named{Name: m.Name, Mesh: mesh, Still: m.Spec.Paused && !Removing(m) || err != nil})
	}
	slices.SortFunc(out, func(a, b Named) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
