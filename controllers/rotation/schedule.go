// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	"github.com/meshwright/meshwright/operator/authority"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/pki"
)

// Scheduler creates a MeshRotation when the CA of a mesh has to change, and deletes the oldest ones.
type Scheduler struct {
	Client    client.Client
	Authority *authority.Watcher
	// Secrets tells that a Secret of a CA has changed.
	Secrets  <-chan event.GenericEvent
	Recorder events.EventRecorder
	Clock    clock.PassiveClock
}

// SetupWithManager registers the controller.
func (r *Scheduler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("rotation-schedule").
		For(&v1alpha1.MeshInstallation{}).
		Watches(&v1alpha1.MeshRotation{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			rotation, is := o.(*v1alpha1.MeshRotation)
			if !is {
				return nil
			}
			return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: rotation.Spec.Mesh}}}
		})).
		WatchesRawSource(source.Channel(r.Secrets, handler.EnqueueRequestsFromMapFunc(r.everyMesh))).
		WithOptions(controllers.Options()).
		Complete(r)
}

func (r *Scheduler) everyMesh(ctx context.Context, _ client.Object) []reconcile.Request {
	var all v1alpha1.MeshInstallationList
	if err := r.Client.List(ctx, &all); err != nil {
		return nil // the cache is going down, and with it the controller
	}
	var out []reconcile.Request
	for _, m := range all.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKey{Name: m.Name}})
	}
	return out
}

// Reconcile looks whether the CA of one mesh has to change.
func (r *Scheduler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	mesh := &v1alpha1.MeshInstallation{}
	if err := r.Client.Get(ctx, req.NamespacedName, mesh); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if dataplane.Removing(mesh) || mesh.Spec.Paused {
		return ctrl.Result{}, nil
	}
	rotations, err := facts.RotationsOf(ctx, r.Client, mesh.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := r.prune(ctx, mesh, rotations); err != nil {
		return ctrl.Result{}, err
	}
	state := r.Authority.Of(mesh)
	situation, known := state.Situation(mesh, rotations, r.Clock.Now())
	if !usable(mesh, state, situation.Now) {
		return ctrl.Result{RequeueAfter: sourceAgain}, nil
	}
	if first(mesh, state, situation) {
		return ctrl.Result{}, r.create(ctx, mesh, rotations, v1alpha1.ChangeSource, "the mesh gets its CA")
	}
	if !known {
		return ctrl.Result{}, nil
	}
	due := pki.DueOf(situation)
	if due.Change != "" {
		return ctrl.Result{}, r.create(ctx, mesh, rotations, due.Change, due.Why)
	}
	if due.At.IsZero() || due.Refused != "" {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: min(controllers.LookAtTime, max(time.Second, due.At.Sub(situation.Now)))}, nil
}

// sourceAgain is how soon a source that can't be used is looked at again: some only have to wait until they are valid.
const sourceAgain = time.Minute

// usable says whether what the user gives can be changed to. Where it can't, CertificatesReady says why, and no rotation is made that would only say it
// again.
func usable(m *v1alpha1.MeshInstallation, state authority.State, now time.Time) bool {
	if m.Spec.Certificates.CA.Type != v1alpha1.CASourceSecret || !state.Known {
		return true
	}
	offered, problems := state.Offered(m, now)
	return offered != nil && len(problems) == 0
}

// first says whether a mesh that has no istiod yet is to get its CA before it has one. What was aborted before is not begun again.
func first(m *v1alpha1.MeshInstallation, state authority.State, s pki.Situation) bool {
	if !state.Known || state.Present != nil || len(state.Problems) > 0 || m.Status.StableRevision != "" || m.Spec.Certificates.CA.Type == v1alpha1.CASourceIstiod {
		return false
	}
	return s.Last == nil || s.Last.Status.Progress.Outcome == v1alpha1.OutcomeCompleted ||
		s.Last.Status.Progress.Outcome != "" && s.Last.Status.Asked != pki.Asks(m.Spec.Certificates.CA, s.Source)
}

// create creates a MeshRotation. Its name follows from those that there are, so that a repeated create is the same one.
func (r *Scheduler) create(
	ctx context.Context, m *v1alpha1.MeshInstallation, rotations []v1alpha1.MeshRotation, change v1alpha1.RotationChange, why string,
) error {
	next := 1
	for i := range rotations {
		next = max(next, ordinal(m.Name, rotations[i].Name)+1)
	}
	o := &v1alpha1.MeshRotation{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", m.Name, next), Labels: map[string]string{v1alpha1.LabelMesh: m.Name}},
		Spec:       v1alpha1.MeshRotationSpec{Mesh: m.Name, Change: change, RotationVerbs: v1alpha1.RotationVerbs{Goal: v1alpha1.GoalComplete}},
	}
	if err := r.Client.Create(ctx, o); err != nil {
		return fmt.Errorf("MeshRotation %s: %w", o.Name, err)
	}
	r.Recorder.Eventf(m, o, corev1.EventTypeNormal, v1alpha1.ReasonRotating, "Rotate", "MeshRotation %s begins: %s", o.Name, why)
	return nil
}

// ordinal is the number at the end of a rotation's name; 0 for a name that a person chose.
func ordinal(mesh, name string) int {
	rest, ours := strings.CutPrefix(name, mesh+"-")
	n, err := strconv.Atoi(rest)
	if !ours || err != nil {
		return 0
	}
	return n
}

// prune deletes the oldest rotations that have ended, and with them what they replaced. The newest one is kept, and the newest that was completed: it has
// the key of a managed root. One that a person created is theirs to delete: from a repository it would come back, and begin anew.
func (r *Scheduler) prune(ctx context.Context, m *v1alpha1.MeshInstallation, rotations []v1alpha1.MeshRotation) error {
	slices.SortFunc(rotations, func(a, b v1alpha1.MeshRotation) int {
		if authority.Before(&b, &a) {
			return -1
		}
		return 1
	})
	limit, ended, completed := max(1, int(m.Spec.Certificates.Rotation.HistoryLimit)), 0, false
	for i := range rotations {
		o := &rotations[i]
		newest := o.Status.Progress.Outcome == v1alpha1.OutcomeCompleted && !completed
		completed = completed || newest
		if o.Labels[v1alpha1.LabelMesh] == "" || o.Status.Progress.Outcome == "" {
			continue
		}
		if ended++; ended <= limit || newest || o.DeletionTimestamp != nil {
			continue
		}
		uid := o.UID
		if err := r.Client.Delete(ctx, o, client.Preconditions{UID: &uid}); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}
