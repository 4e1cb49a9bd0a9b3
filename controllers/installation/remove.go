// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/authority"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/metrics"
	"github.com/meshwright/meshwright/operator/validate"
)

// lookAgain is how soon a removal looks whether what it waits for is gone, where no event tells it.
const lookAgain = 2 * time.Second

// holdAgain is how soon it is looked whether a mesh is still in use. Pods, namespaces and gateways tell it by events; tags of
// others, for which the API server is asked, don't.
const holdAgain = 15 * time.Second

// delete refuses while the mesh is in use, and else takes one step of its removal. Progress is read from the world: each step
// is done when what it removes is not there.
func (r *Reconciler) delete(ctx context.Context, s *scope, known validate.Facts) (ctrl.Result, error) {
	removing := dataplane.Removing(s.mesh)
	if !removing && s.mesh.Spec.DeletionPolicy.InUse != v1alpha1.InUseProceed {
		users, err := dataplane.UsersOf(ctx, r.Client, r.Index, s.mesh)
		if err == nil && len(users) == 0 {
			users, err = dataplane.LiveUsersOf(ctx, r.Live, s.mesh) // what follows can't be taken back, and caches lag
		}
		if err != nil {
			return ctrl.Result{}, err
		}
		if len(users) > 0 {
			return r.hold(ctx, s, known, users)
		}
	}
	if !removing {
		return r.say(ctx, s, removingNow("users are looked for no more"))
	}
	for _, step := range []struct {
		what string
		do   func(context.Context, *scope) (done bool, err error)
	}{
		{"the labels of its namespaces", r.releaseNamespaces},
		{"its rollouts", r.removeRollouts},
		{"tags and default revision", r.removeSingletons},
		{"gateways", r.removeGateways},
		{"the control plane", r.removeRevisions},
		{"what istiod wrote", r.removeLeftovers},
		{"CRDs", r.removeCRDs},
		{"namespaces", r.removeNamespaces},
	} {
		done, err := step.do(ctx, s)
		if err != nil {
			return ctrl.Result{}, err
		}
		if !done {
			result, err := r.say(ctx, s, removingNow(step.what))
			if err == nil {
				result.RequeueAfter = lookAgain
			}
			return result, err
		}
	}
	r.rendered.forget(s.mesh.Name)
	r.counted.forget(s.mesh.Name)
	r.verdicts.forget(s.mesh.Name)
	metrics.Forget(s.mesh.Name)
	before := s.mesh.DeepCopy()
	controllerutil.RemoveFinalizer(s.mesh, v1alpha1.Finalizer)
	return ctrl.Result{}, client.IgnoreNotFound(r.Client.Patch(ctx, s.mesh, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
}

func removingNow(what string) conditions.Verdict {
	return conditions.Verdict{
		Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonRemoving, Message: "the mesh is being removed: " + what, Reconciling: true,
	}
}

// hold says who uses the mesh, and keeps it meanwhile.
func (r *Reconciler) hold(ctx context.Context, s *scope, known validate.Facts, users []string) (ctrl.Result, error) {
	out, err := r.keep(ctx, s, known)
	out.problem = &conditions.Verdict{
		Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonInUse, Stalled: true,
		Message: fmt.Sprintf("deletion waits, the mesh is kept: it is used by %s; remove these, or set spec.deletionPolicy.inUse to Proceed",
			dataplane.Sentence(users)),
	}
	result, err := r.tell(ctx, s, out, err)
	if err == nil && (result.RequeueAfter == 0 || result.RequeueAfter > holdAgain) {
		result.RequeueAfter = holdAgain
	}
	return result, err
}

func (r *Reconciler) say(ctx context.Context, s *scope, v conditions.Verdict) (ctrl.Result, error) {
	s.mesh.Status.ObservedGeneration = s.mesh.Generation
	conditions.Summarise(&s.mesh.Status.Conditions, s.mesh.Generation, v)
	return ctrl.Result{}, r.write(ctx, s)
}

// releaseNamespaces waits until controllers/dataplane has taken our labels back. Labels of another mesh of ours don't count.
func (r *Reconciler) releaseNamespaces(_ context.Context, s *scope) (bool, error) {
	for i := range s.namespaces {
		n := &s.namespaces[i]
		if dataplane.OwnsLabel(n) && s.find(n.Labels[dataplane.RevisionLabel]) != nil && n.DeletionTimestamp == nil {
			return false, nil
		}
	}
	return true, nil
}

// removeSingletons removes webhooks first, then what else exists once, but not the CRDs, which istiod still watches.
func (r *Reconciler) removeSingletons(ctx context.Context, s *scope) (bool, error) {
	items := slices.DeleteFunc(slices.Clone(s.mesh.Status.Inventory), isCRD)
	left, err := r.Applier.Remove(ctx, s.mesh.Name, items)
	return len(left) == 0, err
}

func isCRD(i v1alpha1.InventoryItem) bool { return i.Kind == "CustomResourceDefinition" }

func (r *Reconciler) removeGateways(ctx context.Context, s *scope) (bool, error) {
	for i := range s.gateways {
		if s.gateways[i].DeletionTimestamp != nil {
			continue
		}
		if err := r.Client.Delete(ctx, &s.gateways[i]); client.IgnoreNotFound(err) != nil {
			return false, err
		}
	}
	return len(s.gateways) == 0, nil
}

func (r *Reconciler) removeRevisions(ctx context.Context, s *scope) (bool, error) {
	for _, revision := range s.revisions {
		if revision.DeletionTimestamp != nil {
			continue
		}
		if err := r.Client.Delete(ctx, revision); client.IgnoreNotFound(err) != nil {
			return false, err
		}
	}
	return len(s.revisions) == 0, nil
}

// removeRollouts forgets the history of the mesh, and with it what is under way.
func (r *Reconciler) removeRollouts(ctx context.Context, s *scope) (bool, error) {
	for i := range s.rollouts {
		if err := r.Client.Delete(ctx, &s.rollouts[i]); client.IgnoreNotFound(err) != nil {
			return false, err
		}
	}
	return len(s.rollouts) == 0, nil
}

// What istiod itself writes and nobody else removes.
const (
	leaderPrefix    = "istio-"
	leaderElections = "control-plane.alpha.kubernetes.io/leader"
)

// everyNamespace are the ConfigMaps that istiod writes into every namespace, with a label of its own.
var (
	everyNamespace      = []string{"istio-ca-root-cert", "istio-ca-crl"}
	everyNamespaceLabel = client.MatchingLabels{"istio.io/config": "true"}
)

// removeLeftovers removes what istiod wrote: what it put into every namespace, unless another mesh needs it, its leader
// elections, and the secret of the CA that it made, where the policy says so.
func (r *Reconciler) removeLeftovers(ctx context.Context, s *scope) (bool, error) {
	gone, err := r.istiodGone(ctx, s)
	if err != nil || !gone {
		return false, err // it would write again what is removed here
	}
	configMap, lease := corev1.SchemeGroupVersion.WithKind("ConfigMap"), coordinationv1.SchemeGroupVersion.WithKind("Lease")
	alone, err := r.alone(ctx, s)
	if err != nil {
		return false, err
	}
	if alone {
		err := r.deleteEach(ctx, configMap, func(o *metav1.PartialObjectMetadata) bool { return slices.Contains(everyNamespace, o.Name) }, everyNamespaceLabel)
		if err != nil {
			return false, err
		}
	}
	here := client.InNamespace(s.mesh.Spec.Namespace)
	if err := r.deleteEach(ctx, configMap, func(o *metav1.PartialObjectMetadata) bool {
		_, elects := o.Annotations[leaderElections]
		return elects && strings.HasPrefix(o.Name, leaderPrefix)
	}, here); err != nil {
		return false, err
	}
	if err := r.deleteEach(ctx, lease, func(o *metav1.PartialObjectMetadata) bool { return strings.HasPrefix(o.Name, leaderPrefix) }, here); err != nil {
		return false, err
	}
	if s.mesh.Spec.DeletionPolicy.CASecret != v1alpha1.Delete {
		return true, nil
	}
	return true, r.removeAuthority(ctx, s)
}

// removeAuthority removes the CA of the mesh, with the history of it. A cacerts that somebody else wrote is theirs.
func (r *Reconciler) removeAuthority(ctx context.Context, s *scope) error {
	for _, name := range []string{authority.SelfSigned, authority.CACerts} {
		secret := &metav1.PartialObjectMetadata{}
		secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		err := r.Live.Get(ctx, client.ObjectKey{Namespace: s.mesh.Spec.Namespace, Name: name}, secret)
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		if err != nil || name == authority.CACerts && secret.Annotations[v1alpha1.AnnotationWritten] == "" {
			continue
		}
		secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
		if err := r.Client.Delete(ctx, secret, client.Preconditions{UID: &secret.UID}); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	for i := range s.rotations {
		if err := r.Client.Delete(ctx, &s.rotations[i]); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

// deleteEach deletes the objects of a kind that are listed and chosen.
func (r *Reconciler) deleteEach(
	ctx context.Context, kind schema.GroupVersionKind, chosen func(*metav1.PartialObjectMetadata) bool, opts ...client.ListOption,
) error {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind)
	if err := r.Live.List(ctx, list, opts...); err != nil {
		return err
	}
	for i := range list.Items {
		if !chosen(&list.Items[i]) {
			continue
		}
		list.Items[i].SetGroupVersionKind(kind)
		if err := r.Client.Delete(ctx, &list.Items[i]); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

// alone says whether no other Istio is in the cluster, of ours or of anybody: each has an injector. Those of this mesh are gone
// when it is asked.
func (r *Reconciler) alone(ctx context.Context, s *scope) (bool, error) {
	if s.others > 0 {
		return false, nil
	}
	injectors := &metav1.PartialObjectMetadataList{}
	injectors.SetGroupVersionKind(dataplane.InjectorKind)
	err := r.Live.List(ctx, injectors, client.HasLabels{dataplane.RevisionLabel}, client.Limit(1))
	return len(injectors.Items) == 0, err
}

// istiodGone says whether the last pod of the control plane has ended.
func (r *Reconciler) istiodGone(ctx context.Context, s *scope) (bool, error) {
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	err := r.Live.List(ctx, pods, client.InNamespace(s.mesh.Spec.Namespace), client.MatchingLabels{v1alpha1.LabelMesh: s.mesh.Name}, client.Limit(1))
	return len(pods.Items) == 0, err
}

// removeCRDs removes Istio's CRDs, and with them all Istio configuration, where the policy says so and no other mesh stands on
// them.
func (r *Reconciler) removeCRDs(ctx context.Context, s *scope) (bool, error) {
	if s.mesh.Spec.DeletionPolicy.CRDs != v1alpha1.Delete {
		return true, nil
	}
	alone, err := r.alone(ctx, s)
	if err != nil || !alone {
		return err == nil, err
	}
	items := slices.DeleteFunc(slices.Clone(s.mesh.Status.Inventory), func(i v1alpha1.InventoryItem) bool { return !isCRD(i) })
	left, err := r.Applier.Remove(ctx, s.mesh.Name, items)
	return len(left) == 0, err
}

// removeNamespaces removes the namespaces that were created for the mesh, where the policy says so.
func (r *Reconciler) removeNamespaces(ctx context.Context, s *scope) (bool, error) {
	if s.mesh.Spec.DeletionPolicy.Namespaces != v1alpha1.Delete {
		return true, nil
	}
	done := true
	for i := range s.namespaces {
		n := &s.namespaces[i]
		if n.Annotations[v1alpha1.AnnotationCreated] != s.mesh.Name {
			continue
		}
		done = false
		if n.DeletionTimestamp != nil {
			continue
		}
		n.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
		if err := r.Client.Delete(ctx, n, client.Preconditions{UID: &n.UID}); err != nil && !apierrors.IsNotFound(err) {
			return false, err
		}
	}
	return done, nil
}
