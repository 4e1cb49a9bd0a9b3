// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MeshStatus is what kubectl mesh status prints.
type MeshStatus struct {
	metav1.TypeMeta `json:",inline"`
	// Name of the mesh.
	Name string `json:"name"`
	// Version that the spec asks for, and ResolvedVersion that it stands for here.
	Version string `json:"version"`
	// ResolvedVersion is the exact Istio version that version stands for.
	ResolvedVersion string `json:"resolvedVersion,omitempty"`
	// PendingVersion waits for the active operation to end.
	PendingVersion string `json:"pendingVersion,omitempty"`
	// Paused says that nothing is done for the mesh: spec.paused.
	Paused bool `json:"paused,omitempty"`
	// Conditions of the MeshInstallation.
	Conditions []ConditionView `json:"conditions"`
	// Revisions of the mesh: stable, canary, then those that are to be retired.
	Revisions []RevisionView `json:"revisions"`
	// Gateways of the mesh, also those of teams.
	Gateways []GatewayView `json:"gateways"`
	// DataPlane counts proxies.
	DataPlane DataPlaneView `json:"dataPlane"`
	// Rollout that is under way, or waits for its turn.
	Rollout *RolloutView `json:"rollout,omitempty"`
	// Certificates of the mesh, and the rotation under way.
	Certificates CertificatesView `json:"certificates"`
	// UpgradeTargets are versions that the mesh could move to, the highest first.
	UpgradeTargets []string `json:"upgradeTargets"`
	// Awaiting is what waits for a person.
	Awaiting []AwaitedView `json:"awaiting"`
	// Unreadable is what you may not read, so that it is missing here.
	Unreadable []string `json:"unreadable,omitempty"`
}

// ConditionView is a condition of an object.
type ConditionView struct {
	// Type of the condition.
	Type string `json:"type"`
	// Status: True, False or Unknown.
	Status metav1.ConditionStatus `json:"status"`
	// Reason of the closed list.
	Reason string `json:"reason"`
	// Message for people.
	Message string `json:"message,omitempty"`
	// Since is when the status changed last.
	Since *metav1.Time `json:"since,omitempty"`
}

// RevisionRole is what a revision is to its mesh.
type RevisionRole string

// The values of RevisionRole.
const (
	RoleStable   RevisionRole = "Stable"
	RoleCanary   RevisionRole = "Canary"
	RoleRetiring RevisionRole = "Retiring"
)

// RevisionView is one control plane.
type RevisionView struct {
	// Name of the MeshRevision, which is Istio's name of the revision.
	Name string `json:"name"`
	// Version of Istio.
	Version string `json:"version"`
	// Role: Stable, Canary or Retiring.
	Role RevisionRole `json:"role"`
	// Ready is the status of its condition of that name; Unknown while it has none.
	Ready metav1.ConditionStatus `json:"ready"`
	// Message of that condition.
	Message string `json:"message,omitempty"`
	// Proxies that it injected, gateways included.
	Proxies int32 `json:"proxies"`
	// Tags that point to it.
	Tags []string `json:"tags,omitempty"`
}

// GatewayView is one gateway.
type GatewayView struct {
	// Namespace of the MeshGateway.
	Namespace string `json:"namespace"`
	// Name of the MeshGateway.
	Name string `json:"name"`
	// Ready is the status of its condition of that name; Unknown while it has none.
	Ready metav1.ConditionStatus `json:"ready"`
	// Message of that condition, or of the shift under way.
	Message string `json:"message,omitempty"`
	// Replicas as "<ready>/<wanted>".
	Replicas string `json:"replicas,omitempty"`
	// Addresses under which it is reached.
	Addresses []string `json:"addresses,omitempty"`
	// State of the shift under way: Progressing, Measuring, Reached or Inconclusive.
	State string `json:"state,omitempty"`
	// Versions behind its Service.
	Versions []GatewayVersionView `json:"versions"`
}

// GatewayVersionView is one version of a gateway.
type GatewayVersionView struct {
	// Revision that configures it.
	Revision string `json:"revision"`
	// Version of Istio.
	Version string `json:"version"`
	// Weight is the percent of what is newly opened that it is to have.
	Weight int32 `json:"weight"`
	// Measured is the share that it was measured to have, as "9.6%".
	Measured string `json:"measured,omitempty"`
	// ReadyReplicas serve, of Replicas.
	ReadyReplicas int32 `json:"readyReplicas"`
	// Replicas that are wanted.
	Replicas int32 `json:"replicas"`
}

