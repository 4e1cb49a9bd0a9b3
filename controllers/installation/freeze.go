// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/render"
)

// frozen is the spec of the revision that a request makes. Other bytes of the same charts change nothing, so that a newer
// operator moves nothing: it is made only when the inputs have changed.
func frozen(request render.Request) (v1alpha1.MeshRevisionSpec, error) {
	inputs, err := request.InputsDigest()
	if err != nil {
		return v1alpha1.MeshRevisionSpec{}, err
	}
	objects, injection, err := render.ControlPlane(request)
	if err != nil {
		return v1alpha1.MeshRevisionSpec{}, &chartError{err}
	}
	packed, err := render.Pack(objects)
	if err != nil {
		return v1alpha1.MeshRevisionSpec{}, err
	}
	return v1alpha1.MeshRevisionSpec{
		Mesh: request.Mesh, Version: request.Bundle.Version(), Namespace: request.Namespace,
		BundleDigest: request.Bundle.Digest(), InputsDigest: inputs, Injection: injection, Objects: packed,
	}, nil
}

// chartError is what the chart refuses (its schema, a profile that it does not know): only another spec can mend it.
type chartError struct{ err error }

func (e *chartError) Error() string { return "spec.controlPlane.values: " + e.err.Error() }

func (e *chartError) Unwrap() error { return e.err }

// create creates the MeshRevision of a request, unless another mesh has that name.
func (r *Reconciler) create(ctx context.Context, s *scope, request render.Request, replicas int32) (*v1alpha1.MeshRevision, outcome, error) {
	var taken v1alpha1.MeshRevision
	err := r.Client.Get(ctx, client.ObjectKey{Name: request.Revision}, &taken)
	if err == nil && taken.Spec.Mesh != s.mesh.Name {
		message := fmt.Sprintf("the revision %s belongs to MeshInstallation %s: choose another version", taken.Name, taken.Spec.Mesh)
		return nil, stalled(v1alpha1.ReasonRevisionTaken, message), nil
	}
	if client.IgnoreNotFound(err) != nil {
		return nil, failed(err), err
	}
	spec, err := frozen(request)
	if err != nil {
		return nil, refusedBy(err), ignoreChart(err)
	}
	if spec.Replicas, err = carried(spec, replicas); err != nil {
		return nil, failed(err), err
	}
	revision := &v1alpha1.MeshRevision{
		ObjectMeta: metav1.ObjectMeta{Name: request.Revision, Finalizers: []string{v1alpha1.Finalizer}},
		Spec:       spec,
	}
	if err := r.Client.Create(ctx, revision); err != nil {
		return nil, failed(err), err
	}
	return revision, outcome{}, nil
}

// carried are the replicas to begin with: none where the chart itself says how many.
func carried(spec v1alpha1.MeshRevisionSpec, replicas int32) (int32, error) {
	objects, err := render.Unpack(spec.Objects)
	if err != nil {
		return 0, err
	}
	for _, o := range objects {
		if _, said, _ := unstructured.NestedFieldNoCopy(o.Object, "spec", "replicas"); said && o.GetKind() == "Deployment" {
			return 0, nil
		}
	}
	return replicas, nil
}

// change writes other inputs into a revision that exists; previous is kept beside them when it is given.
func (r *Reconciler) change(
	ctx context.Context, revision *v1alpha1.MeshRevision, request render.Request, previous *v1alpha1.FrozenRevision,
) (*v1alpha1.MeshRevision, outcome, error) {
	spec, err := frozen(request)
	if err != nil {
		return nil, refusedBy(err), ignoreChart(err)
	}
	next := revision.DeepCopy()
	spec.Replicas, spec.Previous = next.Spec.Replicas, previous
	next.Spec = spec
	if err := r.Client.Update(ctx, next); err != nil { // refused when somebody wrote since it was read
		return nil, failed(err), err
	}
	return next, outcome{}, nil
}

func refusedBy(err error) outcome {
	if ignoreChart(err) == nil {
		return stalled(v1alpha1.ReasonInvalidSpec, err.Error())
	}
	return failed(err)
}

// ignoreChart makes nothing of an error that only another spec can mend: it is in the status.
func ignoreChart(err error) error {
	if _, refused := err.(*chartError); refused { //nolint:errorlint // it is never wrapped
		return nil
	}
	return err
}
