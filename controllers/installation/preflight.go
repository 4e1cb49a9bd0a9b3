// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"context"
	"sync"
	"time"

	"github.com/Masterminds/semver/v3"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/preflight"
	"github.com/meshwright/meshwright/operator/render"
)

// preflightAgain is how soon what holds a rollout back is looked at again.
const preflightAgain = time.Minute

// verdict is what was found in the way of a rollout.
type verdict struct {
	findings, blocking []v1alpha1.Finding
	// of is what was judged, and at the time at which that was done.
	of question
	at time.Time
}

// again is when to look again.
func (v verdict) again(now time.Time) time.Duration {
	return max(v.at.Add(preflightAgain).Sub(now), time.Second)
}

// question is what a verdict answers: another spec, revision or target is another question.
type question struct {
	mesh           types.UID
	generation     int64
	from, to       string
	revision       string
	inputs, bundle string
}

// verdicts are the last one of each mesh. A check reads the whole cluster, and while something holds a rollout back any event of the mesh
// asks for it.
type verdicts struct {
	mu   sync.Mutex
	last map[string]verdict
}

// recent is the last verdict of a mesh, if it answers the question and is not old.
func (v *verdicts) recent(mesh string, of question, now time.Time) (verdict, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	last, known := v.last[mesh]
	return last, known && last.of == of && now.Sub(last.at) < preflightAgain
}

func (v *verdicts) keep(mesh string, last verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.last == nil {
		v.last = map[string]verdict{}
	}
	v.last[mesh] = last
}

func (v *verdicts) forget(mesh string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.last, mesh)
}

// preflight checks the cluster before a rollout to what a request makes is granted, once a minute at most while nothing changes in what is
// asked. It is the one time that the whole cluster is read.
func (r *Reconciler) preflight(ctx context.Context, s *scope, from *semver.Version, request render.Request) (verdict, error) {
	target, err := semver.NewVersion(request.Bundle.Version())
	if err != nil {
		return verdict{}, err
	}
	inputs, err := request.InputsDigest()
	if err != nil {
		return verdict{}, err
	}
	of := question{
		mesh: s.mesh.UID, generation: s.mesh.Generation, from: from.String(), to: target.String(), revision: request.Revision,
		inputs: inputs, bundle: request.Bundle.Digest(),
	}
	if last, is := r.verdicts.recent(s.mesh.Name, of, r.Clock.Now()); is {
		return last, nil
	}
	if _, _, err := render.ControlPlane(request); err != nil {
		return verdict{}, &chartError{err} // it stands in Ready: nothing can be applied before that is mended
	}
	all, err := r.Facts.Check(ctx, r.Live, facts.Inquiry{Mesh: s.mesh, From: from, To: target, Grants: true, Index: r.Index})
	if err != nil {
		return verdict{}, err
	}
	found := verdict{of: of, at: r.Clock.Now()}
	found.findings, found.blocking = preflight.Planned(all)
	r.verdicts.keep(s.mesh.Name, found)
	return found, nil
}
