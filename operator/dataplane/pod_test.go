// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"testing"
	"time"
	"unique"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func controlledBy(kind, name string) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{Kind: kind, Name: name, Controller: &yes}}
}

func TestOwnerOf(t *testing.T) {
	for _, tc := range []struct {
		reason          string
		owners          []metav1.OwnerReference
		labels          map[string]string
		owner, template string
	}{
		{
			"a ReplicaSet of a Deployment is called after it and the hash of the template",
			controlledBy(kindReplicaSet, "web-7d9c"),
			map[string]string{deploymentTemplate: "7d9c"},
			"Deployment/web", "7d9c",
		},
		{
			"only the hash is cut off the name",
			controlledBy(kindReplicaSet, "web-7d9c-7d9c"),
			map[string]string{deploymentTemplate: "7d9c"},
			"Deployment/web-7d9c", "7d9c",
		},
		{
			"one of an Argo Rollout has a label of Argo's",
			controlledBy(kindReplicaSet, "web-5f8b"),
			map[string]string{argoTemplate: "5f8b"},
			"Rollout/web", "5f8b",
		},
		{
			"a StatefulSet", controlledBy(kindStatefulSet, "db"), map[string]string{setTemplate: "db-6b"}, "StatefulSet/db", "db-6b",
		},
		{
			"a DaemonSet", controlledBy(kindDaemonSet, "agent"), map[string]string{setTemplate: "5d4f"}, "DaemonSet/agent", "5d4f",
		},
		{"a Job has one template", controlledBy(kindJob, "import"), nil, "Job/import", ""},
		{"a pod of nobody", nil, nil, "Pod/p", ""},
		{
			"who owns a pod and does not control it restarts nothing",
			[]metav1.OwnerReference{{Kind: kindDaemonSet, Name: "agent"}},
			map[string]string{setTemplate: "5d4f"},
			"Pod/p", "",
		},
		{"a ReplicaSet of nobody", controlledBy(kindReplicaSet, "web"), nil, "ReplicaSet/web", ""},
		{
			"a ReplicaSet that is not called after the hash is nobody's, whatever its pods are labelled",
			controlledBy(kindReplicaSet, "web"),
			map[string]string{deploymentTemplate: "7d9c"},
			"ReplicaSet/web", "",
		},
		{"what nobody here knows is named all the same", controlledBy("Kafka", "log"), nil, "Kafka/log", ""},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", OwnerReferences: tc.owners, Labels: tc.labels}}
			owner, template := ownerOf(p)
			if owner != tc.owner || template != tc.template {
				t.Errorf("ownerOf = %q, %q, want %q, %q", owner, template, tc.owner, tc.template)
			}
		})
	}
}

// stuck is a container that waits for a reason.
func stuck(container, reason string) corev1.ContainerStatus {
	waiting := &corev1.ContainerStateWaiting{Reason: reason, Message: "back-off 5m0s"}
	return corev1.ContainerStatus{Name: container, State: corev1.ContainerState{Waiting: waiting}}
}

func TestPodOf(t *testing.T) {
	born := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	injected := func(status string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Annotations = map[string]string{statusAnnotation: status, RevisionLabel: "1-28-2", v1alpha1.AnnotationInjection: "digest"}
		}
	}
	for _, tc := range []struct {
		reason string
		change func(*corev1.Pod)
		want   func(*pod)
	}{
		{"a pod without a sidecar", func(*corev1.Pod) {}, func(*pod) {}},
		{
			"the injector says which revision it is", injected(`{"revision":"1-29-1"}`),
			func(p *pod) { p.revision, p.injection = unique.Make("1-29-1"), unique.Make("digest") },
		},
		{
			"an injector that does not say so has left an annotation", injected(`{"initContainers":["istio-init"]}`),
			func(p *pod) { p.revision, p.injection = unique.Make("1-28-2"), unique.Make("digest") },
		},
		{
			"the same where its status can't be read", injected(`?`),
			func(p *pod) { p.revision, p.injection = unique.Make("1-28-2"), unique.Make("digest") },
		},
		{
			"the annotation alone injects nothing",
			func(p *corev1.Pod) { p.Annotations = map[string]string{RevisionLabel: "1-28-2"} }, func(*pod) {},
		},
		{
			"it serves",
			func(p *corev1.Pod) {
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			},
			func(p *pod) { p.ready = true },
		},
		{
			"another condition does not say that it serves",
			func(p *corev1.Pod) {
				p.Status.Conditions = []corev1.PodCondition{
					{Type: corev1.PodScheduled, Status: corev1.ConditionTrue}, {Type: corev1.PodReady, Status: corev1.ConditionFalse},
				}
			},
			func(*pod) {},
		},
		{
			"a container crashes",
			func(p *corev1.Pod) {
				p.Status.ContainerStatuses = []corev1.ContainerStatus{stuck("app", "ContainerCreating"), stuck("istio-proxy", "CrashLoopBackOff")}
			},
			func(p *pod) { p.trouble = unique.Make("CrashLoopBackOff in container istio-proxy") },
		},
		{
			"the first container in trouble is named, init containers before others",
			func(p *corev1.Pod) {
				p.Status.InitContainerStatuses = []corev1.ContainerStatus{stuck("istio-init", "ImagePullBackOff")}
				p.Status.ContainerStatuses = []corev1.ContainerStatus{stuck("app", "CrashLoopBackOff")}
			},
			func(p *pod) { p.trouble = unique.Make("ImagePullBackOff in container istio-init") },
		},
		{
			"what time mends is no trouble",
			func(p *corev1.Pod) {
				p.Status.ContainerStatuses = []corev1.ContainerStatus{stuck("app", "PodInitializing")}
			},
			func(*pod) {},
		},
		{
			"one on the network of its node gets no sidecar", func(p *corev1.Pod) { p.Spec.HostNetwork = true },
			func(p *pod) { p.optedOut = true },
		},
		{
			"a label opts out", func(p *corev1.Pod) { p.Labels = map[string]string{injectKey: "false"} },
			func(p *pod) { p.optedOut = true },
		},
		{
			"so does the annotation of old", func(p *corev1.Pod) { p.Annotations = map[string]string{injectKey: "false"} },
			func(p *pod) { p.optedOut = true },
		},
		{
			"the label beats the annotation",
			func(p *corev1.Pod) {
				p.Labels, p.Annotations = map[string]string{injectKey: "true"}, map[string]string{injectKey: "false"}
			},
			func(*pod) {},
		},
		{
			"it is being deleted", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: born} },
			func(p *pod) { p.ending = true },
		},
		{
			"it is a gateway's", func(p *corev1.Pod) { p.Labels = map[string]string{v1alpha1.LabelGateway: "ingress"} },
			func(p *pod) { p.gateway, p.edge = unique.Make("ingress"), true },
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", CreationTimestamp: metav1.Time{Time: born}}}
			tc.change(p)
			want := pod{
				revision: nothing, injection: nothing, gateway: nothing, owner: unique.Make("Pod/p"), template: nothing,
				startedFor: nothing, trouble: nothing, born: born.Unix(),
			}
			tc.want(&want)
			if diff := cmp.Diff(want, podOf(p), samePod); diff != "" {
				t.Errorf("podOf (-want +got):\n%s", diff)
			}
		})
	}
}

