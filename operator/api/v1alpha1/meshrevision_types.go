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
// +kubebuilder:validation:XValidation:rule="self.mesh == oldSelf.mesh && self.__namespace__ == oldSelf.__namespace__ && self.version == oldSelf.version",message="mesh, namespace and version of a revision are immutable"
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
	// Objects are the rendered objects: a JSON array, compressed with gzip.
	// +required
	// +kubebuilder:validation:MaxLength=900000
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
