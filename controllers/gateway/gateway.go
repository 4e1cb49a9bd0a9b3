// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gateway keeps a MeshGateway true: Deployment, Service, autoscaler and budget of Istio's gateway chart, at the stable revision of
// its mesh, or, while a rollout moves it, at two revisions behind one Service. shift.go brings both to the share that is wanted.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/controllers"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/apply"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/metrics"
	"github.com/meshwright/meshwright/operator/probe"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/rollout"
	"github.com/meshwright/meshwright/operator/traffic"
	"github.com/meshwright/meshwright/operator/validate"
)

// Reconciler reconciles MeshGateways.
type Reconciler struct {
	Client client.Client
	// Live reads from the API server.
	Live    client.Reader
	Applier *apply.Applier
	Owned   *apply.Owned
	Library *istio.Library
	// Meter counts what the proxies of gateways do whose traffic shifts; Read tells that it has.
	Meter *probe.Meter
	Read  <-chan event.GenericEvent
	Clock clock.PassiveClock
	// KubeVersion is the cluster's version, such as v1.34.4: charts choose by it.
	KubeVersion string

	rendered memo
}

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("gateway").
		For(&v1alpha1.MeshGateway{}).
		Watches(&v1alpha1.MeshInstallation{}, handler.EnqueueRequestsFromMapFunc(r.ofMesh)).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.ofNamespace), builder.OnlyMetadata).
		Watches(&v1alpha1.MeshRollout{}, handler.EnqueueRequestsFromMapFunc(r.ofRollout)).
		Watches(&v1alpha1.MeshRevision{}, handler.EnqueueRequestsFromMapFunc(r.ofRevision)).
		WatchesRawSource(source.Channel(r.Read, handler.EnqueueRequestsFromMapFunc(r.shifting))).
		WatchesRawSource(r.Owned.Source(ofObject)).
		WithOptions(controllers.Options()).
		Complete(r)
}

func ofObject(o *unstructured.Unstructured) []reconcile.Request {
	name := o.GetLabels()[v1alpha1.LabelGateway]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: name}}}
}

func (r *Reconciler) ofMesh(ctx context.Context, mesh client.Object) []reconcile.Request {
	return r.where(ctx, func(g *v1alpha1.MeshGateway) bool { return g.Spec.Mesh == mesh.GetName() })
}

func (r *Reconciler) ofRollout(ctx context.Context, o client.Object) []reconcile.Request {
	move, ok := o.(*v1alpha1.MeshRollout)
	return r.where(ctx, func(g *v1alpha1.MeshGateway) bool { return ok && g.Spec.Mesh == move.Spec.Plan.Mesh })
}

func (r *Reconciler) ofRevision(ctx context.Context, o client.Object) []reconcile.Request {
	revision, ok := o.(*v1alpha1.MeshRevision)
	return r.where(ctx, func(g *v1alpha1.MeshGateway) bool { return ok && g.Spec.Mesh == revision.Spec.Mesh })
}

// shifting are the gateways that the meter reads.
func (r *Reconciler) shifting(ctx context.Context, _ client.Object) []reconcile.Request {
	return r.where(ctx, func(g *v1alpha1.MeshGateway) bool { return g.Status.Shift != nil })
}

func (r *Reconciler) ofNamespace(ctx context.Context, namespace client.Object) []reconcile.Request {
	return r.where(ctx, func(g *v1alpha1.MeshGateway) bool { return g.Namespace == namespace.GetName() })
}

func (r *Reconciler) where(ctx context.Context, matches func(*v1alpha1.MeshGateway) bool) []reconcile.Request {
	var all v1alpha1.MeshGatewayList
	if err := r.Client.List(ctx, &all); err != nil {
		return nil // the cache is going down, and with it the controller
	}
	var out []reconcile.Request
	for i := range all.Items {
		if matches(&all.Items[i]) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
		}
	}
	return out
}

// terminalRetry is how long an error that waiting does not help is left alone.
const terminalRetry = time.Minute

// scope is one reconcile of one gateway.
type scope struct {
	gateway, before *v1alpha1.MeshGateway
	mesh            *v1alpha1.MeshInstallation
	// revisions of the mesh by name.
	revisions map[string]*v1alpha1.MeshRevision
	// rollout that moves the gateway, if any; want is what it wants, and weight what that means for this gateway. Held says why
	// nothing moves at present.
	rollout *v1alpha1.MeshRollout
	want    rollout.Shift
	weight  int32
	held    string
	// old is the version that there is besides the wanted one.
	old string
	// declared and bound are the replicas by the user's values, and the bound of the autoscaler.
	declared, bound int32
}

