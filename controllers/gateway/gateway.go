// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gateway keeps a MeshGateway true: Deployment, Service, autoscaler and budget of Istio's gateway chart, at the stable revision of
// its mesh, or, while a rollout moves it, at two revisions behind one Service. shift.go brings both to the share that is wanted.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
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
	Client  client.Client
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
	if err := r.Owned.Watch(ctx, deploymentKind, serviceKind); err != nil {
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
	w, err := r.look(ctx, s)
	if err != nil {
		return waiting(v1alpha1.ReasonProgressing, "the gateway's objects can't be read"), err
	}
	r.hold(s, w)
	if s.revisions[s.want.New] == nil {
		return waiting(v1alpha1.ReasonProgressing, "waiting for the control plane of MeshInstallation "+s.mesh.Name), nil
	}
	values, err := v1alpha1.DecodeMap(s.gateway.Spec.Values)
	if err != nil {
		return waiting(v1alpha1.ReasonInvalidSpec, err.Error()), nil //nolint:nilerr // refused before
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
	if err := r.observe(ctx, s, decision, result); err != nil {
		return verdict, err
	}
	if verdict.Ready == metav1.ConditionTrue {
		return r.namespaceRule(ctx, s, verdict)
	}
	return verdict, nil
}

// serving leaves out of a result what does not keep the gateway from serving: the workload of a version that gets no traffic, or of one
// of two that do while the other is ready.
func serving(s *scope, d traffic.Decision, result apply.Result) apply.Result {
	if s.old == "" {
		return result
	}
	isOf := func(revision string) func(apply.NotReady) bool {
		name := request(s, revision).WorkloadName()
		return func(n apply.NotReady) bool {
			return n.Name == name && (n.Kind == deploymentKind.Kind || n.Kind == "HorizontalPodAutoscaler")
		}
	}
	old, next := isOf(s.old), isOf(s.want.New)
	ready := func(is func(apply.NotReady) bool) bool { return !slices.ContainsFunc(result.NotReady, is) }
	switch {
	case d.Pointer == traffic.ToOld, d.Pointer == traffic.ToBoth && ready(old):
		result.NotReady = slices.DeleteFunc(result.NotReady, next)
	case d.Pointer == traffic.ToNew, d.Pointer == traffic.ToBoth && ready(next):
		result.NotReady = slices.DeleteFunc(result.NotReady, old)
	}
	return result
}

// request is what names a version of the gateway.
func request(s *scope, revision string) render.GatewayRequest {
	return render.GatewayRequest{
		Request: render.Request{Revision: revision}, Name: s.gateway.Name, GatewayNamespace: s.gateway.Namespace,
	}
}

// unavailableError says that the charts of a version can't be had now.
type unavailableError struct{ err error }

func (e *unavailableError) Error() string { return e.err.Error() }
func (e *unavailableError) Unwrap() error { return e.err }

// version renders one version of the gateway.
func (r *Reconciler) version(ctx context.Context, s *scope, values map[string]any, revision string) (render.GatewayObjects, render.GatewayRequest, error) {
	full := request(s, revision)
	bundle, err := r.Library.Get(ctx, s.revisions[revision].Spec.Version)
	if err != nil {
		return render.GatewayObjects{}, full, &unavailableError{err}
	}
	full.Bundle, full.KubeVersion, full.Mesh = bundle, r.KubeVersion, s.mesh.Name
	full.Namespace, full.Images, full.GatewayValues, full.Shift = s.mesh.Spec.Namespace, s.mesh.Spec.Images, values, s.gateway.Spec.Shift
	objects, err := r.rendered.gateway(types.NamespacedName{Namespace: s.gateway.Namespace, Name: s.gateway.Name}, full)
	return objects, full, err
}

// phases renders what the decision wants. The Service and what else exists once stand in a phase of their own, as the version has them
// that gets the traffic: the address must not depend on a workload.
func (r *Reconciler) phases(ctx context.Context, s *scope, values map[string]any, d traffic.Decision) ([]apply.Phase, error) {
	sizes := map[string]int32{s.want.New: d.New}
	limits := map[string]int32{}
	if s.old != "" {
		sizes[s.old], limits[s.old] = d.Old, d.Cap
	}
	leading := s.want.New
	if s.revisions[s.old] != nil && d.Pointer != traffic.ToNew {
		leading = s.old
	}
	var first, workloads []*unstructured.Unstructured
	for _, revision := range slices.Sorted(maps.Keys(sizes)) {
		if s.revisions[revision] == nil || sizes[revision] < 0 && s.held == "" {
			continue
		}
		objects, full, err := r.version(ctx, s, values, revision)
		if err != nil {
			return nil, err
		}
		if revision == leading {
			if first, err = shared(s, full, objects, d); err != nil {
				return nil, err
			}
		}
		scaled, err := render.Scale(objects.Workload, sizes[revision], limits[revision])
		if err != nil {
			return nil, err
		}
		workloads = append(workloads, scaled...)
	}
	phases := make([]apply.Phase, 2)
	for i, group := range [][]*unstructured.Unstructured{first, workloads} {
		var err error
		if phases[i].Objects, err = apply.Want(group); err != nil {
			return nil, err
		}
	}
	return phases, nil
}

// shared are the objects that exist once over both versions, with the Service and the route pointed as decided.
func shared(s *scope, full render.GatewayRequest, objects render.GatewayObjects, d traffic.Decision) ([]*unstructured.Unstructured, error) {
	pointed := map[traffic.Pointer]string{traffic.ToOld: s.old, traffic.ToNew: s.want.New, traffic.ToBoth: ""}[d.Pointer]
	var out []*unstructured.Unstructured
	for _, o := range objects.Shared {
		if o.GetKind() == serviceKind.Kind {
			o = o.DeepCopy()
			render.PointAt(o, pointed)
		}
		out = append(out, o)
	}
	if age := render.ConnectionAge(full, objects.Shared); age != nil {
		out = append(out, age)
	}
	if full.Shift.Type != v1alpha1.ShiftHTTPRoute {
		return out, nil
	}
	next := s.want.New
	if d.New < 0 && s.held == "" {
		next = ""
	}
	route, err := render.Route(full, objects.Shared, s.old, next, d.Route)
	return append(out, route...), err
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

// observe reads addresses and replicas back from the world, and says how far a shift is.
func (r *Reconciler) observe(ctx context.Context, s *scope, d traffic.Decision, result apply.Result) error {
	service, err := r.Owned.Get(ctx, serviceKind, client.ObjectKeyFromObject(s.gateway))
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
	w, err := r.look(ctx, s)
	if err != nil {
		return err
	}
	s.gateway.Status.Versions, s.gateway.Status.Summary = s.versionsOf(w)
	r.measure(s, w, d, failing(s, result))
	return nil
}

// broken are the reasons of pods that time alone hardly mends.
var broken = []string{"CrashLoopBackOff", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError"}

// failing says why the pods of the wanted version don't get ready, where time alone will hardly help.
func failing(s *scope, result apply.Result) string {
	for _, n := range result.NotReady {
		if n.Name == request(s, s.want.New).WorkloadName() && slices.Contains(broken, n.Reason) {
			return n.Message
		}
	}
	return ""
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
	r.Meter.Forget(client.ObjectKeyFromObject(gateway))
	metrics.ForgetGateway(gateway.Namespace, gateway.Name)
	before := gateway.DeepCopy()
	controllerutil.RemoveFinalizer(gateway, v1alpha1.Finalizer)
	if err := r.Client.Patch(ctx, gateway, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}
