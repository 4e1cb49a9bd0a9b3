// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// MeshRollout is one move of a mesh from one revision to another, or the refresh of the proxies of one. The installation
// controller writes its plan, which never changes; people set the verbs beside it; the rollout controller writes how far it is.
// Those that have ended are the history of the mesh.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=meshroll,categories=meshwright
// +kubebuilder:printcolumn:name="From",type=string,JSONPath=`.spec.plan.from.revision`
// +kubebuilder:printcolumn:name="To",type=string,JSONPath=`.spec.plan.to.revision`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.conditions[?(@.type=="Complete")].reason`
// +kubebuilder:printcolumn:name="Step",type=string,JSONPath=`.status.summary`
// +kubebuilder:printcolumn:name="Since",type=date,JSONPath=`.status.progress.entered`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Complete")].message`
// +kubebuilder:printcolumn:name="Version",type=string,priority=1,JSONPath=`.spec.plan.to.version`
// +kubebuilder:printcolumn:name="Age",type=date,priority=1,JSONPath=`.metadata.creationTimestamp`
type MeshRollout struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the plan, and the verbs by which people steer it.
	// +required
	Spec MeshRolloutSpec `json:"spec"`
	// Status is written by the rollout controller only.
	// +optional
	Status MeshRolloutStatus `json:"status,omitempty"`
}

// MeshRolloutList is a list of MeshRollouts.
//
// +kubebuilder:object:root=true
type MeshRolloutList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshRollout `json:"items"`
}

// MeshRolloutSpec is a plan and its verbs. Each verb needs a right of its own on meshrollouts, besides patch: pause, abort,
// rollback, approve, retry, waive.
//
// +kubebuilder:validation:XValidation:rule="self.plan == oldSelf.plan",message="plan is immutable: change the MeshInstallation, or set goal to RollBack"
// +kubebuilder:validation:XValidation:rule="self.goal == oldSelf.goal || oldSelf.goal == 'Complete' || oldSelf.goal == 'Abort' && self.goal == 'RollBack'",message="goal goes one way: Complete, Abort, RollBack"
// +kubebuilder:validation:XValidation:rule="self.retries >= oldSelf.retries",message="retries only grows"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.approvals) || has(self.approvals) && oldSelf.approvals.all(a, a in self.approvals)",message="approvals are only added, never changed or taken back"
// +kubebuilder:validation:XValidation:rule="!has(self.approvals) || self.approvals.all(a, self.plan.steps.exists(s, s.name == a.step))",message="approvals: there is no such step in the plan"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.waivers) || has(self.waivers) && oldSelf.waivers.all(w, w in self.waivers)",message="waivers are only added; they expire by themselves"
type MeshRolloutSpec struct {
	// Plan is what was decided when the rollout was created. Immutable.
	// +required
	Plan RolloutPlan `json:"plan"`
	// Paused stops every new act at once; what is under way ends by itself. Verb: pause. Default: false.
	// +optional
	// +kubebuilder:default=false
	Paused bool `json:"paused"`
	// Goal of the rollout: Complete; Abort (go no further; as long as nothing has moved, take the canary away); RollBack (move
	// back whatever has moved, and take the canary away). It goes one way. Verbs: abort, rollback. Default: Complete.
	// +optional
	// +kubebuilder:default=Complete
	Goal RolloutGoal `json:"goal"`
	// Approvals let steps of type Pause go on, and accept an overshoot of a step. They are only added. Verb: approve.
	// Example: [{step: go, by: oncall@example.com}].
	// +optional
	// +listType=map
	// +listMapKey=step
	// +kubebuilder:validation:MaxItems=50
	Approvals []Approval `json:"approvals,omitempty"`
	// Retries lets a rollout that was halted try again, once for each number more. Verb: retry. Default: 0.
	// +optional
	// +kubebuilder:default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Retries int32 `json:"retries"`
	// Waivers let a rollout go on without a proof that can't be had here. Verb: waive.
	// Example: [{proof: Injection, by: oncall@example.com, expires: "2026-03-01T12:00:00Z"}].
	// +optional
	// +listType=map
	// +listMapKey=proof
	// +listMapKey=expires
	// +kubebuilder:validation:MaxItems=20
	Waivers []Waiver `json:"waivers,omitempty"`
}

// RolloutGoal is what a rollout is to come to.
// +kubebuilder:validation:Enum=Complete;Abort;RollBack
type RolloutGoal string

// The values of RolloutGoal.
const (
	GoalComplete RolloutGoal = "Complete"
	GoalAbort    RolloutGoal = "Abort"
	GoalRollBack RolloutGoal = "RollBack"
)

