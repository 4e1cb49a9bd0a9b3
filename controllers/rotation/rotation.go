// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rotation changes the CA of meshes. The [Scheduler] says when one has to change and creates a MeshRotation; the [Reconciler] makes what it
// changes to, plans it, and walks through its phases: it gathers what the cluster looks like, asks operator/pki what is due, keeps that in the
// status, and then does it. It alone writes the Secret cacerts.
package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
	"github.com/meshwright/meshwright/operator/apply"
	"github.com/meshwright/meshwright/operator/authority"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/metrics"
	"github.com/meshwright/meshwright/operator/pki"
)

// Reconciler reconciles MeshRotations.
type Reconciler struct {
	Client client.Client
	// Live reads from the API server, for what no cache holds.
	Live      client.Reader
	Owned     *apply.Owned
	Authority *authority.Watcher
	// Secrets tells that a Secret of a CA has changed.
	Secrets  <-chan event.GenericEvent
	Witness  *Witness
	Recorder events.EventRecorder
	Clock    clock.PassiveClock
	// Namespace of the operator.
	Namespace string
	// SettleSeconds is how long kubelets take to bring a ConfigMap to files, at most.
	SettleSeconds int32

	mu sync.Mutex
	// sides of rotations that are planned: what they are made of never changes.
	sides map[types.UID]*sides
}

// SetupWithManager registers the controller.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	every := handler.EnqueueRequestsFromMapFunc(r.underWay)
	return ctrl.NewControllerManagedBy(mgr).
		Named("rotation").
		For(&v1alpha1.MeshRotation{}).
		Watches(&v1alpha1.MeshInstallation{}, every).
		WatchesRawSource(source.Channel(r.Secrets, every)).
		WatchesRawSource(source.Channel(r.Witness.Heard(), every)).
		WithOptions(controllers.Options()).
		Complete(r)
}

// underWay maps whatever changed to the rotations that have not ended, and to those that are being deleted.
func (r *Reconciler) underWay(ctx context.Context, _ client.Object) []reconcile.Request {
	var all v1alpha1.MeshRotationList
	if err := r.Client.List(ctx, &all); err != nil {
		return nil // the cache is going down, and with it the controller
	}
	var out []reconcile.Request
	for i := range all.Items {
		if all.Items[i].Status.Progress.Outcome == "" || all.Items[i].DeletionTimestamp != nil {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&all.Items[i])})
		}
	}
	return out
}

// scope is one reconcile of one rotation.
type scope struct {
	rotation, before *v1alpha1.MeshRotation
	mesh             *v1alpha1.MeshInstallation
	state            authority.State
	// others are the rotations of the mesh besides this one.
	others []v1alpha1.MeshRotation
	now    time.Time
}

// Reconcile makes one decision, keeps it, and then does what it says.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	o := &v1alpha1.MeshRotation{}
	if err := r.Client.Get(ctx, req.NamespacedName, o); err != nil {
		metrics.ForgetRotation(req.Name)
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if o.DeletionTimestamp == nil && o.Status.Progress.Outcome != "" {
		r.forget(o)
		return ctrl.Result{}, nil
	}
	s := &scope{rotation: o, before: o.DeepCopy(), mesh: &v1alpha1.MeshInstallation{}, now: r.Clock.Now()}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: o.Spec.Mesh}, s.mesh); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	if o.DeletionTimestamp != nil && (o.Status.Progress.Phase == "" || o.Status.Progress.Outcome != "") { // what has begun is not left half-done
		return r.remove(ctx, s)
	}
	if s.mesh.UID == "" || dataplane.Removing(s.mesh) {
		o.Status.Progress.Outcome = v1alpha1.OutcomeAborted
		return r.hold(ctx, s, v1alpha1.ReasonMeshNotFound, "there is no MeshInstallation "+o.Spec.Mesh+", or it is being deleted: the Secret cacerts stays as it is", false, 0)
	}
	rotations, err := facts.RotationsOf(ctx, r.Client, o.Spec.Mesh)
	if err != nil {
		return ctrl.Result{}, err
	}
	s.others = slices.DeleteFunc(rotations, func(other v1alpha1.MeshRotation) bool { return other.UID == o.UID })
	s.state = r.Authority.Of(s.mesh)
	if o.Status.Plan == nil {
		return r.prepare(ctx, s)
	}
	return r.walk(ctx, s)
}

