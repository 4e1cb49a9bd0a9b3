// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package installation turns the one object a user writes into everything else: it resolves the version, freezes it as a
// MeshRevision, keeps what exists once (CRDs, base, default revision and tags), writes the mesh's own MeshGateways, and
// reports all of it in one status. On deletion it refuses while the mesh is in use, and then takes it away in order.
package installation

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/events"
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
	"github.com/meshwright/meshwright/operator/authority"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/metrics"
	"github.com/meshwright/meshwright/operator/validate"
)

// Reconciler reconciles MeshInstallations.
type Reconciler struct {
	Client client.Client
	// Live reads from the API server, for what no cache holds.
	Live    client.Reader
	Applier *apply.Applier
	Owned   *apply.Owned
	Index   *dataplane.Index
	// Proxies tells that the counts of the index have changed.
	Proxies <-chan event.GenericEvent
	// Authority knows the CA of each mesh, and Secrets tells that one has changed.
	Authority *authority.Watcher
	Secrets   <-chan event.GenericEvent
	Facts     *facts.Gatherer
	Library   *istio.Library
	Recorder  events.EventRecorder
	Clock     clock.PassiveClock
	// Namespace of the operator.
	Namespace string
	// KubeVersion is the cluster's version, such as v1.34.4: charts choose by it.
	KubeVersion string

	rendered singletons
	counted  countTimes
	verdicts verdicts
}

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	every := handler.EnqueueRequestsFromMapFunc(r.everyMesh)
	return ctrl.NewControllerManagedBy(mgr).
		Named("installation").
		For(&v1alpha1.MeshInstallation{}).
		Watches(&v1alpha1.MeshRevision{}, handler.EnqueueRequestsFromMapFunc(meshOf)).
		Watches(&v1alpha1.MeshGateway{}, handler.EnqueueRequestsFromMapFunc(meshOf)).
		Watches(&v1alpha1.MeshRollout{}, handler.EnqueueRequestsFromMapFunc(meshOf)).
		Watches(&v1alpha1.MeshRotation{}, handler.EnqueueRequestsFromMapFunc(meshOf)).
		Watches(&corev1.Namespace{}, every, builder.OnlyMetadata).
		WatchesRawSource(r.Owned.Source(r.ofObject)).
		WatchesRawSource(source.Channel(r.Proxies, every)).
		WatchesRawSource(source.Channel(r.Secrets, every)).
		WithOptions(controllers.Options()).
		Complete(r)
}

// meshOf maps what belongs to one mesh.
func meshOf(_ context.Context, o client.Object) []reconcile.Request {
	switch part := o.(type) {
	case *v1alpha1.MeshRevision:
		return requestFor(part.Spec.Mesh)
	case *v1alpha1.MeshGateway:
		return requestFor(part.Spec.Mesh)
	case *v1alpha1.MeshRollout:
		return requestFor(part.Spec.Plan.Mesh)
	case *v1alpha1.MeshRotation:
		return requestFor(part.Spec.Mesh)
	}
	return nil
}

func requestFor(mesh string) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: mesh}}}
}

func (r *Reconciler) everyMesh(ctx context.Context, _ client.Object) []reconcile.Request {
	var all v1alpha1.MeshInstallationList
	if err := r.Client.List(ctx, &all); err != nil {
		return nil // the cache is going down, and with it the controller
	}
	var out []reconcile.Request
	for _, m := range all.Items {
		out = append(out, requestFor(m.Name)...)
	}
	return out
}

// ofObject maps what exists once. CRDs carry no mesh: all are told.
func (r *Reconciler) ofObject(o *unstructured.Unstructured) []reconcile.Request {
	labels := o.GetLabels()
	if labels[v1alpha1.LabelRevision] != "" || labels[v1alpha1.LabelGateway] != "" {
		return nil
	}
	if mesh := labels[v1alpha1.LabelMesh]; mesh != "" {
		return requestFor(mesh)
	}
	return r.everyMesh(context.Background(), nil)
}

// terminalRetry is how long an error that waiting does not help is left alone: what stands in the way may be removed
// without an event that reaches us.
const terminalRetry = time.Minute

// scope is one reconcile of one installation.
type scope struct {
	mesh, before *v1alpha1.MeshInstallation
	// revisions of the mesh; revision is the stable one of them, nil while there is none.
	revisions []*v1alpha1.MeshRevision
	revision  *v1alpha1.MeshRevision
	// rollouts of the mesh, the oldest first; active is the one that may act, nil for none.
	rollouts []v1alpha1.MeshRollout
	active   *v1alpha1.MeshRollout
	// preempted is the rollout that stands still while a rotation is active; nil for none.
	preempted *v1alpha1.MeshRollout
	// rotations of the mesh's CA; rotating is the one under way that was created first, and granted the one that may act; nil for none.
	rotations         []v1alpha1.MeshRotation
	rotating, granted *v1alpha1.MeshRotation
	// gateways that the mesh has written, and those of teams.
	gateways, teams []v1alpha1.MeshGateway
	namespaces      []metav1.PartialObjectMetadata
	others          int
}

