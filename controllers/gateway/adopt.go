// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/rollout"
	"github.com/meshwright/meshwright/operator/validate"
)

// autoscalerKind is that of a gateway's autoscaler.
var autoscalerKind = schema.GroupVersionKind{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"}

// adopts says whether a gateway that somebody else installed under the same name is taken over. Only who writes the mesh may say so.
func adopts(s *scope) bool {
	return s.gateway.Spec.Adoption == v1alpha1.AdoptionAdopt && validate.Listed(s.gateway, s.mesh)
}

// notAdoptableError says why a gateway that is there can't be taken over. Nothing of it was changed.
type notAdoptableError struct{ err error }

func (e *notAdoptableError) Error() string { return e.err.Error() }
func (e *notAdoptableError) Unwrap() error { return e.err }

// adopt marks the Deployment, and its autoscaler, of a gateway that somebody else installed, so that they are in the cache; it changes
// nothing else of them, and no pod restarts. It looks once, before the first objects of the gateway are recorded.
func (r *Reconciler) adopt(ctx context.Context, s *scope, values map[string]any) error {
	stable := s.revisions[s.mesh.Status.StableRevision]
	if !adopts(s) || len(s.gateway.Status.Inventory) > 0 || s.mesh.Spec.Paused || stable == nil {
		return nil
	}
	for _, kind := range []schema.GroupVersionKind{deploymentKind, autoscalerKind} {
		there := &unstructured.Unstructured{}
		there.SetGroupVersionKind(kind)
		err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.gateway), there)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		labels := there.GetLabels()
		if owner := labels[v1alpha1.LabelMesh]; owner != "" && owner != s.mesh.Name {
			return &notAdoptableError{fmt.Errorf("%s %s/%s belongs to MeshInstallation %s", kind.Kind, there.GetNamespace(), there.GetName(), owner)}
		}
		if kind == deploymentKind {
			objects, _, err := r.version(ctx, s, values, stable.Name)
			if err != nil {
				return err
			}
			if err := render.Adoptable(there, objects.Shared); err != nil {
				return &notAdoptableError{err}
			}
		}
		before := there.DeepCopy()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[v1alpha1.LabelMesh], labels[v1alpha1.LabelGateway] = s.mesh.Name, s.gateway.Name
		there.SetLabels(labels)
		patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
		if err := r.Owned.Client.Patch(ctx, there, patch, client.FieldOwner(v1alpha1.ManagerGateway)); err != nil {
			return err
		}
	}
	return nil
}

// keepAdopted leaves an adopted Deployment alone until all the traffic moves to another version: its pods can't be told from others by a
// label, so that it can't stand beside another version for longer than that takes.
func keepAdopted(s *scope, w world) {
	if !w.versions[render.Unrevisioned].Exists || len(w.versions) > 1 {
		return
	}
	if s.rollout == nil || !s.want.MovesAll(&s.rollout.Spec.Plan) {
		s.want = rollout.Shift{New: render.Unrevisioned, Weight: 100, Wanted: true, Final: true}
	}
}

// release removes an adopted Deployment, and its autoscaler, that a version of ours has replaced.
func (r *Reconciler) release(ctx context.Context, s *scope) error {
	for _, kind := range []schema.GroupVersionKind{autoscalerKind, deploymentKind} {
		there, err := r.Owned.Get(ctx, kind, client.ObjectKeyFromObject(s.gateway))
		if err != nil {
			return err
		}
		if there == nil || there.GetDeletionTimestamp() != nil {
			continue
		}
		if err := r.delete(ctx, there); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) delete(ctx context.Context, o *unstructured.Unstructured) error {
	uid, version := o.GetUID(), o.GetResourceVersion()
	err := r.Owned.Client.Delete(ctx, o, client.Preconditions{UID: &uid, ResourceVersion: &version}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	return client.IgnoreNotFound(err)
}