func (r *Reconciler) forget(o *v1alpha1.MeshRotation) {
	r.Witness.Forget(o.UID)
	metrics.ForgetRotation(o.Name)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sides, o.UID)
}

// walk makes one decision of a rotation that is planned.
func (r *Reconciler) walk(ctx context.Context, s *scope) (ctrl.Result, error) {
	plan := s.rotation.Status.Plan
	made, err := r.sidesOf(ctx, s.rotation)
	if errors.Is(err, errLost) && s.rotation.Spec.Goal == v1alpha1.GoalAbort {
		s.rotation.Status.Progress.Outcome = v1alpha1.OutcomeAborted
		return r.hold(ctx, s, v1alpha1.ReasonAborted, "what this rotation was made of is gone, and the Secret cacerts stays as it is: leave one root in it, "+
			"that which signs, and create another MeshRotation, which begins from there", false, 0)
	}
	if err != nil {
		return r.hold(ctx, s, v1alpha1.ReasonUnknown, err.Error(), true, lookAgain)
	}
	if s.overtaken() {
		s.rotation.Status.Progress.Outcome = v1alpha1.OutcomeAborted
		return r.hold(ctx, s, v1alpha1.ReasonAborted, "a revocation goes first; nothing has changed", false, 0)
	}
	seeWritten(s)
	seen := r.observe(ctx, s, made)
	d := pki.Decide(plan, s.rotation.Spec.RotationVerbs, s.rotation.Status.Progress, seen, s.now)
	data, err := s.intend(made, &d)
	if why, is := errors.AsType[*waiting](err); is {
		s.rotation.Status.Progress = d.Progress
		return r.hold(ctx, s, why.reason, why.note, why.stalled, why.again)
	}
	failed := s.report(seen, d)
	metrics.Rotation(s.rotation.Name, s.mesh.Name, string(d.Progress.Phase), d.Reason, seen.Proxies.Total, seen.Proxies.Holding)
	if quiet := onlyCounts(s.before, s.rotation, s.now); quiet > 0 {
		return ctrl.Result{RequeueAfter: controllers.Shorter(untilOf(d, s.now), quiet)}, nil
	}
	if err := conditions.Write(ctx, r.Client, s.before, s.rotation); err != nil {
		return ctrl.Result{}, err
	}
	r.tell(s, d)
	switch d.Act {
	case pki.ActWrite:
		err = r.write(ctx, s, made, data)
	case pki.ActRestart:
		err = r.restart(ctx, s, d)
	case pki.ActDone:
		r.forget(s.rotation)
	case pki.ActWait, pki.ActAwaitApproval, pki.ActHalt:
	}
	switch {
	case err == nil && failed:
		s.before = s.rotation.DeepCopy()
		return r.hold(ctx, s, d.Reason, d.Note, false, untilOf(d, s.now))
	case err == nil:
		return ctrl.Result{RequeueAfter: untilOf(d, s.now)}, nil
	case errors.Is(err, errLate), apierrors.IsConflict(err):
		return ctrl.Result{RequeueAfter: time.Second}, nil
	}
	s.before = s.rotation.DeepCopy()
	if _, told := r.hold(ctx, s, d.Reason, err.Error(), true, 0); told != nil {
		return ctrl.Result{}, errors.Join(err, told)
	}
	return ctrl.Result{}, err
}

// unfit says why what is written now can't be what leaves are issued with from now on; nil where it can, or does already. It was checked when it was made,
// which may be long ago.
func (s *scope) unfit(made *sides, d *pki.Decision) error {
	to := made.last(d.Progress.Back)
	if to.Issuer() != d.Material.Issuer || s.state.Present != nil && s.state.Present.Issuer() == d.Material.Issuer {
		return nil
	}
	switch problems := to.Check(authority.Rules(s.mesh, s.state.Present, to, s.now)); {
	case d.Progress.Back && s.now.After(to.Signing.NotAfter): // it has signed before: whatever is wanted by now, it only has to be valid
		return refuse(v1alpha1.ReasonInvalidCA, "what signed before has expired, and can't sign again: put a CA that proxies trust into cacerts by hand, and set spec.goal to Abort")
	case d.Progress.Back, len(problems) == 0:
		return nil
	default:
		return wrong("what is to sign from now on (set spec.goal to RollBack, and create another MeshRotation)", problems)
	}
}

