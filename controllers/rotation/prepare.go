// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/authority"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/pki"
)

// waiting is why a rotation is not planned yet.
type waiting struct {
	reason, note string
	stalled      bool
	again        time.Duration
}

func (w *waiting) Error() string { return w.note }

func refuse(reason, note string) error {
	return &waiting{reason: reason, note: note, stalled: true, again: lookAgain}
}

func later(reason, note string) error { return &waiting{reason: reason, note: note, again: lookAgain} }

// errOverruled says that something else is wanted by now.
var errOverruled = errors.New("spec.certificates.ca means another CA by now; nothing has changed")

// wrong is what is wrong with a bundle, in words.
func wrong(of string, problems []pki.Problem) error {
	all, stalled := make([]string, len(problems)), false
	for i, p := range problems {
		all[i], stalled = p.String(), stalled || p.At.IsZero()
	}
	reason := v1alpha1.ReasonInvalidCA
	if !stalled { // it only has to become valid everywhere
		reason = v1alpha1.ReasonPreparing
	}
	return &waiting{reason: reason, note: of + ": " + strings.Join(all, "; "), stalled: stalled, again: lookAgain}
}

// prepare makes what the rotation leads to, keeps it, and plans. Nothing of the mesh changes.
func (r *Reconciler) prepare(ctx context.Context, s *scope) (ctrl.Result, error) {
	o := s.rotation
	if s.overtaken() {
		o.Status.Progress.Outcome, o.Status.Request = v1alpha1.OutcomeAborted, ""
		return r.hold(ctx, s, v1alpha1.ReasonAborted, "a revocation goes first; nothing has changed", false, 0)
	}
	if o.Spec.Goal != v1alpha1.GoalComplete {
		o.Status.Progress.Outcome, o.Status.Request = v1alpha1.OutcomeAborted, ""
		return r.hold(ctx, s, v1alpha1.ReasonAborted, "nothing has changed", false, 0)
	}
	err := r.plan(ctx, s)
	var why *waiting
	switch {
	case errors.Is(err, errOverruled):
		o.Status.Progress.Outcome, o.Status.Request, o.Status.Asked = v1alpha1.OutcomeAborted, "", "" // nobody has taken it back
		return r.hold(ctx, s, v1alpha1.ReasonAborted, err.Error(), false, 0)
	case errors.As(err, &why):
		return r.hold(ctx, s, why.reason, why.note, why.stalled, why.again)
	case errors.Is(err, errLate):
		return ctrl.Result{RequeueAfter: time.Second}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	o.Status.Request = ""
	o.Status.Summary = summary(o.Status.Plan, o.Status.Progress)
	return r.hold(ctx, s, v1alpha1.ReasonPreparing, "what it leads to is made and checked; nothing of the mesh has changed yet", false, time.Second)
}

// plan fills in status.plan, or says by a *waiting why that is not possible yet.
func (r *Reconciler) plan(ctx context.Context, s *scope) error {
	o := s.rotation
	lost := s.mesh.Spec.Certificates.CA.Type == v1alpha1.CASourceSecret && s.state.Source == nil
	if o.Status.Asked != "" && s.state.Known && !lost && o.Status.Asked != s.asks() {
		return errOverruled
	}
	if err := s.ready(); err != nil {
		return err
	}
	if o.Status.Asked == "" {
		o.Status.Asked = s.asks()
		if err := conditions.Write(ctx, r.Client, s.before, o); err != nil {
			return err
		}
		s.before = o.DeepCopy()
	}
	kept, err := r.kept(ctx, o.Name)
	if err != nil {
		return err
	}
	if kept != nil && kept.Labels[keptLabel] != o.Name {
		return refuse(v1alpha1.ReasonNameTaken, fmt.Sprintf("the Secret %s/%s belongs to somebody else: give the MeshRotation another name", r.Namespace, kept.Name))
	}
	if kept == nil {
		if kept, err = r.make(ctx, s); err != nil {
			return err
		}
	}
	if len(kept.Data[keyPending]) > 0 {
		if kept, err = r.answered(ctx, s, kept); err != nil {
			return err
		}
	}
	from, fromWrong := pki.ParseBundle(pki.Unprefixed(prefixFrom, kept.Data))
	to, toWrong := pki.ParseBundle(pki.Unprefixed(prefixTo, kept.Data))
	if len(fromWrong)+len(toWrong) > 0 {
		return wrong("the Secret "+kept.Name, slices.Concat(fromWrong, toWrong))
	}
	if s.state.Present != nil && s.state.Present.Issuer() != from.Issuer() {
		return refuse(v1alpha1.ReasonForeignChange, "the CA has changed since this rotation was begun: set spec.goal to Abort, and create another one")
	}
	if err := s.check(from, to); err != nil {
		return err
	}
	if why, err := r.incapable(ctx, s.mesh); err != nil || why != "" && s.kindOf(from, to, false) != v1alpha1.RotationIntermediate {
		return cmp.Or(err, refuse(v1alpha1.ReasonNotCapable, why))
	}
	longest, err := r.Witness.longestLeaf(ctx, s.mesh)
	if err != nil {
		return err
	}
	o.Status.Plan, o.Status.Progress.Holds = s.planOf(from, to), digestOf(s)
	o.Status.Plan.LeafSeconds, o.Status.Plan.SettleSeconds = max(o.Status.Plan.LeafSeconds, longest), r.SettleSeconds
	return nil
}

// ready says why what is there can't be changed.
func (s *scope) ready() error {
	for i := range s.others {
		other := &s.others[i]
		if other.Status.Progress.Outcome == "" && (other.Status.Plan != nil || authority.Before(other, s.rotation)) {
			return later(v1alpha1.ReasonNotGranted, "MeshRotation "+other.Name+" is under way, and ends first: let it, or set its spec.goal to RollBack or Abort")
		}
	}
	switch {
	case s.mesh.Spec.Paused, s.rotation.Spec.Paused:
		return later(v1alpha1.ReasonPaused, "the mesh or the rotation is paused")
	case !s.state.Known:
		return later(v1alpha1.ReasonUnknown, "the Secrets of the CA have not been read yet")
	case s.mesh.Spec.Certificates.CA.Type == v1alpha1.CASourceIstiod && s.rotation.Spec.Change != v1alpha1.ChangeSource:
		return refuse(v1alpha1.ReasonInvalidCA, "what istiod makes for itself can't be renewed: set spec.certificates.ca.type of the mesh to Managed, Secret or CertManager, which changes the root")
	case len(s.state.Problems) > 0:
		return wrong("the Secret "+nameOf(s), s.state.Problems)
	case s.state.Present == nil && s.mesh.Status.StableRevision != "":
		return later(v1alpha1.ReasonUnknown, "istiod has made no CA yet")
	case s.state.Present == nil && s.mesh.Spec.Certificates.CA.Type == v1alpha1.CASourceIstiod:
		return later(v1alpha1.ReasonUnknown, "there is no CA yet, and istiod is to make it")
	case len(s.strangers()) > 0:
		return refuse(v1alpha1.ReasonInvalidCA, fmt.Sprintf("the Secret %s holds %s, which a rotation would not keep: a list of revoked certificates (ca-crl.pem) has to name every CA "+
			"of a chain, and none is made here. Take it out first", nameOf(s), strings.Join(s.strangers(), ", ")))
	case s.state.Present != nil && len(s.state.Present.Roots) > 1:
		return refuse(v1alpha1.ReasonInvalidCA, "the Secret cacerts trusts more than one root: finish the change that is under way by hand, and leave the one that signs")
	}
	return nil
}

// strangers are keys of cacerts that no CA is made of.
func (s *scope) strangers() []string {
	if s.state.CACerts == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s.state.CACerts.Data)), pki.KnownKey)
}

