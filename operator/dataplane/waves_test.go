// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

// forward counts towards the canary, backward to where a rollout came from.
var (
	forward  = Towards{Revision: "1-29-1", Stamp: "forward", Type: v1alpha1.RestartRollout, Now: noon}
	backward = Towards{Revision: "1-28-2", Stamp: "back", Other: "forward", Back: true, Type: v1alpha1.RestartRollout, Now: noon}
)

// webPod is a ready pod of Deployment web, called web-<template>-<n>, whose proxy is of a revision; those of later templates are
// younger.
func webPod(template string, n int, revision string, changes ...func(*corev1.Pod)) *corev1.Pod {
	return podOfOwner(kindReplicaSet, "web-"+template, fmt.Sprintf("web-%s-%d", template, n), revision,
		slices.Concat([]func(*corev1.Pod){func(p *corev1.Pod) {
			p.Labels[deploymentTemplate] = template
			p.CreationTimestamp = metav1.Time{Time: noon.Add(time.Duration(template[0]) * time.Minute)}
		}}, changes)...)
}

// madeBy is a pod of the template that a restart made.
func madeBy(stamp string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[v1alpha1.AnnotationRestartedFor] = stamp }
}

func podOfOwner(kind, owner, name, revision string, changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: name, Labels: map[string]string{}, Annotations: map[string]string{},
		CreationTimestamp: metav1.Time{Time: noon.Add(-time.Hour)},
	}}
	if kind != "" {
		p.OwnerReferences = controlledBy(kind, owner)
	}
	if revision != "" {
		p.Annotations[statusAnnotation] = fmt.Sprintf(`{"revision":%q}`, revision)
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	for _, change := range changes {
		change(p)
	}
	return p
}

func unready(p *corev1.Pod) { p.Status.Conditions = nil }

func crashing(p *corev1.Pod) {
	unready(p)
	p.Status.ContainerStatuses = []corev1.ContainerStatus{stuck("app", "CrashLoopBackOff")}
}

func ending(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: noon} }

// injectedAs is the digest of what the injector added.
func injectedAs(digest string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Annotations[v1alpha1.AnnotationInjection] = digest }
}

// rolling is a Deployment with pods of several templates.
func rolling(d *appsv1.Deployment) { d.Status.UpdatedReplicas-- }

// restartedFor is a Deployment that a rollout restarted.
func restartedFor(stamp string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		d.Annotations[v1alpha1.AnnotationRestartedFor] = stamp
		d.Spec.Template.Annotations[v1alpha1.AnnotationRestartedFor] = stamp
	}
}

