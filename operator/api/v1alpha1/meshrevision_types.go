// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// MeshRevision is one Istio control plane, frozen: its name is Istio's revision name, and its spec holds the
// rendered objects, so that a newer operator or chart moves nothing by itself. The installation controller
// writes it; people read it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=meshrev,categories=meshwright
// +kubebuilder:printcolumn:name="Mesh",type=string,JSONPath=`.spec.mesh`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.spec.version`
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.spec.namespace`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 56",message="a revision name may have 56 characters at most"
type MeshRevision struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// Spec is the frozen control plane.
	// +required
	Spec MeshRevisionSpec `json:"spec"`
	// Status is written by the revision controller only.
	// +optional
	Status MeshRevisionStatus `json:"status,omitempty"`
}

// MeshRevisionList is a list of MeshRevisions.
//
// +kubebuilder:object:root=true
type MeshRevisionList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MeshRevision `json:"items"`
}

// MeshRevisionSpec is one frozen control plane.
//
// +kubebuilder:validation:XValidation:rule="self.mesh == oldSelf.mesh && self.__namespace__ == oldSelf.__namespace__",message="mesh and namespace of a revision are immutable"
type MeshRevisionSpec struct {
	// Mesh is the name of the MeshInstallation that it belongs to.
	// +required
	Mesh string `json:"mesh"`
	// Version is the exact Istio version. Example: 1.29.1.
	// +required
	// +kubebuilder:validation:Pattern=`^[0-9]+\.[0-9]+\.[0-9]+([-.+][0-9A-Za-z.-]+)?$`
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version"`
	// Namespace of its istiod.
	// +required
	Namespace string `json:"namespace"`
	// BundleDigest is the digest of the charts it was rendered from.
	// +required
	BundleDigest string `json:"bundleDigest"`
	// InputsDigest is the digest of everything else it was rendered from: values, mesh configuration, images, names.
	// +required
	InputsDigest string `json:"inputsDigest"`
	// Injection is a digest of what its injector puts into pods. Pods carry the one that they were injected with as annotation
	// meshwright.io/injection.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Injection string `json:"injection,omitempty"`
	// Previous is what the revision was before it was upgraded in place, until that rollout has ended.
	// +optional
	Previous *FrozenRevision `json:"previous,omitempty"`
	// Replicas of istiod to begin with: those in force at the revision that this one stands beside.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Replicas int32 `json:"replicas,omitempty"`
	// Objects are the rendered objects: a JSON array, compressed with gzip.
	// +required
	// +kubebuilder:validation:MaxLength=500000
	Objects []byte `json:"objects"`
}

// FrozenRevision is what a revision was before.
type FrozenRevision struct {
	// Version is the exact Istio version.
	Version string `json:"version"`
	// BundleDigest, InputsDigest and Injection as in the revision itself.
	BundleDigest string `json:"bundleDigest"`
	// InputsDigest as in the revision itself.
	InputsDigest string `json:"inputsDigest"`
	// Injection as in the revision itself.
	// +optional
	Injection string `json:"injection,omitempty"`
	// Objects as in the revision itself.
	// +kubebuilder:validation:MaxLength=500000
	Objects []byte `json:"objects"`
}

// MeshRevisionStatus is what the revision controller found and did.
type MeshRevisionStatus struct {
	// ObservedGeneration is the newest generation of spec that this status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Ready; Reconciling and Stalled only while True.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Scaled says that istiod was given its replicas to begin with.
	// +optional
	Scaled bool `json:"scaled,omitempty"`
	// Inventory lists the objects of this control plane.
	// +optional
	// +listType=map
	// +listMapKey=kind
	// +listMapKey=group
	// +listMapKey=namespace
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=200
	Inventory []InventoryItem `json:"inventory,omitempty"`
}
