// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dataplane labels the namespaces that a mesh's selector matches, moves the label with the waves of a rollout, and takes it
// back when the selector no longer matches; and it restarts the workloads that a rollout wants restarted. It never takes a label that
// somebody else set.
package dataplane

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/meshwright/meshwright/controllers"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
)

// Reconciler reconciles the labels of namespaces.
type Reconciler struct {
	Client client.Client
	// Namespace of the operator, which is never enrolled.
	Namespace string
}

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("dataplane").
		For(&corev1.Namespace{}, builder.OnlyMetadata).
		Watches(&v1alpha1.MeshInstallation{}, handler.EnqueueRequestsFromMapFunc(r.everyNamespace)).
		Watches(&v1alpha1.MeshRollout{}, handler.EnqueueRequestsFromMapFunc(r.everyNamespace), builder.WithPredicates(walked)).
		Watches(&v1alpha1.MeshGateway{}, handler.EnqueueRequestsFromMapFunc(ofGateway)).
		WithOptions(controllers.Options()).
		Complete(r)
}

// walked lets the events through by which a rollout may want other labels: counts and sentences change none.
var walked = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*v1alpha1.MeshRollout)
	after, also := e.ObjectNew.(*v1alpha1.MeshRollout)
	if !ok || !also {
		return true
	}
	last, now := before.Status.Progress, after.Status.Progress
	return last.Step != now.Step || last.Back != now.Back || (last.Proven == nil) != (now.Proven == nil) || last.Outcome != now.Outcome
}}

// everyNamespace maps a changed mesh: any namespace may be selected by it now.
func (r *Reconciler) everyNamespace(ctx context.Context, _ client.Object) []reconcile.Request {
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := r.Client.List(ctx, all); err != nil {
		return nil // the cache is going down, and with it the controller
	}
	out := make([]reconcile.Request, len(all.Items))
	for i := range all.Items {
		out[i].Name = all.Items[i].Name
	}
	return out
}

func ofGateway(_ context.Context, gateway client.Object) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: gateway.GetNamespace()}}}
}

// Reconcile makes the label of one namespace true.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := r.Client.Get(ctx, req.NamespacedName, namespace); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	meshes, err := dataplane.Gather(ctx, r.Client, r.Namespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	if _, wanted := dataplane.Decide(meshes, namespace); wanted != dataplane.LabelOf(namespace) {
		return ctrl.Result{}, r.label(ctx, namespace, wanted.Revision)
	}
	return ctrl.Result{}, nil
}

// label sets the revision label of a namespace, or gives it up with an empty revision. When somebody else holds the label it stays theirs: the
// installation reports it.
func (r *Reconciler) label(ctx context.Context, namespace *metav1.PartialObjectMetadata, revision string) error {
	// With the UID, a namespace that is gone meanwhile is a conflict, and is not created again.
	intent := applycorev1.Namespace(namespace.Name).WithUID(namespace.UID)
	if revision != "" {
		intent = intent.WithLabels(map[string]string{dataplane.RevisionLabel: revision})
	}
	err := r.Client.Apply(ctx, intent, client.FieldOwner(v1alpha1.ManagerDataPlane))
	if apierrors.HasStatusCause(err, metav1.CauseTypeFieldManagerConflict) {
		return nil
	}
	return err
}