// Reconcile makes one gateway true.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s := &scope{gateway: &v1alpha1.MeshGateway{}}
	if err := r.Client.Get(ctx, req.NamespacedName, s.gateway); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if s.gateway.DeletionTimestamp != nil {
		return ctrl.Result{}, r.remove(ctx, s.gateway)
	}
	if !controllerutil.ContainsFinalizer(s.gateway, v1alpha1.Finalizer) {
		before := s.gateway.DeepCopy()
		controllerutil.AddFinalizer(s.gateway, v1alpha1.Finalizer)
		if err := r.Client.Patch(ctx, s.gateway, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return ctrl.Result{}, err
		}
	}
	s.before = s.gateway.DeepCopy()
	verdict, err := r.decide(ctx, s)
	r.calm(s)
	s.gateway.Status.ObservedGeneration = s.gateway.Generation
	conditions.Summarise(&s.gateway.Status.Conditions, s.gateway.Generation, verdict)
	if writeErr := conditions.Write(ctx, r.Client, s.before, s.gateway); writeErr != nil {
		return ctrl.Result{}, writeErr
	}
	if apply.IsTerminal(err) {
		return ctrl.Result{RequeueAfter: terminalRetry}, nil
	}
	return ctrl.Result{RequeueAfter: r.again(s)}, err
}

// again is when a shift is looked at although nothing changes: what was pointed elsewhere settles.
func (r *Reconciler) again(s *scope) time.Duration {
	if shift := s.gateway.Status.Shift; shift != nil && shift.State == v1alpha1.ShiftProgressing {
		return settles / 3
	}
	return 0
}

func waiting(reason, message string) conditions.Verdict {
	return conditions.Verdict{Ready: metav1.ConditionFalse, Reason: reason, Message: message, Reconciling: true}
}

// decide goes from what has to be there first to what is applied.
func (r *Reconciler) decide(ctx context.Context, s *scope) (conditions.Verdict, error) {
	if err := r.gather(ctx, s); err != nil {
		return waiting(v1alpha1.ReasonProgressing, "the mesh can't be read"), err
	}
	if s.mesh == nil {
		return waiting(v1alpha1.ReasonMeshNotFound, fmt.Sprintf("there is no MeshInstallation %s: create it, or name another one in spec.mesh", s.gateway.Spec.Mesh)), nil
	}
	if errs, _ := validate.Gateway(s.gateway, s.mesh, validate.Facts{}); len(errs) > 0 {
		message := errs.ToAggregate().Error()
		return conditions.Verdict{Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonInvalidSpec, Message: message, Stalled: true}, nil
	}
	for _, entry := range s.mesh.Spec.Gateways {
		if entry.Name == s.gateway.Name && entry.Namespace == s.gateway.Namespace && !validate.Same(s.gateway, entry) {
			return waiting(v1alpha1.ReasonProgressing, "spec.values differ from those in spec.gateways of MeshInstallation "+s.mesh.Name+", which are put back"), nil
		}
	}
	if err := r.wants(ctx, s); err != nil {
		return waiting(v1alpha1.ReasonProgressing, "the rollout of the mesh can't be read"), err
	}
	if err := r.Owned.Watch(ctx, deploymentKind, serviceKind, autoscalerKind); err != nil {
		return waiting(v1alpha1.ReasonProgressing, "the gateway's objects can't be read"), err
	}
	return r.keep(ctx, s)
}

func (r *Reconciler) gather(ctx context.Context, s *scope) error {
	mesh := &v1alpha1.MeshInstallation{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: s.gateway.Spec.Mesh}, mesh); err != nil {
		return client.IgnoreNotFound(err)
	}
	s.mesh, s.revisions = mesh, map[string]*v1alpha1.MeshRevision{}
	var all v1alpha1.MeshRevisionList
	if err := r.Client.List(ctx, &all); err != nil {
		return err
	}
	for i := range all.Items {
		if all.Items[i].Spec.Mesh == mesh.Name {
			s.revisions[all.Items[i].Name] = &all.Items[i]
		}
	}
	return nil
}