// seen is an index that has seen some objects.
func seen(t *testing.T, objects ...runtime.Object) *Index {
	t.Helper()
	i := quiet()
	fill(t, i)
	for _, o := range objects {
		var err error
		switch o := o.(type) {
		case *corev1.Pod:
			err = i.Add(o)
		case *appsv1.Deployment:
			err = i.workloadsOf(kindDeployment).Add(o)
		case *appsv1.StatefulSet:
			err = i.workloadsOf(kindStatefulSet).Add(o)
		case *appsv1.DaemonSet:
			err = i.workloadsOf(kindDaemonSet).Add(o)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return i
}

func facts(i *Index, n Member, to Towards) []rollout.Workload {
	out := i.Workloads(n, to)
	slices.SortFunc(out, func(a, b rollout.Workload) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// What is known of one Deployment, or of something without an object that is watched.
func TestWorkloads(t *testing.T) {
	const web = "Deployment/shop/web"
	type w = rollout.Workload
	for _, tc := range []struct {
		reason  string
		to      Towards
		objects []runtime.Object
		want    []w
	}{
		{
			"nothing has been done: both pods are behind, and could be evicted", forward,
			[]runtime.Object{deployment("web", 2), webPod("a", 2, "1-28-2"), webPod("a", 1, "1-28-2")},
			[]w{{Name: web, Desired: 2, Pods: 2, Behind: 2, Settled: true, Waiting: []string{"web-a-1", "web-a-2"}}},
		},
		{
			"pods without a sidecar have not moved either", forward,
			[]runtime.Object{deployment("web", 1), webPod("a", 1, "")},
			[]w{{Name: web, Desired: 1, Pods: 1, Behind: 1, Settled: true, Waiting: []string{"web-a-1"}}},
		},
		{
			"it was restarted, and its first new pod starts", forward,
			[]runtime.Object{
				deployment("web", 2, restartedFor("forward"), rolling),
				webPod("a", 1, "1-28-2"), webPod("a", 2, "1-28-2"), webPod("b", 1, "1-29-1", unready),
			},
			[]w{{Name: web, Desired: 2, Pods: 3, Moved: 1, Started: true, Waiting: []string{"web-a-1", "web-a-2"}}},
		},
		{
			"everything has moved", forward,
			[]runtime.Object{deployment("web", 2, restartedFor("forward")), webPod("b", 1, "1-29-1"), webPod("b", 2, "1-29-1")},
			[]w{{Name: web, Desired: 2, Pods: 2, Moved: 2, Ready: 2, Started: true, Settled: true}},
		},
		{
			"a new pod does not get ready, and says why", forward,
			[]runtime.Object{
				deployment("web", 1, restartedFor("forward"), rolling), webPod("a", 1, "1-28-2"), webPod("b", 1, "1-29-1", crashing),
			},
			[]w{{
				Name: web, Desired: 1, Pods: 2, Moved: 1, Started: true, Waiting: []string{"web-a-1"},
				Failing: "new pod web-b-1 is not ready: CrashLoopBackOff in container app",
			}},
		},
		{
			"a pod in trouble that is ready all the same fails nothing", forward,
			[]runtime.Object{deployment("web", 1), webPod("b", 1, "1-29-1", func(p *corev1.Pod) {
				p.Status.ContainerStatuses = []corev1.ContainerStatus{stuck("app", "CrashLoopBackOff")}
			})},
			[]w{{Name: web, Desired: 1, Pods: 1, Moved: 1, Ready: 1, Settled: true}},
		},
		{
			"it was restarted, and its new pods did not get the sidecar", forward,
			[]runtime.Object{deployment("web", 1, restartedFor("forward")), webPod("b", 1, "1-28-2", madeBy("forward"))},
			[]w{{Name: web, Desired: 1, Pods: 1, Behind: 1, Missed: 1, Started: true, Settled: true, Waiting: []string{"web-b-1"}}},
		},
		{
			"it was restarted, and there is no news of its new pods yet", forward,
			[]runtime.Object{deployment("web", 1, restartedFor("forward")), webPod("a", 1, "1-28-2")},
			[]w{{Name: web, Desired: 1, Pods: 1, Behind: 1, Started: true, Settled: true, Waiting: []string{"web-a-1"}}},
		},
		{
			"what the other direction made has missed nothing", backward,
			[]runtime.Object{deployment("web", 1, restartedFor("back")), webPod("b", 1, "1-29-1", madeBy("forward"))},
			[]w{{Name: web, Desired: 1, Pods: 1, Behind: 1, Started: true, Settled: true, Waiting: []string{"web-b-1"}}},
		},
		{
			"an old pod that is not ready was broken before", forward,
			[]runtime.Object{deployment("web", 2), webPod("a", 1, "1-28-2"), webPod("a", 2, "1-28-2", crashing)},
			[]w{{Name: web, Desired: 2, Pods: 2, Behind: 2, Broken: 1, Settled: true, Waiting: []string{"web-a-1"}}},
		},
		{
			"on the way back it is the rollout that broke it, and it may be evicted", backward,
			[]runtime.Object{deployment("web", 1), webPod("b", 1, "1-29-1", crashing)},
			[]w{{Name: web, Desired: 1, Pods: 1, Behind: 1, Settled: true, Down: []string{"web-b-1"}}},
		},
		{
			"a pod that is being deleted does not count", forward,
			[]runtime.Object{deployment("web", 1), webPod("a", 1, "1-28-2", ending), webPod("b", 1, "1-29-1")},
			[]w{{Name: web, Desired: 1, Pods: 1, Moved: 1, Ready: 1, Settled: true}},
		},
		{
			"a Deployment whose pods are all gone: they are about to come", forward,
			[]runtime.Object{deployment("web", 2)},
			[]w{{Name: web, Desired: 2, Settled: true}},
		},
		{
			"the same while the last one ends", forward,
			[]runtime.Object{deployment("web", 2), webPod("a", 1, "1-28-2", ending)},
			[]w{{Name: web, Desired: 2, Settled: true}},
		},
		{"a Deployment that wants none has nothing to move", forward, []runtime.Object{deployment("web", 0)}, nil},
		{
			"nor has one whose pods get no sidecar", forward,
			[]runtime.Object{deployment("web", 2, func(d *appsv1.Deployment) { d.Spec.Template.Spec.HostNetwork = true })},
			nil,
		},
		{
			"pods on the network of their nodes, opted out ones and those of gateways are left out", forward,
			[]runtime.Object{
				podOfOwner(kindDaemonSet, "agent", "agent-1", "", func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
				podOfOwner(kindJob, "import", "import-1", "", func(p *corev1.Pod) { p.Labels[injectKey] = "false" }),
				podOfOwner(kindJob, "ingress", "ingress-1", "1-28-2", func(p *corev1.Pod) { p.Labels[v1alpha1.LabelGateway] = "ingress" }),
			},
			nil,
		},
		{
			"a sidecar of the right revision that is injected otherwise by now has not moved",
			towards(forward, func(to *Towards) { to.Injection = "new" }),
			[]runtime.Object{
				deployment("web", 2), webPod("a", 1, "1-29-1", injectedAs("old")), webPod("a", 2, "1-29-1", injectedAs("new")),
			},
			[]w{{Name: web, Desired: 2, Pods: 2, Moved: 1, Ready: 1, Behind: 1, Settled: true, Waiting: []string{"web-a-1"}}},
		},
		{
			"how it is injected is not asked where the revision tells old from new", forward,
			[]runtime.Object{deployment("web", 1), webPod("a", 1, "1-29-1", injectedAs("old"))},
			[]w{{Name: web, Desired: 1, Pods: 1, Moved: 1, Ready: 1, Settled: true}},
		},
		{
			"the rollout had sent it forward before it turned back", backward,
			[]runtime.Object{
				deployment("web", 2, restartedFor("forward"), rolling),
				webPod("a", 1, "1-28-2"), webPod("a", 2, "1-28-2"), webPod("b", 1, "1-29-1"),
			},
			[]w{{Name: web, Desired: 2, Pods: 3, Moved: 2, Ready: 2, Behind: 1, Astray: true, Waiting: []string{"web-b-1"}}},
		},
		{
			"one that has arrived there goes back in its turn", backward,
			[]runtime.Object{deployment("web", 1, restartedFor("forward")), webPod("b", 1, "1-29-1")},
			[]w{{Name: web, Desired: 1, Pods: 1, Behind: 1, Settled: true, Waiting: []string{"web-b-1"}}},
		},
		{
			"what others deploy is not astray", backward,
			[]runtime.Object{
				deployment("web", 1, restartedFor("an earlier rollout"), rolling), webPod("a", 1, "1-28-2"), webPod("b", 1, "1-29-1"),
			},
			[]w{{Name: web, Desired: 1, Pods: 2, Moved: 1, Ready: 1, Behind: 1, Waiting: []string{"web-b-1"}}},
		},
		{
			"a StatefulSet says itself which of its pods are new", forward,
			[]runtime.Object{
				statefulSet("db", 2, func(s *appsv1.StatefulSet) { s.Status.UpdateRevision = "db-2" }),
				podOfOwner(kindStatefulSet, "db", "db-0", "1-28-2", func(p *corev1.Pod) { p.Labels[setTemplate] = "db-1" }),
				podOfOwner(kindStatefulSet, "db", "db-1", "1-28-2", func(p *corev1.Pod) { p.Labels[setTemplate] = "db-2" }),
			},
			[]w{{Name: "StatefulSet/shop/db", Desired: 2, Pods: 2, Behind: 1, Waiting: []string{"db-0", "db-1"}}},
		},
		{
			"an Argo Rollout is not watched: it wants the pods that it has", forward,
			[]runtime.Object{
				podOfOwner(kindReplicaSet, "api-5f8b", "api-1", "1-28-2", func(p *corev1.Pod) { p.Labels[argoTemplate] = "5f8b" }),
			},
			[]w{{Name: "Rollout/shop/api", Desired: 1, Pods: 1, Behind: 1, Settled: true, Waiting: []string{"api-1"}}},
		},
		{
			"it is not settled while it has pods of two templates", forward,
			[]runtime.Object{
				podOfOwner(kindReplicaSet, "api-5f8b", "api-1", "1-28-2", func(p *corev1.Pod) { p.Labels[argoTemplate] = "5f8b" }),
				podOfOwner(kindReplicaSet, "api-6c9d", "api-2", "1-29-1", func(p *corev1.Pod) {
					p.Labels[argoTemplate], p.CreationTimestamp = "6c9d", metav1.Time{Time: noon}
				}),
			},
			[]w{{Name: "Rollout/shop/api", Desired: 2, Pods: 2, Moved: 1, Ready: 1, Waiting: []string{"api-1"}}},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			got := facts(seen(t, tc.objects...), Member{Name: "shop"}, tc.to)
			if diff := gocmp.Diff(append([]w{}, tc.want...), got); diff != "" {
				t.Errorf("workloads (-want +got):\n%s", diff)
			}
		})
	}
}

func towards(to Towards, change func(*Towards)) Towards {
	change(&to)
	return to
}

// The workloads of other namespaces are not those of a member.
func TestWorkloadsOfOneNamespace(t *testing.T) {
	elsewhere := deployment("web", 1)
	elsewhere.Namespace = "elsewhere"
	i := seen(t, elsewhere, webPod("a", 1, "1-28-2"))
	if got := facts(i, Member{Name: "shop"}, forward); len(got) != 1 || got[0].Pods != 1 {
		t.Errorf("%+v, want the one pod of namespace shop", got)
	}
}

func TestHeld(t *testing.T) {
	member, manual := Member{Name: "shop"}, towards(forward, func(to *Towards) { to.Type = v1alpha1.RestartManual })
	evict := towards(forward, func(to *Towards) { to.Type = v1alpha1.RestartEvict })
	excludedHere := func(d *appsv1.Deployment) { d.Annotations[v1alpha1.AnnotationRestart] = excluded }
	paused := func(d *appsv1.Deployment) { d.Spec.Paused = true }
	takenBack := func(d *appsv1.Deployment) {
		d.Annotations[v1alpha1.AnnotationRestartedFor] = "forward"
		d.Spec.Template.Annotations[v1alpha1.AnnotationRestartedFor] = "an earlier rollout"
	}
	keeps := func(d *appsv1.DaemonSet) { d.Spec.UpdateStrategy.Type = appsv1.OnDeleteDaemonSetStrategyType }
	for _, tc := range []struct {
		reason string
		member Member
		to     Towards
		object runtime.Object
		want   string
	}{
		{"a Deployment", member, forward, deployment("web", 1), ""},
		{"an Argo Rollout has a field for it", member, forward, podOfOwner(kindArgoRollout, "api", "p", ""), ""},
		{
			"its namespace is labelled by others",
			Member{Name: "shop", Blocked: "by others"},
			forward, deployment("web", 1),
			rollout.HeldBlocked,
		},
		{"it opted out", member, forward, deployment("web", 1, excludedHere), rollout.HeldExcluded},
		{"its namespace did", Member{Name: "shop", Excluded: true}, forward, deployment("web", 1), rollout.HeldExcluded},
		{"who opted out is not evicted either", member, evict, deployment("web", 1, excludedHere), rollout.HeldExcluded},
		{"nor waited for", member, manual, deployment("web", 1, excludedHere), rollout.HeldExcluded},
		{"a bare pod would not come again", member, forward, podOfOwner("", "", "p", ""), rollout.HeldBarePod},
		{"nor when it is evicted", member, evict, podOfOwner("", "", "p", ""), rollout.HeldBarePod},
		{"a Job", member, forward, podOfOwner(kindJob, "import", "p", ""), rollout.HeldRunningJob},
		{"a ReplicaSet of nobody has no restart", member, forward, podOfOwner(kindReplicaSet, "web", "p", ""), rollout.HeldUnknownOwner},
		{"but makes pods anew that are evicted", member, evict, podOfOwner(kindReplicaSet, "web", "p", ""), ""},
		{"an owner that nobody here knows", member, forward, podOfOwner("Kafka", "log", "p", ""), rollout.HeldUnknownOwner},
		{"nor is its way with evictions known", member, evict, podOfOwner("Kafka", "log", "p", ""), rollout.HeldUnknownOwner},
		{"its restart was taken back", member, forward, deployment("web", 1, takenBack), rollout.HeldReverted},
		{"that of another rollout says nothing", member, backward, deployment("web", 1, takenBack), ""},
		{"it keeps its pods", member, forward, daemonSet(keeps), rollout.HeldOnDelete},
		{"people can restart it all the same", member, manual, daemonSet(keeps), ""},
		{"eviction moves it", member, evict, daemonSet(keeps), ""},
		{"its rollouts are paused", member, forward, deployment("web", 1, paused), rollout.HeldPaused},
		{"eviction does not mind that", member, evict, deployment("web", 1, paused), ""},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			got := facts(seen(t, tc.object), tc.member, tc.to)
			if len(got) != 1 {
				t.Fatalf("%d workloads, want one", len(got))
			}
			if got[0].Held != tc.want || (got[0].Remedy == "") != (tc.want == "") {
				t.Errorf("held %q, remedy %q, want %q and a remedy for it", got[0].Held, got[0].Remedy, tc.want)
			}
		})
	}
}

// A restart that this process made is known before the watch has it. When the watch still does not have it after a while, somebody
// took it back together with our annotation.
func TestRestartsThatTheWatchDoesNotShow(t *testing.T) {
	argo := podOfOwner(kindReplicaSet, "api-5f8b", "api-1", "1-28-2", func(p *corev1.Pod) { p.Labels[argoTemplate] = "5f8b" })
	for _, tc := range []struct {
		reason, workload string
		object           runtime.Object
		after            time.Duration
		started          bool
		held             string
	}{
		{"nothing was done", "Deployment/shop/other", deployment("web", 1), time.Minute, false, ""},
		{"just now", "Deployment/shop/web", deployment("web", 1), 0, true, ""},
		{"the watch may be behind still", "Deployment/shop/web", deployment("web", 1), 10 * time.Second, true, ""},
		{"somebody took it back", "Deployment/shop/web", deployment("web", 1), 10*time.Second + 1, true, rollout.HeldReverted},
		{"it is there", "Deployment/shop/web", deployment("web", 1, restartedFor("forward")), time.Minute, true, ""},
		{
			"it can't be moved for another reason", "Deployment/shop/web",
			deployment("web", 1, func(d *appsv1.Deployment) { d.Spec.Paused = true }), time.Minute, true, rollout.HeldPaused,
		},
		{"an Argo Rollout is not watched: whether it was taken back is not known", "Rollout/shop/api", argo, time.Minute, true, ""},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			i := seen(t, tc.object)
			i.Stamped("forward", tc.workload, noon)
			got := facts(i, Member{Name: "shop"}, towards(forward, func(to *Towards) { to.Now = noon.Add(tc.after) }))
			if len(got) != 1 || got[0].Started != tc.started || got[0].Held != tc.held {
				t.Errorf("%+v, want started %v, held %q", got, tc.started, tc.held)
			}
		})
	}
}