// Approval lets one step go on.
type Approval struct {
	// Step is the name of a step of the plan.
	// +required
	// +kubebuilder:validation:MaxLength=40
	Step string `json:"step"`
	// By is the user who approves: their own name, as the API server knows it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by"`
}

// Proof is what a rollout wants to see before anything moves.
// +kubebuilder:validation:Enum=Injection;Configuration;Connection
type Proof string

// The values of Proof: that the canary injects new pods, that it gives proxies their configuration, and that the proxies of a
// control plane which is replaced in place are connected to the new one, so that they learn where pods that restart are.
const (
	ProofInjection     Proof = "Injection"
	ProofConfiguration Proof = "Configuration"
	ProofConnection    Proof = "Connection"
)

// Waiver lets a rollout go on without a proof.
type Waiver struct {
	// Proof that is done without: Injection, Configuration or Connection.
	// +required
	Proof Proof `json:"proof"`
	// By is the user who waives it: their own name, as the API server knows it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	By string `json:"by"`
	// Expires is when it ends.
	// +required
	Expires metav1.Time `json:"expires"`
}

// RolloutPlan is what was decided when a rollout was created: everything that has a default in the installation is written out.
type RolloutPlan struct {
	// Mesh is the name of the MeshInstallation.
	// +required
	// +kubebuilder:validation:MaxLength=40
	Mesh string `json:"mesh"`
	// From and To are the revisions. They are the same for a refresh, and when a mesh is upgraded in place.
	// +required
	From RolloutRevision `json:"from"`
	// +required
	To RolloutRevision `json:"to"`
	// Enrollment is how namespaces are told: NamespaceLabel or Tag.
	// +required
	Enrollment Enrollment `json:"enrollment"`
	// Waves group namespaces. The first that matches has a namespace; what matches none is in the wave rest.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=20
	Waves []Wave `json:"waves,omitempty"`
	// Steps in their order.
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=50
	Steps []RolloutStep `json:"steps"`
	// Restart says how workloads are moved.
	// +required
	Restart Restart `json:"restart"`
	// OnFailure says what happens when a step fails: RollBack or Pause.
	// +required
	OnFailure FailurePolicy `json:"onFailure"`
	// Windows in which workloads are moved; none: always.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Windows []Window `json:"windows,omitempty"`
	// ProgressDeadlineSeconds bounds the time without progress, in seconds.
	// +required
	// +kubebuilder:validation:Minimum=1
	ProgressDeadlineSeconds int32 `json:"progressDeadlineSeconds"`
	// RetireAfterSeconds is how long the old revision is kept after its last use, in seconds.
	// +required
	// +kubebuilder:validation:Minimum=0
	RetireAfterSeconds int32 `json:"retireAfterSeconds"`
	// Findings of the checks before the rollout was granted.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=100
	Findings []Finding `json:"findings,omitempty"`
	// Analysis is how the new version is judged.
	// +optional
	Analysis Analysis `json:"analysis,omitempty"`
	// Notifications are sent for each decision.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=5
	Notifications []Notification `json:"notifications,omitempty"`
}

// RolloutRevision is one side of a rollout.
type RolloutRevision struct {
	// Revision is the name of the MeshRevision.
	// +required
	// +kubebuilder:validation:MaxLength=56
	Revision string `json:"revision"`
	// Version of Istio.
	// +required
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version"`
	// InputsDigest of the MeshRevision.
	// +required
	// +kubebuilder:validation:MaxLength=64
	InputsDigest string `json:"inputsDigest"`
}

// Finding is something that was found before a rollout was granted.
type Finding struct {
	// Name of the finding, as it is acknowledged: a kind of finding and the object, such as EnvoyFilter/shop/headers.
	// +required
	// +kubebuilder:validation:MaxLength=400
	Name string `json:"name"`
	// Message says what was found, and the remedy.
	// +required
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message"`
	// Code of the gravest thing that was found; it has a page in the runbook. Example: MW101.
	// +optional
	// +kubebuilder:validation:MaxLength=20
	Code string `json:"code,omitempty"`
	// Severity of the gravest thing that was found: Error, Warning or Info.
	// +optional
	// +kubebuilder:validation:Enum=Error;Warning;Info
	Severity string `json:"severity,omitempty"`
	// Acknowledged says that it would have held the rollout back, and that the installation names it in
	// upgrade.acknowledged.
	// +optional
	Acknowledged bool `json:"acknowledged,omitempty"`
}