func nameOf(s *scope) string {
	if s.state.CACerts != nil {
		return s.mesh.Spec.Namespace + "/" + s.state.CACerts.Name
	}
	return s.mesh.Spec.Namespace + "/" + s.state.SelfSigned.Name
}

// asks is what the spec means now, in short.
func (s *scope) asks() string {
	return pki.Asks(s.mesh.Spec.Certificates.CA, sourceOf(s.state.Source))
}

// sourceOf is what the user's Secret holds; nil where it can't be read.
func sourceOf(secret *corev1.Secret) *pki.Bundle {
	if secret == nil {
		return nil
	}
	b, problems := pki.ParseBundle(secret.Data)
	if len(problems) > 0 {
		return nil
	}
	return b
}

// check refuses what no istiod or proxy would take, and what is no change.
func (s *scope) check(from, to *pki.Bundle) error {
	if problems := to.Check(authority.Rules(s.mesh, s.state.Present, to, s.now)); len(problems) > 0 {
		return wrong("what the CA is to become", problems)
	}
	same := from.Issuer() == to.Issuer()
	sameRoot := pki.FingerprintOf(from.RootOf()) == pki.FingerprintOf(to.RootOf())
	change := s.rotation.Spec.Change
	switch {
	case same && s.state.Present != nil:
		return refuse(v1alpha1.ReasonInvalidCA, "the source holds what is in use already: put another one there, and create another MeshRotation")
	case !sameRoot && sameKey(from.RootOf(), to.RootOf()):
		return refuse(v1alpha1.ReasonInvalidCA, "root-cert.pem is the present root issued anew, with its key and subject: proxies can't show which of the two they trust: give a root with a key of its own")
	case sameRoot && s.state.Present != nil && (change == v1alpha1.ChangeRoot || change == v1alpha1.ChangeRevoke):
		return refuse(v1alpha1.ReasonInvalidCA, "the source holds the present root still: put another root there, and create another MeshRotation")
	}
	return nil
}

