// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RotationPlan is what was decided when a rotation was created.
type RotationPlan struct {
	// Mesh is the name of the MeshInstallation.
	// +required
	// +kubebuilder:validation:MaxLength=40
	Mesh string `json:"mesh"`
	// Kind of the change: Intermediate, Root, PlugIn, SelfSign or Revoke.
	// +required
	Kind RotationKind `json:"kind"`
	// From and To are the authorities. Where the root is the same, only what leaves are issued with changes.
	// +required
	From RotationAuthority `json:"from"`
	// +required
	To RotationAuthority `json:"to"`
	// Phases in their order.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=6
	Phases []RotationPhase `json:"phases"`
	// LeafSeconds is the longest life of a leaf, in seconds: so long after nothing is signed with it any more, a root may be in use.
	// +required
	// +kubebuilder:validation:Minimum=60
	LeafSeconds int32 `json:"leafSeconds"`
	// SettleSeconds is how long kubelets may take to bring a ConfigMap to pods, in seconds. Agents read the roots by which they know istiod from it.
	// +required
	// +kubebuilder:validation:Minimum=0
	SettleSeconds int32 `json:"settleSeconds"`
	// Approve names the phases that wait for an approval before they begin.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=6
	Approve []RotationPhase `json:"approve,omitempty"`
	// Windows in which phases begin; none: always. A revocation waits for none.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Windows []Window `json:"windows,omitempty"`
	// Refresh lets workloads be restarted whose proxies learn of a root in no other way, in a MeshRollout of its own.
	// +optional
	Refresh bool `json:"refresh,omitempty"`
	// ProgressDeadlineSeconds bounds the time without progress in a phase, in seconds; after it the rotation says that it stands still. It never
	// goes on for that, and never goes back.
	// +required
	// +kubebuilder:validation:Minimum=1
	ProgressDeadlineSeconds int32 `json:"progressDeadlineSeconds"`
}

// RotationKind is what changes.
// +kubebuilder:validation:Enum=Intermediate;Root;PlugIn;SelfSign;Revoke
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
	// +required
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	Root string `json:"root"`
	// Issuer is that of the certificate that leaves are issued with; the root's own where there is no intermediate.
	// +required
	// +kubebuilder:validation:Pattern=`^[0-9a-f]{64}$`
	Issuer string `json:"issuer"`
}

// RotationPhase is a phase of a rotation.
// +kubebuilder:validation:Enum=PlugIn;Trust;Sign;Drain;Drop;HandOver
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
	// +optional
	// +kubebuilder:default=false
	Paused bool `json:"paused"`
	// Goal: Complete; Abort (go no further, and back as long as nothing new signs); RollBack (back to the old authority, as long as its root is trusted).
	// It goes one way. Verbs: abort, rollback. Default: Complete.
	// +optional
	// +kubebuilder:default=Complete
	Goal RolloutGoal `json:"goal"`
	// Approvals let phases begin. They are only added. Verb: approve. Example: [{step: Drop, by: oncall@example.com}].
	// +optional
	// +listType=map
	// +listMapKey=step
	// +kubebuilder:validation:MaxItems=6
	Approvals []Approval `json:"approvals,omitempty"`
	// Waivers let a phase begin without the proof of a proxy. Verb: waive.
	// +optional
	// +listType=map
	// +listMapKey=proxy
	// +listMapKey=expires
	// +kubebuilder:validation:MaxItems=100
	Waivers []RotationWaiver `json:"waivers,omitempty"`
}

// RotationWaiver does without the proof of one proxy.
type RotationWaiver struct {
	// Proxy is namespace/pod.
	// +required
	// +kubebuilder:validation:MaxLength=320
	Proxy string `json:"proxy"`
	// By is the user who waives it: their own name, as the API server knows it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by"`
	// Expires is when it ends.
	// +required
	Expires metav1.Time `json:"expires"`
}

// RotationProgress is what can't be read back from the cluster. Times are whole seconds.
type RotationProgress struct {
	// Phase that has begun; empty before the first.
	// +optional
	Phase RotationPhase `json:"phase,omitempty"`
	// Back says that the rotation goes back to the old authority.
	// +optional
	Back bool `json:"back,omitempty"`
	// Entered is when the phase began.
	// +optional
	Entered *metav1.Time `json:"entered,omitempty"`
	// Everywhere is since when every istiod replica, and every place from which roots are read, has what the phase wants.
	// +optional
	Everywhere *metav1.Time `json:"everywhere,omitempty"`
	// Signs counts how often the authority that signs has changed. Agents fetch a leaf anew only if the bytes of the roots change.
	// +optional
	Signs int32 `json:"signs,omitempty"`
	// Failure is why the rotation is halted.
	// +optional
	Failure string `json:"failure,omitempty"`
	// Outcome of a rotation that has ended: Completed, Aborted or RolledBack.
	// +optional
	Outcome RolloutOutcome `json:"outcome,omitempty"`
}
