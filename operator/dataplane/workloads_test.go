// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"testing"
	"unique"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// deployment is one that is settled, at its second generation.
func deployment(name string, replicas int32, changes ...func(*appsv1.Deployment)) *appsv1.Deployment {
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Generation: 2, Annotations: map[string]string{}},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas, Template: template()},
		Status:     appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: replicas, UpdatedReplicas: replicas},
	}
	for _, change := range changes {
		change(d)
	}
	return d
}

// statefulSet is one that is settled, at its second generation.
func statefulSet(name string, replicas int32, changes ...func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	s := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Generation: 2, Annotations: map[string]string{}},
		Spec:       appsv1.StatefulSetSpec{Replicas: &replicas, Template: template()},
		Status:     appsv1.StatefulSetStatus{ObservedGeneration: 2, CurrentRevision: name + "-1", UpdateRevision: name + "-1"},
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

// daemonSet is one called agent that is settled on three nodes, at its second generation.
func daemonSet(changes ...func(*appsv1.DaemonSet)) *appsv1.DaemonSet {
	d := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "agent", Generation: 2, Annotations: map[string]string{}},
		Spec:       appsv1.DaemonSetSpec{Template: template()},
		Status:     appsv1.DaemonSetStatus{ObservedGeneration: 2, DesiredNumberScheduled: 3, UpdatedNumberScheduled: 3},
	}
	for _, change := range changes {
		change(d)
	}
	return d
}

func template() corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{}, Annotations: map[string]string{}}}
}