// Reconcile makes one installation true.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	mesh := &v1alpha1.MeshInstallation{}
	if err := r.Client.Get(ctx, req.NamespacedName, mesh); err != nil {
		metrics.Forget(req.Name)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if mesh.DeletionTimestamp != nil && !controllerutil.ContainsFinalizer(mesh, v1alpha1.Finalizer) {
		return ctrl.Result{}, nil
	}
	if mesh.DeletionTimestamp == nil && !controllerutil.ContainsFinalizer(mesh, v1alpha1.Finalizer) {
		before := mesh.DeepCopy()
		controllerutil.AddFinalizer(mesh, v1alpha1.Finalizer)
		if err := r.Client.Patch(ctx, mesh, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return ctrl.Result{}, err
		}
	}
	s := &scope{mesh: mesh, before: mesh.DeepCopy()}
	known, err := r.gather(ctx, s)
	if err != nil {
		return ctrl.Result{}, err
	}
	if mesh.DeletionTimestamp != nil {
		return r.delete(ctx, s, known)
	}
	outcome, err := r.keep(ctx, s, known)
	return r.tell(ctx, s, outcome, err)
}

// tell writes the status after an attempt that ended with err, and says when to look again.
func (r *Reconciler) tell(ctx context.Context, s *scope, out outcome, err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) {
		return ctrl.Result{}, err // it is tried again at once: nothing has happened that is worth telling
	}
	wait := r.report(ctx, s, out)
	if writeErr := r.write(ctx, s); writeErr != nil {
		return ctrl.Result{}, writeErr
	}
	switch {
	case apply.IsTerminal(err):
		return ctrl.Result{RequeueAfter: terminalRetry}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: wait}, nil
}

// gather reads what is there, all from caches.
func (r *Reconciler) gather(ctx context.Context, s *scope) (validate.Facts, error) {
	known, err := r.Facts.Gather(ctx, r.Client, s.mesh.Name)
	if err != nil {
		return known, err
	}
	if s.revisions, err = facts.RevisionsOf(ctx, r.Client, s.mesh.Name); err != nil {
		return known, err
	}
	s.revision = facts.Stable(s.revisions, s.mesh.Status.StableRevision)
	if err := r.gatherRollouts(ctx, s); err != nil {
		return known, err
	}
	if err := r.gatherRotations(ctx, s); err != nil {
		return known, err
	}
	for _, g := range known.Gateways {
		switch {
		case g.Spec.Mesh != s.mesh.Name:
		case validate.Written(&g):
			s.gateways = append(s.gateways, g)
		default:
			s.teams = append(s.teams, g)
		}
	}
	s.others = len(known.Installations) - 1
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := r.Client.List(ctx, all); err != nil {
		return known, err
	}
	s.namespaces = all.Items
	return known, nil
}

// write writes the status when it has changed, and tells an event when Ready changed its reason, or the CA came into trouble.
func (r *Reconciler) write(ctx context.Context, s *scope) error {
	if err := conditions.Write(ctx, r.Client, s.before, s.mesh); err != nil {
		return err
	}
	last, now := conditionOf(s.before, v1alpha1.ConditionReady), conditionOf(s.mesh, v1alpha1.ConditionReady)
	if now.Reason != last.Reason {
		r.tellOf(s.mesh, now, now.Reason != v1alpha1.ReasonProgressing && now.Reason != v1alpha1.ReasonRemoving)
	}
	last, now = conditionOf(s.before, v1alpha1.ConditionCertificatesReady), conditionOf(s.mesh, v1alpha1.ConditionCertificatesReady)
	if now.Reason != last.Reason && now.Status == metav1.ConditionFalse {
		r.tellOf(s.mesh, now, now.Reason != v1alpha1.ReasonProgressing)
	}
	return nil
}

// tellOf makes an event of a condition; bad ones are warnings.
func (r *Reconciler) tellOf(m *v1alpha1.MeshInstallation, c metav1.Condition, bad bool) {
	kind := corev1.EventTypeNormal
	if c.Status != metav1.ConditionTrue && bad {
		kind = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(m, nil, kind, c.Reason, "Reconcile", "%s", c.Message)
}

func conditionOf(m *v1alpha1.MeshInstallation, typ string) metav1.Condition {
	for _, c := range m.Status.Conditions {
		if c.Type == typ {
			return c
		}
	}
	return metav1.Condition{}
}

func (s *scope) namespace(name string) *metav1.PartialObjectMetadata {
	for i := range s.namespaces {
		if s.namespaces[i].Name == name {
			return &s.namespaces[i]
		}
	}
	return nil
}

// ensureNamespaces creates the namespaces of the control plane and of the gateways where they do not exist.
func (r *Reconciler) ensureNamespaces(ctx context.Context, s *scope) error {
	wanted := []string{s.mesh.Spec.Namespace}
	for _, g := range s.mesh.Spec.Gateways {
		wanted = append(wanted, g.Namespace)
	}
	created := map[string]bool{}
	for _, name := range wanted {
		if s.namespace(name) != nil || created[name] {
			continue
		}
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Labels:      map[string]string{v1alpha1.LabelMesh: s.mesh.Name},
			Annotations: map[string]string{v1alpha1.AnnotationCreated: s.mesh.Name},
		}}
		if err := r.Client.Create(ctx, namespace); err != nil {
			return fmt.Errorf("namespace %s: %w", name, err)
		}
		created[name] = true
	}
	return nil
}
