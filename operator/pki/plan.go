// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"slices"
)

// PhasesOf are the phases of a change, forward. A revocation goes through the same ones: no order is faster that breaks no handshake. It only waits
// for nobody's window and approval.
func PhasesOf(kind RotationKind, selfSigned bool) []RotationPhase {
	if kind == RotationIntermediate {
		return []RotationPhase{PhaseSign}
	}
	out := []RotationPhase{PhaseTrust, PhaseSign, PhaseDrain, PhaseDrop}
	if selfSigned {
		out = append([]RotationPhase{PhasePlugIn}, out...)
	}
	if kind == RotationSelfSign {
		out = append(out, PhaseHandOver)
	}
	return out
}

// phases that are left to go through, in the direction of a progress. The way back begins with signing as before, whatever was reached: what had
// not happened needs no undoing, and is found to be so.
func phases(plan *RotationPlan, back bool) []RotationPhase {
	if !back || len(plan.Phases) == 1 {
		return plan.Phases
	}
	out := []RotationPhase{PhaseSign, PhaseDrain, PhaseDrop}
	if plan.Phases[0] == PhasePlugIn {
		out = append(out, PhaseHandOver)
	}
	return out
}

// after is the phase after another one; empty after the last.
func after(plan *RotationPlan, back bool, phase RotationPhase) RotationPhase {
	all := phases(plan, back)
	if i := slices.Index(all, phase) + 1; i < len(all) {
		return all[i]
	}
	return ""
}

// sides are the authority that is left and the one that is gone to, in the direction of a progress.
func sides(plan *RotationPlan, back bool) (from, to RotationAuthority) {
	if back {
		return plan.To, plan.From
	}
	return plan.From, plan.To
}

// CanTurn says whether a rotation can go back: as long as the old root is trusted everywhere.
func CanTurn(p RotationProgress) bool {
	return !p.Back && p.Outcome == "" && p.Phase != PhaseDrop && p.Phase != PhaseHandOver
}

// Material is what the Secret cacerts holds.
type Material struct {
	// None says that there is no such Secret: istiod signs with a root that it made for itself.
	None bool
	// Issuer of leaves.
	Issuer Fingerprint
	// Roots in the order of their bytes.
	Roots []Fingerprint
	// Padding is how many empty lines follow the roots. They say nothing, and make the bytes others.
	Padding int32
}

// Equal says whether two are the same.
func (m Material) Equal(other Material) bool {
	return m.None == other.None && m.Issuer == other.Issuer && m.Padding == other.Padding && slices.Equal(m.Roots, other.Roots)
}

// Wanted is what cacerts is to hold in a phase. From each to the next the bytes of the roots contain the former ones or are contained in them,
// without which no istiod up to 1.29 takes them; so the order of the two is that of the plan also on the way back.
func Wanted(plan *RotationPlan, p RotationProgress) Material {
	from, to := sides(plan, p.Back)
	both := []Fingerprint{Fingerprint(plan.From.Root), Fingerprint(plan.To.Root)}
	if plan.From.Root == plan.To.Root {
		both = both[:1]
	}
	switch p.Phase {
	case PhasePlugIn:
		return Material{Issuer: Fingerprint(from.Issuer), Roots: []Fingerprint{Fingerprint(from.Root)}}
	case PhaseTrust:
		return Material{Issuer: Fingerprint(from.Issuer), Roots: both}
	case PhaseSign, PhaseDrain:
		out := Material{Issuer: Fingerprint(to.Issuer), Roots: both}
		if len(both) > 1 { // under one root agents fetch leaves in their own time
			out.Padding = p.Signs
		}
		return out
	case PhaseDrop:
		return Material{Issuer: Fingerprint(to.Issuer), Roots: []Fingerprint{Fingerprint(to.Root)}}
	case PhaseHandOver:
		return Material{None: true}
	}
	return Material{}
}
