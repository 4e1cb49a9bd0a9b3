// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// MeshInstallation is the one object a user writes: the Istio mesh that is wanted in this cluster. Meshwright
// installs its control plane, gateways and sidecar data plane, and keeps them so.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=mesh,categories=meshwright
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.spec.version`
// +kubebuilder:printcolumn:name="Stable",type=string,JSONPath=`.status.stableRevision`
// +kubebuilder:printcolumn:name="Canary",type=string,JSONPath=`.status.canaryRevision`
// +kubebuilder:printcolumn:name="Up-to-date",type=string,JSONPath=`.status.conditions[?(@.type=="UpToDate")].reason`
// +kubebuilder:printcolumn:name="Step",type=string,JSONPath=`.status.step`
// +kubebuilder:printcolumn:name="Proxies",type=string,JSONPath=`.status.dataPlane.summary`
// +kubebuilder:printcolumn:name="Gateways",type=string,JSONPath=`.status.gatewaySummary`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40",message="metadata.name may have 40 characters at most: it is part of names and labels"
type MeshInstallation struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the mesh that is wanted. The least that works is a version.
	// +required
	Spec MeshInstallationSpec `json:"spec"`
	// Status is what Meshwright found and did; only the installation controller writes it.
	// +optional
	Status MeshInstallationStatus `json:"status,omitempty"`
}

// MeshInstallationList is a list of MeshInstallations.
//
// +kubebuilder:object:root=true
type MeshInstallationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshInstallation `json:"items"`
}

// MeshInstallationSpec is the mesh that is wanted.
//
// +kubebuilder:validation:XValidation:rule="self.__namespace__ == oldSelf.__namespace__",message="namespace is immutable: delete the installation and create it anew in the other namespace"
// +kubebuilder:validation:XValidation:rule="self.upgrade.type == oldSelf.upgrade.type",message="upgrade.type is immutable: it decides what the revision is called"
// +kubebuilder:validation:XValidation:rule="self.upgrade.type != 'InPlace' || self.defaultRevision != 'Leave'",message="defaultRevision: the one revision of upgrade.type InPlace is the cluster's default: set defaultRevision to Claim, or upgrade.type to Canary"
// +kubebuilder:validation:XValidation:rule="!has(self.dataPlane) || !has(self.dataPlane.waves) || self.dataPlane.waves.all(w, has(w.tag) == (self.dataPlane.enrollment == 'Tag'))",message="dataPlane.waves: a wave has a selector with enrollment NamespaceLabel, and a tag with enrollment Tag"
// +kubebuilder:validation:XValidation:rule="!has(self.dataPlane) || !has(self.dataPlane.waves) || self.dataPlane.waves.all(w, !(w.name in ['rest', 'followers']))",message="dataPlane.waves: the names rest and followers are reserved"
// +kubebuilder:validation:XValidation:rule="!has(self.gateways) || self.gateways.all(g, g.__namespace__ != self.__namespace__)",message="gateways: a gateway needs a namespace of its own, not that of the control plane"
type MeshInstallationSpec struct {
	// Version of Istio: exact ("1.29.1"), a line ("1.29", its newest known patch) or a constraint (">=1.28 <1.30").
	// What it resolved to is in status.resolvedVersion and stays, also when a newer patch becomes known.
	// Example: "1.29".
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version"`

	// Namespace of the control plane, created when it does not exist. Immutable. Default: istio-system.
	// +optional
	// +kubebuilder:default=istio-system
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace,omitempty"`

	// Images says where Istio's images come from. Default: the registry and tag of Istio's own release.
	// +optional
	Images Images `json:"images,omitempty"`

	// DefaultRevision says whether this mesh is the cluster's default: whether namespaces labelled
	// istio-injection=enabled belong to it and it validates Istio configuration that names no revision.
	// Claim or Leave; one installation of a cluster can claim it. Default: Claim.
	// +optional
	// +kubebuilder:default=Claim
	DefaultRevision DefaultRevision `json:"defaultRevision,omitempty"`

	// Tags are revision tags that follow the stable revision, as `istioctl tag` knows them. A namespace labelled
	// istio.io/rev=<tag> belongs to the mesh. The tag "default" is claimed through defaultRevision.
	// Example: [{name: stable}].
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Tags []Tag `json:"tags,omitempty"`

	// ControlPlane configures istiod.
	// +optional
	ControlPlane ControlPlane `json:"controlPlane,omitempty"`

	// Gateways are the mesh's own gateways; each becomes a MeshGateway. Teams may write MeshGateways of their own.
	// Example: [{name: ingress, namespace: istio-ingress}].
	// +optional
	// +listType=map
	// +listMapKey=name
	// +listMapKey=namespace
	// +kubebuilder:validation:MaxItems=64
	Gateways []Gateway `json:"gateways,omitempty"`

	// DataPlane says which namespaces get sidecars. Absent: only namespaces that are labelled already are counted.
	// +optional
	DataPlane DataPlane `json:"dataPlane,omitempty"`

	// Upgrade says how the mesh is named and moved between versions.
	// +optional
	// +kubebuilder:default={}
	Upgrade Upgrade `json:"upgrade,omitempty"`

	// Certificates says where the CA of the mesh comes from, and how it changes.
	// +optional
	// +kubebuilder:default={}
	Certificates Certificates `json:"certificates,omitempty"`

	// Paused stops every act of Meshwright on this mesh, repairs included; status goes on. Default: false.
	// +optional
	Paused bool `json:"paused,omitempty"`

	// DeletionPolicy says what stays when the installation is deleted, and what deletion waits for.
	// +optional
	// +kubebuilder:default={}
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// DefaultRevision says whether a mesh is the cluster's default.
// +kubebuilder:validation:Enum=Claim;Leave
type DefaultRevision string

