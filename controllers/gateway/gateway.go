// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gateway keeps a MeshGateway true: Deployment, Service, autoscaler and budget of Istio's gateway chart, at the
// stable revision of its mesh.
package gateway

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/controllers"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/apply"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/metrics"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/validate"
)

// Reconciler reconciles MeshGateways.
type Reconciler struct {
	Client  client.Client
	Applier *apply.Applier
	Owned   *apply.Owned
	Library *istio.Library
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
	revision        *v1alpha1.MeshRevision
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
	s.gateway.Status.ObservedGeneration = s.gateway.Generation
	conditions.Summarise(&s.gateway.Status.Conditions, s.gateway.Generation, verdict)
	if writeErr := conditions.Write(ctx, r.Client, s.before, s.gateway); writeErr != nil {
		return ctrl.Result{}, writeErr
	}
	if apply.IsTerminal(err) {
		return ctrl.Result{RequeueAfter: terminalRetry}, nil
	}
	return ctrl.Result{}, err
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
	if s.revision == nil {
		return waiting(v1alpha1.ReasonProgressing, "waiting for the control plane of MeshInstallation "+s.mesh.Name), nil
	}
	return r.keep(ctx, s)
}

func (r *Reconciler) gather(ctx context.Context, s *scope) error {
	mesh := &v1alpha1.MeshInstallation{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: s.gateway.Spec.Mesh}, mesh); err != nil {
		return client.IgnoreNotFound(err)
	}
	s.mesh = mesh
	if mesh.Status.StableRevision == "" {
		return nil
	}
	revision := &v1alpha1.MeshRevision{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: mesh.Status.StableRevision}, revision); err != nil {
		return client.IgnoreNotFound(err)
	}
	s.revision = revision
	return nil
}

func (r *Reconciler) keep(ctx context.Context, s *scope) (conditions.Verdict, error) {
	bundle, err := r.Library.Get(ctx, s.revision.Spec.Version)
	if err != nil {
		return waiting(v1alpha1.ReasonVersionUnavailable, err.Error()), err
	}
	phases, err := r.phases(s, bundle)
	if err != nil {
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
	verdict := conditions.OfApply(result, err)
	if err != nil {
		return verdict, err
	}
	if err := r.observe(ctx, s); err != nil {
		return verdict, err
	}
	if verdict.Ready == metav1.ConditionTrue {
		return r.namespaceRule(ctx, s, verdict)
	}
	return verdict, nil
}

// phases renders the gateway. The Service stands in a phase of its own: its address must not depend on the workload.
func (r *Reconciler) phases(s *scope, bundle *istio.Bundle) ([]apply.Phase, error) {
	values, err := v1alpha1.DecodeMap(s.gateway.Spec.Values)
	if err != nil {
		return nil, err
	}
	request := render.GatewayRequest{
		Request: render.Request{
			Bundle: bundle, KubeVersion: r.KubeVersion, Mesh: s.mesh.Name, Revision: s.revision.Name,
			Namespace: s.mesh.Spec.Namespace, Images: s.mesh.Spec.Images,
		},
		Name: s.gateway.Name, GatewayNamespace: s.gateway.Namespace, GatewayValues: values,
	}
	objects, err := r.rendered.gateway(types.NamespacedName{Namespace: s.gateway.Namespace, Name: s.gateway.Name}, request)
	if err != nil {
		return nil, err
	}
	var first, workload []*unstructured.Unstructured
	for _, o := range objects {
		switch o.GetKind() {
		case "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget":
			workload = append(workload, o)
		default:
			first = append(first, o)
		}
	}
	phases := make([]apply.Phase, 2)
	for i, group := range [][]*unstructured.Unstructured{first, workload} {
		if phases[i].Objects, err = apply.Want(group); err != nil {
			return nil, err
		}
	}
	return phases, nil
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

// observe reads addresses and replicas back from the world.
func (r *Reconciler) observe(ctx context.Context, s *scope) error {
	key := client.ObjectKeyFromObject(s.gateway)
	service, err := r.Owned.Get(ctx, corev1.SchemeGroupVersion.WithKind("Service"), key)
	if err != nil {
		return err
	}
	s.gateway.Status.Addresses = nil
	if service != nil {
		var typed corev1.Service
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(service.Object, &typed); err != nil {
			return err
		}
		s.gateway.Status.Addresses = addresses(&typed)
	}
	key.Name = render.GatewayRequest{Request: render.Request{Revision: s.revision.Name}, Name: s.gateway.Name}.WorkloadName()
	found, err := r.Owned.Get(ctx, appsv1.SchemeGroupVersion.WithKind("Deployment"), key)
	if err != nil {
		return err
	}
	version := v1alpha1.GatewayVersion{Revision: s.revision.Name, Version: s.revision.Spec.Version}
	if found != nil {
		var deployment appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found.Object, &deployment); err != nil {
			return err
		}
		version.Replicas, version.ReadyReplicas = 1, deployment.Status.ReadyReplicas
		if deployment.Spec.Replicas != nil {
			version.Replicas = *deployment.Spec.Replicas
		}
	}
	s.gateway.Status.Versions = []v1alpha1.GatewayVersion{version}
	s.gateway.Status.Summary = fmt.Sprintf("%d/%d", version.ReadyReplicas, version.Replicas)
	return nil
}

// addresses are where a Service is reached from outside the cluster, else its address inside.
func addresses(service *corev1.Service) []string {
	var out []string
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if ingress.Hostname != "" {
			out = append(out, ingress.Hostname)
		} else if ingress.IP != "" {
			out = append(out, ingress.IP)
		}
	}
	out = append(out, service.Spec.ExternalIPs...)
	if len(out) == 0 && service.Spec.ClusterIP != "" && service.Spec.ClusterIP != corev1.ClusterIPNone {
		out = append(out, service.Spec.ClusterIP)
	}
	return out[:min(len(out), maxAddresses)]
}

// maxAddresses is what the API allows in status.
const maxAddresses = 20

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
	before := gateway.DeepCopy()
	controllerutil.RemoveFinalizer(gateway, v1alpha1.Finalizer)
	if err := r.Client.Patch(ctx, gateway, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}
