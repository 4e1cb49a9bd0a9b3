// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package plan says what the operator would do with an installation, before anybody tells it to: by the functions that the
// controllers use, with or without a cluster. It reads nothing itself and changes nothing.
package plan

import (
	"context"
	"errors"
	"fmt"

	"github.com/Masterminds/semver/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/admit"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/rollout"
	"github.com/meshwright/meshwright/operator/validate"
	"github.com/meshwright/meshwright/operator/version"
)

// World is what there is.
type World struct {
	Facts   validate.Facts
	Library *istio.Library
	// KubeVersion as charts take it: v1.34.4.
	KubeVersion string
	// Mesh is the installation as it is; nil for none.
	Mesh *v1alpha1.MeshInstallation
	// Stable is the revision that serves, nil for none; Active the rollout that may act, and Failed the one that status.failedTarget names.
	Stable         *v1alpha1.MeshRevision
	Active, Failed *v1alpha1.MeshRollout
}

// Plan is what would be done.
type Plan struct {
	// Move is what the installation asks for; empty when it is refused.
	Move rollout.Move
	// From and To are the revisions; nil where there is none.
	From, To *v1alpha1.RolloutRevision
	// Steps of the rollout, for a move of that kind.
	Steps []v1alpha1.RolloutStep
	// Waits says what is under way or stands in the way, and what becomes of it; empty for nothing.
	Waits string
	// Held says that nothing happens before a person has done what Waits says.
	Held bool
	// Objects that are created, changed or removed.
	Objects []Object
	// Problems are why the installation is refused, Warnings what a person probably did not mean.
	Problems field.ErrorList
	Warnings []string
}

// Changes says whether there is anything to do.
func (p *Plan) Changes() bool {
	return len(p.Objects) > 0 || p.Move == rollout.MoveRollOut || p.Move == rollout.MoveInstall
}

