// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Condition types. Ready: the newest spec was accepted and the thing serves. Reconciling and Stalled are
// present only while True, as kstatus expects.
const (
	ConditionReady             = "Ready"
	ConditionUpToDate          = "UpToDate"
	ConditionReconciling       = "Reconciling"
	ConditionStalled           = "Stalled"
	ConditionControlPlaneReady = "ControlPlaneReady"
	ConditionGatewaysReady     = "GatewaysReady"
)

// Reasons: the closed list. A reason never changes its meaning, alerts are written on it.
const (
	// ReasonReady: serves as the newest spec wants it.
	ReasonReady = "Ready"
	// ReasonProgressing: objects are applied and not ready yet; the message names the first one.
	ReasonProgressing = "Progressing"
	// ReasonInvalidSpec: the spec can't be made true; the message names field and remedy. Stalled.
	ReasonInvalidSpec = "InvalidSpec"
	// ReasonVersionUnavailable: no bundle holds the version that is meant. Stalled.
	ReasonVersionUnavailable = "VersionUnavailable"
	// ReasonUnsupportedKubernetes: Istio's release does not support this Kubernetes. Stalled.
	ReasonUnsupportedKubernetes = "UnsupportedKubernetes"
	// ReasonVersionChange: spec.version no longer allows the version that serves, which is kept.
	ReasonVersionChange = "VersionChange"
	// ReasonPaused: spec.paused is true.
	ReasonPaused = "Paused"
	// ReasonApplyFailed: the API server refused an object; the message says which and why.
	ReasonApplyFailed = "ApplyFailed"
	// ReasonTagTaken: a revision tag or the default revision belongs to somebody else. Stalled.
	ReasonTagTaken = "TagTaken"
	// ReasonNameTaken: an object of the name that the mesh or gateway needs exists and belongs to somebody else. Nothing was
	// written. Stalled.
	ReasonNameTaken = "NameTaken"
	// ReasonRevisionTaken: the revision name belongs to another installation. Stalled.
	ReasonRevisionTaken = "RevisionTaken"
	// ReasonMeshNotFound: a MeshGateway names a mesh that does not exist.
	ReasonMeshNotFound = "MeshNotFound"
	// ReasonPodsNotReady: pods crash, can't be scheduled or can't pull their image; the message gives the pod's own reason.
	ReasonPodsNotReady = "PodsNotReady"
	// ReasonOutdatedProxies: pods run without a sidecar of the stable revision.
	ReasonOutdatedProxies = "OutdatedProxies"
	// ReasonEnrollmentBlocked: a namespace that the selector matches can't be enrolled.
	ReasonEnrollmentBlocked = "EnrollmentBlocked"
	// ReasonNamespaceEnrolled: a gateway's namespace is labelled for injection, which it must not be.
	ReasonNamespaceEnrolled = "NamespaceEnrolled"
	// ReasonGatewaysNotReady: a gateway of the mesh is not ready, and time alone will not help; the message says why.
	ReasonGatewaysNotReady = "GatewaysNotReady"
	// ReasonNoGateways: the mesh has no gateway of its own.
	ReasonNoGateways = "NoGateways"
	// ReasonInUse: deletion waits because something uses the mesh; the message names it.
	ReasonInUse = "InUse"
	// ReasonRemoving: deletion is under way.
	ReasonRemoving = "Removing"
	// ReasonUpToDate: every proxy is of the stable revision and the wanted version serves.
	ReasonUpToDate = "UpToDate"
)

// Labels and annotations of Meshwright.
const (
	// LabelMesh is on every object that Meshwright applies, and on the pods of istiod and of gateways: the caches
	// are filtered by it. Its value is the name of the MeshInstallation.
	LabelMesh = "meshwright.io/mesh"
	// LabelGateway is on every object and pod of a gateway. Its value is the name of the MeshGateway.
	LabelGateway = "meshwright.io/gateway"
	// LabelRevision is on every object of a revision. Its value is the name of the MeshRevision.
	LabelRevision = "meshwright.io/revision"
	// AnnotationCreated is on namespaces that Meshwright created. Its value is the name of the MeshInstallation.
	AnnotationCreated = "meshwright.io/created-for"
	// Finalizer holds a kind of this group until its objects are gone.
	Finalizer = "meshwright.io/finalizer"
)

// Field managers of server-side apply, one for each controller: two partial applies under one name delete each
// other's fields.
const (
	ManagerInstallation = "meshwright-installation"
	ManagerRevision     = "meshwright-revision"
	ManagerGateway      = "meshwright-gateway"
	ManagerDataPlane    = "meshwright-dataplane"
)
