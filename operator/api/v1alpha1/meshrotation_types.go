// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MeshRotation is one change of the CA of a mesh. Meshwright creates one when the source of the CA has changed or a certificate is to be renewed; people
// create one on demand. What it leads to is planned once, before anything is written; people set the verbs; the rotation controller writes how far
// it is. Those that have ended are the history of the CA.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=meshrot,categories=meshwright
// +kubebuilder:printcolumn:name="Mesh",type=string,JSONPath=`.spec.mesh`
// +kubebuilder:printcolumn:name="Kind",type=string,JSONPath=`.status.plan.kind`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.conditions[?(@.type=="Complete")].reason`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.summary`
// +kubebuilder:printcolumn:name="Since",type=date,JSONPath=`.status.progress.entered`
// +kubebuilder:printcolumn:name="Proxies",type=string,JSONPath=`.status.proven`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Complete")].message`
// +kubebuilder:printcolumn:name="Age",type=date,priority=1,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 50",message="metadata.name may have 50 characters at most: it is part of names"
type MeshRotation struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is what is to change, and the verbs by which people steer it.
	// +required
	Spec MeshRotationSpec `json:"spec"`
	// Status is written by the rotation controller only.
	// +optional
	Status MeshRotationStatus `json:"status,omitempty"`
}

// MeshRotationList is a list of MeshRotations.
//
// +kubebuilder:object:root=true
type MeshRotationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshRotation `json:"items"`
}

// MeshRotationSpec is what is to change, and the verbs. Each verb needs a right of its own on meshrotations, besides patch: pause, abort, rollback,
// approve, waive.
//
// +kubebuilder:validation:XValidation:rule="self.mesh == oldSelf.mesh && self.change == oldSelf.change",message="mesh and change are immutable: create another MeshRotation"
// +kubebuilder:validation:XValidation:rule="self.goal == oldSelf.goal || self.goal != 'Complete'",message="goal: what was told to stop or to go back does not go on; create another MeshRotation"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.approvals) || has(self.approvals) && oldSelf.approvals.all(a, a in self.approvals)",message="approvals are only added, never changed or taken back"
// +kubebuilder:validation:XValidation:rule="!has(self.approvals) || self.approvals.all(a, a.step in ['PlugIn', 'Trust', 'Sign', 'Drain', 'Drop', 'HandOver'])",message="approvals: step is a phase: PlugIn, Trust, Sign, Drain, Drop or HandOver"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.waivers) || has(self.waivers) && oldSelf.waivers.all(w, w in self.waivers)",message="waivers are only added; they expire by themselves"
type MeshRotationSpec struct {
	// Mesh is the name of the MeshInstallation. Immutable. Example: default.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	Mesh string `json:"mesh"`
	// Change that is wanted: Source (to what spec.certificates.ca of the mesh means), Intermediate (another one under the same root), Root (another root)
	// or Revoke (another root, because the key of the present one is known to others: it waits for no window, approval or rollout). Immutable.
	// Default: Source.
	// +optional
	// +kubebuilder:default=Source
	Change RotationChange `json:"change,omitempty"`
	// The verbs.
	RotationVerbs `json:",inline"`
}

// RotationChange is what is wanted.
// +kubebuilder:validation:Enum=Source;Intermediate;Root;Revoke
type RotationChange string

// The values of RotationChange.
const (
	ChangeSource       RotationChange = "Source"
	ChangeIntermediate RotationChange = "Intermediate"
	ChangeRoot         RotationChange = "Root"
	ChangeRevoke       RotationChange = "Revoke"
)

// RotationVerbs are the fields by which people steer a rotation.
type RotationVerbs struct {
	// Paused stops every new act at once. Verb: pause. Default: false.
	// +optional
	// +kubebuilder:default=false
	Paused bool `json:"paused"`
	// Goal: Complete; Abort (go no further, and back as long as nothing new signs); RollBack (back to the old authority, as long as its root is trusted).
	// There is no way back to Complete. Verbs: abort, rollback. Default: Complete.
	// +optional
	// +kubebuilder:default=Complete
	Goal RolloutGoal `json:"goal"`
	// Approvals let phases begin. They are only added. Verb: approve. Example: [{step: Drop, by: oncall@example.com}].
	// +optional
	// +listType=map
	// +listMapKey=step
	// +kubebuilder:validation:MaxItems=6
	Approvals []Approval `json:"approvals,omitempty"`
	// Waivers let a phase begin without the proof of a proxy; in Drain, but for a revocation, only when every leaf of the old root has expired. Verb: waive.
	// Example: [{proxy: shop/legacy-0, by: oncall@example.com, expires: "2026-03-01T12:00:00Z"}].
	// +optional
	// +listType=map
	// +listMapKey=proxy
	// +listMapKey=expires
	// +kubebuilder:validation:MaxItems=200
	Waivers []RotationWaiver `json:"waivers,omitempty"`
}