func (r *Reconciler) keep(ctx context.Context, s *scope) (conditions.Verdict, error) {
	values, err := v1alpha1.DecodeMap(s.gateway.Spec.Values)
	if err != nil {
		return waiting(v1alpha1.ReasonInvalidSpec, err.Error()), nil
	}
	var not *notAdoptableError
	switch err := r.adopt(ctx, s, values); {
	case errors.As(err, &not):
		return conditions.Verdict{Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonNameTaken, Message: err.Error(), Stalled: true}, nil
	case err != nil:
		return waiting(v1alpha1.ReasonProgressing, "the gateway that is there can't be adopted yet"), err
	}
	w, err := r.look(ctx, s)
	if err != nil {
		return waiting(v1alpha1.ReasonProgressing, "the gateway's objects can't be read"), err
	}
	r.hold(s, w)
	keepAdopted(s, w)
	if s.leading(traffic.ToNew) == nil {
		return waiting(v1alpha1.ReasonProgressing, "waiting for the control plane of MeshInstallation "+s.mesh.Name), nil
	}
	s.declared, s.bound = traffic.ReplicasOf(values)
	decision := r.plan(s, w)
	r.watched(s)
	phases, err := r.phases(ctx, s, values, decision)
	var unavailable *unavailableError
	switch {
	case errors.As(err, &unavailable):
		return waiting(v1alpha1.ReasonVersionUnavailable, err.Error()), err
	case err != nil:
		//nolint:nilerr // it is the user's to mend, and said in the condition
		return conditions.Verdict{Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonInvalidSpec, Message: err.Error(), Stalled: true}, nil
	}
	result, err := r.Applier.Apply(ctx, apply.Request{
		Manager: v1alpha1.ManagerGateway, Mesh: s.mesh.Name, Phases: phases, Inventory: s.gateway.Status.Inventory,
		Observe: s.mesh.Spec.Paused,
		Record: func(ctx context.Context, intents []v1alpha1.InventoryItem) error {
			s.gateway.Status.Inventory = intents
			if err := conditions.Write(ctx, r.Client, s.before, s.gateway); err != nil {
				return err
			}
			s.before = s.gateway.DeepCopy()
			return nil
		},
	})
	metrics.Corrected("gateway", result.Corrected)
	s.gateway.Status.Inventory = result.Inventory
	verdict := conditions.OfApply(serving(s, decision, result), err)
	if err != nil {
		return verdict, err
	}
	if s.old == render.Unrevisioned && decision.Old < 0 && s.held == "" && !s.mesh.Spec.Paused && result.Ready() {
		if err := r.release(ctx, s); err != nil {
			return verdict, err
		}
	}
	if err := r.observe(ctx, s, decision, result); err != nil {
		return verdict, err
	}
	if verdict.Ready == metav1.ConditionTrue {
		return r.namespaceRule(ctx, s, verdict)
	}
	return verdict, nil
}

// namespaceRule reports a namespace that is labelled for injection: the label beats the pod's own revision, so that no second
// version could stand beside this one. The gateway serves all the same.
func (r *Reconciler) namespaceRule(ctx context.Context, s *scope, verdict conditions.Verdict) (conditions.Verdict, error) {
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := r.Client.Get(ctx, client.ObjectKey{Name: s.gateway.Namespace}, namespace); err != nil {
		return verdict, client.IgnoreNotFound(err)
	}
	for _, label := range []string{dataplane.RevisionLabel, dataplane.InjectionLabel} {
		if value := namespace.Labels[label]; value != "" && value != "disabled" {
			verdict.Reason = v1alpha1.ReasonNamespaceEnrolled
			verdict.Message = fmt.Sprintf("serves, but namespace %s is labelled %s=%s, which beats the gateway's own revision: remove the label",
				namespace.Name, label, value)
		}
	}
	return verdict, nil
}

// remove takes the gateway's objects away and lets go of it when nothing is left.
func (r *Reconciler) remove(ctx context.Context, gateway *v1alpha1.MeshGateway) error {
	if !slices.Contains(gateway.Finalizers, v1alpha1.Finalizer) {
		return nil
	}
	left, err := r.Applier.Remove(ctx, gateway.Spec.Mesh, gateway.Status.Inventory)
	if err != nil || len(left) > 0 {
		return err // the events of what goes bring us back
	}
	r.rendered.forget(client.ObjectKeyFromObject(gateway))
	r.Meter.Forget(client.ObjectKeyFromObject(gateway))
	metrics.ForgetGateway(gateway.Namespace, gateway.Name)
	before := gateway.DeepCopy()
	controllerutil.RemoveFinalizer(gateway, v1alpha1.Finalizer)
	if err := r.Client.Patch(ctx, gateway, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}
