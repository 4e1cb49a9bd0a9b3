// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package revision keeps a MeshRevision true: the frozen objects of one Istio control plane are applied in phases, kept
// as they are, and removed with it.
//
// It never renders and never chooses a version: what a revision is, its spec says.
package revision

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/meshwright/meshwright/controllers"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/apply"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/metrics"
	"github.com/meshwright/meshwright/operator/render"
)

// Reconciler reconciles MeshRevisions.
type Reconciler struct {
	Client client.Client
	// Live reads from the API server.
	Live    client.Reader
	Applier *apply.Applier
	Owned   *apply.Owned
}

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("revision").
		For(&v1alpha1.MeshRevision{}).
		Watches(&v1alpha1.MeshInstallation{}, handler.EnqueueRequestsFromMapFunc(r.ofMesh)).
		Watches(&v1alpha1.MeshRollout{}, handler.EnqueueRequestsFromMapFunc(ofRollout)).
		WatchesRawSource(r.Owned.Source(ofObject)).
		WithOptions(controllers.Options()).
		Complete(r)
}

// ofObject maps an object of a revision, by its label.
func ofObject(o *unstructured.Unstructured) []reconcile.Request {
	name := o.GetLabels()[v1alpha1.LabelRevision]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: name}}}
}

// ofRollout maps a rollout to its two revisions: it decides when one goes.
func ofRollout(_ context.Context, o client.Object) []reconcile.Request {
	rollout, ok := o.(*v1alpha1.MeshRollout)
	if !ok {
		return nil
	}
	return []reconcile.Request{
		{NamespacedName: types.NamespacedName{Name: rollout.Spec.Plan.From.Revision}},
		{NamespacedName: types.NamespacedName{Name: rollout.Spec.Plan.To.Revision}},
	}
}

// ofMesh maps an installation to its revisions: whether it is paused decides whether they act.
func (r *Reconciler) ofMesh(ctx context.Context, mesh client.Object) []reconcile.Request {
	var all v1alpha1.MeshRevisionList
	if err := r.Client.List(ctx, &all); err != nil {
		return nil // the cache is going down, and with it the controller
	}
	var out []reconcile.Request
	for _, revision := range all.Items {
		if revision.Spec.Mesh == mesh.GetName() {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&revision)})
		}
	}
	return out
}

// terminalRetry is how long an error that waiting does not help is left alone: what stands in the way may be removed
// without an event that reaches us.
const terminalRetry = time.Minute

// Reconcile makes one revision true.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	revision := &v1alpha1.MeshRevision{}
	if err := r.Client.Get(ctx, req.NamespacedName, revision); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	mesh := &v1alpha1.MeshInstallation{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: revision.Spec.Mesh}, mesh); apierrors.IsNotFound(err) {
		mesh = nil
	} else if err != nil {
		return ctrl.Result{}, err
	}
	goes, err := r.goes(ctx, revision, mesh)
	if err != nil {
		return ctrl.Result{}, err
	}
	if goes {
		return ctrl.Result{}, r.remove(ctx, revision)
	}
	if revision.DeletionTimestamp == nil && !controllerutil.ContainsFinalizer(revision, v1alpha1.Finalizer) {
		before := revision.DeepCopy()
		controllerutil.AddFinalizer(revision, v1alpha1.Finalizer)
		if err := r.Client.Patch(ctx, revision, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return ctrl.Result{}, err
		}
	}
	// A revision that is deleted under a mesh which stays is kept: the mesh serves by it. One that was just let go of may still be in the cache,
	// when the rollout that retired it has ended already.
	if gone, err := r.gone(ctx, revision); err != nil || gone {
		return ctrl.Result{}, err
	}
	return r.keep(ctx, revision, mesh != nil && mesh.Spec.Paused)
}

// goes says whether a revision is to be removed: its mesh is gone or being removed, or a rollout has retired it.
func (r *Reconciler) goes(ctx context.Context, revision *v1alpha1.MeshRevision, mesh *v1alpha1.MeshInstallation) (bool, error) {
	if revision.DeletionTimestamp == nil {
		return false, nil
	}
	if mesh == nil || dataplane.Removing(mesh) {
		return true, nil
	}
	active, err := dataplane.ActiveRollout(ctx, r.Client, mesh)
	return dataplane.Retiring(active, revision.Name) && mesh.Status.StableRevision != revision.Name, err
}

// gone says whether a revision that is being deleted is there no more.
func (r *Reconciler) gone(ctx context.Context, revision *v1alpha1.MeshRevision) (bool, error) {
	if revision.DeletionTimestamp == nil {
		return false, nil
	}
	var now v1alpha1.MeshRevision
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(revision), &now)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return now.UID != revision.UID, err
}

