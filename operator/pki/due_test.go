// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// TestDueOf says when a CA has to change, and when what the spec means is not begun.
func TestDueOf(t *testing.T) {
	first, second := bundleOf(t, "first"), bundleOf(t, "second")
	begins := first.Signing.NotBefore
	life := first.Signing.NotAfter.Sub(begins)
	spec := func(ca v1alpha1.CertificateAuthority) v1alpha1.Certificates {
		return v1alpha1.Certificates{CA: ca, Rotation: v1alpha1.RotationPolicy{RenewAtPercent: 66, RootRenewBeforeSeconds: 3600}}
	}
	istiod, managed := spec(v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceIstiod}), spec(v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged})
	users := spec(v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceSecret, Secret: &v1alpha1.SecretCA{Name: "mesh-ca"}})
	issuer := func(name string) v1alpha1.Certificates {
		return spec(v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceCertManager, CertManager: &v1alpha1.CertManagerCA{IssuerRef: v1alpha1.IssuerRef{Name: name}}})
	}
	rsa := spec(v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged, Managed: &v1alpha1.ManagedCA{Algorithm: v1alpha1.RSA3072, Root: v1alpha1.RootOnline}})
	last := func(asked string, outcome v1alpha1.RolloutOutcome, from, to *Bundle) *v1alpha1.MeshRotation {
		return &v1alpha1.MeshRotation{
			ObjectMeta: metav1.ObjectMeta{Name: "default-7"},
			Status: v1alpha1.MeshRotationStatus{
				Asked: asked, Plan: &v1alpha1.RotationPlan{From: sideOf(from), To: sideOf(to)},
				Progress: v1alpha1.RotationProgress{Outcome: outcome, Entered: &metav1.Time{Time: begins.Add(time.Hour)}},
			},
		}
	}
	const made, ofSecond = "Managed/ECDSA-P256/Online", "CertManager////second"
	early, late := begins.Add(life/2), begins.Add(life*2/3)
	for reason, tc := range map[string]struct {
		s       Situation
		made    *v1alpha1.MeshRotation // where it is not the last one
		change  v1alpha1.RotationChange
		refused string
	}{
		"istiod's own CA is left alone":         {s: Situation{Spec: istiod, Present: first, SelfSigned: true, Now: late}},
		"a cacerts that was there before is it": {s: Situation{Spec: istiod, Present: first, Now: late}},
		"Meshwright is to make the CA":          {s: Situation{Spec: managed, Present: first, SelfSigned: true, Now: early}, change: v1alpha1.ChangeSource},
		"it has made it":                        {s: Situation{Spec: managed, Present: first, Last: last(made, v1alpha1.OutcomeCompleted, second, first), Now: early}},
		"the intermediate is renewed in time":   {s: Situation{Spec: managed, Present: first, Last: last(made, v1alpha1.OutcomeCompleted, second, first), Now: late}, change: v1alpha1.ChangeIntermediate},
		"another algorithm is wanted":           {s: Situation{Spec: rsa, Present: first, Last: last(made, v1alpha1.OutcomeCompleted, second, first), Now: early}, change: v1alpha1.ChangeSource},
		"the CA is to be istiod's again":        {s: Situation{Spec: istiod, Present: first, Last: last(made, v1alpha1.OutcomeCompleted, second, first), Now: early}, change: v1alpha1.ChangeSource},
		"the user's Secret has another CA":      {s: Situation{Spec: users, Source: second, Present: first, Last: last(made, v1alpha1.OutcomeCompleted, second, first), Now: early}, change: v1alpha1.ChangeSource},
		"the user's Secret has the present CA":  {s: Situation{Spec: users, Source: first, Present: first, Now: late}},
		"another issuer is to sign":             {s: Situation{Spec: issuer("third"), Present: first, Last: last(ofSecond, v1alpha1.OutcomeCompleted, second, first), Now: early}, change: v1alpha1.ChangeSource},
		"an issuer's intermediate is renewed":   {s: Situation{Spec: issuer("second"), Present: first, Last: last(ofSecond, v1alpha1.OutcomeCompleted, second, first), Now: late}, change: v1alpha1.ChangeIntermediate},
		"nothing begins while one is under way": {s: Situation{Spec: rsa, Present: first, Last: last(made, "", second, first), Now: late}},
		"what was taken back is not begun again": {
			s: Situation{Spec: managed, Present: first, Last: last(made, v1alpha1.OutcomeRolledBack, first, second), Now: early}, refused: "ended as RolledBack",
		},
		"a spec that has changed since is": {
			s: Situation{Spec: rsa, Present: first, Last: last(made, v1alpha1.OutcomeRolledBack, first, second), Now: early}, change: v1alpha1.ChangeSource,
		},
		"one on demand that was taken back asks for nothing": {
			s: Situation{Spec: managed, Present: first, Last: last(made, v1alpha1.OutcomeRolledBack, first, second), Now: early}, made: last(made, v1alpha1.OutcomeCompleted, second, first),
		},
		"a renewal that was taken back is not begun again": {
			s:    Situation{Spec: managed, Present: first, Last: last(made, v1alpha1.OutcomeRolledBack, first, second), Now: late},
			made: last(made, v1alpha1.OutcomeCompleted, second, first), refused: "ended as RolledBack",
		},
		"somebody else has changed cacerts": {
			s: Situation{Spec: managed, Present: second, Last: last(made, v1alpha1.OutcomeCompleted, second, first), Now: late}, refused: "does not hold what MeshRotation default-7 left",
		},
	} {
		t.Run(reason, func(t *testing.T) {
			tc.s.Mesh = "default"
			if o := tc.s.Last; o != nil && o.Status.Progress.Outcome != "" {
				tc.s.Ended = o
			}
			if o := tc.s.Last; o != nil && o.Status.Progress.Outcome == v1alpha1.OutcomeCompleted {
				tc.s.Made = o
			}
			if tc.made != nil {
				tc.s.Made = tc.made
			}
			due := DueOf(tc.s)
			if due.Change != tc.change || due.Change != "" && due.Why == "" {
				t.Errorf("due is %q (%s; %s), want %q", due.Change, due.Why, due.Refused, tc.change)
			}
			if !strings.Contains(due.Refused, tc.refused) || (tc.refused == "") != (due.Refused == "") {
				t.Errorf("refused with %q, want %q", due.Refused, tc.refused)
			}
		})
	}
}