// The values of DefaultRevision.
const (
	DefaultRevisionClaim DefaultRevision = "Claim"
	DefaultRevisionLeave DefaultRevision = "Leave"
)

// Images says where Istio's images come from.
type Images struct {
	// Hub is the registry and path before the image name, without a trailing slash. Default: that of Istio's release.
	// Example: registry.example.com/istio.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:Pattern=`^[^\s/@]+(/[^\s/@]+)*$`
	Hub string `json:"hub,omitempty"`
	// PullSecrets are names of Secrets of type kubernetes.io/dockerconfigjson in the namespaces where the images run.
	// Example: [regcred].
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MaxLength=253
	PullSecrets []string `json:"pullSecrets,omitempty"`
	// Digests pin images by content, whatever the tag says. Key: image name (pilot, proxyv2).
	// Example: {pilot: "sha256:5f…"}.
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	// +kubebuilder:validation:XValidation:rule="self.all(k, k in ['pilot', 'proxyv2'])",message="digests: the keys are pilot and proxyv2"
	// +kubebuilder:validation:XValidation:rule="self.all(k, self[k].matches('^sha256:[a-f0-9]{64}$'))",message="digests: a digest is sha256: and 64 hexadecimal digits"
	Digests map[string]ImageDigest `json:"digests,omitempty"`
}

// ImageDigest is sha256: and 64 hexadecimal digits.
// +kubebuilder:validation:MaxLength=71
type ImageDigest string

// Tag is a revision tag.
type Tag struct {
	// Name of the tag, as in the label istio.io/rev=<name>. Example: stable.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="self != 'default'",message="the tag default is claimed through spec.defaultRevision"
	Name string `json:"name"`
}

// ControlPlane configures istiod.
type ControlPlane struct {
	// Values are Helm values of Istio's istiod chart. What Meshwright sets itself is refused: revision, revisionTags,
	// global.istioNamespace, global.hub, global.tag and meshConfig. Example: {autoscaleMin: 2}.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Values *apiextensionsv1.JSON `json:"values,omitempty"`
	// MeshConfig is Istio's mesh configuration, checked against its schema. Example: {accessLogFile: /dev/stdout}.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	MeshConfig *apiextensionsv1.JSON `json:"meshConfig,omitempty"`
}