// DataPlaneView counts proxies.
type DataPlaneView struct {
	// Summary is "<proxies of the stable revision>/<pods that should have one>".
	Summary string `json:"summary,omitempty"`
	// Namespaces that belong to the mesh.
	Namespaces int32 `json:"namespaces"`
	// Outdated pods have no sidecar, or not the one that they should have.
	Outdated int32 `json:"outdated"`
	// Stale pods are the outdated ones whose sidecar is of the right revision, but not as it injects it now.
	Stale int32 `json:"stale"`
	// Blocked namespaces are selected but not enrolled.
	Blocked []BlockedView `json:"blocked,omitempty"`
}

// BlockedView is a namespace that is selected but not enrolled.
type BlockedView struct {
	// Namespace that is meant.
	Namespace string `json:"namespace"`
	// Reason, of a closed list.
	Reason string `json:"reason"`
	// Message with the remedy.
	Message string `json:"message,omitempty"`
}

// RolloutView is a MeshRollout.
type RolloutView struct {
	// Name of the MeshRollout.
	Name string `json:"name"`
	// From is the revision that is moved from.
	From string `json:"from"`
	// FromVersion is its version of Istio.
	FromVersion string `json:"fromVersion"`
	// To is the revision that is moved to; that of From where the proxies of one revision are refreshed.
	To string `json:"to"`
	// ToVersion is its version of Istio.
	ToVersion string `json:"toVersion"`
	// State is the reason of the condition Complete.
	State string `json:"state"`
	// Message says what is done or awaited.
	Message string `json:"message,omitempty"`
	// Goal: Complete, Abort or RollBack.
	Goal string `json:"goal"`
	// Paused says that it stands still: spec.paused.
	Paused bool `json:"paused,omitempty"`
	// Back says that it walks back.
	Back bool `json:"back,omitempty"`
	// Outcome of one that has ended: Completed, Aborted or RolledBack.
	Outcome string `json:"outcome,omitempty"`
	// Failure is why it rolls back, or halts.
	Failure string `json:"failure,omitempty"`
	// Until is when its wait ends by itself.
	Until *metav1.Time `json:"until,omitempty"`
	// Steps of the plan.
	Steps []StepView `json:"steps"`
	// Waves and how far each is.
	Waves []WaveView `json:"waves,omitempty"`
	// Gates and what they came to.
	Gates []GateView `json:"gates,omitempty"`
	// Unmovable names up to 20 workloads that can't be moved.
	Unmovable []UnmovableView `json:"unmovable,omitempty"`
	// UnmovableCount counts all of them.
	UnmovableCount int32 `json:"unmovableCount,omitempty"`
}

// StepView is one step of a rollout, or one phase of a rotation.
type StepView struct {
	// Name of the step.
	Name string `json:"name"`
	// Type: GatewayWeight, Analysis, DataPlane, Pause or Promote; absent for a phase.
	Type string `json:"type,omitempty"`
	// State: Waiting, Running, Done or Undone.
	State string `json:"state"`
	// Started is when it was entered.
	Started *metav1.Time `json:"started,omitempty"`
	// Ended is when it was left.
	Ended *metav1.Time `json:"ended,omitempty"`
	// Message says what was done, or is awaited.
	Message string `json:"message,omitempty"`
	// ApprovedBy is who has approved it.
	ApprovedBy string `json:"approvedBy,omitempty"`
	// ApprovedAt is when the approval was seen.
	ApprovedAt *metav1.Time `json:"approvedAt,omitempty"`
}

// WaveView counts workloads of a wave, or pods where they are evicted. Where the rollout goes back, those count as moved that are at the old revision.
type WaveView struct {
	// Name of the wave.
	Name string `json:"name"`
	// Total that can be moved.
	Total int32 `json:"total"`
	// Moved of them have.
	Moved int32 `json:"moved"`
	// Moving are on their way.
	Moving int32 `json:"moving,omitempty"`
	// Unmovable are not in the total.
	Unmovable int32 `json:"unmovable,omitempty"`
}

