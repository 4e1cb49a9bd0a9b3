// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// status is a mesh as kubectl mesh status prints it.
func (s *snapshot) status(now time.Time) *MeshStatus {
	m := s.mesh
	out := &MeshStatus{
		TypeMeta: viewOf("MeshStatus"), Name: m.Name,
		Version: m.Spec.Version, ResolvedVersion: m.Status.ResolvedVersion, PendingVersion: m.Status.PendingVersion, Paused: m.Spec.Paused,
		Conditions: conditionsOf(m.Status.Conditions), Revisions: s.revisionViews(), Gateways: s.gatewayViews(), DataPlane: dataPlaneOf(m),
		Certificates: s.certificates(now), UpgradeTargets: slices.Concat([]string{}, m.Status.UpgradeTargets),
		Awaiting: s.awaiting(now), Unreadable: s.unreadable,
	}
	if o := s.rollout(); o != nil {
		out.Rollout = rolloutView(o)
	}
	return out
}

func conditionsOf(all []metav1.Condition) []ConditionView {
	out := []ConditionView{}
	for _, c := range all {
		view := ConditionView{Type: c.Type, Status: c.Status, Reason: c.Reason, Message: c.Message}
		if !c.LastTransitionTime.IsZero() {
			view.Since = &c.LastTransitionTime
		}
		out = append(out, view)
	}
	order := []string{v1alpha1.ConditionReady, v1alpha1.ConditionUpToDate}
	slices.SortStableFunc(out, func(a, b ConditionView) int {
		return cmp.Compare(place(order, a.Type), place(order, b.Type))
	})
	return out
}

// place is where an entry stands in an order; those that it does not name come after all others.
func place(order []string, entry string) int {
	if i := slices.Index(order, entry); i >= 0 {
		return i
	}
	return len(order)
}

// readyOf is status and message of the condition Ready.
func readyOf(all []metav1.Condition) (metav1.ConditionStatus, string) {
	c := apimeta.FindStatusCondition(all, v1alpha1.ConditionReady)
	if c == nil {
		return metav1.ConditionUnknown, ""
	}
	return c.Status, c.Message
}

