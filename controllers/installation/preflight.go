// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"context"

	"github.com/Masterminds/semver/v3"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/preflight"
	"github.com/meshwright/meshwright/operator/render"
)

// preflight checks the cluster before a rollout to what a request makes is granted. It is the one time that the whole cluster is
// read.
func (r *Reconciler) preflight(
	ctx context.Context, s *scope, from *semver.Version, request render.Request,
) (findings, blocking []v1alpha1.Finding, err error) {
	target, err := semver.NewVersion(request.Bundle.Version())
	if err != nil {
		return nil, nil, err
	}
	if _, _, err := render.ControlPlane(request); err != nil {
		return nil, nil, &chartError{err} // it stands in Ready: nothing can be applied before that is mended
	}
	all, err := r.Facts.Check(ctx, r.Live, facts.Inquiry{Mesh: s.mesh, From: from, To: target, Index: r.Index})
	if err != nil {
		return nil, nil, err
	}
	findings, blocking = preflight.Planned(all)
	return findings, blocking, nil
}