// sameKey says whether two roots have one subject and one key.
func sameKey(a, b *x509.Certificate) bool {
	return string(a.RawSubject) == string(b.RawSubject) && string(a.RawSubjectPublicKeyInfo) == string(b.RawSubjectPublicKeyInfo)
}

// planOf is the plan that leads from one CA to another.
func (s *scope) planOf(from, to *pki.Bundle) *v1alpha1.RotationPlan {
	policy := s.mesh.Spec.Certificates.Rotation
	self := s.state.Signing == v1alpha1.SigningSelfSigned
	out := &v1alpha1.RotationPlan{
		Kind: s.kindOf(from, to, self), Source: s.mesh.Spec.Certificates.CA.Type, From: sideOf(from), To: sideOf(to), LeafSeconds: authority.LeafSeconds(s.mesh),
		Approve: policy.Approve, Windows: policy.Windows, ProgressDeadlineSeconds: policy.ProgressDeadlineSeconds,
	}
	out.Phases = pki.PhasesOf(out.Kind, self, out.From.Root == out.To.Root)
	if s.state.Present == nil { // there is no istiod yet: it finds the CA when it starts
		out.Phases, out.Windows, out.Approve = []v1alpha1.RotationPhase{v1alpha1.PhasePlugIn}, nil, nil
	}
	return out
}

func (s *scope) kindOf(from, to *pki.Bundle, self bool) v1alpha1.RotationKind {
	switch {
	case s.rotation.Spec.Change == v1alpha1.ChangeRevoke:
		return v1alpha1.RotationRevoke
	case s.mesh.Spec.Certificates.CA.Type == v1alpha1.CASourceIstiod && s.rotation.Spec.Change == v1alpha1.ChangeSource:
		return v1alpha1.RotationSelfSign
	case self, s.state.Present == nil:
		return v1alpha1.RotationPlugIn
	case pki.FingerprintOf(from.RootOf()) == pki.FingerprintOf(to.RootOf()):
		return v1alpha1.RotationIntermediate
	}
	return v1alpha1.RotationRoot
}

func sideOf(b *pki.Bundle) v1alpha1.RotationAuthority {
	return v1alpha1.RotationAuthority{Root: string(pki.FingerprintOf(b.RootOf())), Issuer: string(b.Issuer())}
}