// keep makes the control plane true. Of a paused mesh it only tells what is there.
func (r *Reconciler) keep(ctx context.Context, revision *v1alpha1.MeshRevision, paused bool) (ctrl.Result, error) {
	before := revision.DeepCopy()
	phases, err := phasesOf(revision)
	if err != nil {
		return ctrl.Result{}, reconcile.TerminalError(err)
	}
	result, applyErr := r.Applier.Apply(ctx, apply.Request{
		Manager: v1alpha1.ManagerRevision, Mesh: revision.Spec.Mesh, Phases: phases, Inventory: revision.Status.Inventory, Observe: paused,
		Record: func(ctx context.Context, intents []v1alpha1.InventoryItem) error {
			revision.Status.Inventory = intents
			if err := conditions.Write(ctx, r.Client, before, revision); err != nil {
				return err
			}
			before = revision.DeepCopy()
			return nil
		},
	})
	metrics.Corrected("revision", result.Corrected)
	revision.Status.Inventory = result.Inventory
	revision.Status.ObservedGeneration = revision.Generation
	verdict := conditions.OfApply(result, applyErr)
	if revision.DeletionTimestamp != nil && verdict.Ready == metav1.ConditionTrue {
		verdict.Reason = v1alpha1.ReasonInUse
		verdict.Message = "serves; its deletion waits for that of MeshInstallation " + revision.Spec.Mesh
	}
	conditions.Summarise(&revision.Status.Conditions, revision.Generation, verdict)
	if err := conditions.Write(ctx, r.Client, before, revision); err != nil {
		return ctrl.Result{}, err
	}
	if applyErr == nil && !paused {
		applyErr = r.carryReplicas(ctx, revision)
	}
	if apply.IsTerminal(applyErr) {
		return ctrl.Result{RequeueAfter: terminalRetry}, nil
	}
	return ctrl.Result{}, applyErr
}

// carryReplicas gives istiod the replicas to begin with, until it has been ready once: from then on they are its autoscaler's, or
// its chart's.
func (r *Reconciler) carryReplicas(ctx context.Context, revision *v1alpha1.MeshRevision) error {
	if revision.Spec.Replicas <= 1 || revision.Status.Scaled {
		return nil
	}
	key := client.ObjectKey{Namespace: revision.Spec.Namespace, Name: render.IstiodName(revision.Name)}
	found, err := r.Owned.Get(ctx, appsv1.SchemeGroupVersion.WithKind("Deployment"), key)
	if err != nil || found == nil {
		return err
	}
	now, _, err := unstructured.NestedInt64(found.Object, "spec", "replicas")
	if err != nil {
		return err
	}
	before := revision.DeepCopy()
	revision.Status.Scaled = true
	if now < int64(revision.Spec.Replicas) {
		scale := &autoscalingv1.Scale{
			ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}, Spec: autoscalingv1.ScaleSpec{Replicas: revision.Spec.Replicas},
		}
		istiod := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
		if err := r.Client.SubResource("scale").Update(ctx, istiod, client.WithSubResourceBody(scale)); err != nil {
			return err
		}
	}
	return conditions.Write(ctx, r.Client, before, revision)
}

// phasesOf sorts the objects of a control plane: what istiod reads, istiod itself, and its webhooks once it serves, so that
// no pod is refused for a webhook without a server. Its rights are bound while its pod starts: for a binding, the API server
// compares every rule, which takes longer than all the rest.
func phasesOf(revision *v1alpha1.MeshRevision) ([]apply.Phase, error) {
	objects, err := render.Unpack(revision.Spec.Objects)
	if err != nil {
		return nil, fmt.Errorf("spec.objects: %w", err)
	}
	var reads, workload, webhooks []*unstructured.Unstructured
	for _, o := range objects {
		switch o.GetKind() {
		case "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "ClusterRoleBinding", "RoleBinding":
			workload = append(workload, o)
		case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
			webhooks = append(webhooks, o)
		default:
			reads = append(reads, o)
		}
	}
	phases := []apply.Phase{{}, {Await: true}, {Confirmed: true}}
	for i, group := range [][]*unstructured.Unstructured{reads, workload, webhooks} {
		if phases[i].Objects, err = apply.Want(group); err != nil {
			return nil, err
		}
	}
	return phases, nil
}

// remove takes the control plane away, and lets go of the revision when nothing of it is left.
func (r *Reconciler) remove(ctx context.Context, revision *v1alpha1.MeshRevision) error {
	if !controllerutil.ContainsFinalizer(revision, v1alpha1.Finalizer) {
		return nil
	}
	left, err := r.Applier.Remove(ctx, revision.Spec.Mesh, revision.Status.Inventory)
	if err != nil || len(left) > 0 {
		return err // the events of what goes bring us back
	}
	before := revision.DeepCopy()
	controllerutil.RemoveFinalizer(revision, v1alpha1.Finalizer)
	return client.IgnoreNotFound(r.Client.Patch(ctx, revision, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
}
