// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// RotationPlan is what was decided when a rotation was created.
type RotationPlan struct {
	// Mesh is the name of the MeshInstallation.
	Mesh string `json:"mesh"`
	// Kind of the change: Intermediate, Root, PlugIn, SelfSign or Revoke.
	Kind RotationKind `json:"kind"`
	// From and To are the authorities. Where the root is the same, only what leaves are issued with changes.
	From RotationAuthority `json:"from"`
	To   RotationAuthority `json:"to"`
	// Phases in their order.
	Phases []RotationPhase `json:"phases"`
	// LeafSeconds is the longest life of a leaf, in seconds: so long after nothing is signed with it any more, a root may be in use.
	LeafSeconds int32 `json:"leafSeconds"`
	// SettleSeconds is how long kubelets may take to bring a ConfigMap to pods, in seconds. Agents read the roots by which they know istiod from it.
	SettleSeconds int32 `json:"settleSeconds"`
	// Approve names the phases that wait for an approval before they begin.
	Approve []RotationPhase `json:"approve,omitempty"`
	// Windows in which phases begin; none: always. A revocation waits for none.
	Windows []v1alpha1.Window `json:"windows,omitempty"`
	// ProgressDeadlineSeconds bounds the time without progress in a phase, in seconds; after it the rotation says that it stands still. It never
	// goes on for that, and never goes back.
	ProgressDeadlineSeconds int32 `json:"progressDeadlineSeconds"`
}

// RotationKind is what changes.
type RotationKind string

// The values of RotationKind.
const (
	// RotationIntermediate: another intermediate under the same root.
	RotationIntermediate RotationKind = "Intermediate"
	// RotationRoot: another root.
	RotationRoot RotationKind = "Root"
	// RotationPlugIn: from the root that istiod made for itself to a plugged-in one.
	RotationPlugIn RotationKind = "PlugIn"
	// RotationSelfSign: from a plugged-in root to that which istiod made for itself.
	RotationSelfSign RotationKind = "SelfSign"
	// RotationRevoke: another root, because the key of the present one is known to others.
	RotationRevoke RotationKind = "Revoke"
)

// RotationAuthority is one side of a rotation.
type RotationAuthority struct {
	// Root is the SHA-256 of the root certificate, in lower-case hex.
	Root string `json:"root"`
	// Issuer is that of the certificate that leaves are issued with; the root's own where there is no intermediate.
	Issuer string `json:"issuer"`
}

// RotationPhase is a phase of a rotation.
type RotationPhase string

// The values of RotationPhase, in their order.
const (
	// PhasePlugIn: istiod gets its own root as a plugged-in one, and starts anew, for only then does it see changes.
	PhasePlugIn RotationPhase = "PlugIn"
	// PhaseTrust: both roots are trusted, the old one signs.
	PhaseTrust RotationPhase = "Trust"
	// PhaseSign: the new one signs.
	PhaseSign RotationPhase = "Sign"
	// PhaseDrain: no proxy presents a leaf of the old root any more.
	PhaseDrain RotationPhase = "Drain"
	// PhaseDrop: only the new root is trusted.
	PhaseDrop RotationPhase = "Drop"
	// PhaseHandOver: the plugged-in root, which is istiod's own by now, is taken away, and istiod starts anew.
	PhaseHandOver RotationPhase = "HandOver"
)

// RotationVerbs are the fields by which people steer a rotation.
type RotationVerbs struct {
	// Paused stops every new act at once. Verb: pause. Default: false.
	Paused bool `json:"paused"`
	// Goal: Complete; Abort (go no further, and back as long as nothing new signs); RollBack (back to the old authority, as long as its root is trusted).
	// It goes one way. Verbs: abort, rollback. Default: Complete.
	Goal v1alpha1.RolloutGoal `json:"goal"`
	// Approvals let phases begin. They are only added. Verb: approve. Example: [{step: Drop, by: oncall@example.com}].
	Approvals []v1alpha1.Approval `json:"approvals,omitempty"`
	// Waivers let a phase begin without the proof of a proxy. Verb: waive.
	Waivers []RotationWaiver `json:"waivers,omitempty"`
}

// RotationWaiver does without the proof of one proxy.
type RotationWaiver struct {
	// Proxy is namespace/pod.
	Proxy string `json:"proxy"`
	// By is the user who waives it: their own name, as the API server knows it.
	By string `json:"by"`
	// Expires is when it ends.
	Expires metav1.Time `json:"expires"`
}

// RotationProgress is what can't be read back from the cluster. Times are whole seconds.
type RotationProgress struct {
	// Phase that has begun; empty before the first.
	Phase RotationPhase `json:"phase,omitempty"`
	// Back says that the rotation goes back to the old authority.
	Back bool `json:"back,omitempty"`
	// Entered is when the phase began.
	Entered *metav1.Time `json:"entered,omitempty"`
	// Everywhere is since when every istiod replica, and every place from which roots are read, has what the phase wants.
	Everywhere *metav1.Time `json:"everywhere,omitempty"`
	// Signs counts how often the authority that signs has changed. Agents fetch a leaf anew only if the bytes of the roots change.
	Signs int32 `json:"signs,omitempty"`
	// Failure is why the rotation is halted.
	Failure string `json:"failure,omitempty"`
	// Outcome of a rotation that has ended: Completed, Aborted or RolledBack.
	Outcome v1alpha1.RolloutOutcome `json:"outcome,omitempty"`
}
