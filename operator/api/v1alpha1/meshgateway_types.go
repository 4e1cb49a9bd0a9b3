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
}