func (s *snapshot) revisionViews() []RevisionView {
	proxies := map[string]int32{}
	for _, p := range s.mesh.Status.DataPlane.Proxies {
		proxies[p.Revision] = p.Count
	}
	out := []RevisionView{}
	for i := range s.revisions {
		r := &s.revisions[i]
		view := RevisionView{Name: r.Name, Version: r.Spec.Version, Role: s.roleOf(r.Name), Proxies: proxies[r.Name], Tags: s.tags[r.Name]}
		view.Ready, view.Message = readyOf(r.Status.Conditions)
		out = append(out, view)
	}
	order := []string{string(RoleStable), string(RoleCanary), string(RoleRetiring)}
	slices.SortStableFunc(out, func(a, b RevisionView) int {
		return cmp.Or(cmp.Compare(slices.Index(order, string(a.Role)), slices.Index(order, string(b.Role))), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func (s *snapshot) gatewayViews() []GatewayView {
	out := []GatewayView{}
	for i := range s.gateways {
		g := &s.gateways[i]
		view := GatewayView{Namespace: g.Namespace, Name: g.Name, Replicas: g.Status.Summary, Addresses: g.Status.Addresses, Versions: []GatewayVersionView{}}
		view.Ready, view.Message = readyOf(g.Status.Conditions)
		if shift := g.Status.Shift; shift != nil {
			view.State = string(shift.State)
			view.Message = cmp.Or(shift.Failing, shift.Message, view.Message)
		}
		for _, v := range g.Status.Versions {
			view.Versions = append(view.Versions, GatewayVersionView{
				Revision: v.Revision, Version: v.Version, Weight: v.Weight, Measured: v.Measured, ReadyReplicas: v.ReadyReplicas, Replicas: v.Replicas,
			})
		}
		out = append(out, view)
	}
	slices.SortFunc(out, func(a, b GatewayView) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func dataPlaneOf(m *v1alpha1.MeshInstallation) DataPlaneView {
	d := m.Status.DataPlane
	out := DataPlaneView{Summary: d.Summary, Namespaces: d.Namespaces, Outdated: d.Outdated, Stale: d.Stale}
	for _, b := range d.Blocked {
		out.Blocked = append(out.Blocked, BlockedView{Namespace: b.Namespace, Reason: b.Reason, Message: b.Message})
	}
	return out
}

func rolloutView(o *v1alpha1.MeshRollout) *RolloutView {
	plan, p := &o.Spec.Plan, o.Status.Progress
	out := &RolloutView{
		Name: o.Name, From: plan.From.Revision, FromVersion: plan.From.Version, To: plan.To.Revision, ToVersion: plan.To.Version,
		Goal: string(o.Spec.Goal), Paused: o.Spec.Paused, Back: p.Back, Outcome: string(p.Outcome), Failure: p.Failure,
		Until: o.Status.Until, UnmovableCount: o.Status.UnmovableCount,
	}
	out.State, out.Message = operation{rollout: o}.state()
	status := map[string]v1alpha1.StepStatus{}
	for _, s := range o.Status.Steps {
		status[s.Name] = s
	}
	for _, s := range plan.Steps {
		is := status[s.Name]
		out.Steps = append(out.Steps, StepView{
			Name: s.Name, Type: string(s.Type), State: string(cmp.Or(is.State, v1alpha1.StepWaiting)), Started: is.Started, Ended: is.Ended,
			Message: is.Message, ApprovedBy: is.ApprovedBy, ApprovedAt: is.ApprovedAt,
		})
	}
	for _, w := range o.Status.Waves {
		out.Waves = append(out.Waves, WaveView{Name: w.Name, Total: w.Total, Moved: w.Moved, Moving: w.Moving, Unmovable: w.Unmovable})
	}
	for _, g := range p.Gates {
		out.Gates = append(out.Gates, GateView{Name: g.Name, State: string(g.State), Message: g.Message})
	}
	for _, u := range o.Status.Unmovable {
		out.Unmovable = append(out.Unmovable, UnmovableView{Workload: u.Workload, Reason: u.Reason, Message: u.Message})
	}
	return out
}

func (s *snapshot) certificates(now time.Time) CertificatesView {
	c := s.mesh.Status.Certificates
	out := CertificatesView{
		Source:  string(cmp.Or(s.mesh.Spec.Certificates.CA.Type, v1alpha1.CASourceIstiod)),
		Signing: string(cmp.Or(c.Signing, v1alpha1.SigningUnknown)), Next: c.Next, Roots: []CertificateView{},
	}
	for _, r := range c.Roots {
		out.Roots = append(out.Roots, certificateOf(r, now))
	}
	for _, i := range c.Intermediates {
		out.Intermediates = append(out.Intermediates, certificateOf(i, now))
	}
	if o := s.rotation(); o != nil {
		out.Rotation = rotationView(o)
	}
	return out
}

func certificateOf(c v1alpha1.CertificateInfo, now time.Time) CertificateView {
	return CertificateView{Subject: c.Subject, Fingerprint: c.Fingerprint, NotAfter: c.NotAfter, Expired: now.After(c.NotAfter.Time)}
}

func rotationView(o *v1alpha1.MeshRotation) *RotationView {
	p := o.Status.Progress
	out := &RotationView{
		Name: o.Name, Change: string(cmp.Or(o.Spec.Change, v1alpha1.ChangeSource)), Goal: string(o.Spec.Goal), Paused: o.Spec.Paused, Back: p.Back,
		Outcome: string(p.Outcome), Until: o.Status.Until, Proven: o.Status.Proven, Requested: o.Status.Request != "",
	}
	out.State, out.Message = operation{rotation: o}.state()
	for _, h := range o.Status.Holdouts {
		out.Holdouts = append(out.Holdouts, HoldoutView{Proxy: h.Proxy, Why: h.Why})
	}
	plan := o.Status.Plan
	if plan == nil {
		return out
	}
	out.Kind, out.From, out.To = string(plan.Kind), plan.From.Root, plan.To.Root
	at := slices.Index(plan.Phases, p.Phase)
	for i, phase := range plan.Phases {
		view := StepView{Name: string(phase), State: string(phaseState(i, at, p))}
		if i == at && p.Outcome == "" {
			view.Started = p.Entered
		}
		for _, a := range o.Spec.Approvals {
			if a.Step == string(phase) {
				view.ApprovedBy = a.By
			}
		}
		out.Phases = append(out.Phases, view)
	}
	return out
}

// phaseState is how far a phase is, of which at has begun last.
func phaseState(i, at int, p v1alpha1.RotationProgress) v1alpha1.StepState {
	switch {
	case p.Outcome == v1alpha1.OutcomeCompleted:
		return v1alpha1.StepDone
	case p.Outcome != "":
		return v1alpha1.StepUndone
	case i == at:
		return v1alpha1.StepRunning
	case p.Back:
		return v1alpha1.StepUndone
	case i < at:
		return v1alpha1.StepDone
	}
	return v1alpha1.StepWaiting
}

// failedTarget is what a rollout did not reach and the mesh still wants; nil for nothing.
func failedTarget(m *v1alpha1.MeshInstallation) *v1alpha1.FailedTarget {
	upToDate := apimeta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionUpToDate)
	if upToDate == nil || upToDate.Reason != v1alpha1.ReasonTargetFailed {
		return nil
	}
	return m.Status.FailedTarget
}

// usualProof is how long a phase of a rotation may wait for a proxy before a person is asked: most prove themselves within minutes.
const usualProof = 3 * time.Minute

// awaiting is what waits for a person, with the command that answers it.
func (s *snapshot) awaiting(now time.Time) []AwaitedView {
	out := []AwaitedView{}
	ask := func(what, command string, flags ...string) {
		if s.others {
			flags = append(flags, "--mesh", s.mesh.Name)
		}
		if command != "" {
			command = strings.Join(append([]string{"kubectl mesh " + command}, flags...), " ")
		}
		out = append(out, AwaitedView{What: what, Command: command})
	}
	m := s.mesh
	if m.Spec.Paused {
		ask("mesh "+m.Name+" is paused", "resume --mesh-wide")
	}
	if failed := failedTarget(m); failed != nil && s.rollout() == nil {
		ask(fmt.Sprintf("MeshRollout %s did not reach %s, and is not tried again by itself", failed.Rollout, failed.Version), "retry", "--rollout", failed.Rollout)
	}
	upToDate := apimeta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionUpToDate)
	if upToDate != nil && upToDate.Reason == v1alpha1.ReasonPreflight {
		ask(upToDate.Message, "preflight")
	}
	both := s.rollout() != nil && s.rotation() != nil
	if o := s.rollout(); o != nil {
		s.awaitingOf(operation{rollout: o}, both, now, ask)
	}
	if o := s.rotation(); o != nil {
		s.awaitingOf(operation{rotation: o}, both, now, ask)
		if o.Status.Request != "" {
			ask("MeshRotation "+o.Name+" waits for its request to be signed", "certs csr", "--rotation", o.Name)
		}
		for _, h := range o.Status.Holdouts {
			if o.Status.Progress.Entered == nil || now.Sub(o.Status.Progress.Entered.Time) < usualProof {
				break
			}
			ask("proxy "+h.Proxy+": "+h.Why, "certs waive "+h.Proxy+" --for 1h")
		}
	}
	return out
}

// awaitingOf says what of one operation waits for a person; both says that commands have to name which.
func (s *snapshot) awaitingOf(o operation, both bool, now time.Time, ask func(what, command string, flags ...string)) {
	reason, message := o.state()
	var flags []string
	if both {
		flags = []string{"--" + strings.ToLower(strings.TrimPrefix(o.kind(), "Mesh")), o.object().GetName()}
	}
	paused, _, _ := o.verbs()
	step := o.awaits()
	switch {
	case o.outcome() != "":
	case *paused:
		ask(o.String()+" is paused", "resume", flags...)
	case step != "":
		ask(o.String()+": "+message, "approve "+step, flags...)
	case o.rollout != nil && reason == v1alpha1.ReasonUnproven:
		ask(o.String()+": "+message, "waive "+string(unproven(o.rollout))+" --for 1h", flags...)
	case o.rollout != nil && reason == v1alpha1.ReasonReconnecting:
		ask(o.String()+": "+message, "waive "+string(v1alpha1.ProofConnection)+" --for 1h", flags...)
	case o.rollout != nil && (reason == v1alpha1.ReasonAwaitingRestarts || reason == v1alpha1.ReasonStillInUse && kept(o.rollout, now)):
		ask(o.String()+": "+message, "")
	case reason == v1alpha1.ReasonAborted && o.rotation != nil:
		ask(o.String()+": "+message, "rollback", "--rotation", o.rotation.Name)
	case reason == v1alpha1.ReasonAborted:
		ask(o.String()+": "+message, "rollback", flags...)
	case o.halted() && o.rollout != nil:
		ask(o.String()+" has halted: "+message, "retry", flags...)
		ask("or take back what has moved", "rollback", flags...)
	case o.halted():
		ask(o.String()+" has halted: "+message, "")
	}
}

// unproven is the proof that a rollout waits for: its message names it.
func unproven(o *v1alpha1.MeshRollout) v1alpha1.Proof {
	_, message := operation{rollout: o}.state()
	for _, proof := range proofs {
		if strings.Contains(message, "waive the proof "+string(proof)) {
			return proof
		}
	}
	return v1alpha1.ProofInjection
}

// proofs are those that can be waived.
var proofs = []v1alpha1.Proof{v1alpha1.ProofInjection, v1alpha1.ProofConfiguration, v1alpha1.ProofConnection}

// operationView is an operation as a line of a history.
func operationView(o operation, now time.Time) OperationView {
	out := OperationView{
		Kind: o.kind(), Name: o.object().GetName(), Outcome: cmp.Or(string(o.outcome()), "Running"), Started: o.object().GetCreationTimestamp(),
	}
	out.State, out.Message = o.state()
	var counted *metav1.Time
	_, _, approvals := o.verbs()
	seen := map[string]*metav1.Time{}
	if r := o.rollout; r != nil {
		out.From, out.To, counted = r.Spec.Plan.From.Version, r.Spec.Plan.To.Version, r.Status.Counted
		for _, s := range r.Status.Steps {
			seen[s.Name] = s.ApprovedAt
		}
	} else {
		counted = o.rotation.Status.Counted
		if plan := o.rotation.Status.Plan; plan != nil {
			out.From, out.To = plan.From.Root, plan.To.Root
		}
	}
	for _, a := range *approvals {
		out.Approvals = append(out.Approvals, ApprovalView{Step: a.Step, By: a.By, At: seen[a.Step]})
	}
	end := now
	if o.outcome() != "" {
		out.Ended = endOf(o, counted)
	}
	if out.Ended != nil {
		end = out.Ended.Time
	}
	out.Seconds = int64(end.Sub(out.Started.Time).Seconds())
	return out
}

// endOf is when an operation that has ended did: nothing of its status is written after that.
func endOf(o operation, counted *metav1.Time) *metav1.Time {
	if counted != nil {
		return counted
	}
	if c := apimeta.FindStatusCondition(*o.conditions(), v1alpha1.ConditionComplete); c != nil {
		return &c.LastTransitionTime
	}
	return nil
}
