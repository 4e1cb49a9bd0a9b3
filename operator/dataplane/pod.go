// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// pod is what is kept of a pod. Texts that many pods share are kept once.
type pod struct {
	// revision that injected the proxy, the zero handle when there is none; injection is the digest of what it injected.
	revision, injection unique.Handle[string]
	// gateway is the MeshGateway that the pod belongs to.
	gateway unique.Handle[string]
	// owner is kind/name of what would have to be restarted; template tells the generations of its pods apart.
	owner, template unique.Handle[string]
	// startedFor is the rollout that its workload was restarted for when it was made.
	startedFor unique.Handle[string]
	// trouble is why a container does not get ready and will hardly do; empty for none.
	trouble unique.Handle[string]
	// address is its IP; empty before it has one.
	address string
	// leaf is how long the certificates live that its proxy asks for; 0: as long as Istio has it.
	leaf time.Duration
	// born is the time of its creation, in seconds since 1970.
	born int64
	// edge says that its proxy serves what comes from outside, and takes no mTLS of the mesh: a gateway, whoever installed it.
	edge bool
	// optedOut pods don't want a sidecar, or can't have one.
	optedOut bool
	// ready says that it serves; ending that it is being deleted.
	ready, ending bool
}

// Annotations and labels by which Istio's injector tells what it did and is told what not to do.
const (
	statusAnnotation = "sidecar.istio.io/status"
	injectKey        = "sidecar.istio.io/inject"
	// RevisionLabel is Istio's label of a revision.
	RevisionLabel = v1alpha1.IstioRevision
	// InjectionLabel is Istio's label of the default revision.
	InjectionLabel = v1alpha1.IstioInjection
)

// Labels that controllers put on their pods, a value for each template.
const (
	deploymentTemplate = "pod-template-hash"
	argoTemplate       = "rollouts-pod-template-hash"
	setTemplate        = "controller-revision-hash"
)

var nothing = unique.Make("")

// podOf keeps of a pod what is needed; of metadata alone nothing is known of its readiness.
func podOf(meta metav1.Object) pod {
	annotations, labels := meta.GetAnnotations(), meta.GetLabels()
	owner, template := ownerOf(meta)
	p := pod{
		revision: nothing, injection: unique.Make(annotations[v1alpha1.AnnotationInjection]), trouble: nothing,
		gateway: unique.Make(labels[v1alpha1.LabelGateway]), owner: unique.Make(owner), template: unique.Make(template),
		startedFor: unique.Make(annotations[v1alpha1.AnnotationRestartedFor]),
		born:       meta.GetCreationTimestamp().Unix(), ending: meta.GetDeletionTimestamp() != nil,
	}
	if revision, injected := InjectedBy(meta); injected {
		p.revision = unique.Make(revision)
	}
	p.optedOut = labels[injectKey] == "false" || labels[injectKey] == "" && annotations[injectKey] == "false"
	if full, ok := meta.(*corev1.Pod); ok {
		p.optedOut = p.optedOut || full.Spec.HostNetwork
		p.ready = slices.ContainsFunc(full.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
		p.trouble = unique.Make(troubleOf(full))
		p.address = full.Status.PodIP
		p.leaf = leafOf(full)
	}
	p.edge = p.gateway != nothing || labels[gatewayNameLabel] != "" || strings.Contains(annotations[templatesAnnotation], "gateway")
	return p
}

// InjectedBy is the revision whose injector gave a pod its proxy, if one did. A tag is never written there.
//
// Source: istio pkg/kube/inject (SidecarInjectionStatus), 1.26 to 1.31.
func InjectedBy(pod metav1.Object) (revision string, injected bool) {
	annotations := pod.GetAnnotations()
	text, injected := annotations[statusAnnotation]
	if !injected {
		return "", false
	}
	var status struct {
		Revision string `json:"revision"`
	}
	if json.Unmarshal([]byte(text), &status) != nil || status.Revision == "" {
		return annotations[RevisionLabel], true
	}
	return status.Revision, true
}

// leafOf is how long the certificates live that the proxy of a pod asks for.
func leafOf(p *corev1.Pod) time.Duration {
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		for _, e := range c.Env {
			if life, err := time.ParseDuration(e.Value); c.Name == proxyContainer && e.Name == leafVariable && err == nil {
				return life
			}
		}
	}
	return 0
}

