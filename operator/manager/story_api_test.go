// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package manager

import (
	"fmt"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// maxRequests is the bound on what one installation of base and istiod may ask of the API server.
const maxRequests = 80

// TestLifeOfAMesh walks one mesh from its creation to its removal; each step stands on the one before.
func TestLifeOfAMesh(t *testing.T) {
	w := start(t)
	m := mesh("1.29")
	m.Spec.DataPlane.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"mesh": "yes"}}
	w.eventually(t, "the operator to run", func() (bool, string) { return w.enrolls(t, "warm", nil, ""), "not yet" })
	w.requests.Take()

	step := func(name string, do func(*testing.T)) {
		t.Helper()
		if !t.Run(name, do) {
			t.FailNow()
		}
	}
	step("it becomes Ready within the bound of requests", func(t *testing.T) {
		if err := w.client.Create(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		w.deploy(t, "istio-system")
		w.condition(t, v1alpha1.ConditionControlPlaneReady, metav1.ConditionFalse, "istiod has not been called by the API server yet")
		w.confirm(t)
		w.ready(t)
		requests := w.requests.Take()
		t.Logf("%d requests", len(requests))
		if len(requests) >= maxRequests {
			t.Errorf("%d requests for one installation, want fewer than %d:\n%s", len(requests), maxRequests, strings.Join(requests, "\n"))
		}
	})
	step("looking again makes no request", func(t *testing.T) {
		w.quiet(t, func() {
			for _, o := range []client.Object{
				&v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: "default"}},
				&v1alpha1.MeshRevision{ObjectMeta: metav1.ObjectMeta{Name: "1-29-1"}},
			} {
				w.patch(t, o, `{"metadata":{"annotations":{"example.com/looked":"again"}}}`)
			}
		})
	})
	step("pods that come and go make no request but the counts", func(t *testing.T) {
		w.quiet(t, func() {
			for i := range 300 {
				w.createPod(t, fmt.Sprintf("pod-%03d", i))
			}
			if err := w.client.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace("default"), client.GracePeriodSeconds(0)); err != nil {
				t.Fatal(err)
			}
		})
	})
	step("a gateway comes with its namespace", func(t *testing.T) {
		w.patch(t, m, `{"spec":{"gateways":[{"name":"ingress","namespace":"istio-ingress"}]}}`)
		w.condition(t, v1alpha1.ConditionGatewaysReady, metav1.ConditionFalse, "istio-ingress/ingress")
		w.deploy(t, "istio-ingress")
		w.ready(t)
	})
	step("what others change is put back", func(t *testing.T) { w.drift(t) })
	step("what others add is left", func(t *testing.T) {
		istiod := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istiod-1-29-1"}}
		w.patch(t, istiod, `{"metadata":{"annotations":{"example.com/theirs":"kept"}}}`)
		w.patch(t, istiod, `{"spec":{"minReadySeconds":0,"template":{"spec":{"serviceAccountName":"other"}}}}`)
		w.eventually(t, "the service account to be put back", func() (bool, string) {
			var d appsv1.Deployment
			err := w.client.Get(t.Context(), client.ObjectKeyFromObject(istiod), &d)
			return err == nil && d.Spec.Template.Spec.ServiceAccountName == "istiod-1-29-1" && d.Annotations["example.com/theirs"] == "kept", fmt.Sprint(err)
		})
		w.istiod(t)
		w.ready(t)
	})
	step("a paused mesh is not repaired, and says so", func(t *testing.T) {
		w.patch(t, m, `{"spec":{"paused":true}}`)
		w.condition(t, v1alpha1.ConditionUpToDate, metav1.ConditionFalse, v1alpha1.ReasonPaused)
		tag := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "istio-revision-tag-default"}}
		if err := w.client.Delete(t.Context(), tag); err != nil {
			t.Fatal(err)
		}
		w.settle(t)
		if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(tag), tag); !apierrors.IsNotFound(err) {
			t.Errorf("the deleted tag of a paused mesh: %v, want it still gone", err)
		}
		w.patch(t, m, `{"spec":{"paused":false}}`)
		w.eventually(t, "the tag to be back", func() (bool, string) {
			err := w.client.Get(t.Context(), client.ObjectKeyFromObject(tag), tag)
			return err == nil, fmt.Sprint(err)
		})
		w.ready(t)
	})
	step("a version that is lower is refused by a condition, and the mesh kept", func(t *testing.T) {
		w.patch(t, m, `{"spec":{"version":"1.28"}}`)
		w.condition(t, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonSkew)
		w.condition(t, v1alpha1.ConditionStalled, metav1.ConditionTrue, "1.29.1")
		w.condition(t, v1alpha1.ConditionControlPlaneReady, metav1.ConditionTrue, "")
		w.patch(t, m, `{"spec":{"version":"1.29"}}`)
		w.ready(t)
	})
	step("a value reaches istiod", func(t *testing.T) {
		w.patch(t, m, `{"spec":{"controlPlane":{"values":{"deploymentLabels":{"team":"platform"}}}}}`)
		w.eventually(t, "the label on istiod", func() (bool, string) {
			var d appsv1.Deployment
			err := w.client.Get(t.Context(), client.ObjectKey{Namespace: "istio-system", Name: "istiod-1-29-1"}, &d)
			return err == nil && d.Labels["team"] == "platform", fmt.Sprint(d.Labels, err)
		})
		w.istiod(t)
		w.ready(t)
	})
	step("a gateway that is no entry any more goes", func(t *testing.T) {
		w.patch(t, m, `{"spec":{"gateways":[]}}`)
		w.eventually(t, "the gateway's Service to be gone", func() (bool, string) {
			err := w.client.Get(t.Context(), client.ObjectKey{Namespace: "istio-ingress", Name: "ingress"}, &corev1.Service{})
			return apierrors.IsNotFound(err), fmt.Sprint(err)
		})
		w.ready(t)
	})
	step("it is removed, and the CRDs stay", func(t *testing.T) {
		if err := w.client.Delete(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		w.eventually(t, "the mesh to be gone", func() (bool, string) {
			err := w.client.Get(t.Context(), client.ObjectKeyFromObject(m), m)
			return apierrors.IsNotFound(err), fmt.Sprintf("%v %+v", err, m.Status.Conditions)
		})
		for _, gone := range []client.Object{
			&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istiod-1-29-1"}},
			&v1alpha1.MeshRevision{ObjectMeta: metav1.ObjectMeta{Name: "1-29-1"}},
			&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "istiod-clusterrole-1-29-1-istio-system"}},
			&admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "istiod-default-validator"}},
		} {
			if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(gone), gone); !apierrors.IsNotFound(err) {
				t.Errorf("%T %s is left: %v", gone, gone.GetName(), err)
			}
		}
		crd := &metav1.PartialObjectMetadata{}
		crd.SetGroupVersionKind(crdKind)
		if err := w.client.Get(t.Context(), client.ObjectKey{Name: "virtualservices.networking.istio.io"}, crd); err != nil {
			t.Errorf("a CRD was not kept: %v", err)
		}
	})
}