// GateView is a gate of a rollout.
type GateView struct {
	// Name of the gate.
	Name string `json:"name"`
	// State: Waiting, Measuring, Inconclusive, Passed or Failed.
	State string `json:"state"`
	// Message says what was seen.
	Message string `json:"message,omitempty"`
}

// UnmovableView is a workload that can't be moved.
type UnmovableView struct {
	// Workload as kind/namespace/name.
	Workload string `json:"workload"`
	// Reason, of a closed list.
	Reason string `json:"reason"`
	// Message says what to do.
	Message string `json:"message,omitempty"`
}

// AwaitedView is something that waits for a person.
type AwaitedView struct {
	// What waits, and for what.
	What string `json:"what"`
	// Command that answers it; absent where no single command does.
	Command string `json:"command,omitempty"`
}

// CertificatesView is what the CA of a mesh is.
type CertificatesView struct {
	// Source: Istiod, Managed, Secret or CertManager.
	Source string `json:"source"`
	// Signing says what istiod signs with: SelfSigned, PluggedIn or Unknown.
	Signing string `json:"signing"`
	// Roots that proxies are made to trust.
	Roots []CertificateView `json:"roots"`
	// Intermediates from what leaves are issued with to the root.
	Intermediates []CertificateView `json:"intermediates,omitempty"`
	// Next is when the CA is rotated next by itself.
	Next *metav1.Time `json:"next,omitempty"`
	// Rotation under way.
	Rotation *RotationView `json:"rotation,omitempty"`
}

// CertificateView is a certificate of a CA.
type CertificateView struct {
	// Subject as its distinguished name.
	Subject string `json:"subject"`
	// Fingerprint is its SHA-256 in lower-case hex.
	Fingerprint string `json:"fingerprint"`
	// NotAfter is when it expires.
	NotAfter metav1.Time `json:"notAfter"`
	// Expired says that this is past.
	Expired bool `json:"expired,omitempty"`
}

// RotationView is a MeshRotation.
type RotationView struct {
	// Name of the MeshRotation.
	Name string `json:"name"`
	// Change that is wanted: Source, Intermediate, Root or Revoke.
	Change string `json:"change"`
	// Kind of what is done: Intermediate, Root, PlugIn, SelfSign or Revoke; empty before it is planned.
	Kind string `json:"kind,omitempty"`
	// From is the SHA-256 of the root that is left.
	From string `json:"from,omitempty"`
	// To is the SHA-256 of the root that is gone to.
	To string `json:"to,omitempty"`
	// State is the reason of the condition Complete.
	State string `json:"state"`
	// Message says what is done or awaited.
	Message string `json:"message,omitempty"`
	// Goal: Complete, Abort or RollBack.
	Goal string `json:"goal"`
	// Paused says that it stands still: spec.paused.
	Paused bool `json:"paused,omitempty"`
	// Back says that it goes back.
	Back bool `json:"back,omitempty"`
	// Outcome of one that has ended: Completed, Aborted or RolledBack.
	Outcome string `json:"outcome,omitempty"`
	// Until is when its wait ends by itself.
	Until *metav1.Time `json:"until,omitempty"`
	// Phases in their order.
	Phases []StepView `json:"phases,omitempty"`
	// Proven is "<proxies that have proven the phase>/<proxies>".
	Proven string `json:"proven,omitempty"`
	// Holdouts names up to 20 proxies for which the phase waits.
	Holdouts []HoldoutView `json:"holdouts,omitempty"`
	// Requested says that a certificate signing request waits to be signed: kubectl mesh certs csr.
	Requested bool `json:"requested,omitempty"`
}

// HoldoutView is a proxy for which a phase of a rotation waits.
type HoldoutView struct {
	// Proxy as namespace/pod.
	Proxy string `json:"proxy"`
	// Why, with a remedy.
	Why string `json:"why"`
}

