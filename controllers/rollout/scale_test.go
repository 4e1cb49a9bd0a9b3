// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/rollout"
)

// shelf is what the caches of the manager hold. Like them it copies what it gives away, unless it is told not to.
type shelf struct {
	client.Client
	mesh       v1alpha1.MeshInstallation
	rollout    v1alpha1.MeshRollout
	revisions  map[string]*v1alpha1.MeshRevision
	namespaces []metav1.PartialObjectMetadata
}

func (s *shelf) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	switch o := into.(type) {
	case *v1alpha1.MeshInstallation:
		s.mesh.DeepCopyInto(o)
	case *v1alpha1.MeshRollout:
		s.rollout.DeepCopyInto(o)
	case *v1alpha1.MeshRevision:
		r := s.revisions[key.Name]
		if r == nil {
			return apierrors.NewNotFound(schema.GroupResource{}, key.Name)
		}
		r.DeepCopyInto(o)
	default:
		return fmt.Errorf("no %T is cached", into)
	}
	return nil
}

func (s *shelf) List(_ context.Context, into client.ObjectList, opts ...client.ListOption) error {
	options := (&client.ListOptions{}).ApplyOptions(opts)
	switch l := into.(type) {
	case *v1alpha1.MeshInstallationList:
		l.Items = []v1alpha1.MeshInstallation{*s.mesh.DeepCopy()}
	case *v1alpha1.MeshGatewayList:
	case *metav1.PartialObjectMetadataList:
		l.Items = make([]metav1.PartialObjectMetadata, len(s.namespaces))
		for i := range s.namespaces {
			if options.UnsafeDisableDeepCopy != nil && *options.UnsafeDisableDeepCopy {
				l.Items[i] = s.namespaces[i]
			} else {
				s.namespaces[i].DeepCopyInto(&l.Items[i])
			}
		}
	default:
		return fmt.Errorf("no %T is cached", into)
	}
	return nil
}

func (s *shelf) Status() client.SubResourceWriter { return shelfStatus{} }

// shelfStatus takes what is written and forgets it: each reconcile finds the same.
type shelfStatus struct{ client.SubResourceWriter }

func (shelfStatus) Patch(context.Context, client.Object, client.Patch, ...client.SubResourcePatchOption) error {
	return nil
}

