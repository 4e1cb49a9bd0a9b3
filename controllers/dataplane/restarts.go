// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/meshwright/meshwright/controllers"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/metrics"
	"github.com/meshwright/meshwright/operator/rollout"
)

// Restarter restarts workloads, or evicts pods, as the active rollout of each mesh wants it: a few at a time, never more than its
// step allows, and only while the rollout says that it may.
type Restarter struct {
	Client client.Client
	// Live reads from the API server.
	Live  client.Reader
	Index *dataplane.Index
	// Changed tells that the index has changed.
	Changed  <-chan event.GenericEvent
	Recorder events.EventRecorder
	Clock    clock.PassiveClock
	// Namespace of the operator.
	Namespace string
}

// SetupWithManager registers the controller.
func (r *Restarter) SetupWithManager(mgr ctrl.Manager) error {
	every := handler.EnqueueRequestsFromMapFunc(r.moving)
	return ctrl.NewControllerManagedBy(mgr).
		Named("restarts").
		For(&v1alpha1.MeshRollout{}).
		WatchesRawSource(source.Channel(r.Changed, every)).
		WithOptions(controllers.Options()).
		Complete(r)
}

// moving maps a change of the index to the rollouts that move workloads now.
func (r *Restarter) moving(ctx context.Context, _ client.Object) []reconcile.Request {
	var all v1alpha1.MeshRolloutList
	if err := r.Client.List(ctx, &all); err != nil {
		return nil // the cache is going down, and with it the controller
	}
	var out []reconcile.Request
	for i := range all.Items {
		if all.Items[i].Status.Moving {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
		}
	}
	return out
}

// again is how soon it is looked again where no event tells: when the label of a namespace has settled, or a minute has passed since
// pods were restarted.
const again = 2 * time.Second

// Reconcile restarts what may be restarted now.
func (r *Restarter) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o := &v1alpha1.MeshRollout{}
	if err := r.Client.Get(ctx, req.NamespacedName, o); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !o.Status.Moving || o.DeletionTimestamp != nil || !r.Index.Whole() {
		return ctrl.Result{}, nil
	}
	picks, wait, err := r.picks(ctx, o)
	if err != nil || len(picks) == 0 {
		return ctrl.Result{RequeueAfter: wait}, err
	}
	if still, err := r.still(ctx, o); err != nil || !still {
		return ctrl.Result{RequeueAfter: again}, err // what was read may have been late
	}
	for _, pick := range picks {
		if err := r.restart(ctx, o, pick); err != nil {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{RequeueAfter: again}, nil
}

// picks are what may be restarted now, over all waves that are reached.
func (r *Restarter) picks(ctx context.Context, o *v1alpha1.MeshRollout) (picks []rollout.Pick, wait time.Duration, err error) {
	plan, p := &o.Spec.Plan, o.Status.Progress
	members, err := dataplane.MembersOf(ctx, r.Client, r.Namespace, plan.Mesh)
	if err != nil || members == nil {
		return nil, 0, err
	}
	to := &v1alpha1.MeshRevision{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: plan.To.Revision}, to); err != nil {
		return nil, 0, client.IgnoreNotFound(err)
	}
	towards := dataplane.TowardsOf(o, to, r.Clock.Now())
	var names []string
	for _, all := range members {
		for _, n := range all {
			names = append(names, n.Name)
		}
	}
	recent := r.Index.Recent(names, towards.Revision, towards.Now.Add(-time.Minute))
	tags := sync.OnceValues(func() (map[string]time.Time, error) { return dataplane.PointedAt(ctx, r.Live, towards.Revision) })
	done := map[string]bool{}
	for _, s := range plan.Steps {
		if s.DataPlane == nil || done[s.DataPlane.Wave] {
			continue
		}
		done[s.DataPlane.Wave] = true
		share := rollout.Shares(plan, p, s.DataPlane.Wave)
		if share == 0 {
			continue
		}
		var all []rollout.Workload
		for _, n := range members[s.DataPlane.Wave] {
			all = append(all, r.Index.Workloads(n, towards)...)
		}
		next := rollout.Next(plan.Restart, share, all, recent)
		if len(next) > 0 {
			ready, err := settled(members[s.DataPlane.Wave], towards, tags)
			if err != nil {
				return nil, 0, err
			}
			if !ready {
				wait = again // new pods would still get the other sidecar
				continue
			}
		}
		picks = append(picks, next...)
		rests := slices.ContainsFunc(all, func(w rollout.Workload) bool { return w.Resting > 0 })
		if len(next) == 0 && (rests || plan.Restart.PodsPerMinute > 0 && recent > 0) {
			wait = again // no event tells that a minute or a back-off has passed
		}
	}
	return picks, wait, nil
}

// settled says whether new pods of all namespaces of a wave get the sidecar that they are moved to. Ask asks the API server where tags point, once
// somebody follows one.
func settled(members []dataplane.Member, to dataplane.Towards, ask func() (map[string]time.Time, error)) (bool, error) {
	for _, n := range members {
		var tags map[string]time.Time
		if n.Tag != "" {
			var err error
			if tags, err = ask(); err != nil {
				return false, err
			}
		}
		if !n.Settled(to.Revision, tags, to.Now) {
			return false, nil
		}
	}
	return true, nil
}

