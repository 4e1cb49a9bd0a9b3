// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Certificates says where the CA of a mesh comes from, and how it changes.
type Certificates struct {
	// CA is what leaves are issued with.
	// +optional
	// +kubebuilder:default={type: Istiod}
	CA CertificateAuthority `json:"ca,omitempty"`
	// LeafSeconds is how long the certificates of proxies live, in seconds. No proxy may ask for more (SECRET_TTL): so long after nothing is
	// signed with a root any more, a leaf of it may be in use. A change restarts proxies. Default: 86400.
	// +optional
	// +kubebuilder:default=86400
	// +kubebuilder:validation:Minimum=300
	// +kubebuilder:validation:Maximum=7776000
	LeafSeconds int32 `json:"leafSeconds,omitempty"`
	// Rotation says when and how the CA changes.
	// +optional
	// +kubebuilder:default={}
	Rotation RotationPolicy `json:"rotation,omitempty"`
}

// CertificateAuthority is where a CA comes from. Whatever the type, Meshwright alone writes the Secret cacerts: a source that changes starts a
// MeshRotation, and never bypasses one.
//
// +kubebuilder:validation:XValidation:rule="self.type == 'Managed' || !has(self.managed)",message="managed belongs to type Managed only"
// +kubebuilder:validation:XValidation:rule="(self.type == 'Secret') == has(self.secret)",message="secret is required for type Secret, and for no other"
// +kubebuilder:validation:XValidation:rule="(self.type == 'CertManager') == has(self.certManager)",message="certManager is required for type CertManager, and for no other"
type CertificateAuthority struct {
	// Type: Istiod (istiod makes a root for itself; a Secret cacerts that is there is used and left as it is), Managed (Meshwright makes root
	// and intermediate), Secret (the user's own) or CertManager (an Issuer of cert-manager signs the intermediate). Default: Istiod.
	// +optional
	// +kubebuilder:default=Istiod
	Type CASource `json:"type,omitempty"`
	// Managed says what is made, for type Managed.
	// +optional
	Managed *ManagedCA `json:"managed,omitempty"`
	// Secret is the user's, for type Secret.
	// +optional
	Secret *SecretCA `json:"secret,omitempty"`
	// CertManager names the Issuer, for type CertManager.
	// +optional
	CertManager *CertManagerCA `json:"certManager,omitempty"`
}

// CASource is where a CA comes from.
// +kubebuilder:validation:Enum=Istiod;Managed;Secret;CertManager
type CASource string

// The values of CASource.
const (
	CASourceIstiod      CASource = "Istiod"
	CASourceManaged     CASource = "Managed"
	CASourceSecret      CASource = "Secret"
	CASourceCertManager CASource = "CertManager"
)

// KeyAlgorithm of a CA's key.
// +kubebuilder:validation:Enum=ECDSA-P256;ECDSA-P384;RSA-2048;RSA-3072;RSA-4096
type KeyAlgorithm string

// The values of KeyAlgorithm.
const (
	ECDSAP256 KeyAlgorithm = "ECDSA-P256"
	ECDSAP384 KeyAlgorithm = "ECDSA-P384"
	RSA2048   KeyAlgorithm = "RSA-2048"
	RSA3072   KeyAlgorithm = "RSA-3072"
	RSA4096   KeyAlgorithm = "RSA-4096"
)

