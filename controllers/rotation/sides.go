// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/pki"
)

// sides are both authorities of a rotation, with their keys.
type sides struct{ from, to *pki.Bundle }

// last is the side that a rotation arrives at, in the direction in which it goes.
func (m *sides) last(back bool) *pki.Bundle {
	if back {
		return m.from
	}
	return m.to
}

// keptName is the Secret, in the operator's namespace, that keeps both sides of a rotation for as long as the MeshRotation is kept.
func keptName(rotation string) string { return "meshwright-ca-" + rotation }

// Keys of that Secret: both sides as cacerts holds them, under prefixes, the key of a root that Meshwright made, and, while a signature is
// awaited, the key that it is for and the request.
const (
	prefixFrom   = "from."
	prefixTo     = "to."
	keyRoot      = "root-key.pem"
	keyPending   = "pending-key.pem"
	keyOfRequest = "request.pem"
	keptLabel    = "meshwright.io/rotation"
)

// kept reads what a rotation keeps; nil for nothing.
func (r *Reconciler) kept(ctx context.Context, rotation string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: keptName(rotation)}, secret)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	return secret, err
}

// keep creates what a rotation keeps, before anything else of it happens. It goes with the MeshRotation, which is held for it: an owner reference would
// take the key of a root away when somebody restores the two from a backup, or deletes one by mistake.
func (r *Reconciler) keep(ctx context.Context, o *v1alpha1.MeshRotation, data map[string][]byte) (*corev1.Secret, error) {
	if !controllerutil.ContainsFinalizer(o, v1alpha1.Finalizer) {
		before := o.DeepCopy()
		controllerutil.AddFinalizer(o, v1alpha1.Finalizer)
		if err := r.Client.Patch(ctx, o, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return nil, err
		}
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: r.Namespace, Name: keptName(o.Name), Labels: map[string]string{keptLabel: o.Name}},
		Type:       corev1.SecretTypeOpaque, Data: data,
	}
	err := r.Client.Create(ctx, secret, client.FieldOwner(v1alpha1.ManagerRotation))
	if apierrors.IsAlreadyExists(err) { // the answer to an earlier try was lost, or its owner is about to be collected
		return nil, errLate
	}
	return secret, hidden(err)
}

// add puts something into what a rotation keeps. It is refused when somebody wrote since it was read.
func (r *Reconciler) add(ctx context.Context, kept *corev1.Secret, data map[string][]byte) error {
	next := kept.DeepCopy()
	maps.Copy(next.Data, data)
	delete(next.Data, keyPending)
	return hidden(r.Client.Update(ctx, next, client.FieldOwner(v1alpha1.ManagerRotation)))
}

// encoded is a bundle as cacerts would hold it, under a prefix.
func encoded(prefix string, b *pki.Bundle) (map[string][]byte, error) {
	m := pki.Material{Issuer: b.Issuer(), Roots: b.RootPrints()}
	data, err := m.Files(false, b)
	return pki.Prefixed(prefix, data), err
}

// errLost says that what a rotation was made of is gone.
var errLost = errors.New("both CAs of this rotation are lost")

// sidesOf reads both sides of a rotation that is planned, once: they never change.
func (r *Reconciler) sidesOf(ctx context.Context, o *v1alpha1.MeshRotation) (*sides, error) {
	r.mu.Lock()
	known := r.sides[o.UID]
	r.mu.Unlock()
	if known != nil {
		return known, nil
	}
	kept, err := r.kept(ctx, o.Name)
	if err != nil {
		return nil, err
	}
	if kept == nil {
		return nil, fmt.Errorf("%w: the Secret %s/%s: put it back from a backup, or set spec.goal to Abort, which ends this rotation and leaves cacerts as it is",
			errLost, r.Namespace, keptName(o.Name))
	}
	from, fromWrong := pki.ParseBundle(pki.Unprefixed(prefixFrom, kept.Data))
	to, toWrong := pki.ParseBundle(pki.Unprefixed(prefixTo, kept.Data))
	if len(fromWrong)+len(toWrong) > 0 || string(from.Issuer()) != o.Status.Plan.From.Issuer || string(to.Issuer()) != o.Status.Plan.To.Issuer {
		return nil, fmt.Errorf("%w: the Secret %s/%s does not hold what was planned any more: put it back from a backup, or set spec.goal to Abort, "+
			"which ends this rotation and leaves cacerts as it is", errLost, r.Namespace, keptName(o.Name))
	}
	made := &sides{from: from, to: to}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sides == nil {
		r.sides = map[types.UID]*sides{}
	}
	r.sides[o.UID] = made
	return made, nil
}

// remove lets a MeshRotation go that is being deleted, and what it keeps. It is held while the mesh has the CA that it made: the key of the root is in
// no other place.
func (r *Reconciler) remove(ctx context.Context, s *scope) (ctrl.Result, error) {
	o := s.rotation
	r.forget(o)
	if !controllerutil.ContainsFinalizer(o, v1alpha1.Finalizer) {
		return ctrl.Result{}, nil
	}
	if s.mesh.UID != "" && !dataplane.Removing(s.mesh) {
		state := r.Authority.Of(s.mesh)
		switch plan := o.Status.Plan; {
		case !state.Known:
			return ctrl.Result{RequeueAfter: lookAgain}, nil
		case plan != nil && o.Status.Progress.Outcome == v1alpha1.OutcomeCompleted && state.Present != nil && plan.To.Issuer == string(state.Present.Issuer()):
			return ctrl.Result{}, nil // it goes when the next one has ended
		}
	}
	kept, err := r.kept(ctx, o.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	if kept != nil && kept.Labels[keptLabel] == o.Name {
		if err := r.Client.Delete(ctx, kept, client.Preconditions{UID: &kept.UID}); client.IgnoreNotFound(err) != nil {
			return ctrl.Result{}, err
		}
	}
	before := o.DeepCopy()
	controllerutil.RemoveFinalizer(o, v1alpha1.Finalizer)
	return ctrl.Result{}, client.IgnoreNotFound(r.Client.Patch(ctx, o, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
}

// errNoRootKey says that another intermediate under the same root can't be made here.
var errNoRootKey = errors.New("the key of the present root is not Meshwright's: create a MeshRotation with change Root, or renew it where it comes from")

// rootKeyOf is the key of the root that Meshwright made for what is present, as PEM.
func (r *Reconciler) rootKeyOf(ctx context.Context, s *scope) ([]byte, error) {
	for i := range s.others {
		o := &s.others[i]
		if o.Status.Plan == nil || o.Status.Progress.Outcome != v1alpha1.OutcomeCompleted || o.Status.Plan.To.Issuer != string(s.state.Present.Issuer()) {
			continue
		}
		kept, err := r.kept(ctx, o.Name)
		if err != nil {
			return nil, err
		}
		if kept != nil && len(kept.Data[keyRoot]) > 0 {
			return kept.Data[keyRoot], nil
		}
	}
	return nil, errNoRootKey
}
