// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rollout walks MeshRollouts: it gathers what the cluster looks like, asks operator/rollout what is due, and writes that
// into the status. It acts on nothing else: the other controllers make the current step true.
package rollout

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/meshwright/meshwright/controllers"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/metrics"
	"github.com/meshwright/meshwright/operator/rollout"
)

// Reconciler reconciles MeshRollouts.
type Reconciler struct {
	Client client.Client
	Index  *dataplane.Index
	// Changed tells that the index has changed.
	Changed <-chan event.GenericEvent
	Witness *Witness
	Gauge   *Gauge
	// Announcer tells of decisions.
	Announcer *Announcer
	Recorder  events.EventRecorder
	Clock     clock.PassiveClock
	// Namespace of the operator.
	Namespace string
}

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	every := handler.EnqueueRequestsFromMapFunc(r.underWay)
	return ctrl.NewControllerManagedBy(mgr).
		Named("rollout").
		For(&v1alpha1.MeshRollout{}).
		Watches(&v1alpha1.MeshInstallation{}, every).
		Watches(&v1alpha1.MeshRevision{}, every).
		Watches(&v1alpha1.MeshGateway{}, every).
		Watches(&corev1.Namespace{}, every, builder.OnlyMetadata).
		WatchesRawSource(source.Channel(r.Changed, every)).
		WatchesRawSource(source.Channel(r.Witness.Heard(), every)).
		WatchesRawSource(source.Channel(r.Gauge.Heard(), every)).
		WithOptions(controllers.Options()).
		Complete(r)
}

// underWay maps whatever changed to the rollouts that have not ended: one for each mesh at most.
func (r *Reconciler) underWay(ctx context.Context, _ client.Object) []reconcile.Request {
	var all v1alpha1.MeshRolloutList
	if err := r.Client.List(ctx, &all); err != nil {
		return nil // the cache is going down, and with it the controller
	}
	var out []reconcile.Request
	for i := range all.Items {
		if all.Items[i].Status.Progress.Outcome == "" {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
		}
	}
	return out
}

// Reconcile makes one decision and keeps it.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o := &v1alpha1.MeshRollout{}
	if err := r.Client.Get(ctx, req.NamespacedName, o); err != nil {
		metrics.ForgetRollout(req.Name)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if o.DeletionTimestamp != nil || o.Status.Progress.Outcome != "" {
		r.Witness.Forget(o.UID)
		r.Gauge.Forget(o.UID)
		metrics.ForgetRollout(req.Name)
		return ctrl.Result{}, nil
	}
	seen, err := r.observe(ctx, o)
	if err != nil {
		return ctrl.Result{}, err
	}
	now := r.Clock.Now()
	d := rollout.Decide(&o.Spec, o.Status.Progress, seen, now)
	before := o.DeepCopy()
	r.report(o, seen, d, now)
	window := time.Duration(0)
	if d.Reason == v1alpha1.ReasonOutsideWindow && !d.Until.IsZero() {
		window = d.Until.Sub(now)
	}
	metrics.Rollout(o.Name, o.Spec.Plan.Mesh, string(d.Act), d.Reason, d.Progress.Step, window)
	metrics.Gates(o.Name, o.Spec.Plan.Mesh, gateStates(d.Progress))
	wait := next(&o.Spec.Plan, d, now)
	if quiet := r.onlyCounts(before, o, now); quiet > 0 {
		return ctrl.Result{RequeueAfter: controllers.Shorter(wait, quiet)}, nil
	}
	if err := conditions.Write(ctx, r.Client, before, o); err != nil {
		return ctrl.Result{}, err
	}
	r.tell(before, o, d)
	measure(before, o)
	return ctrl.Result{RequeueAfter: wait}, nil
}

// gateStates are the states of the gates by name.
func gateStates(p v1alpha1.RolloutProgress) map[string]string {
	out := map[string]string{}
	for _, g := range p.Gates {
		out[g.Name] = string(g.State)
	}
	return out
}