// RolloutStep is one step of a plan. The last one is of type Promote: the default revision, the tags and the gateways move, and
// then the workloads of the namespaces that follow these.
type RolloutStep struct {
	// Name of the step; approvals bind to it.
	// +required
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name"`
	// Type: GatewayWeight, Analysis, DataPlane, Pause or Promote.
	// +required
	Type StepType `json:"type"`
	// DataPlane of a step of type DataPlane or Promote.
	// +optional
	DataPlane *DataPlaneStep `json:"dataPlane,omitempty"`
	// Pause of a step of that type.
	// +optional
	Pause *PauseStep `json:"pause,omitempty"`
	// GatewayWeight of a step of that type.
	// +optional
	GatewayWeight *GatewayWeightStep `json:"gatewayWeight,omitempty"`
	// Analysis of a step of that type.
	// +optional
	Analysis *AnalysisStep `json:"analysis,omitempty"`
}

// MeshRolloutStatus is how far a rollout is.
type MeshRolloutStatus struct {
	// ObservedGeneration is the newest generation of spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Complete, whose reason is the state of the rollout; Stalled only while True.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Summary is "<step>/<steps> <name>".
	// +optional
	Summary string `json:"summary,omitempty"`
	// Act is what is being done now; the other controllers make it true.
	// +optional
	Act RolloutAct `json:"act,omitempty"`
	// Moving says that workloads may be restarted now.
	// +optional
	Moving bool `json:"moving,omitempty"`
	// Until is when a wait ends by itself, where that is known.
	// +optional
	Until *metav1.Time `json:"until,omitempty"`
	// Progress is what can't be read back from the cluster.
	// +optional
	Progress RolloutProgress `json:"progress,omitempty"`
	// Steps and how far each is.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=50
	Steps []StepStatus `json:"steps,omitempty"`
	// Gateways that move with the rollout (up to 20) and how far each is.
	// +optional
	// +listType=map
	// +listMapKey=gateway
	// +kubebuilder:validation:MaxItems=20
	Gateways []RolloutGateway `json:"gateways,omitempty"`
	// Waves and how far each is.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=22
	Waves []WaveStatus `json:"waves,omitempty"`
	// Unmovable workloads (up to 20) are never restarted, with the reason; they hold the retirement of the old revision back.
	// +optional
	// +listType=map
	// +listMapKey=workload
	// +kubebuilder:validation:MaxItems=20
	Unmovable []UnmovableWorkload `json:"unmovable,omitempty"`
	// Counted is when counts and messages were last written: they are written every ten seconds at most.
	// +optional
	Counted *metav1.Time `json:"counted,omitempty"`
	// UnmovableCount counts all of them.
	// +optional
	UnmovableCount int32 `json:"unmovableCount,omitempty"`
}

// RolloutAct is what a rollout does.
// +kubebuilder:validation:Enum=Create;Prove;Step;Wait;AwaitApproval;RollBack;Promote;Retire;Done;Halt
type RolloutAct string

// The values of RolloutAct: the closed set of what the planner decides.
const (
	// ActCreate: the canary's control plane is created.
	ActCreate RolloutAct = "Create"
	// ActProve: the canary has to show that it injects and configures.
	ActProve RolloutAct = "Prove"
	// ActStep: the current step is made true.
	ActStep RolloutAct = "Step"
	// ActWait: nothing is done until something changes, or until a time.
	ActWait RolloutAct = "Wait"
	// ActAwaitApproval: nothing is done until a person approves the step.
	ActAwaitApproval RolloutAct = "AwaitApproval"
	// ActRollBack: the current step is undone.
	ActRollBack RolloutAct = "RollBack"
	// ActPromote: the default revision and the tags follow, forward or back.
	ActPromote RolloutAct = "Promote"
	// ActRetire: the revision that nothing refers to is removed.
	ActRetire RolloutAct = "Retire"
	// ActDone: the rollout has ended.
	ActDone RolloutAct = "Done"
	// ActHalt: something failed; nothing is done until a person says how to go on.
	ActHalt RolloutAct = "Halt"
)