// Gateway is one gateway of the mesh.
type Gateway struct {
	// Name of the gateway and of its Service. Example: ingress.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// Namespace of the gateway, created when it does not exist; never enrolled. Example: istio-ingress.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace"`
	// Values are Helm values of Istio's gateway chart. What Meshwright sets itself is refused: name, revision.
	// Example: {service: {type: NodePort}}.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Values *apiextensionsv1.JSON `json:"values,omitempty"`
	// VersionPolicy says whether the gateway moves with the rollouts of its mesh: Follow, or Hold (it stays at its version, and
	// keeps the control plane of that). Default: Follow.
	// +optional
	// +kubebuilder:default=Follow
	VersionPolicy VersionPolicy `json:"versionPolicy,omitempty"`
	// Shift says how the gateway's traffic moves from one version to the next.
	// +optional
	// +kubebuilder:default={}
	Shift GatewayShift `json:"shift,omitempty"`
	// Adoption says what happens when a gateway of that name exists that Meshwright did not install: Refuse, or Adopt (a gateway
	// of Helm's or istioctl's gateway chart is taken over without a restart). Default: Refuse.
	// +optional
	// +kubebuilder:default=Refuse
	Adoption AdoptionPolicy `json:"adoption,omitempty"`
}

// DataPlane says which namespaces get sidecars, and how they are told so.
type DataPlane struct {
	// NamespaceSelector selects the namespaces to enroll. Namespaces of the system (kube-*), of the control plane and of
	// gateways are never enrolled. Absent: none is. Example: {matchLabels: {team: shop}}.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// Enrollment says how: NamespaceLabel (Meshwright sets the label istio.io/rev to the stable revision) or Tag (people
	// label namespaces with a tag of spec.tags; Meshwright moves tags only). Default: NamespaceLabel.
	// +optional
	// +kubebuilder:default=NamespaceLabel
	Enrollment Enrollment `json:"enrollment,omitempty"`
	// Restart says how workloads are moved to another revision, or get the sidecar that their revision injects now.
	// +optional
	// +kubebuilder:default={}
	Restart Restart `json:"restart,omitempty"`
	// Waves group the namespaces of the mesh, in the order in which they move. The first that matches has a namespace; what
	// matches none is in the last wave, which is called rest. Default: all namespaces are in that one.
	// Example: [{name: early, selector: {matchLabels: {tier: test}}}].
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=19
	Waves []Wave `json:"waves,omitempty"`
}

// RestWave is the wave of the namespaces that match no other; FollowersWave that of the namespaces that follow a tag or the
// default revision, which move when these do.
const (
	RestWave      = "rest"
	FollowersWave = "followers"
)

// Wave is a group of namespaces that move together.
//
// +kubebuilder:validation:XValidation:rule="has(self.selector) != has(self.tag)",message="a wave has either a selector (enrollment NamespaceLabel) or a tag (enrollment Tag)"
type Wave struct {
	// Name of the wave; rest and followers are reserved. Example: early.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=30
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// Selector of its namespaces, for enrollment NamespaceLabel. Example: {matchLabels: {tier: test}}.
	// +optional
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	// Tag of spec.tags that its namespaces are labelled with, for enrollment Tag. Example: canary.
	// +optional
	// +kubebuilder:validation:MaxLength=40
	Tag string `json:"tag,omitempty"`
}

// Restart says how workloads are moved.
type Restart struct {
	// Type Rollout restarts whole workloads by their own rolling update. Evict evicts pods, and obeys PodDisruptionBudgets.
	// Manual restarts nothing: a step waits until people have. The annotation meshwright.io/restart: exclude on a workload or
	// its namespace keeps it from being restarted. Default: Rollout.
	// +optional
	// +kubebuilder:default=Rollout
	Type RestartType `json:"type,omitempty"`
	// MaxUnavailable is how many may be away at a time in a wave: workloads under Rollout, pods under Evict; a number, or a
	// percentage of the wave, rounded down, one at least. Default: 10%.
	// +optional
	// +kubebuilder:default="10%"
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 10000 : self.matches('^([1-9]|[1-9][0-9]|100)%$')",message="maxUnavailable: a number from 1, or a percentage from 1% to 100%"
	MaxUnavailable *intstr.IntOrString `json:"maxUnavailable,omitempty"`
	// PodsPerMinute bounds how many pods are restarted in a minute; a workload with more waits for a minute without any. 0: no
	// bound. Default: 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100000
	PodsPerMinute int32 `json:"podsPerMinute,omitempty"`
}