// By eviction pods go one by one, whatever their templates; one whose eviction was refused rests for a while.
func TestWorkloadsByEviction(t *testing.T) {
	evict := towards(forward, func(to *Towards) { to.Type = v1alpha1.RestartEvict })
	i := seen(t, deployment("web", 3, restartedFor("forward"), rolling),
		webPod("a", 1, "1-28-2"), webPod("a", 2, "1-28-2"), webPod("a", 3, "1-28-2", unready), webPod("b", 1, "1-29-1"))
	refused := types.NamespacedName{Namespace: "shop", Name: "web-a-1"}
	check := func(reason string, to Towards, want rollout.Workload) {
		t.Helper()
		want.Name, want.Desired, want.Pods, want.Settled = "Deployment/shop/web", 3, 4, true
		if diff := gocmp.Diff([]rollout.Workload{want}, facts(i, Member{Name: "shop"}, to)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", reason, diff)
		}
	}
	check("templates and restarts mean nothing", evict,
		rollout.Workload{Moved: 1, Ready: 1, Broken: 1, Waiting: []string{"web-a-1", "web-a-2"}})
	i.Refused(refused, "Cannot evict: budget web", noon)
	check("its eviction was just refused", evict, rollout.Workload{
		Moved: 1, Ready: 1, Broken: 1, Waiting: []string{"web-a-2"}, Resting: 1, Refused: "pod web-a-1: Cannot evict: budget web",
	})
	later := towards(evict, func(to *Towards) { to.Now = noon.Add(refusedFirst) })
	check("it is tried again; why it was refused is told until it is gone", later, rollout.Workload{
		Moved: 1, Ready: 1, Broken: 1, Waiting: []string{"web-a-1", "web-a-2"}, Refused: "pod web-a-1: Cannot evict: budget web",
	})
	check("on the way back what is down may go at once", towards(evict, func(to *Towards) { to.Back = true }), rollout.Workload{
		Moved: 1, Ready: 1, Down: []string{"web-a-3"}, Waiting: []string{"web-a-2"}, Resting: 1,
		Refused: "pod web-a-1: Cannot evict: budget web",
	})
}