// What tells proxies apart.
//
// Source: istio manifests/charts/gateway/templates/deployment.yaml (templates), pilot/cmd/pilot-agent/options/options.go (SECRET_TTL), and the label
// of the Gateway API.
const (
	templatesAnnotation = "inject.istio.io/templates"
	gatewayNameLabel    = "gateway.networking.k8s.io/gateway-name"
	proxyContainer      = "istio-proxy"
	leafVariable        = "SECRET_TTL"
)

// Kinds of what owns pods.
const (
	kindDeployment  = "Deployment"
	kindStatefulSet = "StatefulSet"
	kindDaemonSet   = "DaemonSet"
	kindReplicaSet  = "ReplicaSet"
	kindArgoRollout = "Rollout"
	kindJob         = "Job"
	kindPod         = "Pod"
)

// ownerOf names what would have to be restarted, as kind/name, and the template of the pod. A ReplicaSet of a Deployment is named
// after it and the hash of the template, so that ReplicaSets need not be watched.
func ownerOf(meta metav1.Object) (owner, template string) {
	labels, controller := meta.GetLabels(), metav1.GetControllerOf(meta)
	if controller == nil {
		return kindPod + "/" + meta.GetName(), ""
	}
	if controller.Kind == kindReplicaSet {
		for _, made := range []struct{ label, kind string }{{argoTemplate, kindArgoRollout}, {deploymentTemplate, kindDeployment}} {
			hash := labels[made.label]
			if name, of := strings.CutSuffix(controller.Name, "-"+hash); of && hash != "" {
				return made.kind + "/" + name, hash
			}
		}
	}
	return controller.Kind + "/" + controller.Name, labels[setTemplate]
}

// troubles are the reasons of waiting containers that time alone hardly mends.
var troubles = []string{
	"CrashLoopBackOff", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull",
	"CreateContainerConfigError", "CreateContainerError", "RunContainerError",
}

func troubleOf(p *corev1.Pod) string {
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if c.State.Waiting != nil && slices.Contains(troubles, c.State.Waiting.Reason) {
			return c.State.Waiting.Reason + " in container " + c.Name
		}
	}
	return ""
}

// trimPod drops what podOf does not read, before the pods of a large cluster are listed.
func trimPod(object any) (any, error) {
	p, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	out := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion, OwnerReferences: p.OwnerReferences,
		CreationTimestamp: p.CreationTimestamp, DeletionTimestamp: p.DeletionTimestamp,
		Labels:      keep(p.Labels, injectKey, v1alpha1.LabelGateway, gatewayNameLabel, deploymentTemplate, argoTemplate, setTemplate),
		Annotations: keep(p.Annotations, injectKey, templatesAnnotation, statusAnnotation, RevisionLabel, v1alpha1.AnnotationInjection, v1alpha1.AnnotationRestartedFor),
	}}
	out.Spec.HostNetwork, out.Status.PodIP = p.Spec.HostNetwork, p.Status.PodIP
	if life := leafOf(p); life != 0 {
		out.Spec.Containers = []corev1.Container{{Name: proxyContainer, Env: []corev1.EnvVar{{Name: leafVariable, Value: life.String()}}}}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			out.Status.Conditions = []corev1.PodCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	out.Status.InitContainerStatuses = waiting(p.Status.InitContainerStatuses)
	out.Status.ContainerStatuses = waiting(p.Status.ContainerStatuses)
	return out, nil
}

func keep(from map[string]string, keys ...string) map[string]string {
	out := map[string]string{}
	for _, key := range keys {
		if value, there := from[key]; there {
			out[key] = value
		}
	}
	return out
}

func waiting(all []corev1.ContainerStatus) (out []corev1.ContainerStatus) {
	for _, c := range all {
		if c.State.Waiting != nil {
			state := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: c.State.Waiting.Reason}}
			out = append(out, corev1.ContainerStatus{Name: c.Name, State: state})
		}
	}
	return out
}
