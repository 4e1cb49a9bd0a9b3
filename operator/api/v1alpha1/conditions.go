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
	ConditionUpgradeAvailable  = "UpgradeAvailable"
	ConditionCertificatesReady = "CertificatesReady"
	ConditionComplete          = "Complete"
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
	// ReasonRollingOut: a MeshRollout moves the mesh to another version or configuration.
	ReasonRollingOut = "RollingOut"
	// ReasonCreatingCanary: the control plane of the canary is created and starts.
	ReasonCreatingCanary = "CreatingCanary"
	// ReasonCanaryFailed: the control plane of the canary does not get ready.
	ReasonCanaryFailed = "CanaryFailed"
	// ReasonProving: the canary has to show that it injects pods and configures proxies before anything moves.
	ReasonProving = "Proving"
	// ReasonUnproven: that can't be found out; the message names remedy and waiver.
	ReasonUnproven = "Unproven"
	// ReasonNotInjecting: new pods would not get the sidecar of the canary.
	ReasonNotInjecting = "NotInjecting"
	// ReasonReconnecting: istiod has been replaced in place; nothing restarts until the proxies are connected to the new one.
	ReasonReconnecting = "Reconnecting"
	// ReasonMoving: workloads of the current step are moved.
	ReasonMoving = "Moving"
	// ReasonBaking: the numbers of the step are reached; it is watched for a while.
	ReasonBaking = "Baking"
	// ReasonShifting: the gateways' traffic moves to the share of the step.
	ReasonShifting = "Shifting"
	// ReasonGatewayFailed: the new version of a gateway does not get ready; the message names pod and reason.
	ReasonGatewayFailed = "GatewayFailed"
	// ReasonAnalysing: gates judge the new version.
	ReasonAnalysing = "Analysing"
	// ReasonInconclusive: whether a share is reached or a version is good can't be told; the message says why and what to do.
	ReasonInconclusive = "Inconclusive"
	// ReasonGateFailed: a gate found that the new version is worse; the message says by what.
	ReasonGateFailed = "GateFailed"
	// ReasonAwaitingApproval: the step waits until a person approves it.
	ReasonAwaitingApproval = "AwaitingApproval"
	// ReasonPausing: a step of type Pause waits for its time to pass.
	ReasonPausing = "Pausing"
	// ReasonOutsideWindow: workloads are moved in the next window.
	ReasonOutsideWindow = "OutsideWindow"
	// ReasonOvershoot: more has moved than the step allows, by other people's restarts; approve the step to accept it.
	ReasonOvershoot = "Overshoot"
	// ReasonAwaitingRestarts: dataPlane.restart.type is Manual, and people have to restart the workloads.
	ReasonAwaitingRestarts = "AwaitingRestarts"
	// ReasonWorkloadFailed: new pods of a workload do not become ready; the message names pod and reason.
	ReasonWorkloadFailed = "WorkloadFailed"
	// ReasonDeadlineExceeded: a step made no progress for progressDeadlineSeconds.
	ReasonDeadlineExceeded = "DeadlineExceeded"
	// ReasonOldRevisionFailed: the revision to go back to does not serve, so that the canary may be the only healthy one.
	ReasonOldRevisionFailed = "OldRevisionFailed"
	// ReasonAborted: the goal is Abort; where something has moved already, only RollBack leads on.
	ReasonAborted = "Aborted"
	// ReasonRollingBack: the rollout moves back what it has moved.
	ReasonRollingBack = "RollingBack"
	// ReasonRolledBack: everything is at the old revision again, and the canary is gone.
	ReasonRolledBack = "RolledBack"
	// ReasonPromoting: the default revision and the tags are moved.
	ReasonPromoting = "Promoting"
	// ReasonRetireAfter: nothing refers to the old revision; it is kept for upgrade.canary.retireAfterSeconds.
	ReasonRetireAfter = "RetireAfter"
	// ReasonStillInUse: something refers to the revision that is to be retired; the message names it.
	ReasonStillInUse = "StillInUse"
	// ReasonRetiring: the revision is removed.
	ReasonRetiring = "Retiring"
	// ReasonUnknown: something that the decision needs can't be read; nothing is done.
	ReasonUnknown = "Unknown"
	// ReasonNotGranted: another operation is active on the mesh.
	ReasonNotGranted = "NotGranted"
	// ReasonCompleted: the rollout has ended well.
	ReasonCompleted = "Completed"
	// ReasonTargetFailed: the last rollout to what the spec wants failed; it is tried again when the spec changes or the
	// MeshRollout is given one retry more.
	ReasonTargetFailed = "TargetFailed"
	// ReasonPreflight: something was found that has to be mended or acknowledged before a rollout begins.
	ReasonPreflight = "Preflight"
	// ReasonSkew: Istio does not support the move from the version that serves to the wanted one. Stalled.
	ReasonSkew = "VersionSkew"
	// ReasonUpgradeAvailable: newer versions are known that the mesh could move to.
	ReasonUpgradeAvailable = "UpgradeAvailable"
	// ReasonNoUpgrade: no newer version is known that the mesh could move to.
	ReasonNoUpgrade = "NoUpgrade"
	// ReasonEndOfLife: support of the version that serves has ended, or ends within 30 days.
	ReasonEndOfLife = "EndOfLife"
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
	// ReasonRotating: a MeshRotation changes the CA.
	ReasonRotating = "Rotating"
	// ReasonPreparing: a rotation makes what it changes to; nothing of the mesh has changed.
	ReasonPreparing = "Preparing"
	// ReasonAwaitingSignature: the request in status.request of the MeshRotation has to be signed.
	ReasonAwaitingSignature = "AwaitingSignature"
	// ReasonInvalidCA: what the CA is to become can't be used; the message names field and remedy. Nothing was written. Stalled.
	ReasonInvalidCA = "InvalidCA"
	// ReasonNotCapable: a control plane was not installed so that its root can change; the message says how that is mended.
	ReasonNotCapable = "NotCapable"
	// ReasonForeignChange: somebody else has changed or removed the Secret cacerts. Nothing is overwritten. Stalled.
	ReasonForeignChange = "ForeignChange"
	// ReasonExpiring: a certificate of the CA expires within 30 days, and nothing renews it.
	ReasonExpiring = "Expiring"
	// ReasonExpired: a certificate of the CA has expired.
	ReasonExpired = "Expired"
	// ReasonBegins: a phase of a rotation begins.
	ReasonBegins = "Begins"
	// ReasonWriting: the Secret cacerts is written.
	ReasonWriting = "Writing"
	// ReasonRestarting: istiods start anew, for only then do they read the Secret cacerts.
	ReasonRestarting = "Restarting"
	// ReasonReloading: istiods have not read the Secret cacerts anew yet.
	ReasonReloading = "Reloading"
	// ReasonPropagating: places from which roots are read do not hold what the phase wants yet.
	ReasonPropagating = "Propagating"
	// ReasonSettling: kubelets take their time to bring a ConfigMap to pods.
	ReasonSettling = "Settling"
	// ReasonProvingProxies: proxies have not proven yet what the phase is for; the message names one, with a remedy.
	ReasonProvingProxies = "ProvingProxies"
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
	// AnnotationInjection is on pods: the digest of what their revision injected.
	AnnotationInjection = "meshwright.io/injection"
	// AnnotationRestart on a workload or a namespace, with the value exclude, keeps it from being restarted.
	AnnotationRestart = "meshwright.io/restart"
	// AnnotationRestartedFor is on workloads and their pod templates: the rollout that restarted them.
	AnnotationRestartedFor = "meshwright.io/restarted-for"
	// AnnotationWritten is on the Secret cacerts: a digest of what Meshwright wrote into it.
	AnnotationWritten = "meshwright.io/written"
	// Finalizer holds a kind of this group until its objects are gone.
	Finalizer = "meshwright.io/finalizer"
)

// Labels of Istio.
const (
	// IstioRevision on a namespace or pod says which revision or tag injects; as annotation of an injected pod, which did.
	IstioRevision = "istio.io/rev"
	// IstioInjection on a namespace turns injection by the default revision on (enabled) or all injection off (disabled).
	IstioInjection = "istio-injection"
)

// Field managers of server-side apply, one for each controller: two partial applies under one name delete each
// other's fields.
const (
	ManagerInstallation = "meshwright-installation"
	ManagerRevision     = "meshwright-revision"
	ManagerGateway      = "meshwright-gateway"
	ManagerDataPlane    = "meshwright-dataplane"
	ManagerRotation     = "meshwright-rotation"
)
