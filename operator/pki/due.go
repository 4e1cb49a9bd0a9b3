// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// IstioLeafSeconds is how long leaves live where nobody says otherwise, in seconds.
//
// Source: istio pilot/cmd/pilot-agent/options/options.go (SECRET_TTL), 1.26 to 1.31.
const IstioLeafSeconds = 86400

// Situation is what is to be known to say whether a CA has to change.
type Situation struct {
	Mesh string
	Spec v1alpha1.Certificates
	// Present is what istiod signs with, SelfSigned whether it made that for itself.
	Present    *Bundle
	SelfSigned bool
	// Source is what the user's Secret holds, for type Secret.
	Source *Bundle
	// Last is the newest rotation of the mesh, Ended the newest that was planned and has ended, and Made the newest that was completed; nil for none.
	Last, Ended, Made *v1alpha1.MeshRotation
	Now               time.Time
}

// Dues says whether a CA has to change.
type Dues struct {
	// Change that is due now; empty for none. Why is a sentence.
	Change v1alpha1.RotationChange
	Why    string
	// At is when the next one will be due by itself; zero for never.
	At time.Time
	// Refused is why what the spec means is not begun: it was tried before, or somebody else has changed cacerts. Foreign says that it is the latter.
	Refused string
	Foreign bool
}

// Asks is what a spec means, in short.
func Asks(ca v1alpha1.CertificateAuthority, source *Bundle) string {
	parts := []string{string(ca.Type)}
	switch ca.Type {
	case v1alpha1.CASourceManaged:
		m := ManagedOf(ca)
		parts = append(parts, string(m.Algorithm), string(m.Root))
	case v1alpha1.CASourceSecret:
		if source != nil {
			parts = append(parts, string(source.Issuer()))
		}
	case v1alpha1.CASourceCertManager:
		ref := ca.CertManager.IssuerRef
		parts = append(parts, string(ca.CertManager.Algorithm), ref.Group, ref.Kind, ref.Name)
	case v1alpha1.CASourceIstiod:
	}
	return strings.Join(parts, "/")
}

// Defaults of a managed CA, as the schema has them: managed itself may be absent.
const (
	rootSeconds         = 315360000
	intermediateSeconds = 31536000
)

// ManagedOf is what type Managed makes, with all defaults.
func ManagedOf(ca v1alpha1.CertificateAuthority) v1alpha1.ManagedCA {
	if ca.Managed != nil {
		return *ca.Managed
	}
	return v1alpha1.ManagedCA{
		Algorithm: v1alpha1.ECDSAP256, RootSeconds: rootSeconds, IntermediateSeconds: intermediateSeconds, PathLength: 1,
		NameConstraints: v1alpha1.NameConstraintsNone, Root: v1alpha1.RootOnline,
	}
}

// DueOf says whether a CA has to change.
func DueOf(s Situation) Dues {
	if s.Last != nil && s.Last.Status.Progress.Outcome == "" {
		return Dues{} // one is under way
	}
	left := resultOf(s.Ended)
	if left != "" && left != s.Present.Issuer() && !s.adopts() && !s.renewedByIstiod() {
		return Dues{Foreign: true, Refused: "the Secret cacerts does not hold what MeshRotation " + s.Ended.Name +
			" left: put that back, or create a MeshRotation with change Source, which goes on from what it holds"}
	}
	if s.Spec.CA.Type == v1alpha1.CASourceIstiod {
		if !s.SelfSigned && s.Made != nil && s.Made.Status.Plan.To.Issuer == string(s.Present.Issuer()) {
			return s.begin(v1alpha1.ChangeSource, "the CA is to be istiod's own")
		}
		return Dues{}
	}
	if s.Spec.CA.Type == v1alpha1.CASourceSecret && s.Source.Issuer() == s.Present.Issuer() {
		return Dues{}
	}
	if s.Made == nil || s.Made.Status.Plan.To.Issuer != string(s.Present.Issuer()) || s.Made.Status.Asked != Asks(s.Spec.CA, s.Source) {
		return s.begin(v1alpha1.ChangeSource, fmt.Sprintf("the CA is to come from %s", s.Spec.CA.Type))
	}
	return s.renewal()
}