// drift changes or deletes objects of each owner and waits until they are as they were.
func (w *world) drift(t *testing.T) {
	t.Helper()
	for reason, tc := range map[string]struct {
		object client.Object
		patch  string // empty: the object is deleted
		right  func(client.Object) bool
	}{
		"the revision's rights": {
			&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "istiod-clusterrole-1-29-1-istio-system"}}, `{"rules":[]}`,
			func(o client.Object) bool { return len(o.(*rbacv1.ClusterRole).Rules) > 0 },
		},
		"the revision's service": {
			&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istiod-1-29-1"}}, "",
			func(o client.Object) bool { return o.GetUID() != "" },
		},
		"the default validator": {
			&admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "istiod-default-validator"}}, "",
			func(o client.Object) bool { return o.GetUID() != "" },
		},
		"the label by which it is watched": {
			&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istio-1-29-1"}},
			`{"metadata":{"labels":{"meshwright.io/mesh":null}}}`,
			func(o client.Object) bool { return o.GetLabels()[v1alpha1.LabelMesh] == "default" },
		},
		"the gateway's selector": {
			&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-ingress", Name: "ingress"}}, `{"spec":{"selector":{"istio":"other"}}}`,
			func(o client.Object) bool { return o.(*corev1.Service).Spec.Selector["istio"] == "ingress" },
		},
	} {
		key := client.ObjectKeyFromObject(tc.object)
		if tc.patch == "" {
			if err := w.client.Delete(t.Context(), tc.object); err != nil {
				t.Fatalf("%s: %v", reason, err)
			}
		} else {
			w.patch(t, tc.object, tc.patch)
		}
		w.eventually(t, reason+" to be put back", func() (bool, string) {
			if err := w.client.Get(t.Context(), key, tc.object); err != nil {
				return false, err.Error()
			}
			return tc.right(tc.object), fmt.Sprintf("%+v", tc.object)
		})
	}
	w.ready(t)
}

func (w *world) patch(t *testing.T, o client.Object, patch string) {
	t.Helper()
	if err := w.client.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch))); err != nil {
		t.Fatalf("patching %s: %v", o.GetName(), err)
	}
}