func TestWorkloadOf(t *testing.T) {
	type change = func(*appsv1.Deployment)
	onDeployment := func(c change) metav1.Object { return deployment("web", 2, c) }
	partition := func(n int32) func(*appsv1.StatefulSet) {
		return func(s *appsv1.StatefulSet) {
			s.Spec.UpdateStrategy = appsv1.StatefulSetUpdateStrategy{
				Type: appsv1.RollingUpdateStatefulSetStrategyType, RollingUpdate: &appsv1.RollingUpdateStatefulSetStrategy{Partition: &n},
			}
		}
	}
	two := func(w *workload) { w.desired = 2 }
	three := func(w *workload) { w.desired, w.template = 3, unique.Make("db-1") }
	for _, tc := range []struct {
		reason string
		object metav1.Object
		want   []func(*workload)
	}{
		{"a Deployment of one template", deployment("web", 2), []func(*workload){two}},
		{
			"replicas that are not written are one", onDeployment(func(d *appsv1.Deployment) { d.Spec.Replicas = nil }), nil,
		},
		{
			"a Deployment whose newest spec its controller has not seen is not settled",
			onDeployment(func(d *appsv1.Deployment) { d.Generation = 3 }),
			[]func(*workload){two, unsettled},
		},
		{
			"nor one that has pods of an earlier template",
			onDeployment(func(d *appsv1.Deployment) { d.Status.Replicas = 3 }),
			[]func(*workload){two, unsettled},
		},
		{
			"its rollouts are paused", onDeployment(func(d *appsv1.Deployment) { d.Spec.Paused = true }),
			[]func(*workload){two, func(w *workload) { w.paused = true }},
		},
		{
			"its owner opted out of restarts",
			onDeployment(func(d *appsv1.Deployment) { d.Annotations[v1alpha1.AnnotationRestart] = "exclude" }),
			[]func(*workload){two, func(w *workload) { w.excluded = true }},
		},
		{
			"an annotation that says something else means nothing",
			onDeployment(func(d *appsv1.Deployment) { d.Annotations[v1alpha1.AnnotationRestart] = "please" }),
			[]func(*workload){two},
		},
		{
			"a rollout restarted it: it says so on itself, and on its template", onDeployment(func(d *appsv1.Deployment) {
				d.Annotations[v1alpha1.AnnotationRestartedFor] = "default-2"
				d.Spec.Template.Annotations[v1alpha1.AnnotationRestartedFor] = "default-2"
			}),
			[]func(*workload){two, func(w *workload) { w.startedFor, w.stampedFor = unique.Make("default-2"), unique.Make("default-2") }},
		},
		{
			"its template names a revision", onDeployment(func(d *appsv1.Deployment) { d.Spec.Template.Labels[RevisionLabel] = "1-28-2" }),
			[]func(*workload){two, func(w *workload) { w.pins = unique.Make("1-28-2") }},
		},
		{
			"that of istiod names its own, which holds nothing back", onDeployment(func(d *appsv1.Deployment) {
				d.Spec.Template.Labels[RevisionLabel], d.Spec.Template.Labels[v1alpha1.LabelMesh] = "1-28-2", "default"
			}),
			[]func(*workload){two},
		},
		{
			"its pods opt out of the sidecar by label",
			onDeployment(func(d *appsv1.Deployment) { d.Spec.Template.Labels[injectKey] = "false" }),
			[]func(*workload){two, optedOut},
		},
		{
			"by annotation", onDeployment(func(d *appsv1.Deployment) { d.Spec.Template.Annotations[injectKey] = "false" }),
			[]func(*workload){two, optedOut},
		},
		{
			"by the network of the node", onDeployment(func(d *appsv1.Deployment) { d.Spec.Template.Spec.HostNetwork = true }),
			[]func(*workload){two, optedOut},
		},
		{
			"a gateway is the business of its own controller",
			onDeployment(func(d *appsv1.Deployment) { d.Spec.Template.Labels[v1alpha1.LabelGateway] = "ingress" }),
			[]func(*workload){two, optedOut},
		},
		{"a StatefulSet of one template", statefulSet("db", 3), []func(*workload){three}},
		{
			"a StatefulSet on its way to another template: its pods will be of that",
			statefulSet("db", 3, func(s *appsv1.StatefulSet) { s.Status.UpdateRevision = "db-2" }),
			[]func(*workload){three, unsettled, func(w *workload) { w.template = unique.Make("db-2") }},
		},
		{
			"a StatefulSet whose newest spec its controller has not seen",
			statefulSet("db", 3, func(s *appsv1.StatefulSet) { s.Generation = 3 }),
			[]func(*workload){three, unsettled},
		},
		{
			"a StatefulSet that keeps its pods", statefulSet("db", 3, func(s *appsv1.StatefulSet) {
				s.Spec.UpdateStrategy.Type = appsv1.OnDeleteStatefulSetStrategyType
			}),
			[]func(*workload){three, onDelete},
		},
		{"a partition keeps pods too", statefulSet("db", 3, partition(1)), []func(*workload){three, onDelete}},
		{"a partition of none keeps none", statefulSet("db", 3, partition(0)), []func(*workload){three}},
		{
			"a DaemonSet wants a pod on each of its nodes", daemonSet(),
			[]func(*workload){func(w *workload) { w.desired = 3 }},
		},
		{
			"a DaemonSet with pods of an earlier template on some nodes",
			daemonSet(func(d *appsv1.DaemonSet) { d.Status.UpdatedNumberScheduled = 2 }),
			[]func(*workload){func(w *workload) { w.desired = 3 }, unsettled},
		},
		{
			"a DaemonSet whose newest spec its controller has not seen",
			daemonSet(func(d *appsv1.DaemonSet) { d.Generation = 3 }),
			[]func(*workload){func(w *workload) { w.desired = 3 }, unsettled},
		},
		{
			"a DaemonSet that keeps its pods", daemonSet(func(d *appsv1.DaemonSet) {
				d.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType
			}),
			[]func(*workload){func(w *workload) { w.desired = 3 }, onDelete},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			want := workload{desired: 1, settled: true, template: nothing, startedFor: nothing, stampedFor: nothing, pins: nothing}
			for _, change := range tc.want {
				change(&want)
			}
			got, _, err := workloadOf(tc.object)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, samePod); diff != "" {
				t.Errorf("workloadOf (-want +got):\n%s", diff)
			}
			trimmed, err := trimWorkload(tc.object)
			if err != nil {
				t.Fatal(err)
			}
			if got, _, err = workloadOf(trimmed); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, samePod); diff != "" {
				t.Errorf("workloadOf of what is left of it on the way to the index (-want +got):\n%s", diff)
			}
		})
	}
}