// RestartType says how workloads are moved.
// +kubebuilder:validation:Enum=Rollout;Evict;Manual
type RestartType string

// The values of RestartType.
const (
	RestartRollout RestartType = "Rollout"
	RestartEvict   RestartType = "Evict"
	RestartManual  RestartType = "Manual"
)

// Enrollment says how a namespace is told that it belongs to the mesh.
// +kubebuilder:validation:Enum=NamespaceLabel;Tag
type Enrollment string

// The values of Enrollment.
const (
	EnrollmentNamespaceLabel Enrollment = "NamespaceLabel"
	EnrollmentTag            Enrollment = "Tag"
)

// Upgrade says how the mesh is named and moved between versions.
type Upgrade struct {
	// Type Canary gives each version a revision of its own, named after it (1-29-1), so that the next one can stand beside it.
	// InPlace keeps one revision called default, as Istio does. Immutable. Default: Canary.
	// +optional
	// +kubebuilder:default=Canary
	Type UpgradeType `json:"type,omitempty"`
	// UnsupportedKubernetes says what happens when Istio's release does not support this cluster's Kubernetes: Refuse or
	// Accept (install it all the same). An installed mesh is kept in any case. Default: Refuse.
	// +optional
	// +kubebuilder:default=Refuse
	UnsupportedKubernetes UnsupportedKubernetes `json:"unsupportedKubernetes,omitempty"`
	// AutoUpgrade says what a newer patch does that this operator knows and spec.version allows: None (nothing: a resolved
	// version stays) or Patch (the mesh moves to it, within its minor). Default: None.
	// +optional
	// +kubebuilder:default=None
	AutoUpgrade AutoUpgrade `json:"autoUpgrade,omitempty"`
	// OnFailure says what a rollout does when a step fails: RollBack, or Pause (it halts until somebody says how to go on).
	// Default: RollBack.
	// +optional
	// +kubebuilder:default=RollBack
	OnFailure FailurePolicy `json:"onFailure,omitempty"`
	// VersionSkew says what happens to moves that Istio does not support: more than two minors up (one in place), or down.
	// Refuse or Accept. Default: Refuse.
	// +optional
	// +kubebuilder:default=Refuse
	VersionSkew VersionSkew `json:"versionSkew,omitempty"`
	// Canary is how a mesh of type Canary moves.
	// +optional
	// +kubebuilder:default={}
	Canary Canary `json:"canary,omitempty"`
	// Windows in which workloads are moved; a rollback does not wait for one. Default: always.
	// Example: [{schedule: "0 2 * * 6", durationSeconds: 14400, timeZone: Europe/Berlin}].
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Windows []Window `json:"windows,omitempty"`
	// ProgressDeadlineSeconds is after how many seconds without progress a step has failed. The clock stands still in pauses,
	// outside windows, and while the rollout or the mesh is paused. Default: 1800.
	// +optional
	// +kubebuilder:default=1800
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=604800
	ProgressDeadlineSeconds int32 `json:"progressDeadlineSeconds,omitempty"`
	// RolloutHistoryLimit is how many MeshRollouts that have ended are kept. Default: 10.
	// +optional
	// +kubebuilder:default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	RolloutHistoryLimit int32 `json:"rolloutHistoryLimit,omitempty"`
	// Acknowledged are findings of the checks before a rollout that would hold it back, by name.
	// Example: [EnvoyFilter/shop/headers].
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=400
	Acknowledged []string `json:"acknowledged,omitempty"`
	// Analysis is how a rollout judges the new version. Without any of it, the health of the gateways that have moved is judged all
	// the same, from the counters of their proxies.
	// +optional
	// +kubebuilder:default={}
	Analysis Analysis `json:"analysis,omitempty"`
	// Notifications are sent for each decision of a rollout, as CloudEvents over HTTP.
	// Example: [{name: chat, url: "https://hooks.example.com/mesh"}].
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=5
	Notifications []Notification `json:"notifications,omitempty"`
}

