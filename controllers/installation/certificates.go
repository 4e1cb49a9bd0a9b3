// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/controllers"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/authority"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/metrics"
	"github.com/meshwright/meshwright/operator/pki"
)

// rotationKind is the kind of a MeshRotation in status.activeOperation.
const rotationKind = "MeshRotation"

// gatherRotations reads the rotations of the mesh. One that revokes a root goes before everything else, and so does any where what signs expires soon; the
// other ones wait for what is active. One that is not planned yet changes nothing, and another intermediate under the same root restarts nothing: neither
// needs a grant.
func (r *Reconciler) gatherRotations(ctx context.Context, s *scope) error {
	var err error
	if s.rotations, err = facts.RotationsOf(ctx, r.Client, s.mesh.Name); err != nil {
		return err
	}
	active := s.mesh.Status.ActiveOperation // gatherRollouts may have granted a rollout just now
	var turn *v1alpha1.MeshRotation
	for i := range s.rotations {
		o := &s.rotations[i]
		if o.Status.Progress.Outcome != "" {
			continue
		}
		if s.rotating == nil || authority.Before(o, s.rotating) {
			s.rotating = o
		}
		if o.Status.Plan == nil || o.Status.Plan.Kind == v1alpha1.RotationIntermediate {
			continue
		}
		revokes := o.Status.Plan.Kind == v1alpha1.RotationRevoke
		if revokes || turn == nil || active != nil && active.UID == o.UID {
			turn = o
		}
		if revokes {
			break
		}
	}
	s.granted = nil
	switch {
	case turn != nil && (active == nil || active.Kind == rotationKind || turn.Status.Plan.Kind == v1alpha1.RotationRevoke || yields(s.active) ||
		pki.Urgent(r.Authority.Of(s.mesh).Present, r.Clock.Now())):
		if s.active != nil {
			s.preempted, s.active = s.active, nil
		}
		s.granted = turn
		s.mesh.Status.ActiveOperation = &v1alpha1.ActiveOperation{Kind: rotationKind, Name: turn.Name, UID: turn.UID}
		if s.preempted != nil {
			s.mesh.Status.ActiveOperation.Preempted = s.preempted.Name
		}
	case active != nil && active.Kind == rotationKind && s.preempted != nil:
		s.grant(s.preempted) // it goes on where it stood
	case active != nil && active.Kind == rotationKind:
		s.mesh.Status.ActiveOperation = nil // it has ended, or was deleted
	}
	return nil
}

// yields says whether a rollout lets a rotation go first: when it has moved all that moves, and only waits until the old revision may go. That may take
// for as long as a gateway holds its version.
func yields(o *v1alpha1.MeshRollout) bool {
	return o != nil && !o.Status.Progress.Back && int(o.Status.Progress.Step) >= len(o.Spec.Plan.Steps)
}

// authority is the verdict over the CA of the mesh, and writes status.certificates.
func (r *Reconciler) authority(s *scope) conditions.Verdict {
	state, now := r.Authority.Of(s.mesh), r.Clock.Now()
	out := v1alpha1.CertificatesStatus{Signing: state.Signing}
	roots, intermediates := map[string]time.Time{}, map[string]time.Time{}
	if state.Present != nil {
		out.Roots, out.Intermediates = certificatesOf(state.Present, roots, intermediates)
	}
	metrics.CA(s.mesh.Name, roots, intermediates)
	situation, known := state.Situation(s.mesh, s.rotations, now)
	due := pki.Dues{}
	if known {
		due = pki.DueOf(situation)
	}
	if !due.At.IsZero() {
		out.Next = &metav1.Time{Time: due.At.Truncate(time.Second)}
	}
	if o := s.rotating; o != nil {
		out.Rotation, out.Phase, out.Since = o.Name, o.Status.Progress.Phase, o.Status.Progress.Entered
		out.Proxies, out.Holdouts = o.Status.Proxies, o.Status.Holdouts
	}
	s.mesh.Status.Certificates = out
	return s.judgeAuthority(state, due, now)
}

// certificatesOf describes a CA.
func certificatesOf(b *pki.Bundle, roots, intermediates map[string]time.Time) (outRoots, outIntermediates []v1alpha1.CertificateInfo) {
	describe := func(c *x509.Certificate, at map[string]time.Time) v1alpha1.CertificateInfo {
		f := string(pki.FingerprintOf(c))
		at[f] = c.NotAfter
		return v1alpha1.CertificateInfo{Subject: conditions.Shorten(c.Subject.String()), Fingerprint: f, NotAfter: metav1.NewTime(c.NotAfter)}
	}
	for _, c := range b.Roots {
		outRoots = append(outRoots, describe(c, roots))
	}
	if !slices.ContainsFunc(b.Roots, b.Signing.Equal) {
		for _, c := range append([]*x509.Certificate{b.Signing}, b.Between...) {
			outIntermediates = append(outIntermediates, describe(c, intermediates))
		}
	}
	const most = 10 // what the API allows in status
	return outRoots[:min(most, len(outRoots))], outIntermediates[:min(most, len(outIntermediates))]
}