func unsettled(w *workload) { w.settled = false }

func optedOut(w *workload) { w.optedOut = true }

func onDelete(w *workload) { w.onDelete = true }

// The stores of the three kinds share an index, and none forgets what another one holds.
func TestKindsShareAnIndex(t *testing.T) {
	i := quiet()
	deployments, sets, daemons := i.workloadsOf(kindDeployment), i.workloadsOf(kindStatefulSet), i.workloadsOf(kindDaemonSet)
	pinned := func(d *appsv1.Deployment) { d.Spec.Template.Labels[RevisionLabel] = "1-28-2" }
	pinnedSet := func(s *appsv1.StatefulSet) { s.Spec.Template.Labels[RevisionLabel] = "1-28-2" }
	expect := func(when string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, i.Pinning("1-28-2")); diff != "" {
			t.Errorf("%s, pinning (-want +got):\n%s", when, diff)
		}
	}
	replace := func(s *kindStore, objects ...any) {
		t.Helper()
		if err := s.Replace(objects, "1"); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, i)
	replace(deployments, deployment("web", 1, pinned), deployment("free", 1))
	replace(sets, statefulSet("web", 1, pinnedSet))
	if i.Whole() {
		t.Error("the index says that it is whole, and no DaemonSet has been listed")
	}
	replace(daemons)
	if !i.Whole() {
		t.Error("the index is not whole, and all kinds have been listed")
	}
	expect("all are listed", "Deployment/shop/web", "StatefulSet/shop/web")

	replace(deployments, deployment("other", 1, pinned))
	expect("Deployments are listed anew", "Deployment/shop/other", "StatefulSet/shop/web")
	if err := deployments.Add(deployment("web", 1, pinned)); err != nil {
		t.Fatal(err)
	}
	if err := deployments.Update(deployment("other", 1)); err != nil {
		t.Fatal(err)
	}
	expect("one comes, another one changes", "Deployment/shop/web", "StatefulSet/shop/web")
	if err := deployments.Delete(deployment("web", 1)); err != nil {
		t.Fatal(err)
	}
	expect("a Deployment goes", "StatefulSet/shop/web")
	replace(deployments)
	replace(sets)
	expect("all are gone")
	if len(i.workloads) != 0 {
		t.Errorf("the index keeps %d namespaces without workloads", len(i.workloads))
	}
	if got := i.Pinning(""); got != nil {
		t.Errorf("no revision is pinned by %v", got)
	}
}

func TestOnlyWorkloadsAreKept(t *testing.T) {
	store := quiet().workloadsOf(kindDeployment)
	for name, err := range map[string]error{
		"Add": store.Add(&corev1.Pod{}), "Update": store.Update(&corev1.Pod{}), "Replace": store.Replace([]any{&corev1.Pod{}}, "1"),
		"Delete": store.Delete("web"),
	} {
		if err == nil {
			t.Errorf("%s took what is no workload", name)
		}
	}
}

// A repeated restart is no second one; another direction and another retry are.
func TestStamp(t *testing.T) {
	rollout := func(name, uid string, retries int32) *v1alpha1.MeshRollout {
		return &v1alpha1.MeshRollout{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(uid)},
			Status:     v1alpha1.MeshRolloutStatus{Progress: v1alpha1.RolloutProgress{Retries: retries}},
		}
	}
	for _, tc := range []struct {
		reason  string
		rollout *v1alpha1.MeshRollout
		back    bool
		want    string
	}{
		{"forward", rollout("default-2", "u", 0), false, "default-2/u/forward/0"},
		{"back", rollout("default-2", "u", 0), true, "default-2/u/back/0"},
		{"once more", rollout("default-2", "u", 1), false, "default-2/u/forward/1"},
		{"another one that has its name", rollout("default-2", "v", 0), false, "default-2/v/forward/0"},
	} {
		if got := Stamp(tc.rollout, tc.back); got != tc.want {
			t.Errorf("%s: Stamp = %s, want %s", tc.reason, got, tc.want)
		}
	}
}