// ManagedCA is a root and an intermediate that Meshwright makes and keeps.
//
// +kubebuilder:validation:XValidation:rule="self.rootSeconds > self.intermediateSeconds",message="rootSeconds: a root has to live longer than the intermediates under it"
// +kubebuilder:validation:XValidation:rule="(self.root == 'Offline') == has(self.answer)",message="answer is required for root Offline, and for no other"
type ManagedCA struct {
	// Algorithm of the keys. Another one makes a new root. Default: ECDSA-P256.
	// +optional
	// +kubebuilder:default=ECDSA-P256
	Algorithm KeyAlgorithm `json:"algorithm,omitempty"`
	// Organization in the subjects. Default: the name of the mesh.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Organization string `json:"organization,omitempty"`
	// RootSeconds is how long a root lives, in seconds. Default: 315360000 (ten years).
	// +optional
	// +kubebuilder:default=315360000
	// +kubebuilder:validation:Minimum=7200
	// +kubebuilder:validation:Maximum=946080000
	RootSeconds int32 `json:"rootSeconds,omitempty"`
	// IntermediateSeconds is how long an intermediate lives, in seconds. Default: 31536000 (a year).
	// +optional
	// +kubebuilder:default=31536000
	// +kubebuilder:validation:Minimum=3600
	// +kubebuilder:validation:Maximum=315360000
	IntermediateSeconds int32 `json:"intermediateSeconds,omitempty"`
	// PathLength is how many CAs may stand below the root: istiod's intermediate needs one. Default: 1.
	// +optional
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=5
	PathLength int32 `json:"pathLength,omitempty"`
	// NameConstraints limits what the intermediate may sign: None, or TrustDomain (identities of the mesh's trust domain only).
	// Default: None.
	// +optional
	// +kubebuilder:default=None
	NameConstraints NameConstraints `json:"nameConstraints,omitempty"`
	// Root says where the key of the root is: Online (in a Secret of Meshwright's namespace) or Offline (with you: a request for the
	// intermediate is shown in the MeshRotation, and what you signed is taken from the Secret that answer names). Default: Online.
	// +optional
	// +kubebuilder:default=Online
	Root RootKey `json:"root,omitempty"`
	// Answer names the Secret with what the offline root has signed: the intermediate in tls.crt, and the root in ca.crt.
	// +optional
	Answer *SecretCA `json:"answer,omitempty"`
}

// NameConstraints limits what an intermediate may sign.
// +kubebuilder:validation:Enum=None;TrustDomain
type NameConstraints string

// The values of NameConstraints.
const (
	NameConstraintsNone        NameConstraints = "None"
	NameConstraintsTrustDomain NameConstraints = "TrustDomain"
)

// RootKey says where the key of a root is.
// +kubebuilder:validation:Enum=Online;Offline
type RootKey string

// The values of RootKey.
const (
	RootOnline  RootKey = "Online"
	RootOffline RootKey = "Offline"
)

// SecretCA names a Secret in the namespace of the control plane.
type SecretCA struct {
	// Name of the Secret. Its keys are ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem, or tls.crt, tls.key and ca.crt. Not cacerts:
	// that is Meshwright's to write. Example: mesh-ca.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +kubebuilder:validation:XValidation:rule="!(self in ['cacerts', 'istio-ca-secret'])",message="name: cacerts and istio-ca-secret are what istiod reads; give your source another name"
	Name string `json:"name"`
}

// CertManagerCA is an intermediate that an Issuer of cert-manager signs. Its key is made by Meshwright and shown to nobody.
type CertManagerCA struct {
	// IssuerRef names the Issuer, in the namespace of the control plane, or the ClusterIssuer. Another one makes a new intermediate.
	// +required
	IssuerRef IssuerRef `json:"issuerRef"`
	// Algorithm of the key. Default: ECDSA-P256.
	// +optional
	// +kubebuilder:default=ECDSA-P256
	Algorithm KeyAlgorithm `json:"algorithm,omitempty"`
	// IntermediateSeconds is how long an intermediate is asked to live, in seconds. Default: 7776000 (90 days).
	// +optional
	// +kubebuilder:default=7776000
	// +kubebuilder:validation:Minimum=3600
	// +kubebuilder:validation:Maximum=315360000
	IntermediateSeconds int32 `json:"intermediateSeconds,omitempty"`
}