// next is when to look again although nothing changes: when a wait ends, a window closes, or the deadline passes.
func next(plan *v1alpha1.RolloutPlan, d rollout.Decision, now time.Time) time.Duration {
	var wait time.Duration
	times := []time.Time{d.Until, rollout.Deadline(plan, d.Progress)}
	if d.Moving {
		_, closes := rollout.Open(plan.Windows, now)
		times = append(times, closes)
	}
	for _, t := range times {
		if !t.IsZero() {
			wait = controllers.Shorter(wait, max(time.Second, t.Sub(now)+time.Second/10))
		}
	}
	return wait
}

// onlyCounts says for how long a status may wait that differs from the last one in counts and sentences only.
func (r *Reconciler) onlyCounts(before, after *v1alpha1.MeshRollout, now time.Time) time.Duration {
	last, next := before.Status.DeepCopy(), after.Status.DeepCopy()
	if apiequality.Semantic.DeepEqual(last, next) {
		return 0
	}
	for _, s := range []*v1alpha1.MeshRolloutStatus{last, next} {
		s.Progress.Moved, s.Unmovable, s.UnmovableCount, s.Waves, s.Counted = 0, nil, 0, nil, nil
		for i := range s.Gateways {
			s.Gateways[i].Measured = ""
		}
		for i := range s.Progress.Gates {
			s.Progress.Gates[i].Message = ""
		}
		for i := range s.Conditions {
			s.Conditions[i].Message = ""
		}
		for i := range s.Steps {
			s.Steps[i].Message = ""
		}
		if s.Progress.ClockSince != nil {
			s.Progress.ClockSince, s.Progress.ClockSeconds = &metav1.Time{}, 0 // progress winds it up
		}
	}
	if !apiequality.Semantic.DeepEqual(last, next) {
		return 0
	}
	if before.Status.Counted == nil {
		return 0
	}
	return max(0, before.Status.Counted.Add(controllers.CountEvery).Sub(now))
}

// tell makes an event of a decision that differs from the last one.
func (r *Reconciler) tell(before, after *v1alpha1.MeshRollout, d rollout.Decision) {
	last := apimeta.FindStatusCondition(before.Status.Conditions, v1alpha1.ConditionComplete)
	same := last != nil && last.Reason == d.Reason && before.Status.Act == d.Act && before.Status.Progress.Step == d.Progress.Step
	if same || d.Reason == v1alpha1.ReasonNotGranted {
		return // it is granted in the same second that it is created
	}
	kind := corev1.EventTypeNormal
	if d.Act == v1alpha1.ActHalt || d.Progress.Back && !before.Status.Progress.Back && d.Progress.Failure != "" {
		kind = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(after, nil, kind, d.Reason, string(d.Act), "%s", d.Note)
	r.Announcer.announce(after, d)
	metrics.Decided(string(d.Act))
}

// measure observes the steps that have ended with this decision.
func measure(before, after *v1alpha1.MeshRollout) {
	for i, s := range after.Status.Steps {
		ended := len(before.Status.Steps) <= i || before.Status.Steps[i].Ended == nil
		if s.Ended != nil && s.Started != nil && ended {
			metrics.StepEnded(string(after.Spec.Plan.Steps[i].Type), s.Ended.Sub(s.Started.Time))
		}
	}
}

// report writes a decision into the status.
func (r *Reconciler) report(o *v1alpha1.MeshRollout, seen rollout.Observation, d rollout.Decision, now time.Time) {
	status, stamp := &o.Status, metav1.NewTime(now.Truncate(time.Second))
	before := status.DeepCopy()
	status.ObservedGeneration = o.Generation
	status.Act, status.Moving, status.Progress, status.Until = d.Act, d.Moving, d.Progress, nil
	if !d.Until.IsZero() {
		status.Until = &metav1.Time{Time: d.Until}
	}
	complete := metav1.ConditionFalse
	if d.Progress.Outcome == v1alpha1.OutcomeCompleted {
		complete = metav1.ConditionTrue
	}
	conditions.Set(&status.Conditions, o.Generation, v1alpha1.ConditionComplete, complete, d.Reason, d.Note)
	if d.Act == v1alpha1.ActHalt {
		conditions.Set(&status.Conditions, o.Generation, v1alpha1.ConditionStalled, metav1.ConditionTrue, d.Reason, d.Note)
	} else {
		apimeta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionStalled)
	}
	status.Summary = summary(&o.Spec.Plan, d.Progress)
	status.Steps = stepsOf(o, d, stamp)
	status.Unmovable, status.UnmovableCount = unmovable(&o.Spec.Plan, seen)
	status.Waves = wavesOf(&o.Spec.Plan, seen)
	status.Gateways = gatewaysOf(seen)
	if !apiequality.Semantic.DeepEqual(before, status) {
		status.Counted = &stamp
	}
}