// RotationWaiver does without the proof of one proxy.
type RotationWaiver struct {
	// Proxy is namespace/pod.
	// +required
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=317
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

// RotationPlan is what was decided before anything was written.
type RotationPlan struct {
	// Kind of the change: Intermediate, Root, PlugIn, SelfSign or Revoke.
	// +required
	Kind RotationKind `json:"kind"`
	// Source that the new authority comes from.
	// +required
	Source CASource `json:"source"`
	// From and To are the authorities. Where the root is the same, only what leaves are issued with changes.
	// +required
	From RotationAuthority `json:"from"`
	// +required
	To RotationAuthority `json:"to"`
	// Phases in their order.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=6
	Phases []RotationPhase `json:"phases"`
	// LeafSeconds is the longest life of a leaf, in seconds: so long after nothing is signed with it any more, a root may be in use.
	// +required
	LeafSeconds int32 `json:"leafSeconds"`
	// SettleSeconds is how long kubelets may take to bring a ConfigMap to pods, in seconds. Agents read the roots by which they know istiod from it.
	// +required
	SettleSeconds int32 `json:"settleSeconds"`
	// Approve names the phases that wait for an approval before they begin.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=6
	Approve []RotationPhase `json:"approve,omitempty"`
	// Windows in which phases begin; none: always. A revocation waits for none.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Windows []Window `json:"windows,omitempty"`
	// ProgressDeadlineSeconds bounds the time without progress in a phase, in seconds; after it the rotation says that it stands still. It never
	// goes on for that, and never goes back.
	// +required
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
	// +kubebuilder:validation:MaxLength=64
	Root string `json:"root"`
	// Issuer is that of the certificate that leaves are issued with; the root's own where there is no intermediate.
	// +required
	// +kubebuilder:validation:MaxLength=64
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
	// Signs counts how often the bytes of the roots had to change although the roots did not. Agents fetch a leaf anew only if the bytes change.
	// +optional
	Signs int32 `json:"signs,omitempty"`
	// Nudged is when, in this phase, all agents were made to fetch their leaf anew: one that was told before every istiod had what the phase wants
	// proves nothing by its leaf.
	// +optional
	Nudged *metav1.Time `json:"nudged,omitempty"`
	// Elsewhere says that proxies were seen that are no pods of this cluster. They can go out of sight with a leaf of the root that is left.
	// +optional
	Elsewhere bool `json:"elsewhere,omitempty"`
	// LeafSeconds is the longest life of a leaf that some proxy asked for since the plan was made, in seconds.
	// +optional
	LeafSeconds int32 `json:"leafSeconds,omitempty"`
	// Holds is a digest of what cacerts held when it was last seen to be as this rotation knows it, and Gets of what it is about to get: whatever else it
	// holds is somebody else's. "none" where there is no such Secret.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Holds string `json:"holds,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Gets string `json:"gets,omitempty"`
	// Outcome of a rotation that has ended: Completed, Aborted or RolledBack.
	// +optional
	Outcome RolloutOutcome `json:"outcome,omitempty"`
}

// MeshRotationStatus is how far a rotation is.
//
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.plan) || has(self.plan) && self.plan == oldSelf.plan",message="plan is immutable"
type MeshRotationStatus struct {
	// ObservedGeneration is the newest generation of spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Complete, whose reason is the state of the rotation; Stalled only while True.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Summary is "<phase>/<phases> <name>".
	// +optional
	Summary string `json:"summary,omitempty"`
	// Plan is what was decided before anything was written. It never changes.
	// +optional
	Plan *RotationPlan `json:"plan,omitempty"`
	// Asked is what spec.certificates.ca meant, in short: the same is not tried twice by itself.
	// +optional
	// +kubebuilder:validation:MaxLength=700
	Asked string `json:"asked,omitempty"`
	// Request is a certificate signing request for the new intermediate, as PEM, while its signature is awaited.
	// +optional
	// +kubebuilder:validation:MaxLength=16384
	Request string `json:"request,omitempty"`
	// Until is when a wait ends by itself, where that is known.
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
	// Progress is what can't be read back from the cluster.
	// +optional
	Progress RotationProgress `json:"progress,omitempty"`
	// Proven is "<proxies that have proven the phase>/<proxies>".
	// +optional
	Proven string `json:"proven,omitempty"`
	// Proxies are counted for the phase.
	// +optional
	Proxies *RotationProxies `json:"proxies,omitempty"`
	// Holdouts (up to 20) are proxies for which the phase waits.
	// +optional
	// +listType=map
	// +listMapKey=proxy
	// +kubebuilder:validation:MaxItems=20
	Holdouts []RotationHoldout `json:"holdouts,omitempty"`
	// Counted is when counts and messages were last written: they are written every ten seconds at most.
	// +optional
	Counted *metav1.Time `json:"counted,omitempty"`
}

// RotationProxies counts proxies by what they have shown.
type RotationProxies struct {
	// Total of all proxies.
	Total int32 `json:"total"`
	// AcceptNew of them accept the root that is gone to; AcceptOld that which is left.
	AcceptNew int32 `json:"acceptNew"`
	AcceptOld int32 `json:"acceptOld"`
	// PresentNew present a leaf of the root that is gone to; PresentOld of that which is left.
	PresentNew int32 `json:"presentNew"`
	PresentOld int32 `json:"presentOld"`
	// Holding keep the phase from ending.
	Holding int32 `json:"holding"`
}

// RotationHoldout is a proxy for which a phase waits.
type RotationHoldout struct {
	// Proxy is namespace/pod.
	Proxy string `json:"proxy"`
	// Why, with a remedy.
	// +kubebuilder:validation:MaxLength=1024
	Why string `json:"why"`
}
