// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// players are what a cluster has and a plane has not: the Deployment controller, the kubelets, the injector and istiod, as far as the
// operator sees them.
type players struct {
	client client.WithWatch
	// moved counts the pods that were made anew.
	moved atomic.Int32
}

// play plays them until the context ends.
func (p *players) play(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.istiods(ctx) })
	group.Go(func() error { return p.deployments(ctx, group) })
	err := group.Wait()
	if ctx.Err() != nil && err == nil {
		return nil
	}
	return err
}

// node makes a node with room for every istiod.
func (p *players) node(ctx context.Context) error {
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node"},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("256Gi"), corev1.ResourcePods: resource.MustParse("500"),
		}},
	}
	if err := p.client.Create(ctx, node); err != nil {
		return err
	}
	node.Spec.Taints = nil // it is as ready as it gets
	return p.client.Update(ctx, node)
}

// istiods makes every istiod available, and lets it confirm its validating webhook as one does that was called.
func (p *players) istiods(ctx context.Context) error {
	ticker := time.NewTicker(framework.Poll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := p.serve(ctx); err != nil && ctx.Err() == nil && client.IgnoreNotFound(err) != nil {
			return err
		}
	}
}

func (p *players) serve(ctx context.Context) error {
	var istiods appsv1.DeploymentList
	if err := p.client.List(ctx, &istiods, client.InNamespace("istio-system")); err != nil {
		return err
	}
	for i := range istiods.Items {
		if d := &istiods.Items[i]; d.Status.ObservedGeneration != d.Generation {
			if err := p.status(ctx, d, 1, 1); err != nil {
				return err
			}
		}
	}
	var webhooks admissionregistrationv1.ValidatingWebhookConfigurationList
	if err := p.client.List(ctx, &webhooks); err != nil {
		return err
	}
	for i := range webhooks.Items {
		w := &webhooks.Items[i]
		if !strings.HasPrefix(w.Name, "istio-validator-") {
			continue
		}
		before, changed := w.DeepCopy(), false
		for j := range w.Webhooks {
			if policy := w.Webhooks[j].FailurePolicy; policy == nil || *policy != admissionregistrationv1.Fail {
				w.Webhooks[j].FailurePolicy, changed = new(admissionregistrationv1.Fail), true
			}
		}
		if changed {
			if err := p.client.Patch(ctx, w, client.MergeFrom(before), client.FieldOwner("pilot-discovery")); err != nil {
				return err
			}
		}
	}
	return nil
}

// status says of a Deployment how many pods it has, and how many of these are of its newest template.
func (p *players) status(ctx context.Context, d *appsv1.Deployment, pods, updated int32) error {
	before := d.DeepCopy()
	progress := "NewReplicaSetAvailable"
	if updated < pods {
		progress = "ReplicaSetUpdated"
	}
	d.Status = appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation, Replicas: pods, UpdatedReplicas: updated, ReadyReplicas: pods, AvailableReplicas: pods,
		Conditions: []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue},
			{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: progress},
		},
	}
	return p.client.Status().Patch(ctx, d, client.MergeFrom(before))
}

// deployments moves every Deployment whose template is stamped.
func (p *players) deployments(ctx context.Context, group *errgroup.Group) error {
	stamped := map[client.ObjectKey]string{}
	for ctx.Err() == nil {
		watch, err := p.client.Watch(ctx, &appsv1.DeploymentList{})
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		for event := range watch.ResultChan() {
			d, ok := event.Object.(*appsv1.Deployment)
			if !ok {
				continue
			}
			key, stamp := client.ObjectKeyFromObject(d), d.Spec.Template.Annotations[v1alpha1.AnnotationRestartedFor]
			if stamp == "" || stamped[key] == stamp {
				continue
			}
			stamped[key] = stamp
			group.Go(func() error { return p.roll(ctx, d, fmt.Sprintf("g%d", d.Generation)) })
		}
	}
	return nil
}

// roll makes the pods of a Deployment anew, one after the other, from its newest template: each is created, gets ready and replaces
// an old one, and the Deployment tells how far it is, as its controller would.
func (p *players) roll(ctx context.Context, d *appsv1.Deployment, hash string) error {
	var namespace corev1.Namespace
	if err := p.client.Get(ctx, client.ObjectKey{Name: d.Namespace}, &namespace); err != nil {
		return err
	}
	var revision v1alpha1.MeshRevision
	if err := p.client.Get(ctx, client.ObjectKey{Name: namespace.Labels[v1alpha1.IstioRevision]}, &revision); err != nil {
		return err
	}
	for k := range *d.Spec.Replicas {
		if err := p.status(ctx, d, *d.Spec.Replicas+1, k+1); err != nil {
			return err
		}
		if err := p.pod(ctx, podOf(d, &revision, hash, k)); err != nil {
			return err
		}
		if err := p.client.Delete(ctx, podOf(d, &revision, firstHash, k), client.GracePeriodSeconds(0)); err != nil {
			return err
		}
		p.moved.Add(1)
	}
	return p.status(ctx, d, *d.Spec.Replicas, *d.Spec.Replicas)
}

// pod creates a pod that is ready at once.
func (p *players) pod(ctx context.Context, pod *corev1.Pod) error {
	if err := p.client.Create(ctx, pod); err != nil {
		return err
	}
	before := pod.DeepCopy()
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	return p.client.Status().Patch(ctx, pod, client.MergeFrom(before))
}

// firstHash is the hash of the templates with which Deployments begin.
const firstHash = "g1"

// deploymentOf is a Deployment of the crowd.
func deploymentOf(namespace string) *appsv1.Deployment {
	labels := map[string]string{"app": "app"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "app"},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(crowdPods)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: framework.EchoImage}}},
			},
		},
	}
}

// podOf is a pod of a Deployment as a revision injects it.
func podOf(d *appsv1.Deployment, revision *v1alpha1.MeshRevision, hash string, n int32) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: *d.Spec.Template.ObjectMeta.DeepCopy(), Spec: *d.Spec.Template.Spec.DeepCopy()}
	pod.Namespace, pod.Name = d.Namespace, fmt.Sprintf("%s-%s-%02d", d.Name, hash, n)
	pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	pod.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "apps/v1", Kind: "ReplicaSet", Name: d.Name + "-" + hash, UID: d.UID, Controller: new(true),
	}}
	pod.Annotations = map[string]string{
		v1alpha1.IstioRevision: revision.Name, v1alpha1.AnnotationInjection: revision.Spec.Injection,
		"sidecar.istio.io/status": `{"initContainers":["istio-init","istio-proxy"],"containers":null,"volumes":["workload-socket","credential-socket",` +
			`"workload-certs","istio-envoy","istio-data","istio-podinfo","istio-token","istiod-ca-cert"],"imagePullSecrets":null,"revision":"` +
			revision.Name + `"}`,
	}
	proxy := corev1.Container{
		Name: "istio-proxy", Image: framework.Hub + "/proxyv2:" + revision.Spec.Version,
		RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Args: []string{"proxy", "sidecar", "--domain", "$(POD_NAMESPACE).svc.cluster.local"},
	}
	for _, name := range []string{"PILOT_CERT_PROVIDER", "CA_ADDR", "POD_NAME", "POD_NAMESPACE", "INSTANCE_IP", "SERVICE_ACCOUNT", "HOST_IP", "ISTIO_META_MESH_ID"} {
		proxy.Env = append(proxy.Env, corev1.EnvVar{Name: name, Value: "as the injector would have it"})
	}
	pod.Spec.InitContainers = []corev1.Container{proxy}
	return pod
}