// MeshCertificates is what kubectl mesh certs status prints.
type MeshCertificates struct {
	metav1.TypeMeta `json:",inline"`
	// Name of the mesh.
	Name string `json:"name"`
	// Revisions are the control planes that sign.
	Revisions []RevisionView `json:"revisions"`
	// Certificates of the mesh, and the rotation under way.
	Certificates CertificatesView `json:"certificates"`
	// Awaiting is what waits for a person.
	Awaiting []AwaitedView `json:"awaiting"`
	// Unreadable is what you may not read, so that it is missing here.
	Unreadable []string `json:"unreadable,omitempty"`
}

// MeshHistory is what kubectl mesh history prints of a mesh.
type MeshHistory struct {
	metav1.TypeMeta `json:",inline"`
	// Name of the mesh.
	Name string `json:"name"`
	// Operations of the mesh, the newest first.
	Operations []OperationView `json:"operations"`
	// Unreadable is what you may not read, so that it is missing here.
	Unreadable []string `json:"unreadable,omitempty"`
}

// OperationView is one line of a history.
type OperationView struct {
	// Kind: MeshRollout or MeshRotation.
	Kind string `json:"kind"`
	// Name of the object.
	Name string `json:"name"`
	// From is the version, or the root, that was left.
	From string `json:"from,omitempty"`
	// To is the version, or the root, that was gone to.
	To string `json:"to,omitempty"`
	// Outcome: Completed, Aborted or RolledBack; Running for one that has not ended.
	Outcome string `json:"outcome"`
	// State is the reason of the condition Complete.
	State string `json:"state"`
	// Message says what it came to.
	Message string `json:"message,omitempty"`
	// Started is when the object was created.
	Started metav1.Time `json:"started"`
	// Ended is when it had ended.
	Ended *metav1.Time `json:"ended,omitempty"`
	// Seconds that it took, or has taken so far.
	Seconds int64 `json:"seconds"`
	// Approvals that people gave.
	Approvals []ApprovalView `json:"approvals,omitempty"`
}

// ApprovalView is an approval of a person.
type ApprovalView struct {
	// Step or phase that was approved.
	Step string `json:"step"`
	// By whom.
	By string `json:"by"`
	// At is when the operator saw it.
	At *metav1.Time `json:"at,omitempty"`
}

// MeshOperation is what kubectl mesh history prints of one operation: its whole story.
type MeshOperation struct {
	metav1.TypeMeta `json:",inline"`
	// Operation in short.
	Operation OperationView `json:"operation"`
	// Rollout, for a MeshRollout.
	Rollout *RolloutView `json:"rollout,omitempty"`
	// Rotation, for a MeshRotation.
	Rotation *RotationView `json:"rotation,omitempty"`
	// Waivers that people gave.
	Waivers []WaiverView `json:"waivers,omitempty"`
	// Events that the API server still has, the oldest first.
	Events []EventView `json:"events,omitempty"`
	// Unreadable is what you may not read, so that it is missing here.
	Unreadable []string `json:"unreadable,omitempty"`
}

// WaiverView is a proof that a person did without.
type WaiverView struct {
	// Of is a proof of a rollout, or a proxy of a rotation.
	Of string `json:"of"`
	// By whom.
	By string `json:"by"`
	// Expires is when it ends.
	Expires metav1.Time `json:"expires"`
}

// EventView is an event of an operation.
type EventView struct {
	// At is when it was seen last.
	At metav1.Time `json:"at"`
	// Type: Normal or Warning.
	Type string `json:"type"`
	// Reason of the closed list.
	Reason string `json:"reason"`
	// Message for people.
	Message string `json:"message"`
}

// MeshProxies is what kubectl mesh proxies prints.
type MeshProxies struct {
	metav1.TypeMeta `json:",inline"`
	// Name of the mesh.
	Name string `json:"name"`
	// Stable is the revision that proxies should be of.
	Stable string `json:"stable,omitempty"`
	// Proxies, and pods that should have one, by namespace and name.
	Proxies []ProxyView `json:"proxies"`
	// Unreadable is what you may not read, so that it is missing here.
	Unreadable []string `json:"unreadable,omitempty"`
}

// ProxyState is how a proxy compares to what it should be.
type ProxyState string