// IssuerRef names an issuer of cert-manager.
type IssuerRef struct {
	// Name of the issuer.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Kind: Issuer or ClusterIssuer, or one of an external issuer. Default: Issuer.
	// +optional
	// +kubebuilder:default=Issuer
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind,omitempty"`
	// Group of the issuer. Default: cert-manager.io.
	// +optional
	// +kubebuilder:default=cert-manager.io
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`
}

// RotationPolicy says when and how a CA changes.
type RotationPolicy struct {
	// RenewAtPercent of its life, an intermediate is renewed, up to five percent earlier so that meshes don't do it together. Default: 66.
	// +optional
	// +kubebuilder:default=66
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=90
	RenewAtPercent int32 `json:"renewAtPercent,omitempty"`
	// RootRenewBeforeSeconds is how long before a root of type Managed expires its successor is rotated in, in seconds.
	// Default: 31536000 (a year), or half of rootSeconds where that is less.
	// +optional
	// +kubebuilder:default=31536000
	// +kubebuilder:validation:Minimum=3600
	// +kubebuilder:validation:Maximum=315360000
	RootRenewBeforeSeconds int32 `json:"rootRenewBeforeSeconds,omitempty"`
	// Windows in which phases begin; none: always. A revocation, and an intermediate that expires before the next window, wait for none.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Windows []Window `json:"windows,omitempty"`
	// Approve names the phases that wait for an approval before they begin. A revocation waits for none. Example: [Drop].
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=6
	Approve []RotationPhase `json:"approve,omitempty"`
	// ProgressDeadlineSeconds bounds the time in a phase, in seconds. After it the rotation says that it stands still; it never goes on for
	// that, and never goes back. Default: 3600.
	// +optional
	// +kubebuilder:default=3600
	// +kubebuilder:validation:Minimum=60
	// +kubebuilder:validation:Maximum=7776000
	ProgressDeadlineSeconds int32 `json:"progressDeadlineSeconds,omitempty"`
	// HistoryLimit is how many MeshRotations that have ended are kept, and with them what they replaced. Default: 3.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=20
	HistoryLimit int32 `json:"historyLimit,omitempty"`
}

// CertificatesStatus is what the CA of a mesh is.
type CertificatesStatus struct {
	// Signing says what istiod signs with: SelfSigned (a root that it made for itself), PluggedIn (the Secret cacerts), or Unknown.
	// +optional
	Signing Signing `json:"signing,omitempty"`
	// Roots that proxies are made to trust.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	Roots []CertificateInfo `json:"roots,omitempty"`
	// Intermediates from what leaves are issued with to the root; empty where the root issues them.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	Intermediates []CertificateInfo `json:"intermediates,omitempty"`
	// Rotation under way, its phase, and since when.
	// +optional
	Rotation string `json:"rotation,omitempty"`
	// +optional
	Phase RotationPhase `json:"phase,omitempty"`
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// Proxies are counted by the roots that they accept and by the root of the leaf that they present, while a rotation needs to know.
	// +optional
	Proxies *RotationProxies `json:"proxies,omitempty"`
	// Holdouts (up to 20) are proxies for which the phase waits.
	// +optional
	// +listType=map
	// +listMapKey=proxy
	// +kubebuilder:validation:MaxItems=20
	Holdouts []RotationHoldout `json:"holdouts,omitempty"`
	// Next is when the CA is rotated next by itself, if ever.
	// +optional
	Next *metav1.Time `json:"next,omitempty"`
}

// Signing says what istiod signs with.
// +kubebuilder:validation:Enum=SelfSigned;PluggedIn;Unknown
type Signing string

// The values of Signing.
const (
	SigningSelfSigned Signing = "SelfSigned"
	SigningPluggedIn  Signing = "PluggedIn"
	SigningUnknown    Signing = "Unknown"
)

// CertificateInfo describes a certificate of a CA.
type CertificateInfo struct {
	// Subject as its distinguished name.
	Subject string `json:"subject"`
	// Fingerprint is its SHA-256 in lower-case hex.
	Fingerprint string `json:"fingerprint"`
	// NotAfter is when it expires.
	NotAfter metav1.Time `json:"notAfter"`
}