// Of is what would be done if an installation were as wanted.
func Of(ctx context.Context, wanted *v1alpha1.MeshInstallation, w World) (*Plan, error) {
	out := &Plan{}
	out.Problems, out.Warnings = validate.Installation(wanted, w.Facts)
	if w.Mesh != nil {
		refused, err := admit.Change(ctx, w.Mesh, wanted)
		if err != nil {
			return nil, err
		}
		out.Problems = append(refused, out.Problems...)
	}
	if w.Stable != nil {
		out.From = sideOf(w.Stable)
	}
	target, err := validate.Target(wanted, w.Facts)
	if len(out.Problems) > 0 {
		if err == nil {
			out.To = &v1alpha1.RolloutRevision{Revision: validate.RevisionName(wanted, target), Version: target.String()}
		}
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	next, err := w.request(ctx, wanted, target, validate.RevisionName(wanted, target))
	if err != nil {
		return nil, err
	}
	inputs, err := next.InputsDigest()
	if err != nil {
		return nil, err
	}
	out.To = &v1alpha1.RolloutRevision{Revision: next.Revision, Version: target.String(), InputsDigest: inputs}
	same, err := next.Made(w.Stable)
	if err != nil {
		return nil, err
	}
	out.Move = rollout.MoveOf(w.Stable, next.Revision, target.String(), same)
	if same {
		next.Revision, out.To = w.Stable.Name, out.From // it goes on under its own name
	}
	if out.Move == rollout.MoveRollOut {
		out.Steps = rollout.NewPlan(wanted, *out.From, *out.To, nil).Steps
	}
	changed, err := w.compare(ctx, wanted, next, out.Move)
	if refused, is := errors.AsType[*refusedError](err); is {
		problem := field.Invalid(field.NewPath(refused.field), field.OmitValueType{}, refused.err.Error())
		return &Plan{From: out.From, To: out.To, Problems: field.ErrorList{problem}, Warnings: out.Warnings}, nil
	}
	if err != nil {
		return nil, err
	}
	out.Objects = changed.objects
	out.Warnings = append(out.Warnings, changed.warnings...)
	out.stand(wanted, w)
	return out, nil
}

// stand says how what is under way stands to what is wanted.
func (p *Plan) stand(wanted *v1alpha1.MeshInstallation, w World) {
	if wanted.Spec.Paused && p.Changes() {
		p.Waits, p.Held = "spec.paused is true: nothing is done before it is false", true
		return
	}
	if w.Mesh == nil {
		return
	}
	if o := w.Active; o != nil {
		switch rollout.OnChange(&o.Spec.Plan, o.Status.Progress, *p.To) {
		case rollout.Keep:
			p.Waits = fmt.Sprintf("MeshRollout %s to %s goes on as it was planned", o.Name, o.Spec.Plan.To.Version)
		case rollout.GoBack:
			p.Waits = fmt.Sprintf("MeshRollout %s to %s is rolled back first", o.Name, o.Spec.Plan.To.Version)
		case rollout.Finish:
			p.Waits = fmt.Sprintf("MeshRollout %s retires revision %s first", o.Name, o.Spec.Plan.From.Revision)
		}
		return
	}
	if op := w.Mesh.Status.ActiveOperation; op != nil {
		p.Waits = fmt.Sprintf("%s %s ends first", op.Kind, op.Name)
	}
	last, generation := w.Mesh.Status.FailedTarget, w.Mesh.Generation
	if !sameSpec(wanted, w.Mesh) {
		generation++ // that of the spec when it is written
	}
	if p.Move == rollout.MoveRollOut && rollout.GivenUp(last, *p.To, generation, w.Failed) {
		p.Waits = fmt.Sprintf("MeshRollout %s to %s did not get there: change the spec, or kubectl mesh retry --rollout %s", last.Rollout, last.Version, last.Rollout)
		p.Held = true
	}
}

// request is what a revision of a version is rendered from.
func (w World) request(ctx context.Context, m *v1alpha1.MeshInstallation, v *semver.Version, revision string) (render.Request, error) {
	bundle, err := w.Library.Get(ctx, v.String())
	if err != nil {
		return render.Request{}, err
	}
	return render.RequestOf(m, bundle, w.KubeVersion, revision)
}

func sideOf(r *v1alpha1.MeshRevision) *v1alpha1.RolloutRevision {
	return &v1alpha1.RolloutRevision{Revision: r.Name, Version: r.Spec.Version, InputsDigest: r.Spec.InputsDigest}
}

// Installed is the world after an installation was made true in an empty cluster: what an older file stands for.
func Installed(ctx context.Context, m *v1alpha1.MeshInstallation, w World) (World, error) {
	target, err := validate.Target(m, w.Facts)
	if err != nil {
		return w, fmt.Errorf("spec.version: %w", err)
	}
	request, err := w.request(ctx, m, target, validate.RevisionName(m, target))
	if err != nil {
		return w, err
	}
	inputs, err := request.InputsDigest()
	if err != nil {
		return w, err
	}
	objects, injection, err := render.ControlPlane(request)
	if err != nil {
		return w, err
	}
	packed, err := render.Pack(objects)
	if err != nil {
		return w, err
	}
	w.Mesh, w.Facts.Installed = m, target
	w.Stable = &v1alpha1.MeshRevision{Spec: v1alpha1.MeshRevisionSpec{
		Mesh: m.Name, Version: target.String(), Namespace: m.Spec.Namespace, BundleDigest: request.Bundle.Digest(),
		InputsDigest: inputs, Injection: injection, Objects: packed,
	}}
	w.Stable.Name = request.Revision
	return w, nil
}

// KubernetesFor is a version of Kubernetes that the release line of a version supports, for plans without a cluster: the newest.
func KubernetesFor(lines map[string]version.Line, v *semver.Version) *semver.Version {
	line, known := lines[version.LineOf(v)]
	if !known {
		return nil
	}
	return semver.New(1, line.KubernetesMax, 0, "", "")
}