// adopts says whether the user's source is what cacerts holds: whoever wrote both meant it.
func (s Situation) adopts() bool {
	return s.Spec.CA.Type == v1alpha1.CASourceSecret && s.Source != nil && s.Source.Issuer() == s.Present.Issuer()
}

// renewedByIstiod says whether the last rotation left istiod with its own root, which istiod renews itself.
func (s Situation) renewedByIstiod() bool {
	if !s.SelfSigned {
		return false
	}
	if s.Ended.Status.Progress.Outcome == v1alpha1.OutcomeCompleted {
		return s.Ended.Status.Plan.Source == v1alpha1.CASourceIstiod
	}
	return len(s.Ended.Status.Plan.Phases) > 0 && s.Ended.Status.Plan.Phases[0] == v1alpha1.PhasePlugIn
}

// resultOf is the issuer that a rotation left; empty where there is none.
func resultOf(ended *v1alpha1.MeshRotation) Fingerprint {
	switch {
	case ended == nil:
		return ""
	case ended.Status.Progress.Outcome == v1alpha1.OutcomeCompleted:
		return Fingerprint(ended.Status.Plan.To.Issuer)
	}
	return Fingerprint(ended.Status.Plan.From.Issuer)
}

// begin begins a change, unless the same came to nothing before: a person who took it back is not fought.
func (s Situation) begin(change v1alpha1.RotationChange, why string) Dues {
	if last := s.Last; last != nil && last.Status.Asked == Asks(s.Spec.CA, s.Source) &&
		last.Status.Progress.Outcome != v1alpha1.OutcomeCompleted {
		return Dues{Refused: fmt.Sprintf("MeshRotation %s to the same CA ended as %s: change spec.certificates.ca, or create a MeshRotation with change %s",
			last.Name, last.Status.Progress.Outcome, change)}
	}
	return Dues{Change: change, Why: why}
}

// renewal is due at a fraction of the life of an intermediate, and long before a root expires.
func (s Situation) renewal() Dues {
	out := Dues{}
	at := renewAt(s.Mesh, s.Present, s.Spec.Rotation.RenewAtPercent)
	change, why := v1alpha1.ChangeIntermediate, "the intermediate is renewed"
	switch s.Spec.CA.Type {
	case v1alpha1.CASourceManaged:
		m := ManagedOf(s.Spec.CA)
		if root := s.Present.RootOf(); root != nil {
			before := min(s.Spec.Rotation.RootRenewBeforeSeconds, m.RootSeconds/2) //nolint:mnd // a half
			rootAt := root.NotAfter.Add(-time.Duration(before) * time.Second)
			if rootAt.Before(at) {
				at, change, why = rootAt, v1alpha1.ChangeRoot, "the root is renewed"
			}
		}
	case v1alpha1.CASourceCertManager:
	default:
		return out // the user's own
	}
	if !s.Now.Before(at) {
		out = s.begin(change, why)
	}
	out.At = at
	return out
}

// UrgentAt is from when on what signs expires so soon that nothing is waited for that people did not ask for by hand: a week before, or a tenth of its
// life where that is less.
func UrgentAt(present *Bundle) time.Time {
	const week = 7 * 24 * time.Hour
	life := present.Signing.NotAfter.Sub(present.Signing.NotBefore)
	return present.Signing.NotAfter.Add(-min(week, life/10)) //nolint:mnd // a tenth
}

// Urgent says whether it is so by now; present may be nil.
func Urgent(present *Bundle, now time.Time) bool {
	return present != nil && !now.Before(UrgentAt(present))
}

// jitterPercent is how much of its life earlier than others a certificate may be renewed.
const jitterPercent = 5

// renewAt is when an intermediate is renewed: the same for the same certificate, and another for another.
func renewAt(mesh string, b *Bundle, percent int32) time.Time {
	life := b.Signing.NotAfter.Sub(b.Signing.NotBefore)
	h := fnv.New32a()
	_, _ = h.Write([]byte(mesh + string(b.Issuer()))) // never fails
	const parts = 1000
	jitter := life / 100 * jitterPercent * time.Duration(h.Sum32()%parts) / parts //nolint:mnd // percent
	return b.Signing.NotBefore.Add(life/100*time.Duration(percent) - jitter)      //nolint:mnd // percent
}