func (w *world) createPod(t *testing.T, name string) {
	t.Helper()
	var revision v1alpha1.MeshRevision
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: "1-29-1"}, &revision); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: name,
			Annotations: map[string]string{
				"sidecar.istio.io/status": `{"revision":"1-29-1"}`, v1alpha1.AnnotationInjection: revision.Spec.Injection,
			},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	if err := w.client.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

// quiet does something and checks that the operator asks the API server for nothing because of it, but to write counts.
func (w *world) quiet(t *testing.T, do func()) {
	t.Helper()
	w.settle(t)
	w.requests.Take()
	do()
	w.settle(t)
	for _, r := range w.requests.Take() {
		switch {
		case strings.Contains(r, "/namespaces/settled-"): // what settle itself causes
		case strings.HasSuffix(r, "/meshinstallations/default/status"): // counts
		default:
			t.Errorf("the operator asked for %s", r)
		}
	}
}

// settle returns when the operator has handled every event before it: a namespace that is made afterwards is enrolled.
func (w *world) settle(t *testing.T) {
	t.Helper()
	w.settled++
	name := fmt.Sprintf("settled-%d", w.settled)
	var m v1alpha1.MeshInstallation
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: "default"}, &m); err != nil {
		t.Fatal(err)
	}
	if m.Spec.Paused {
		// Nothing is enrolled then; the status says what was seen.
		w.condition(t, v1alpha1.ConditionUpToDate, metav1.ConditionFalse, v1alpha1.ReasonPaused)
		return
	}
	w.eventually(t, "namespace "+name+" to be enrolled", func() (bool, string) {
		return w.enrolls(t, name, map[string]string{"mesh": "yes"}, "1-29-1"), "not labelled"
	})
}

// enrolls makes a namespace and says whether it carries a revision label; with no revision, that it could be made.
func (w *world) enrolls(t *testing.T, name string, labels map[string]string, revision string) bool {
	t.Helper()
	err := w.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	var n corev1.Namespace
	if err := w.client.Get(t.Context(), client.ObjectKey{Name: name}, &n); err != nil {
		t.Fatal(err)
	}
	return n.Labels["istio.io/rev"] == revision
}

// A mistake that got past the webhook stalls the mesh with its remedy, and its correction heals it.
func TestMistakeAndCorrection(t *testing.T) {
	w := start(t)
	m := mesh("1.29.77")
	if err := w.client.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w.condition(t, v1alpha1.ConditionReady, metav1.ConditionFalse, "1.29.1")
	w.condition(t, v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonVersionUnavailable)
	w.patch(t, m, `{"spec":{"version":"1.29.1"}}`)
	w.istiod(t)
	w.ready(t)
}

// What belongs to somebody else is not taken: the mesh says whose it is, and goes on when it is free.
func TestForeignTag(t *testing.T) {
	w := start(t)
	foreign := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "istio-revision-tag-prod"}}
	if err := w.client.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	m := mesh("1.29")
	m.Spec.Tags = []v1alpha1.Tag{{Name: "prod"}}
	if err := w.client.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w.istiod(t)
	w.condition(t, v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonTagTaken)
	if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(foreign), foreign); err != nil || foreign.Labels[v1alpha1.LabelMesh] != "" {
		t.Errorf("the foreign tag was touched: %v %v", foreign.Labels, err)
	}
	if err := w.client.Delete(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	w.patch(t, m, `{"metadata":{"annotations":{"example.com/looked":"again"}}}`)
	w.ready(t)
}

// A mesh that pods use is not removed, and is kept serving; once they are gone, it goes.
func TestRemovalIsHeldWhileInUse(t *testing.T) {
	w := start(t)
	m := mesh("1.29")
	if err := w.client.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w.istiod(t)
	w.ready(t)
	w.createPod(t, "user")
	w.eventually(t, "the pod to be counted", func() (bool, string) {
		var seen v1alpha1.MeshInstallation
		err := w.client.Get(t.Context(), client.ObjectKeyFromObject(m), &seen)
		return err == nil && seen.Status.DataPlane.Summary == "1/1", fmt.Sprintf("%+v %v", seen.Status.DataPlane, err)
	})
	if err := w.client.Delete(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w.condition(t, v1alpha1.ConditionReady, metav1.ConditionFalse, "pod default/user")
	if err := w.client.Get(t.Context(), client.ObjectKey{Namespace: "istio-system", Name: "istiod-1-29-1"}, &appsv1.Deployment{}); err != nil {
		t.Errorf("istiod of a mesh whose removal is held: %v", err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "user"}}
	if err := w.client.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	w.eventually(t, "the mesh to be gone", func() (bool, string) {
		err := w.client.Get(t.Context(), client.ObjectKeyFromObject(m), m)
		return apierrors.IsNotFound(err), fmt.Sprintf("%v %+v", err, m.Status.Conditions)
	})
}