// What expires within a tenth of its life is urgent.
func TestUrgent(t *testing.T) {
	b := bundleOf(t, "present") // which lives for 100 hours, and began a little earlier
	if at := b.Signing.NotAfter.Sub(UrgentAt(b)).Round(time.Hour); at != 10*time.Hour {
		t.Errorf("it is urgent %s before it expires, want a tenth of its life", at)
	}
	for offset, want := range map[time.Duration]bool{-11 * time.Hour: false, -9 * time.Hour: true, time.Hour: true} {
		if Urgent(b, b.Signing.NotAfter.Add(offset)) != want {
			t.Errorf("urgent %s from its expiry: want %t", offset, want)
		}
	}
	if Urgent(nil, time.Now()) {
		t.Error("nothing is urgent where there is nothing")
	}
}

// A root is renewed before the intermediate would outlive it, and meshes don't renew their intermediates at the same moment.
func TestRenewals(t *testing.T) {
	b := bundleOf(t, "one")
	s := Situation{
		Mesh: "default", Present: b, Now: b.Signing.NotBefore,
		Spec: v1alpha1.Certificates{
			CA:       v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged, Managed: &v1alpha1.ManagedCA{Algorithm: v1alpha1.ECDSAP256, Root: v1alpha1.RootOnline, RootSeconds: 7200000}},
			Rotation: v1alpha1.RotationPolicy{RenewAtPercent: 66, RootRenewBeforeSeconds: 3600},
		},
		Made: &v1alpha1.MeshRotation{Status: v1alpha1.MeshRotationStatus{
			Asked: "Managed/ECDSA-P256/Online", Plan: &v1alpha1.RotationPlan{To: sideOf(b)}, Progress: v1alpha1.RotationProgress{Outcome: v1alpha1.OutcomeCompleted},
		}},
	}
	life := b.Signing.NotAfter.Sub(b.Signing.NotBefore)
	seen := map[time.Time]bool{}
	for i := range 50 {
		s.Mesh = fmt.Sprintf("mesh-%d", i)
		at := DueOf(s).At.Sub(b.Signing.NotBefore)
		if at < life*61/100 || at > life*66/100 {
			t.Errorf("%s renews after %s of %s", s.Mesh, at, life)
		}
		seen[DueOf(s).At] = true
	}
	if len(seen) < 40 {
		t.Errorf("50 meshes renew at %d moments", len(seen))
	}
	s.Spec.Rotation.RootRenewBeforeSeconds = 3500000
	if due := DueOf(s); !due.At.Equal(b.Roots[0].NotAfter.Add(-3500000 * time.Second)) {
		t.Errorf("the root is renewed at %s, want 3500000 s before its end %s", due.At, b.Roots[0].NotAfter)
	}
	s.Now = b.Roots[0].NotAfter.Add(-3500000 * time.Second)
	if due := DueOf(s); due.Change != v1alpha1.ChangeRoot {
		t.Errorf("due is %q, want another root", due.Change)
	}
}