var samePod = cmp.AllowUnexported(pod{}, workload{}, unique.Handle[string]{})

// Of metadata alone, as they are read before something is removed, who injected a pod is known, and not whether it serves.
func TestPodOfMetadata(t *testing.T) {
	p := podOf(podMeta("shop", "p", "1-29-1", nil))
	if p.revision.Value() != "1-29-1" || p.ready || p.trouble != nothing {
		t.Errorf("podOf = %+v, want revision 1-29-1, neither ready nor in trouble", p)
	}
}

// Whatever a pod looks like: what is dropped before it is kept means nothing to the index.
func TestTrimmedPodsMeanTheSame(t *testing.T) {
	texts := rapid.SampledFrom([]string{"", "true", "false", "7d9c", "web", `{"revision":"1-29-1"}`, `{}`, "?"})
	keys := rapid.SampledFrom([]string{
		injectKey, statusAnnotation, RevisionLabel, v1alpha1.AnnotationInjection, v1alpha1.LabelGateway, deploymentTemplate, argoTemplate,
		setTemplate, "app",
	})
	// One hash at a time: a pod has one controller, which sets its own.
	oneHash := func(all map[string]string) map[string]string {
		if all[argoTemplate] != "" {
			delete(all, deploymentTemplate)
		}
		return all
	}
	some := rapid.MapOfN(keys, texts, 0, 5)
	container := rapid.Custom(func(t *rapid.T) corev1.ContainerStatus {
		name := rapid.SampledFrom([]string{"app", "istio-proxy"}).Draw(t, "container")
		if rapid.Bool().Draw(t, "runs") {
			return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
		}
		return stuck(name, rapid.SampledFrom([]string{"ContainerCreating", "CrashLoopBackOff", "CreateContainerError"}).Draw(t, "reason"))
	})
	rapid.Check(t, func(t *rapid.T) {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "p", Labels: oneHash(some.Draw(t, "labels")), Annotations: some.Draw(t, "annotations"),
			CreationTimestamp: metav1.Unix(rapid.Int64Range(0, 1<<32).Draw(t, "born"), 0),
		}}
		if rapid.Bool().Draw(t, "ending") {
			p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
		}
		if kind := rapid.SampledFrom([]string{"", kindReplicaSet, kindStatefulSet, kindJob}).Draw(t, "kind"); kind != "" {
			p.OwnerReferences = controlledBy(kind, rapid.SampledFrom([]string{"web", "web-7d9c", "web-"}).Draw(t, "owner"))
		}
		p.Spec.HostNetwork = rapid.Bool().Draw(t, "hostNetwork")
		for _, typ := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodReady, corev1.ContainersReady} {
			status := rapid.SampledFrom([]corev1.ConditionStatus{"", corev1.ConditionTrue, corev1.ConditionFalse}).Draw(t, string(typ))
			if status != "" {
				p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: typ, Status: status})
			}
		}
		p.Status.InitContainerStatuses = rapid.SliceOfN(container, 0, 2).Draw(t, "init containers")
		p.Status.ContainerStatuses = rapid.SliceOfN(container, 0, 3).Draw(t, "containers")

		trimmed, err := trimPod(p)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(podOf(p), podOf(trimmed.(*corev1.Pod)), samePod); diff != "" {
			t.Fatalf("podOf (-whole +trimmed):\n%s", diff)
		}
		again, err := trimPod(trimmed)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(trimmed, again); diff != "" {
			t.Fatalf("trimming twice drops more (-once +twice):\n%s", diff)
		}
	})
}

// What a watch delivers besides pods, such as the end of a list, is passed on.
func TestTrimPassesOthersOn(t *testing.T) {
	other := &corev1.Node{}
	for name, trim := range map[string]func(any) (any, error){"pods": trimPod, "workloads": trimWorkload} {
		if got, err := trim(other); got != any(other) || err != nil {
			t.Errorf("%s: %v, %v, want the same object", name, got, err)
		}
	}
}
