// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/meshwright/meshwright/controllers"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/apply"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/rollout"
)

// classedKind are Gateways of the Gateway API, and istioClass those that istiod deploys.
var classedKind = schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "Gateway"}

const istioClass = "istio"

// Classed labels the Gateways of the Gateway API that carry the label of a mesh with the revision that is to deploy and configure them:
// the stable one, or, during a rollout, that of the wave of their namespace. Istiod does the rest.
type Classed struct {
	Client   client.Client
	Owned    *apply.Owned
	Mapper   apimeta.RESTMapper
	Recorder events.EventRecorder

	mu sync.Mutex
	// watching says that the kind is watched; looked what each mesh was like when it was last looked for.
	watching bool
	looked   map[types.UID]occasion
}

// occasion is what makes the kind be looked for.
type occasion struct {
	generation int64
	operation  types.UID
}

// SetupWithManager registers the controller.
func (r *Classed) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("classed-gateway").
		For(&v1alpha1.MeshInstallation{}).
		Watches(&v1alpha1.MeshRollout{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			move, ok := o.(*v1alpha1.MeshRollout)
			if !ok {
				return nil
			}
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: move.Spec.Plan.Mesh}}}
		})).
		WatchesRawSource(r.Owned.Source(func(o *unstructured.Unstructured) []reconcile.Request {
			if o.GetKind() != classedKind.Kind || o.GroupVersionKind().Group != classedKind.Group {
				return nil
			}
			return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: o.GetLabels()[v1alpha1.LabelMesh]}}}
		})).
		WithOptions(controllers.Options()).
		Complete(r)
}

// Reconcile labels the Gateways of one mesh.
func (r *Classed) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	mesh := &v1alpha1.MeshInstallation{}
	if err := r.Client.Get(ctx, req.NamespacedName, mesh); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if mesh.DeletionTimestamp != nil || mesh.Spec.Paused || mesh.Status.StableRevision == "" {
		return ctrl.Result{}, nil
	}
	there, err := r.watch(ctx, mesh)
	if err != nil || !there {
		return ctrl.Result{}, err
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(classedKind.GroupVersion().WithKind("GatewayList"))
	if err := r.Owned.Client.List(ctx, list, client.MatchingLabels{v1alpha1.LabelMesh: mesh.Name}); err != nil {
		return ctrl.Result{}, err
	}
	for i := range list.Items {
		if err := r.label(ctx, mesh, &list.Items[i]); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, nil
}

// watch begins to watch Gateways where the cluster has them. It looks for them when the operator starts, and when a mesh is created, its spec
// changes or an operation of it begins or ends: they seldom come, and a cluster without them is not asked again and again.
func (r *Classed) watch(ctx context.Context, mesh *v1alpha1.MeshInstallation) (bool, error) {
	now := occasion{generation: mesh.Generation}
	if mesh.Status.ActiveOperation != nil {
		now.operation = mesh.Status.ActiveOperation.UID
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.watching {
		return true, nil
	}
	if last, looked := r.looked[mesh.UID]; looked && last == now {
		return false, nil
	}
	if _, err := r.Mapper.RESTMapping(classedKind.GroupKind(), classedKind.Version); err != nil {
		if !apimeta.IsNoMatchError(err) {
			return false, err
		}
		if r.looked == nil {
			r.looked = map[types.UID]occasion{}
		}
		r.looked[mesh.UID] = now
		return false, nil
	}
	if err := r.Owned.Watch(ctx, classedKind); err != nil {
		return false, err
	}
	r.watching = true
	return true, nil
}

// label sets the revision of a Gateway. A label that somebody else set is left, and said.
func (r *Classed) label(ctx context.Context, mesh *v1alpha1.MeshInstallation, gateway *unstructured.Unstructured) error {
	if class, _, _ := unstructured.NestedString(gateway.Object, "spec", "gatewayClassName"); class != istioClass || gateway.GetDeletionTimestamp() != nil {
		return nil
	}
	revision, err := r.revisionOf(ctx, mesh, gateway.GetNamespace())
	if err != nil || gateway.GetLabels()[v1alpha1.IstioRevision] == revision {
		return err
	}
	intent := &unstructured.Unstructured{}
	intent.SetGroupVersionKind(classedKind)
	intent.SetNamespace(gateway.GetNamespace())
	intent.SetName(gateway.GetName())
	intent.SetLabels(map[string]string{v1alpha1.IstioRevision: revision})
	err = r.Owned.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(intent), client.FieldOwner(v1alpha1.ManagerGateway))
	if apierrors.IsConflict(err) {
		r.Recorder.Eventf(gateway, mesh, corev1.EventTypeWarning, v1alpha1.ReasonEnrollmentBlocked, "Label",
			"%s is set by somebody else, and keeps the control plane of revision %s: remove the label, and it follows the mesh (to %s)",
			v1alpha1.IstioRevision, gateway.GetLabels()[v1alpha1.IstioRevision], revision)
		return nil
	}
	return err
}

// revisionOf is the revision that the Gateways of a namespace are to have.
func (r *Classed) revisionOf(ctx context.Context, mesh *v1alpha1.MeshInstallation, name string) (string, error) {
	o, err := dataplane.ActiveRollout(ctx, r.Client, mesh)
	if err != nil || o == nil || o.Status.Progress.Outcome != "" {
		return mesh.Status.StableRevision, err
	}
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := r.Client.Get(ctx, client.ObjectKey{Name: name}, namespace); err != nil {
		return "", err
	}
	plan, p := &o.Spec.Plan, o.Status.Progress
	return rollout.ClassedAt(plan, p, rollout.NewSorter(plan).WaveOf(namespace.Labels, false)), nil
}