func TestSettled(t *testing.T) {
	for _, tc := range []struct {
		reason string
		member Member
		want   bool
	}{
		{"it follows a tag that points there, for long enough", Member{Tag: "prod"}, true},
		{"the API server may not know yet where the tag points", Member{Tag: "young"}, false},
		{"its tag points elsewhere", Member{Tag: "other"}, false},
		{"our label names the revision, for long enough", Member{Label: "1-29-1", Since: noon.Add(-2 * time.Second)}, true},
		{"the API server may not know a label yet that is younger", Member{Label: "1-29-1", Since: noon.Add(-2*time.Second + 1)}, false},
		{"our label names the other revision", Member{Label: "1-28-2", Since: noon.Add(-time.Hour)}, false},
		{"nothing in it is moved, so nothing is waited for", Member{Label: "1-28-2", Blocked: "by others"}, true},
	} {
		tags := map[string]time.Time{"prod": noon.Add(-2 * time.Second), "young": noon.Add(-time.Second)}
		if got := tc.member.Settled("1-29-1", tags, noon); got != tc.want {
			t.Errorf("%s: Settled = %v, want %v", tc.reason, got, tc.want)
		}
	}
}

func TestTowards(t *testing.T) {
	canary := v1alpha1.RolloutPlan{
		From: v1alpha1.RolloutRevision{Revision: "1-28-2"}, To: v1alpha1.RolloutRevision{Revision: "1-29-1"},
		Restart: v1alpha1.Restart{Type: v1alpha1.RestartEvict},
	}
	inPlace := v1alpha1.RolloutPlan{
		From: v1alpha1.RolloutRevision{Revision: "default"}, To: v1alpha1.RolloutRevision{Revision: "default"},
		Restart: v1alpha1.Restart{Type: v1alpha1.RestartRollout},
	}
	now := &v1alpha1.MeshRevision{Spec: v1alpha1.MeshRevisionSpec{Injection: "digest"}}
	for _, tc := range []struct {
		reason string
		plan   v1alpha1.RolloutPlan
		back   bool
		to     *v1alpha1.MeshRevision
		want   Towards
	}{
		{
			"a canary is told by its revision", canary, false, now,
			Towards{Revision: "1-29-1", Stamp: "r/u/forward/0", Type: v1alpha1.RestartEvict},
		},
		{
			"back, where the restarts forward have gone astray", canary, true, now,
			Towards{Revision: "1-28-2", Stamp: "r/u/back/0", Other: "r/u/forward/0", Back: true, Type: v1alpha1.RestartEvict},
		},
		{
			"in place by what is injected", inPlace, false, now,
			Towards{Revision: "default", Injection: "digest", Stamp: "r/u/forward/0", Type: v1alpha1.RestartRollout},
		},
		{
			"in place, where the revision is gone", inPlace, false, nil,
			Towards{Revision: "default", Stamp: "r/u/forward/0", Type: v1alpha1.RestartRollout},
		},
	} {
		o := &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: "r", UID: "u"}, Spec: v1alpha1.MeshRolloutSpec{Plan: tc.plan}}
		o.Status.Progress.Back = tc.back
		tc.want.Now = noon
		if diff := gocmp.Diff(tc.want, TowardsOf(o, tc.to, noon)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
		}
	}
}