// AutoUpgrade says what a newer patch does.
// +kubebuilder:validation:Enum=None;Patch
type AutoUpgrade string

// The values of AutoUpgrade.
const (
	AutoUpgradeNone  AutoUpgrade = "None"
	AutoUpgradePatch AutoUpgrade = "Patch"
)

// FailurePolicy says what a rollout does when a step fails.
// +kubebuilder:validation:Enum=RollBack;Pause
type FailurePolicy string

// The values of FailurePolicy.
const (
	OnFailureRollBack FailurePolicy = "RollBack"
	OnFailurePause    FailurePolicy = "Pause"
)

// VersionSkew says what happens to moves that Istio does not support.
// +kubebuilder:validation:Enum=Refuse;Accept
type VersionSkew string

// The values of VersionSkew.
const (
	VersionSkewRefuse VersionSkew = "Refuse"
	VersionSkewAccept VersionSkew = "Accept"
)

// Canary is how a mesh of type Canary moves.
type Canary struct {
	// RevisionFor says what gets a revision of its own: a Version, or AnyChange of values and mesh configuration too.
	// Default: Version.
	// +optional
	// +kubebuilder:default=Version
	RevisionFor RevisionFor `json:"revisionFor,omitempty"`
	// RetireAfterSeconds is how long the old revision is kept after its last use, in seconds; until then the rollout can be
	// rolled back. Default: 86400.
	// +optional
	// +kubebuilder:default=86400
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=31536000
	RetireAfterSeconds *int32 `json:"retireAfterSeconds,omitempty"`
	// Steps of a rollout, in their order; approvals bind to their names. Waves that no step names are moved last, in their
	// order. Default: the least weight of the gateways that their replicas allow, an analysis, their whole weight, and a DataPlane step
	// for each wave.
	// Example: [{name: early, type: DataPlane, dataPlane: {wave: early}}, {name: go, type: Pause}].
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=25
	Steps []Step `json:"steps,omitempty"`
}

// RevisionFor says what gets a revision of its own.
// +kubebuilder:validation:Enum=Version;AnyChange
type RevisionFor string

// The values of RevisionFor.
const (
	RevisionForVersion   RevisionFor = "Version"
	RevisionForAnyChange RevisionFor = "AnyChange"
)

// Step is one step of a rollout.
//
// +kubebuilder:validation:XValidation:rule="self.type != 'Promote'",message="type: the rollout promotes by itself, after the last wave: use GatewayWeight, Analysis, DataPlane or Pause"
// +kubebuilder:validation:XValidation:rule="(self.type == 'DataPlane') == has(self.dataPlane)",message="dataPlane is required for type DataPlane, and for no other"
// +kubebuilder:validation:XValidation:rule="self.type == 'Pause' || !has(self.pause)",message="pause belongs to type Pause only"
// +kubebuilder:validation:XValidation:rule="(self.type == 'GatewayWeight') == has(self.gatewayWeight)",message="gatewayWeight is required for type GatewayWeight, and for no other"
// +kubebuilder:validation:XValidation:rule="self.type == 'Analysis' || !has(self.analysis)",message="analysis belongs to type Analysis only"
type Step struct {
	// Name of the step. Example: early.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name"`
	// Type: GatewayWeight (give the gateways' new version a share of the traffic), Analysis (judge the new version), DataPlane
	// (move workloads) or Pause (wait for a time, or for an approval).
	// +required
	Type StepType `json:"type"`
	// DataPlane says what moves.
	// +optional
	DataPlane *DataPlaneStep `json:"dataPlane,omitempty"`
	// Pause says how long; absent: until the step is approved.
	// +optional
	Pause *PauseStep `json:"pause,omitempty"`
	// GatewayWeight says how much of the gateways' traffic goes to the new version.
	// +optional
	GatewayWeight *GatewayWeightStep `json:"gatewayWeight,omitempty"`
	// Analysis says which gates judge; absent: all of them.
	// +optional
	Analysis *AnalysisStep `json:"analysis,omitempty"`
}