// The values of ProxyState.
const (
	// ProxyCurrent: of the revision that it should be of, as that injects it now.
	ProxyCurrent ProxyState = "Current"
	// ProxyStale: of that revision, but not as it injects it now.
	ProxyStale ProxyState = "Stale"
	// ProxyOutdated: of another revision.
	ProxyOutdated ProxyState = "Outdated"
	// ProxyMissing: the pod should have a sidecar and has none of the mesh.
	ProxyMissing ProxyState = "Missing"
)

// ProxyView is a pod with a proxy, or one that should have one.
type ProxyView struct {
	// Namespace of the pod.
	Namespace string `json:"namespace"`
	// Pod is its name.
	Pod string `json:"pod"`
	// Workload as kind/name: what would have to be restarted.
	Workload string `json:"workload"`
	// Type: Sidecar or Gateway.
	Type string `json:"type"`
	// Revision that injected it.
	Revision string `json:"revision,omitempty"`
	// Version of Istio of that revision.
	Version string `json:"version,omitempty"`
	// State: Current, Stale, Outdated or Missing.
	State ProxyState `json:"state"`
	// Ready says that the pod serves.
	Ready bool `json:"ready"`
	// Unmovable is why its workload can't be moved, of a closed list.
	Unmovable string `json:"unmovable,omitempty"`
	// Holdout is why a rotation waits for it.
	Holdout string `json:"holdout,omitempty"`
	// Remedy says what to do.
	Remedy string `json:"remedy,omitempty"`
}

// MeshVersion is what kubectl mesh version prints.
type MeshVersion struct {
	metav1.TypeMeta `json:",inline"`
	// Plugin is the version of kubectl mesh.
	Plugin string `json:"plugin"`
	// Platform that the plugin was built for, as linux/amd64.
	Platform string `json:"platform"`
	// Operator that is installed.
	Operator *OperatorView `json:"operator,omitempty"`
	// Kubernetes is the version of the API server.
	Kubernetes string `json:"kubernetes,omitempty"`
	// Meshes and their versions of Istio.
	Meshes []MeshVersionView `json:"meshes,omitempty"`
	// Unreadable is what you may not read, so that it is missing here.
	Unreadable []string `json:"unreadable,omitempty"`
}

// OperatorView is the operator's Deployment.
type OperatorView struct {
	// Namespace of the Deployment.
	Namespace string `json:"namespace"`
	// Version by the label app.kubernetes.io/version, else by the tag of the image; empty where neither says it.
	Version string `json:"version,omitempty"`
	// Image that runs.
	Image string `json:"image"`
	// Ready replicas as "<ready>/<wanted>".
	Ready string `json:"ready"`
}

// MeshVersionView is a mesh and its versions of Istio.
type MeshVersionView struct {
	// Name of the mesh.
	Name string `json:"name"`
	// Version that the spec asks for.
	Version string `json:"version"`
	// Revisions and their versions.
	Revisions []RevisionVersionView `json:"revisions"`
}

// RevisionVersionView is a revision and its version of Istio.
type RevisionVersionView struct {
	// Name of the revision.
	Name string `json:"name"`
	// Version of Istio.
	Version string `json:"version"`
	// Role: Stable, Canary or Retiring.
	Role RevisionRole `json:"role"`
}

// viewOf names the kind of a view. Within a version fields are only added.
func viewOf(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: SchemaVersion, Kind: kind}
}

// BundleManifest is the file manifest.json of a support archive.
type BundleManifest struct {
	metav1.TypeMeta `json:",inline"`
	// Created is when the archive was made.
	Created metav1.Time `json:"created"`
	// Plugin is the version of kubectl mesh.
	Plugin string `json:"plugin"`
	// SinceSeconds is how far back the logs go.
	SinceSeconds int64 `json:"sinceSeconds"`
	// Files of the archive.
	Files []BundleFile `json:"files"`
	// Omitted is what was left out, and why.
	Omitted []BundleOmission `json:"omitted"`
	// Redacted counts what was taken out because it may be a secret.
	Redacted int `json:"redacted"`
}

// BundleFile is a file of a support archive.
type BundleFile struct {
	// Path inside the archive.
	Path string `json:"path"`
	// Bytes that it has.
	Bytes int64 `json:"bytes"`
}

// BundleOmission is something that is not in a support archive.
type BundleOmission struct {
	// What is missing.
	What string `json:"what"`
	// Why it is.
	Why string `json:"why"`
}