// RolloutProgress is what can't be read back from the cluster. Times are whole seconds.
type RolloutProgress struct {
	// Step is the index of the current step; the number of steps when all are done, and -1 when all are undone.
	// +optional
	Step int32 `json:"step"`
	// Back says that the rollout walks back.
	// +optional
	Back bool `json:"back,omitempty"`
	// Entered is when the current step was entered.
	// +optional
	Entered *metav1.Time `json:"entered,omitempty"`
	// Proven is when the canary had shown that it injects and configures, or that was waived.
	// +optional
	Proven *metav1.Time `json:"proven,omitempty"`
	// Opened is when the current step, of type GatewayWeight, was first inside a window; it holds from then on.
	// +optional
	Opened *metav1.Time `json:"opened,omitempty"`
	// Satisfied is since when the numbers of the current step are reached.
	// +optional
	Satisfied *metav1.Time `json:"satisfied,omitempty"`
	// Moved counts what had moved in the current step when progress was last seen.
	// +optional
	Moved int32 `json:"moved,omitempty"`
	// ClockSeconds is the time without progress before ClockSince, in seconds.
	// +optional
	ClockSeconds int64 `json:"clockSeconds,omitempty"`
	// ClockSince is since when the clock of the progress deadline runs; absent while it stands still.
	// +optional
	ClockSince *metav1.Time `json:"clockSince,omitempty"`
	// Failure is why the rollout rolls back, or halts.
	// +optional
	Failure string `json:"failure,omitempty"`
	// FailureReason is its reason of the closed list.
	// +optional
	FailureReason string `json:"failureReason,omitempty"`
	// Halted says that the rollout stays where it is until a person says how to go on.
	// +optional
	Halted bool `json:"halted,omitempty"`
	// Retries that were used up.
	// +optional
	Retries int32 `json:"retries,omitempty"`
	// Unused is since when nothing refers to the revision that is to be retired.
	// +optional
	Unused *metav1.Time `json:"unused,omitempty"`
	// Gates are the gates that judge, or have judged, the new version, and what they came to.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=40
	Gates []GateProgress `json:"gates,omitempty"`
	// Outcome of a rollout that has ended: Completed, Aborted or RolledBack.
	// +optional
	Outcome RolloutOutcome `json:"outcome,omitempty"`
}

// RolloutOutcome is what a rollout came to.
// +kubebuilder:validation:Enum=Completed;Aborted;RolledBack
type RolloutOutcome string

// The values of RolloutOutcome.
const (
	OutcomeCompleted  RolloutOutcome = "Completed"
	OutcomeAborted    RolloutOutcome = "Aborted"
	OutcomeRolledBack RolloutOutcome = "RolledBack"
)

// StepStatus is how far one step is.
type StepStatus struct {
	// Name of the step.
	Name string `json:"name"`
	// State: Waiting, Running, Done or Undone.
	State StepState `json:"state"`
	// Started and Ended are when it was entered and left.
	// +optional
	Started *metav1.Time `json:"started,omitempty"`
	// +optional
	Ended *metav1.Time `json:"ended,omitempty"`
	// Message says what was done, or is awaited.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// ApprovedBy and ApprovedAt record an approval, as it was seen.
	// +optional
	ApprovedBy string `json:"approvedBy,omitempty"`
	// +optional
	ApprovedAt *metav1.Time `json:"approvedAt,omitempty"`
}

// WaveStatus counts a wave: workloads, or pods under restart.type Evict, towards where the rollout moves at present.
type WaveStatus struct {
	// Name of the wave.
	Name string `json:"name"`
	// Total that can be moved.
	Total int32 `json:"total"`
	// Moved of them have.
	Moved int32 `json:"moved"`
	// Moving are on their way.
	// +optional
	Moving int32 `json:"moving,omitempty"`
	// Unmovable can't be moved, and are not in the total.
	// +optional
	Unmovable int32 `json:"unmovable,omitempty"`
}

// RolloutGateway is how far a gateway has moved.
type RolloutGateway struct {
	// Gateway as namespace/name.
	Gateway string `json:"gateway"`
	// Weight is the percent that the new version is to have, Measured its share as "9.6%".
	Weight int32 `json:"weight"`
	// +optional
	Measured string `json:"measured,omitempty"`
	// State: Progressing, Measuring, Reached or Inconclusive.
	// +optional
	State ShiftState `json:"state,omitempty"`
}

// StepState is how far one step is.
// +kubebuilder:validation:Enum=Waiting;Running;Done;Undone
type StepState string

// The values of StepState.
const (
	StepWaiting StepState = "Waiting"
	StepRunning StepState = "Running"
	StepDone    StepState = "Done"
	StepUndone  StepState = "Undone"
)

// UnmovableWorkload is a workload that a rollout can't move.
type UnmovableWorkload struct {
	// Workload as kind/namespace/name.
	Workload string `json:"workload"`
	// Reason: BarePod, UnknownOwner, RunningJob, OnDelete, Paused, Excluded, Reverted, EnrollmentBlocked or NotReady.
	Reason string `json:"reason"`
	// Message says what to do.
	// +optional
	Message string `json:"message,omitempty"`
}

// ActiveOperation is the operation that may act on a mesh.
type ActiveOperation struct {
	// Kind of the operation. Example: MeshRollout.
	Kind string `json:"kind"`
	// Name of the operation.
	Name string `json:"name"`
	// UID of the operation.
	UID types.UID `json:"uid"`
	// Preempted is the MeshRollout that stands still meanwhile, where it is, and goes on afterwards.
	// +optional
	Preempted string `json:"preempted,omitempty"`
}
