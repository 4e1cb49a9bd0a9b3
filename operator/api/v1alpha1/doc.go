// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is the API of Meshwright: the kinds a user or a controller writes, the rules that the
// schema can say (markers and CEL), and the closed lists of condition types and reasons.
//
// It imports API machinery only. Rules that need more than one object, a chart or a catalogue live in
// operator/validate.
//
// +kubebuilder:object:generate=true
// +groupName=meshwright.io
package v1alpha1

import (
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// GroupVersion is the group and version of every kind in this package.
var GroupVersion = schema.GroupVersion{Group: "meshwright.io", Version: "v1alpha1"}

// AddToScheme registers the kinds of this package.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&MeshInstallation{}, &MeshInstallationList{},
		&MeshRevision{}, &MeshRevisionList{},
		&MeshGateway{}, &MeshGatewayList{},
		&MeshRollout{}, &MeshRolloutList{},
		&MeshRotation{}, &MeshRotationList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