// summary is "<step>/<steps> <name>".
func summary(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress) string {
	n := len(plan.Steps)
	switch {
	case p.Outcome == v1alpha1.OutcomeCompleted, int(p.Step) >= n:
		return fmt.Sprintf("%d/%d", n, n)
	case p.Step < 0 || p.Proven == nil:
		return fmt.Sprintf("0/%d", n)
	}
	return fmt.Sprintf("%d/%d %s", p.Step+1, n, plan.Steps[p.Step].Name)
}

// stepsOf are the steps and how far each is.
func stepsOf(o *v1alpha1.MeshRollout, d rollout.Decision, now metav1.Time) []v1alpha1.StepStatus {
	p := d.Progress
	out := make([]v1alpha1.StepStatus, len(o.Spec.Plan.Steps))
	for i, s := range o.Spec.Plan.Steps {
		step := v1alpha1.StepStatus{Name: s.Name, State: v1alpha1.StepWaiting}
		for _, last := range o.Status.Steps {
			if last.Name == s.Name {
				step = last
			}
		}
		here := int(p.Step) == i && p.Proven != nil && p.Outcome == ""
		switch {
		case here:
			step.State, step.Message, step.Ended = v1alpha1.StepRunning, conditions.Shorten(d.Note), nil
			if step.Started == nil {
				step.Started = &now
			}
		case step.Started == nil && int(p.Step) < i:
		case p.Back && int(p.Step) < i:
			left(&step, v1alpha1.StepUndone, "", now)
		case p.Proven != nil && int(p.Step) > i:
			left(&step, v1alpha1.StepDone, d.Left[i], now)
		}
		if step.Started == nil && step.Ended != nil {
			step.Started = step.Ended // it was done when it was reached
		}
		for _, a := range o.Spec.Approvals {
			if a.Step == s.Name && step.ApprovedBy == "" {
				step.ApprovedBy, step.ApprovedAt = a.By, &now
			}
		}
		out[i] = step
	}
	return out
}

// left marks a step that the walk has left, with what it came to.
func left(step *v1alpha1.StepStatus, state v1alpha1.StepState, note string, now metav1.Time) {
	if step.State == state {
		return
	}
	step.State, step.Message = state, conditions.Shorten(note)
	if step.Ended == nil || state == v1alpha1.StepUndone {
		step.Ended = &now
	}
}

// wavesOf are the counts of every wave, in the order of the steps.
func wavesOf(plan *v1alpha1.RolloutPlan, seen rollout.Observation) (out []v1alpha1.WaveStatus) {
	done := map[string]bool{}
	for _, s := range plan.Steps {
		if s.DataPlane == nil || done[s.DataPlane.Wave] {
			continue
		}
		done[s.DataPlane.Wave] = true
		if w := seen.Waves[s.DataPlane.Wave]; w.Known {
			out = append(out, v1alpha1.WaveStatus{
				Name: s.DataPlane.Wave, Total: w.Total, Moved: w.Moved, Moving: w.Moving,
				Unmovable: int32(len(w.Held)), //nolint:gosec // a cluster has fewer
			})
		}
	}
	return out
}

// maxUnmovable is what the API allows in status.
const maxUnmovable = 20

// unmovable are the workloads of the reached waves that can't be moved.
func unmovable(plan *v1alpha1.RolloutPlan, seen rollout.Observation) (out []v1alpha1.UnmovableWorkload, count int32) {
	done := map[string]bool{}
	for _, s := range plan.Steps {
		if s.DataPlane == nil || done[s.DataPlane.Wave] {
			continue
		}
		done[s.DataPlane.Wave] = true
		for _, held := range seen.Waves[s.DataPlane.Wave].Held {
			if count++; len(out) < maxUnmovable {
				out = append(out, held)
			}
		}
	}
	return out, count
}