// StepType is what a step does.
// +kubebuilder:validation:Enum=GatewayWeight;Analysis;DataPlane;Pause;Promote
type StepType string

// The values of StepType.
const (
	StepGatewayWeight StepType = "GatewayWeight"
	StepAnalysis      StepType = "Analysis"
	StepDataPlane     StepType = "DataPlane"
	StepPause         StepType = "Pause"
	StepPromote       StepType = "Promote"
)

// GatewayWeightStep gives the new version of the mesh's gateways a share of the traffic.
type GatewayWeightStep struct {
	// Percent of what is newly opened (connections; requests under shift.type HTTPRoute) that goes to the new version. 0 brings the
	// new version up without traffic.
	// +required
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=100
	Percent int32 `json:"percent"`
	// BakeSeconds is how long the step goes on after the share was reached. Default: 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=604800
	BakeSeconds int32 `json:"bakeSeconds,omitempty"`
}

// AnalysisStep judges the new version.
type AnalysisStep struct {
	// Gates that judge, by name: those of upgrade.analysis, and health. Default: all.
	// Example: [health, success-rate].
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=21
	// +kubebuilder:validation:items:MaxLength=40
	Gates []string `json:"gates,omitempty"`
}

// DataPlaneStep moves workloads of a wave.
type DataPlaneStep struct {
	// Wave that moves: one of dataPlane.waves, or rest. Example: early.
	// +required
	// +kubebuilder:validation:MaxLength=30
	Wave string `json:"wave"`
	// Percent of the wave that has moved when the step is done: workloads under restart.type Rollout, pods under Evict. It paces
	// restarts: all pods that others create in the namespaces of the wave are of the new revision too. Default: 100.
	// +optional
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Percent int32 `json:"percent,omitempty"`
	// BakeSeconds is how long the step goes on after that, to see whether what moved stays healthy. Default: 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=604800
	BakeSeconds int32 `json:"bakeSeconds,omitempty"`
}

// PauseStep waits.
type PauseStep struct {
	// DurationSeconds is how long. Example: 3600.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2592000
	DurationSeconds int32 `json:"durationSeconds"`
}

// Window is a recurring time in which workloads are moved.
type Window struct {
	// Schedule is when it opens: minute, hour, day of the month, month and day of the week, as in cron. Example: "0 2 * * 6".
	// +required
	// +kubebuilder:validation:MinLength=9
	// +kubebuilder:validation:MaxLength=100
	Schedule string `json:"schedule"`
	// DurationSeconds is how long it is open.
	// +required
	// +kubebuilder:validation:Minimum=60
	// +kubebuilder:validation:Maximum=604800
	DurationSeconds int32 `json:"durationSeconds"`
	// TimeZone of the schedule, a name of the IANA database. Default: UTC. Example: Europe/Berlin.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	TimeZone string `json:"timeZone,omitempty"`
}

// UpgradeType says how a mesh moves between versions.
// +kubebuilder:validation:Enum=Canary;InPlace
type UpgradeType string

// The values of UpgradeType.
const (
	UpgradeCanary  UpgradeType = "Canary"
	UpgradeInPlace UpgradeType = "InPlace"
)

// UnsupportedKubernetes says what happens outside Istio's Kubernetes range.
// +kubebuilder:validation:Enum=Refuse;Accept
type UnsupportedKubernetes string

// The values of UnsupportedKubernetes.
const (
	UnsupportedKubernetesRefuse UnsupportedKubernetes = "Refuse"
	UnsupportedKubernetesAccept UnsupportedKubernetes = "Accept"
)