// BenchmarkReconcile is a rollout in the middle of a wave of a cluster with 10,000 pods in 1,000 namespaces, from the caches to the
// status that is kept.
func BenchmarkReconcile(b *testing.B) {
	for name, owned := range map[string]bool{"1000 Deployments": true, "10000 bare pods": false} {
		b.Run(name, func(b *testing.B) {
			r := crowded(b, 1000, 10, owned)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Reconcile(b.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "default-1"}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// crowded is a reconciler in a cluster with so many pods in each namespace, which are of one Deployment or of nobody.
func crowded(b *testing.B, namespaces, pods int, owned bool) *Reconciler {
	b.Helper()
	side := func(name string) (v1alpha1.RolloutRevision, *v1alpha1.MeshRevision) {
		revision := &v1alpha1.MeshRevision{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid", Generation: 1},
			Spec:       v1alpha1.MeshRevisionSpec{InputsDigest: name, Objects: make([]byte, 50_000)},
			Status: v1alpha1.MeshRevisionStatus{ObservedGeneration: 1, Conditions: []metav1.Condition{
				{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, ObservedGeneration: 1},
			}},
		}
		return v1alpha1.RolloutRevision{Revision: name, InputsDigest: name}, revision
	}
	from, old := side("1-28-2")
	to, canary := side("1-29-1")
	s := &shelf{revisions: map[string]*v1alpha1.MeshRevision{old.Name: old, canary.Name: canary}}
	s.mesh.Name = "default"
	s.mesh.Spec.DataPlane = v1alpha1.DataPlane{
		NamespaceSelector: &metav1.LabelSelector{}, Enrollment: v1alpha1.EnrollmentNamespaceLabel,
		Restart: v1alpha1.Restart{Type: v1alpha1.RestartRollout, MaxUnavailable: new(intstr.FromString("10%"))},
		Waves:   []v1alpha1.Wave{{Name: "early", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "test"}}}},
	}
	s.mesh.Spec.Upgrade.ProgressDeadlineSeconds = 600
	s.mesh.Status.StableRevision = old.Name
	s.mesh.Status.ActiveOperation = &v1alpha1.ActiveOperation{Kind: dataplane.RolloutKind, Name: "default-1", UID: uid}
	s.rollout.Name, s.rollout.UID = "default-1", uid
	s.rollout.Spec = v1alpha1.MeshRolloutSpec{Plan: rollout.NewPlan(&s.mesh, from, to, nil), Goal: v1alpha1.GoalComplete}
	s.rollout.Status.Progress = v1alpha1.RolloutProgress{Proven: at(0), Entered: at(0)}
	all := &corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}}
	deployments := &appsv1.DeploymentList{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DeploymentList"}}
	for n := range namespaces {
		name := fmt.Sprintf("ns-%04d", n)
		tier := []string{"test", "live"}[n%2]
		s.namespaces = append(s.namespaces, metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: "uid", ResourceVersion: "1", Labels: map[string]string{
				corev1.LabelMetadataName: name, "tier": tier, "team": "a", v1alpha1.IstioRevision: map[string]string{"test": to.Revision, "live": from.Revision}[tier],
			},
			ManagedFields: []metav1.ManagedFieldsEntry{{
				Manager: v1alpha1.ManagerDataPlane, Operation: metav1.ManagedFieldsOperationApply, Time: at(-60),
				FieldsV1: metav1.NewFieldsV1(`{"f:metadata":{"f:labels":{"f:istio.io/rev":{}}}}`),
			}},
		}})
		for p := range pods {
			pod := corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: name, Name: fmt.Sprintf("app-7d4b9c-%05d", p), Labels: map[string]string{"pod-template-hash": "7d4b9c"},
					Annotations: map[string]string{"sidecar.istio.io/status": `{"revision":"1-28-2"}`},
				},
				Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
			}
			if owned {
				pod.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "app-7d4b9c", Controller: new(true)}}
			}
			all.Items = append(all.Items, pod)
		}
		deployments.Items = append(deployments.Items, appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "app"}})
	}
	w := &Witness{Clock: clocktesting.NewFakeClock(noon)}
	return &Reconciler{
		Client: s, Witness: w, Clock: clocktesting.NewFakeClock(noon), Recorder: &events.FakeRecorder{},
		Index: filled(b, map[string]runtime.Object{
			"/api/v1/pods": all, "/apis/apps/v1/deployments": deployments,
			"/apis/apps/v1/statefulsets": &appsv1.StatefulSetList{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSetList"}},
			"/apis/apps/v1/daemonsets":   &appsv1.DaemonSetList{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSetList"}},
		}),
	}
}

// filled is an index that has read lists of an API server, in which nothing happens.
func filled(b *testing.B, lists map[string]runtime.Object) *dataplane.Index {
	b.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		list, known := lists[r.URL.Path]
		switch query := r.URL.Query(); {
		case !known || query.Has("sendInitialEvents"):
			out.WriteHeader(http.StatusUnprocessableEntity)
		case query.Has("watch"):
			<-r.Context().Done()
		default:
			out.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(out).Encode(list); err != nil {
				b.Error(err)
			}
		}
	}))
	ctx, cancel := context.WithCancel(b.Context())
	b.Cleanup(func() {
		cancel()
		server.CloseClientConnections()
		server.Close()
	})
	index := dataplane.NewIndex(time.Hour, func() {})
	watcher, err := dataplane.NewWatcher(&rest.Config{Host: server.URL}, index)
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = watcher.Start(ctx) }()
	for tick := time.NewTicker(time.Millisecond); !index.Whole(); {
		<-tick.C
	}
	return index
}