// still asks the API server itself whether the rollout is the active operation and still wants the same step.
func (r *Restarter) still(ctx context.Context, o *v1alpha1.MeshRollout) (bool, error) {
	var now v1alpha1.MeshRollout
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(o), &now); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	var mesh v1alpha1.MeshInstallation
	if err := r.Live.Get(ctx, client.ObjectKey{Name: o.Spec.Plan.Mesh}, &mesh); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	active := mesh.Status.ActiveOperation
	return active != nil && active.UID == o.UID && now.UID == o.UID && !mesh.Spec.Paused && !now.Spec.Paused &&
		now.Spec.Goal == o.Spec.Goal && now.Status.Moving && now.Status.Progress.Step == o.Status.Progress.Step &&
		now.Status.Progress.Back == o.Status.Progress.Back, nil
}

func (r *Restarter) restart(ctx context.Context, o *v1alpha1.MeshRollout, pick rollout.Pick) error {
	parts := strings.SplitN(pick.Workload, "/", 3) // kind, namespace, name
	key := client.ObjectKey{Namespace: parts[1], Name: parts[2]}
	if pick.Pod != "" {
		return r.evict(ctx, o, client.ObjectKey{Namespace: parts[1], Name: pick.Pod})
	}
	stamp := dataplane.Stamp(o, o.Status.Progress.Back)
	err := r.stamp(ctx, o, parts[0], key, stamp)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("restarting %s: %w", pick.Workload, err)
	}
	r.Index.Stamped(stamp, pick.Workload, r.Clock.Now())
	metrics.Restarted(o.Spec.Plan.Mesh, string(v1alpha1.RestartRollout))
	r.Recorder.Eventf(o, nil, corev1.EventTypeNormal, v1alpha1.ReasonMoving, "Restart", "restarts %s", pick.Workload)
	return nil
}

// stamp makes the pod template of a workload another one, by an annotation whose value is the same however often it is written.
func (r *Restarter) stamp(ctx context.Context, o *v1alpha1.MeshRollout, kind string, key client.ObjectKey, stamp string) error {
	if kind == "Rollout" {
		return r.restartAt(ctx, o, key)
	}
	annotations := map[string]any{v1alpha1.AnnotationRestartedFor: stamp}
	patch := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"annotations": annotations},
		"spec":     map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": annotations}}},
	}}
	patch.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind(kind))
	patch.SetNamespace(key.Namespace)
	patch.SetName(key.Name)
	return r.patch(ctx, patch)
}

// argo is the kind of Argo's own workloads, which are restarted through a field.
var argo = schema.GroupVersionKind{Group: "argoproj.io", Version: "v1alpha1", Kind: "Rollout"}

// restartAt restarts a workload of Argo Rollouts: pods older than the time go.
func (r *Restarter) restartAt(ctx context.Context, o *v1alpha1.MeshRollout, key client.ObjectKey) error {
	at := o.CreationTimestamp
	if o.Status.Progress.Entered != nil {
		at = *o.Status.Progress.Entered
	}
	patch := &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{"restartAt": at.UTC().Format(time.RFC3339)},
	}}
	patch.SetGroupVersionKind(argo)
	patch.SetNamespace(key.Namespace)
	patch.SetName(key.Name)
	return r.patch(ctx, patch)
}

// patch merges fields into an object that exists: an apply would create one that is gone.
func (r *Restarter) patch(ctx context.Context, o *unstructured.Unstructured) error {
	raw, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	target := &unstructured.Unstructured{}
	target.SetGroupVersionKind(o.GroupVersionKind())
	target.SetNamespace(o.GetNamespace())
	target.SetName(o.GetName())
	return r.Client.Patch(ctx, target, client.RawPatch("application/merge-patch+json", raw), client.FieldOwner(v1alpha1.ManagerDataPlane))
}

// evict asks for the eviction of a pod. A refusal is no error: it is told, and tried again later.
func (r *Restarter) evict(ctx context.Context, o *v1alpha1.MeshRollout, key client.ObjectKey) error {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	err := r.Client.SubResource("eviction").Create(ctx, pod, eviction)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case apierrors.IsTooManyRequests(err), apierrors.IsInternalError(err): // two budgets over one pod answer 500
		r.Index.Refused(key, err.Error(), r.Clock.Now())
		metrics.EvictionRefused(o.Spec.Plan.Mesh)
		return nil
	case err != nil:
		return fmt.Errorf("evicting pod %s: %w", key, err)
	}
	metrics.Restarted(o.Spec.Plan.Mesh, string(v1alpha1.RestartEvict))
	r.Recorder.Eventf(o, nil, corev1.EventTypeNormal, v1alpha1.ReasonMoving, "Evict", "evicts pod %s", key)
	return nil
}
