// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"slices"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// PhasesOf are the phases of a change, forward. A revocation goes through the same ones: no order is faster that breaks no handshake. It only waits
// for nobody's window and approval. Under the same root, every proxy trusts what it is to trust, and goes on to.
func PhasesOf(kind v1alpha1.RotationKind, selfSigned, sameRoot bool) []v1alpha1.RotationPhase {
	out := []v1alpha1.RotationPhase{v1alpha1.PhaseTrust, v1alpha1.PhaseSign, v1alpha1.PhaseDrain, v1alpha1.PhaseDrop}
	if sameRoot {
		out = []v1alpha1.RotationPhase{v1alpha1.PhaseSign}
	}
	if selfSigned {
		out = append([]v1alpha1.RotationPhase{v1alpha1.PhasePlugIn}, out...)
	}
	if kind == v1alpha1.RotationSelfSign {
		out = append(out, v1alpha1.PhaseHandOver)
	}
	return out
}

// phases that are left to go through, in the direction of a progress. The way back begins where what was reached has to be undone.
func phases(plan *v1alpha1.RotationPlan, back bool) []v1alpha1.RotationPhase {
	if !back || len(plan.Phases) == 1 {
		return plan.Phases
	}
	out := []v1alpha1.RotationPhase{v1alpha1.PhaseSign}
	if slices.Contains(plan.Phases, v1alpha1.PhaseDrop) {
		out = append(out, v1alpha1.PhaseDrain, v1alpha1.PhaseDrop)
	}
	if plan.Phases[0] == v1alpha1.PhasePlugIn {
		out = append(out, v1alpha1.PhaseHandOver)
	}
	return out
}

// after is the phase after another one; empty after the last.
func after(plan *v1alpha1.RotationPlan, back bool, phase v1alpha1.RotationPhase) v1alpha1.RotationPhase {
	all := phases(plan, back)
	if i := slices.Index(all, phase); i >= 0 && i+1 < len(all) {
		return all[i+1]
	}
	return ""
}

// Sides are the authority that is left and the one that is gone to, in the direction of a progress.
func Sides(plan *v1alpha1.RotationPlan, back bool) (from, to v1alpha1.RotationAuthority) {
	if back {
		return plan.To, plan.From
	}
	return plan.From, plan.To
}

// CanTurn says whether a rotation can go back: as long as the old root is trusted everywhere.
func CanTurn(plan *v1alpha1.RotationPlan, p v1alpha1.RotationProgress) bool {
	return !p.Back && p.Outcome == "" && plan.From != plan.To && p.Phase != v1alpha1.PhaseDrop && p.Phase != v1alpha1.PhaseHandOver
}

// Material is what the Secret cacerts holds.
type Material struct {
	// None says that there is no such Secret: istiod signs with a root that it made for itself. Where that is wanted, Issuer and Roots say which.
	None bool
	// Issuer of leaves.
	Issuer Fingerprint
	// Roots in the order of their bytes.
	Roots []Fingerprint
	// Padding is how many empty lines follow the roots, beyond those that the last of them had before. They say nothing, and make the bytes others.
	Padding int32
}

// Equal says whether two are the same.
func (m Material) Equal(other Material) bool {
	if m.None || other.None {
		return m.None == other.None
	}
	return m.Issuer == other.Issuer && m.Padding == other.Padding && slices.Equal(m.Roots, other.Roots)
}

// Wanted is what cacerts is to hold in a phase. From each to the next the bytes of the roots contain the former ones or are contained in them,
// without which no istiod up to 1.29 takes them. So the root that was there before comes last, as it was to the byte, also on the way back.
func Wanted(plan *v1alpha1.RotationPlan, p v1alpha1.RotationProgress) Material {
	from, to := Sides(plan, p.Back)
	both := []Fingerprint{Fingerprint(plan.To.Root), Fingerprint(plan.From.Root)}
	if plan.From.Root == plan.To.Root {
		both = both[:1]
	}
	switch p.Phase {
	case v1alpha1.PhasePlugIn:
		return Material{Issuer: Fingerprint(from.Issuer), Roots: []Fingerprint{Fingerprint(from.Root)}}
	case v1alpha1.PhaseTrust:
		return Material{Issuer: Fingerprint(from.Issuer), Roots: both, Padding: p.Signs}
	case v1alpha1.PhaseSign, v1alpha1.PhaseDrain:
		out := Material{Issuer: Fingerprint(to.Issuer), Roots: both}
		if len(both) > 1 { // under one root agents fetch leaves in their own time
			out.Padding = p.Signs
		}
		return out
	case v1alpha1.PhaseDrop:
		out := Material{Issuer: Fingerprint(to.Issuer), Roots: []Fingerprint{Fingerprint(to.Root)}}
		if p.Nudged != nil {
			out.Padding = 1
		}
		return out
	case v1alpha1.PhaseHandOver:
		return Material{None: true, Issuer: Fingerprint(to.Issuer), Roots: []Fingerprint{Fingerprint(to.Root)}}
	}
	return Material{}
}