// DeletionPolicy says what stays when the installation is deleted, and what deletion waits for.
type DeletionPolicy struct {
	// InUse says what happens while pods, namespaces, tags or gateways use the mesh: Refuse (deletion waits and a
	// condition names them) or Proceed. Default: Refuse.
	// +optional
	// +kubebuilder:default=Refuse
	InUse InUsePolicy `json:"inUse,omitempty"`
	// CRDs says whether Istio's CRDs, and with them all Istio configuration, are kept: Retain or Delete. Default: Retain.
	// +optional
	// +kubebuilder:default=Retain
	CRDs RetentionPolicy `json:"crds,omitempty"`
	// CASecret says whether the Secret of the mesh's CA that istiod made (istio-ca-secret) is kept: Retain or Delete. One that
	// you plugged in (cacerts) is always kept. Default: Retain.
	// +optional
	// +kubebuilder:default=Retain
	CASecret RetentionPolicy `json:"caSecret,omitempty"`
	// Namespaces says whether namespaces that Meshwright created are kept: Retain or Delete (with all that is in them).
	// A namespace that was there before is always kept. Default: Retain.
	// +optional
	// +kubebuilder:default=Retain
	Namespaces RetentionPolicy `json:"namespaces,omitempty"`
}

// InUsePolicy says what deletion does while the mesh is in use.
// +kubebuilder:validation:Enum=Refuse;Proceed
type InUsePolicy string

// The values of InUsePolicy.
const (
	InUseRefuse  InUsePolicy = "Refuse"
	InUseProceed InUsePolicy = "Proceed"
)

// RetentionPolicy says whether a thing outlives its installation.
// +kubebuilder:validation:Enum=Retain;Delete
type RetentionPolicy string

// The values of RetentionPolicy.
const (
	Retain RetentionPolicy = "Retain"
	Delete RetentionPolicy = "Delete"
)

// MeshInstallationStatus is what Meshwright found and did.
type MeshInstallationStatus struct {
	// ObservedGeneration is the newest generation of spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Ready, UpToDate, ControlPlaneReady, GatewaysReady; Reconciling and Stalled only while True.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// ResolvedVersion is the exact Istio version that spec.version stands for here.
	// +optional
	ResolvedVersion string `json:"resolvedVersion,omitempty"`
	// StableRevision is the revision that serves: the name of a MeshRevision.
	// +optional
	StableRevision string `json:"stableRevision,omitempty"`
	// CanaryRevision is the revision that a rollout moves the mesh to; empty while there is none.
	// +optional
	CanaryRevision string `json:"canaryRevision,omitempty"`
	// ActiveOperation is the one operation that may act on the mesh.
	// +optional
	ActiveOperation *ActiveOperation `json:"activeOperation,omitempty"`
	// Step is how far the active rollout is: "<step>/<steps> <name>".
	// +optional
	Step string `json:"step,omitempty"`
	// PendingVersion is what the spec wants by now and what waits for the active operation to end; empty for nothing.
	// +optional
	PendingVersion string `json:"pendingVersion,omitempty"`
	// UpgradeTargets are the versions that this operator knows and the mesh could move to, the highest first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	UpgradeTargets []string `json:"upgradeTargets,omitempty"`
	// FailedTarget is a target that a rollout failed to reach. It is not tried again until the spec changes or its
	// MeshRollout is given one retry more.
	// +optional
	FailedTarget *FailedTarget `json:"failedTarget,omitempty"`
	// Gateways are the gateways of spec.gateways.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +listMapKey=namespace
	Gateways []GatewaySummary `json:"gateways,omitempty"`
	// GatewaySummary is "<ready>/<wanted>" gateways.
	// +optional
	GatewaySummary string `json:"gatewaySummary,omitempty"`
	// DataPlane counts proxies and namespaces.
	// +optional
	DataPlane DataPlaneStatus `json:"dataPlane,omitempty"`
	// Certificates is what the CA of the mesh is.
	// +optional
	Certificates CertificatesStatus `json:"certificates,omitempty"`
	// Inventory lists what the installation controller applied: CRDs, base, default validator and tags.
	// +optional
	// +listType=map
	// +listMapKey=kind
	// +listMapKey=group
	// +listMapKey=namespace
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=200
	Inventory []InventoryItem `json:"inventory,omitempty"`
}

