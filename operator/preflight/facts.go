// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"time"

	"github.com/Masterminds/semver/v3"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/version"
)

// Facts are what the rules judge: the move, and what there is of the cluster.
type Facts struct {
	Now  time.Time
	Move Move
	// Mesh as it is wanted, nil where Meshwright keeps none.
	Mesh *v1alpha1.MeshInstallation
	// Kubernetes is the version of the cluster.
	Kubernetes *semver.Version
	// Grants says that a rollout is granted on what is found: then what could not be read holds it back, where it could.
	Grants bool
	// Unread are the sections that could not be read.
	Unread []Unread
	// Permissions that are missing, by the name of who lacks them.
	Permissions []Permission

	// EnvoyFilters and WasmPlugins of the cluster, of which only what is judged is needed: see [Trim].
	EnvoyFilters, WasmPlugins []Extension
	// Deprecated is what [Configuration] has found of the other kinds: these are many, and none of them is kept.
	Deprecated []Finding
	CRDs       []CRD
	// TargetCRDs are those of the target's chart.
	TargetCRDs []CRD
	Charts     Charts

	Mutating   []admissionv1.MutatingWebhookConfiguration
	Validating []admissionv1.ValidatingWebhookConfiguration
	// Backends of webhooks, by their Services.
	Backends map[types.NamespacedName]Backend
	// Revisions are those of the mesh, the target among them. Proxies name these, and never a tag.
	Revisions []string
	// Proxies are the images that revisions inject, by revision.
	Proxies map[string]string

	Namespaces []Namespace
	Pods       []Pod
	// Gateways are those of the mesh that move with it.
	Gateways []Gateway
	// Annotated are workloads and Services that have annotations of Istio or leave their image to the injector.
	Annotated []Annotated
	Unmovable []v1alpha1.UnmovableWorkload
	Budgets   []Budget
	// CNI says that with the new version a node agent redirects traffic, and not a container of the pod.
	CNI bool

	// Istiod are the labels of the pods of the next istiod, as the target's chart has them.
	Istiod   map[string]string
	Capacity Capacity
	// Quotas and LimitRanges of the namespaces of control plane and gateways.
	Quotas      []corev1.ResourceQuota
	LimitRanges []corev1.LimitRange
	Autoscalers []autoscalingv2.HorizontalPodAutoscaler

	// NetworkPolicies of the namespaces of control plane, mesh and gateways.
	NetworkPolicies []networkingv1.NetworkPolicy
}

// Move is what the mesh would do.
type Move struct {
	// From and To are versions of Istio. Restarts says that the revision stays, too: pods are restarted, and nothing else.
	From, To *semver.Version
	Restarts bool
	// Line of To; without a name where nothing is known of it.
	Line version.Line
	// Revision is what the new control plane is called. Namespace is where control planes are.
	Revision, Namespace string
	// InPlace says that the control plane is replaced where it stands.
	InPlace bool
	Restart v1alpha1.RestartType
	// AnySkew and AnyKubernetes say that the user has accepted what Istio does not support.
	AnySkew, AnyKubernetes bool
	// Operator is the pod of the operator, as NetworkPolicies see it; zero where it is not known.
	Operator Peer
}

// Peer is a pod as NetworkPolicies see it.
type Peer struct {
	Namespace string
	Labels    map[string]string
}

// Unread is something that could not be read for want of a right.
type Unread struct {
	// Resource as a right names it, such as nodes or envoyfilters.networking.istio.io; Verb is the right: list, get.
	Resource, Verb string
	// Namespace is empty for the whole cluster.
	Namespace string
}

// Permission is one that is missing.
type Permission struct{ Who, Resource, Namespace string }

// Extension is an object of Istio.
type Extension struct {
	Kind            string
	Namespace, Name string
	Annotations     map[string]string
	// Spec as the API server has it: maps, lists, texts, numbers and booleans.
	Spec map[string]any
}

// CRD is a CustomResourceDefinition.
type CRD struct {
	Name, Group, Kind string
	// Version of Istio that it says to be of; empty for none. Bundle is that of the Gateway API.
	Version, Bundle string
	// Writers are the field managers of its versions, beside Meshwright's.
	Writers []string
	// Served and Stored are versions of the kind; Stored those in which objects may be.
	Served, Versions, Stored []string
}

// Charts is what the charts say of the values.
type Charts struct {
	// Failure is why the target's chart does not render; empty when it does.
	Failure string
	// Unknown are values that the target's charts don't know, as sentences.
	Unknown []string
}

// Backend is the Service that answers a webhook.
type Backend struct{ Exists, Ready bool }

// Namespace of the cluster.
type Namespace struct {
	Name                string
	Labels, Annotations map[string]string
	// Member says that its new pods get a proxy of the mesh; Gateway that it has a gateway of it. Ours says that Meshwright made it.
	Member, Gateway, Ours bool
}

// Pod is one that has not ended, and has a proxy, annotations of Istio, or a place in a namespace of the mesh.
type Pod struct {
	Namespace, Name string
	// Owner is kind and name of what would make it anew: Deployment/cart.
	Owner               string
	Labels, Annotations map[string]string
	// Proxy is the image of its proxy; empty when it has none. Injected says that the injector put it there, and Revision of which
	// revision that was; empty where it does not say.
	Proxy    string
	Injected bool
	Revision string
	// Init says that a container of it redirects its traffic; OptedOut that it wants no proxy, or can't have one.
	Init, OptedOut bool
	// Ours says that Meshwright applies its workload; Edge that it is a gateway's.
	Ours, Edge bool
}

// Gateway is one that moves with its mesh.
type Gateway struct {
	Namespace, Name string
	// Failure is why the target's chart does not render it, of which nothing else is known then; empty when it does.
	Failure string
	// Writes are the resources that the operator writes for it.
	Writes []schema.GroupResource
	// Labels of the pods of its next version.
	Labels map[string]string
	// Pods is how many of them there are at least beside those that it has, for a while: as many again where the versions stand side by
	// side, and what a rolling update can't do without where one replaces the other.
	Pods int32
	// Containers of one pod: what they request, and may use.
	Containers []corev1.ResourceRequirements
}

// Annotated is a workload or a Service.
type Annotated struct {
	Kind, Namespace, Name string
	Labels, Annotations   map[string]string
	// AutoImage says that a container of its template leaves its image to the injector; Template are the labels of the template.
	AutoImage bool
	Template  map[string]string
}

// Budget is a PodDisruptionBudget, as its status has it.
type Budget struct {
	Namespace, Name string
	// Selector of its pods; nil selects none.
	Selector                         *metav1.LabelSelector
	DisruptionsAllowed, ExpectedPods int32
}

// Capacity is what one pod of the next istiod wants, and what there is. Without containers nothing is judged.
type Capacity struct {
	// Containers of the pod: what they request, and may use. One that has a limit only requests that.
	Containers []corev1.ResourceRequirements
	// Unknown says that the nodes could not be read.
	Unknown bool
	// Nodes are those on which a pod without tolerations may be scheduled.
	Nodes []Node
}

// Node is a node that pods may be scheduled on.
type Node struct {
	Name string
	// Free is what it can allocate and no pod has requested, at least of each resource that is wanted. Of the resource pods it
	// is the number that still may be scheduled, where that is known.
	Free corev1.ResourceList
}