// The rate of restarts is that of pods which were born with the new proxy.
func TestRecent(t *testing.T) {
	born := func(seconds int) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.CreationTimestamp = metav1.Time{Time: noon.Add(time.Duration(seconds) * time.Second)}
		}
	}
	elsewhere := webPod("c", 1, "1-29-1", born(5))
	elsewhere.Namespace = "elsewhere"
	i := seen(t, webPod("a", 1, "1-29-1", born(0)), webPod("a", 2, "1-29-1", born(1)), webPod("a", 3, "1-28-2", born(5)), elsewhere)
	if got := i.Recent([]string{"shop", "none"}, "1-29-1", noon); got != 1 {
		t.Errorf("Recent = %d, want the one that was born after noon", got)
	}
}

// Whose sidecars a change of the mesh configuration has left behind.
func TestStaleOwners(t *testing.T) {
	i := seen(t,
		webPod("a", 1, "1-29-1", injectedAs("old")), webPod("a", 2, "1-29-1", injectedAs("new")),
		podOfOwner(kindStatefulSet, "db", "db-0", "1-29-1", injectedAs("new")),
		podOfOwner(kindStatefulSet, "old", "old-0", "1-28-2", injectedAs("old")),
		podOfOwner(kindJob, "ends", "ends-1", "1-29-1", injectedAs("old"), ending),
		podOfOwner(kindJob, "gateway", "gateway-1", "1-29-1", injectedAs("old"), func(p *corev1.Pod) {
			p.Labels[v1alpha1.LabelGateway] = "ingress"
		}),
	)
	want := map[string]bool{"Deployment/shop/web": true}
	if diff := gocmp.Diff(want, i.StaleOwners("1-29-1", "new")); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
}

// The pods that an injection is tried like: a few of a revision, none of a gateway's.
func TestExamples(t *testing.T) {
	i := seen(t, webPod("a", 4, "1-28-2"), webPod("a", 3, "1-28-2"), webPod("a", 2, "1-28-2"), webPod("a", 1, "1-28-2", ending),
		webPod("a", 5, "1-28-2"), webPod("a", 0, ""), webPod("b", 0, "1-29-1"),
		podOfOwner(kindReplicaSet, "ingress", "ingress-1", "1-28-2", func(p *corev1.Pod) { p.Labels[v1alpha1.LabelGateway] = "ingress" }))
	want := []types.NamespacedName{
		{Namespace: "shop", Name: "web-a-2"}, {Namespace: "shop", Name: "web-a-3"}, {Namespace: "shop", Name: "web-a-4"},
	}
	if diff := gocmp.Diff(want, i.Examples("1-28-2")); diff != "" {
		t.Errorf("examples (-want +got):\n%s", diff)
	}
	if got := i.Examples(""); len(got) != 0 {
		t.Errorf("no revision has examples: %v", got)
	}
}
