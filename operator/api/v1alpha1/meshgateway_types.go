// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// MeshGateway is one gateway of a mesh: a Deployment, Service, HorizontalPodAutoscaler and PodDisruptionBudget of
// Istio's gateway chart. The installation controller writes those of spec.gateways; a team may write its own.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,shortName=meshgw,categories=meshwright
// +kubebuilder:printcolumn:name="Mesh",type=string,JSONPath=`.spec.mesh`
// +kubebuilder:printcolumn:name="Weight",type=integer,JSONPath=`.status.shift.weight`
// +kubebuilder:printcolumn:name="Measured",type=string,JSONPath=`.status.shift.measured`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.shift.state`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.versions[0].revision`
// +kubebuilder:printcolumn:name="Replicas",type=string,JSONPath=`.status.summary`
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.status.addresses[0]`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 40",message="metadata.name may have 40 characters at most: the revision is appended to it"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must be a DNS label: it names a Service"
type MeshGateway struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the gateway that is wanted.
	// +required
	Spec MeshGatewaySpec `json:"spec"`
	// Status is written by the gateway controller only.
	// +optional
	Status MeshGatewayStatus `json:"status,omitempty"`
}

// MeshGatewayList is a list of MeshGateways.
//
// +kubebuilder:object:root=true
type MeshGatewayList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshGateway `json:"items"`
}

// MeshGatewaySpec is the gateway that is wanted.
//
// +kubebuilder:validation:XValidation:rule="self.mesh == oldSelf.mesh",message="mesh is immutable: create another MeshGateway"
type MeshGatewaySpec struct {
	// Mesh is the name of the MeshInstallation that serves the gateway. Immutable. Default: default.
	// +optional
	// +kubebuilder:default=default
	// +kubebuilder:validation:MaxLength=40
	Mesh string `json:"mesh,omitempty"`
	// Values are Helm values of Istio's gateway chart. A gateway that its mesh does not list in spec.gateways may set those
	// only that shape its own workload: affinity, annotations, autoscaling, imagePullPolicy, labels, minReadySeconds,
	// podDisruptionBudget, replicaCount, resources, service, strategy, terminationGracePeriodSeconds and
	// topologySpreadConstraints. Default: those of the chart.
	// Example: {replicaCount: 2}.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	Values *apiextensionsv1.JSON `json:"values,omitempty"`
	// VersionPolicy says whether the gateway moves with the rollouts of its mesh. Follow: a gateway that the mesh lists in
	// spec.gateways moves by the steps of type GatewayWeight, any other with the wave of its namespace. Hold: it stays at its version,
	// and keeps the control plane of that, so that the next rollout waits. Default: Follow.
	// +optional
	// +kubebuilder:default=Follow
	VersionPolicy VersionPolicy `json:"versionPolicy,omitempty"`
	// Shift says how the gateway's traffic moves from one version to the next.
	// +optional
	// +kubebuilder:default={}
	Shift GatewayShift `json:"shift,omitempty"`
	// Adoption says what happens when a gateway of that name exists that Meshwright did not install: Refuse, or Adopt (a gateway
	// of Helm's or istioctl's gateway chart is taken over without a restart; only for gateways that the mesh lists). Default: Refuse.
	// +optional
	// +kubebuilder:default=Refuse
	Adoption AdoptionPolicy `json:"adoption,omitempty"`
}

// VersionPolicy says whether a gateway moves with the rollouts of its mesh.
// +kubebuilder:validation:Enum=Follow;Hold
type VersionPolicy string

// The values of VersionPolicy.
const (
	VersionFollow VersionPolicy = "Follow"
	VersionHold   VersionPolicy = "Hold"
)

// AdoptionPolicy says what happens to a gateway that was there before.
// +kubebuilder:validation:Enum=Refuse;Adopt
type AdoptionPolicy string

// The values of AdoptionPolicy.
const (
	AdoptionRefuse AdoptionPolicy = "Refuse"
	AdoptionAdopt  AdoptionPolicy = "Adopt"
)

// GatewayShift says how a gateway's traffic moves from one version to the next.
//
// +kubebuilder:validation:XValidation:rule="(has(self.type) && self.type == 'HTTPRoute') == has(self.httpRoute)",message="httpRoute is required for type HTTPRoute, and for no other"
type GatewayShift struct {
	// Type Replicas puts both versions behind the gateway's Service, in the ratio of their pods: shares of new connections in steps
	// of one pod. Selector moves all of it at once, with the whole capacity of both versions there. HTTPRoute gives each version a Service
	// of its own, behind a weighted route of an outer Gateway: any share, of requests. Default: Replicas.
	// +optional
	// +kubebuilder:default=Replicas
	Type ShiftType `json:"type,omitempty"`
	// HTTPRoute of a shift of that type.
	// +optional
	HTTPRoute *RouteShift `json:"httpRoute,omitempty"`
	// TolerancePercent is by how many points the measured share may differ from the wanted one. Default: 5.
	// +optional
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=50
	TolerancePercent int32 `json:"tolerancePercent,omitempty"`
	// MinSamples is how many new connections (requests under type HTTPRoute) have to be seen before a share counts as measured.
	// Default: 100.
	// +optional
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	MinSamples int32 `json:"minSamples,omitempty"`
	// DrainSeconds is how long a pod that leaves may go on with the connections that it has. terminationGracePeriodSeconds, the
	// drain duration of the proxy and minReadySeconds follow from it. Default: 30.
	// +optional
	// +kubebuilder:default=30
	// +kubebuilder:validation:Minimum=5
	// +kubebuilder:validation:Maximum=3600
	DrainSeconds int32 `json:"drainSeconds,omitempty"`
	// MaxConnectionAgeSeconds closes connections of clients, gracefully, after so long, so that long-lived ones move too. 0: never.
	// Default: 0.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	MaxConnectionAgeSeconds int32 `json:"maxConnectionAgeSeconds,omitempty"`
}

// ShiftType says how a gateway's traffic moves.
// +kubebuilder:validation:Enum=Replicas;Selector;HTTPRoute
type ShiftType string

// The values of ShiftType.
const (
	ShiftReplicas  ShiftType = "Replicas"
	ShiftSelector  ShiftType = "Selector"
	ShiftHTTPRoute ShiftType = "HTTPRoute"
)

// RouteShift is a weighted route of an outer Gateway of the Gateway API, which Meshwright writes.
type RouteShift struct {
	// ParentRefs are the outer Gateways.
	// Example: [{name: edge, namespace: edge}].
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	ParentRefs []RouteParent `json:"parentRefs"`
	// Hostnames that the route takes. Default: all of the outer Gateway.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	Hostnames []string `json:"hostnames,omitempty"`
	// Port of the gateway's Service that requests go to. Default: 80.
	// +optional
	// +kubebuilder:default=80
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
}

// RouteParent names an outer Gateway.
type RouteParent struct {
	// Name of the Gateway.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Namespace of the Gateway. Default: that of the MeshGateway.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
	// SectionName is the listener. Default: all listeners.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	SectionName string `json:"sectionName,omitempty"`
}

// MeshGatewayStatus is what the gateway controller found and did.
type MeshGatewayStatus struct {
	// ObservedGeneration is the newest generation of spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Ready; Reconciling and Stalled only while True.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Versions behind the gateway's Service.
	// +optional
	// +listType=map
	// +listMapKey=revision
	// +kubebuilder:validation:MaxItems=2
	Versions []GatewayVersion `json:"versions,omitempty"`
	// Shift is the move from one version to another that is under way.
	// +optional
	Shift *ShiftStatus `json:"shift,omitempty"`
	// Base are the replicas that the gateway had when the shift began; its versions share them.
	// +optional
	Base int32 `json:"base,omitempty"`
	// Summary is "<ready>/<wanted>" replicas over all versions.
	// +optional
	Summary string `json:"summary,omitempty"`
	// Addresses under which the gateway's Service is reached from outside the cluster; the cluster address where it has none.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Addresses []string `json:"addresses,omitempty"`
	// Inventory lists the objects of this gateway.
	// +optional
	// +listType=map
	// +listMapKey=kind
	// +listMapKey=group
	// +listMapKey=namespace
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=50
	Inventory []InventoryItem `json:"inventory,omitempty"`
}

// GatewayVersion is one version of a gateway behind its Service.
type GatewayVersion struct {
	// Revision of the mesh that configures it.
	Revision string `json:"revision"`
	// Version of Istio.
	Version string `json:"version"`
	// Replicas wanted.
	Replicas int32 `json:"replicas"`
	// ReadyReplicas serve.
	ReadyReplicas int32 `json:"readyReplicas"`
	// Weight is the wanted percent of what is newly opened.
	// +optional
	Weight int32 `json:"weight"`
	// Measured is the share of what was opened since the shift came to its present weight, as "9.6%"; empty while that is not known.
	// +optional
	Measured string `json:"measured,omitempty"`
}

// ShiftStatus is how far a shift is.
type ShiftStatus struct {
	// Rollout that wants the shift: the name of a MeshRollout; empty when a version is left over from before.
	// +optional
	Rollout string `json:"rollout,omitempty"`
	// From and To are the revisions.
	From string `json:"from"`
	To   string `json:"to"`
	// Weight is the percent that To is to have.
	Weight int32 `json:"weight"`
	// Measured is the share of To that was measured, as "9.6%"; empty while that is not known.
	// +optional
	Measured string `json:"measured,omitempty"`
	// Since is when this weight was wanted first.
	Since metav1.Time `json:"since"`
	// State: Progressing, Measuring, Reached or Inconclusive.
	State ShiftState `json:"state"`
	// Message says what was measured, or what is awaited and what to do.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// Failing says why pods of To don't get ready although time alone will hardly help.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Failing string `json:"failing,omitempty"`
	// Counted is when the numbers were last written: while the state stays the same they are written every ten seconds at most.
	Counted metav1.Time `json:"counted"`
	// Streams counts the requests that were cut off when pods had drained for as long as they may.
	// +optional
	Streams int64 `json:"streams,omitempty"`
}

// ShiftState is how far a shift is at its present weight.
// +kubebuilder:validation:Enum=Progressing;Measuring;Reached;Inconclusive
type ShiftState string

// The values of ShiftState.
const (
	// ShiftProgressing: pods are made, or the Service is told.
	ShiftProgressing ShiftState = "Progressing"
	// ShiftMeasuring: traffic flows as it should; the share is being measured.
	ShiftMeasuring ShiftState = "Measuring"
	// ShiftReached: the measured share is as wanted.
	ShiftReached ShiftState = "Reached"
	// ShiftInconclusive: the share can't be told, or is not as wanted; the message says why and what to do.
	ShiftInconclusive ShiftState = "Inconclusive"
)