// FailedTarget is a target that a rollout failed to reach.
type FailedTarget struct {
	// Version and InputsDigest of the target.
	Version string `json:"version"`
	// InputsDigest of the MeshRevision that it had.
	InputsDigest string `json:"inputsDigest"`
	// Generation of the spec that wanted it.
	Generation int64 `json:"generation"`
	// Rollout that failed, and how many retries it had been given.
	Rollout string `json:"rollout"`
	// Retries that the rollout had been given by then.
	Retries int32 `json:"retries"`
}

// GatewaySummary is one gateway in the status of its mesh.
type GatewaySummary struct {
	// Name of the MeshGateway.
	Name string `json:"name"`
	// Namespace of the MeshGateway.
	Namespace string `json:"namespace"`
	// Ready is the status of the gateway's Ready condition.
	Ready metav1.ConditionStatus `json:"ready"`
	// Addresses under which it is reached.
	// +optional
	// +listType=atomic
	Addresses []string `json:"addresses,omitempty"`
}

// DataPlaneStatus counts proxies and namespaces. Pods that have ended do not count.
type DataPlaneStatus struct {
	// Summary is "<proxies of the stable revision>/<pods that should have one>".
	// +optional
	Summary string `json:"summary,omitempty"`
	// Proxies by revision, gateways included.
	// +optional
	// +listType=map
	// +listMapKey=revision
	Proxies []RevisionProxies `json:"proxies,omitempty"`
	// Namespaces that belong to the mesh, by label or tag.
	// +optional
	Namespaces int32 `json:"namespaces,omitempty"`
	// Outdated pods are in namespaces of the mesh but have no sidecar, or one of another revision, or a stale one.
	// +optional
	Outdated int32 `json:"outdated,omitempty"`
	// Stale pods have the sidecar of the right revision, but not as it injects it now. They are among the outdated.
	// +optional
	Stale int32 `json:"stale,omitempty"`
	// OutdatedExamples names up to 20 of them as namespace/name.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	OutdatedExamples []string `json:"outdatedExamples,omitempty"`
	// Blocked are namespaces (up to 20) that the selector matches but that are not enrolled, with the reason.
	// +optional
	// +listType=map
	// +listMapKey=namespace
	// +kubebuilder:validation:MaxItems=20
	Blocked []BlockedNamespace `json:"blocked,omitempty"`
}

// RevisionProxies counts the proxies that one revision injected.
type RevisionProxies struct {
	// Revision that injected them.
	Revision string `json:"revision"`
	// Count of running pods with such a proxy.
	Count int32 `json:"count"`
}

// BlockedNamespace is a namespace that the selector matches but that is not enrolled.
type BlockedNamespace struct {
	// Namespace that is meant.
	Namespace string `json:"namespace"`
	// Reason: LabelledByOther, InjectionDisabled, GatewayNamespace or SystemNamespace.
	Reason string `json:"reason"`
	// Message says who or what stands in the way, and the remedy.
	// +optional
	Message string `json:"message,omitempty"`
}

// InventoryItem is one object that a controller applied, and what it needs to see drift without a request.
type InventoryItem struct {
	// Group of the object's kind; empty for the core group.
	// +optional
	// +kubebuilder:default=""
	Group string `json:"group"`
	// Version of the API it was applied with.
	Version string `json:"version"`
	// Kind of the object.
	Kind string `json:"kind"`
	// Namespace of the object; empty for cluster-scoped ones.
	// +optional
	// +kubebuilder:default=""
	Namespace string `json:"namespace"`
	// Name of the object.
	Name string `json:"name"`
	// Applied is a digest of what was applied; empty: intended, not yet applied.
	// +optional
	Applied string `json:"applied,omitempty"`
	// Fields is a digest of the set of fields that the controller owned after it applied. It changes when another
	// manager changes or removes one of them.
	// +optional
	Fields string `json:"fields,omitempty"`
}