func (s *scope) judgeAuthority(state authority.State, due pki.Dues, now time.Time) conditions.Verdict {
	bad := func(reason, message string) conditions.Verdict {
		return conditions.Verdict{Ready: metav1.ConditionFalse, Reason: reason, Message: message}
	}
	switch {
	case !state.Known:
		return conditions.Verdict{Ready: metav1.ConditionUnknown, Reason: v1alpha1.ReasonUnknown, Message: "the Secrets of the CA have not been read yet"}
	case len(state.Problems) > 0:
		return bad(v1alpha1.ReasonInvalidCA, fmt.Sprintf("what istiod signs with can't be used, and was written by %s: %s", state.By, state.Problems[0]))
	}
	if o := s.rotating; o != nil {
		if c := apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionStalled); c != nil {
			return bad(c.Reason, "MeshRotation "+o.Name+": "+c.Message)
		}
	}
	if why := s.badSource(state, now); why != "" {
		return bad(v1alpha1.ReasonInvalidCA, why)
	}
	switch {
	case due.Foreign:
		return bad(v1alpha1.ReasonForeignChange, fmt.Sprintf("%s (written by %s)", due.Refused, state.By))
	case due.Refused != "":
		return bad(v1alpha1.ReasonTargetFailed, due.Refused)
	case state.Present != nil && s.rotating == nil && len(s.rotations) > 0 && len(state.Present.Roots) > 1:
		return bad(v1alpha1.ReasonForeignChange, fmt.Sprintf("the Secret cacerts trusts %d roots, and no rotation is under way that would drop one: when no proxy presents a leaf "+
			"of another than that which signs, leave that one (written by %s)", len(state.Present.Roots), state.By))
	case state.Present == nil:
		if s.rotating == nil && len(s.rotations) > 0 {
			return bad(v1alpha1.ReasonTargetFailed, "there is no CA yet, and the MeshRotation that was to make it was taken back: create another with change Source")
		}
		return bad(v1alpha1.ReasonProgressing, "there is no CA yet")
	}
	return s.judgeExpiry(state.Present, due, now)
}

// expiring is how long before it expires people are told of what nothing renews.
const expiring = 30 * 24 * time.Hour

func (s *scope) judgeExpiry(present *pki.Bundle, due pki.Dues, now time.Time) conditions.Verdict {
	first := present.Signing
	for _, c := range slices.Concat(present.Between, present.Roots) {
		if c.NotAfter.Before(first.NotAfter) {
			first = c
		}
	}
	life := first.NotAfter.Sub(first.NotBefore)
	what := fmt.Sprintf("%s expires at %s", first.Subject, first.NotAfter.UTC().Format(time.RFC3339))
	switch {
	case now.After(first.NotAfter):
		return conditions.Verdict{Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonExpired, Message: what + ": put another CA into spec.certificates.ca"}
	case pki.Urgent(present, now) && s.rotating != nil:
		return conditions.Verdict{Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonExpiring, Message: what + ", and another one does not sign before this has gone on: " + underRotation(s.rotating)}
	case pki.Urgent(present, now) && !due.At.IsZero() && now.After(due.At):
		return conditions.Verdict{Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonExpiring, Message: what + ", and its renewal has not begun: set spec.paused to false"}
	case s.rotating != nil:
		return conditions.Verdict{Ready: metav1.ConditionTrue, Reason: v1alpha1.ReasonRotating, Message: underRotation(s.rotating)}
	case due.At.IsZero() && first.NotAfter.Sub(now) < min(expiring, life/3): //nolint:mnd // a third of its life
		return conditions.Verdict{Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonExpiring, Message: what + ", and nothing renews it: put another one into the source of spec.certificates.ca"}
	}
	return conditions.Verdict{Ready: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady, Message: what}
}

// untilUrgent is how long it takes until what signs expires so soon that a rotation goes first, of which no event tells; 0 where none would.
func (r *Reconciler) untilUrgent(s *scope) time.Duration {
	present := r.Authority.Of(s.mesh).Present
	if present == nil || s.rotating == nil && s.mesh.Status.Certificates.Next == nil {
		return 0
	}
	return min(controllers.LookAtTime, max(0, pki.UrgentAt(present).Sub(r.Clock.Now())))
}

// badSource says what is wrong with the user's Secret; empty where nothing is.
func (s *scope) badSource(state authority.State, now time.Time) string {
	ca := s.mesh.Spec.Certificates.CA
	if ca.Type != v1alpha1.CASourceSecret {
		return ""
	}
	name := s.mesh.Spec.Namespace + "/" + ca.Secret.Name
	if state.Source == nil {
		return "spec.certificates.ca.secret.name: there is no Secret " + name + ": create it"
	}
	if _, problems := state.Offered(s.mesh, now); len(problems) > 0 {
		return "the Secret " + name + ": " + problems[0].String()
	}
	return ""
}

// underRotation is what a rotation under way does, or waits for.
func underRotation(o *v1alpha1.MeshRotation) string {
	if c := apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionComplete); c != nil {
		return "MeshRotation " + o.Name + ": " + c.Message
	}
	return "MeshRotation " + o.Name + " begins"
}

// awaitAuthority keeps the first istiod of a mesh back until its CA is there: it would make one for itself.
func (r *Reconciler) awaitAuthority(s *scope) (outcome, bool) {
	if s.mesh.Spec.Certificates.CA.Type == v1alpha1.CASourceIstiod {
		return outcome{}, false
	}
	state := r.Authority.Of(s.mesh)
	if state.Known && state.Present != nil {
		return outcome{}, false
	}
	verdict := s.judgeAuthority(state, pki.Dues{}, r.Clock.Now())
	stalled := verdict.Ready == metav1.ConditionFalse && verdict.Reason != v1alpha1.ReasonProgressing
	return outcome{problem: &conditions.Verdict{
		Ready: metav1.ConditionFalse, Reason: verdict.Reason, Message: "the CA comes before istiod: " + verdict.Message, Stalled: stalled, Reconciling: !stalled,
	}}, true
}