// overtaken says whether a revocation waits for this rotation, of which nothing has happened yet.
func (s *scope) overtaken() bool {
	return s.rotation.Status.Progress.Phase == "" && s.rotation.Spec.Change != v1alpha1.ChangeRevoke &&
		slices.ContainsFunc(s.others, func(o v1alpha1.MeshRotation) bool {
			return o.Spec.Change == v1alpha1.ChangeRevoke && o.Status.Progress.Outcome == ""
		})
}

// intend makes what is to be written, and notes it before it is; nil for a Secret that is taken away, and where nothing is written.
func (s *scope) intend(made *sides, d *pki.Decision) (map[string][]byte, error) {
	if d.Act != pki.ActWrite {
		return nil, nil
	}
	if err := s.unfit(made, d); err != nil {
		return nil, err
	}
	if d.Material.None {
		d.Progress.Gets = nothing
		return nil, nil
	}
	tls := s.state.CACerts != nil && pki.TLSLayout(s.state.CACerts.Data)
	data, err := d.Material.Files(tls, made.from, made.to)
	if err != nil {
		return nil, refuse(v1alpha1.ReasonUnknown, err.Error())
	}
	d.Progress.Gets = authority.Digest(data)
	return data, nil
}

// lookAgain is how soon what no event tells of is looked at again.
const lookAgain = 10 * time.Second

// untilOf is when to look again although nothing changes.
func untilOf(d pki.Decision, now time.Time) time.Duration {
	if d.Act == pki.ActDone {
		return 0
	}
	if d.Reason == v1alpha1.ReasonBegins {
		return time.Second // what was observed was of the phase before
	}
	if d.Until.IsZero() {
		return lookAgain
	}
	return max(time.Second, d.Until.Sub(now)+time.Second/10) //nolint:mnd // a little later
}

// onlyCounts says for how long a status may wait that differs from the last one in counts and sentences only.
func onlyCounts(before, after *v1alpha1.MeshRotation, now time.Time) time.Duration {
	last, next := before.Status.DeepCopy(), after.Status.DeepCopy()
	if apiequality.Semantic.DeepEqual(last, next) || before.Status.Counted == nil {
		return 0
	}
	for _, s := range []*v1alpha1.MeshRotationStatus{last, next} {
		s.Proxies, s.Holdouts, s.Proven, s.Counted = nil, nil, "", nil
		for i := range s.Conditions {
			s.Conditions[i].Message = ""
		}
	}
	if !apiequality.Semantic.DeepEqual(last, next) {
		return 0
	}
	return max(0, before.Status.Counted.Add(controllers.CountEvery).Sub(now))
}

// report writes a decision into the status. Failed says that the same failed before: that is told until it has succeeded.
func (s *scope) report(seen pki.Observation, d pki.Decision) (failed bool) {
	status := &s.rotation.Status
	status.ObservedGeneration, status.Progress, status.Until = s.rotation.Generation, d.Progress, nil
	if !d.Until.IsZero() {
		status.Until = &metav1.Time{Time: d.Until.Truncate(time.Second)}
	}
	status.Summary = summary(status.Plan, d.Progress)
	switch {
	case status.Progress.Phase != s.before.Status.Progress.Phase: // what was counted was counted for the one before
		status.Proxies, status.Holdouts, status.Proven = nil, nil, ""
	case seen.Proxies.Known:
		status.Proxies, status.Holdouts, status.Proven = countsOf(seen.Proxies)
	}
	note := d.Note
	if d.Overdue {
		note = fmt.Sprintf("nothing has moved for %d seconds; %s", status.Plan.ProgressDeadlineSeconds, note)
	}
	if last := apimeta.FindStatusCondition(status.Conditions, v1alpha1.ConditionStalled); last != nil && last.Reason == d.Reason && !d.Overdue {
		if failed = d.Act == pki.ActWrite || d.Act == pki.ActRestart; failed {
			note = last.Message
		}
	}
	s.judge(d.Reason, note, d.Act == pki.ActHalt || d.Overdue || failed)
	if !apiequality.Semantic.DeepEqual(s.before.Status, *status) {
		status.Counted = &metav1.Time{Time: s.now.Truncate(time.Second)}
	}
	return failed
}

// judge writes the conditions.
func (s *scope) judge(reason, note string, stalled bool) {
	o := s.rotation
	complete := metav1.ConditionFalse
	if o.Status.Progress.Outcome == v1alpha1.OutcomeCompleted {
		complete = metav1.ConditionTrue
	}
	conditions.Set(&o.Status.Conditions, o.Generation, v1alpha1.ConditionComplete, complete, reason, note)
	if stalled {
		conditions.Set(&o.Status.Conditions, o.Generation, v1alpha1.ConditionStalled, metav1.ConditionTrue, reason, note)
	} else {
		apimeta.RemoveStatusCondition(&o.Status.Conditions, v1alpha1.ConditionStalled)
	}
}

// hold says why nothing happens.
func (r *Reconciler) hold(ctx context.Context, s *scope, reason, note string, stalled bool, again time.Duration) (ctrl.Result, error) {
	s.rotation.Status.ObservedGeneration = s.rotation.Generation
	s.judge(reason, note, stalled)
	if err := conditions.Write(ctx, r.Client, s.before, s.rotation); err != nil {
		return ctrl.Result{}, err
	}
	r.tell(s, pki.Decision{Act: pki.ActWait, Reason: reason, Note: note})
	return ctrl.Result{RequeueAfter: again}, nil
}

// tell makes an event of a decision that differs from the last one.
func (r *Reconciler) tell(s *scope, d pki.Decision) {
	last := apimeta.FindStatusCondition(s.before.Status.Conditions, v1alpha1.ConditionComplete)
	if d.Reason == v1alpha1.ReasonUnknown { // it has not been asked yet, mostly; the condition says it
		return
	}
	if last != nil && last.Reason == d.Reason && s.before.Status.Progress.Phase == s.rotation.Status.Progress.Phase {
		return
	}
	kind := corev1.EventTypeNormal
	if apimeta.IsStatusConditionTrue(s.rotation.Status.Conditions, v1alpha1.ConditionStalled) {
		kind = corev1.EventTypeWarning
	}
	r.Recorder.Eventf(s.rotation, nil, kind, d.Reason, string(d.Act), "%s", conditions.Shorten(d.Note))
}

// summary is "<phase>/<phases> <name>".
func summary(plan *v1alpha1.RotationPlan, p v1alpha1.RotationProgress) string {
	n := len(plan.Phases)
	switch {
	case p.Outcome == v1alpha1.OutcomeCompleted:
		return fmt.Sprintf("%d/%d", n, n)
	case p.Outcome != "", p.Phase == "":
		return fmt.Sprintf("0/%d", n)
	case p.Back:
		return fmt.Sprintf("back %s", p.Phase)
	}
	return fmt.Sprintf("%d/%d %s", slices.Index(plan.Phases, p.Phase)+1, n, p.Phase)
}

// countsOf are counts as the status has them.
func countsOf(t pki.Tally) (*v1alpha1.RotationProxies, []v1alpha1.RotationHoldout, string) {
	counts := &v1alpha1.RotationProxies{
		Total: t.Total, AcceptNew: t.Trusting, AcceptOld: t.Lingering, PresentNew: t.Arrived, PresentOld: t.Leaving, Holding: t.Holding,
	}
	var out []v1alpha1.RotationHoldout
	for _, h := range t.Holdouts {
		out = append(out, v1alpha1.RotationHoldout{Proxy: h.Proxy, Why: conditions.Shorten(h.Why)})
	}
	return counts, out, fmt.Sprintf("%d/%d", t.Total-t.Holding, t.Total)
}
