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
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// TestMeshInTrouble walks one mesh that serves through what people and clusters do to it: it serves on, says what is wrong, and
// what it has is kept.
func TestMeshInTrouble(t *testing.T) {
	w := start(t)
	m := mesh("1.29")
	m.Spec.DataPlane.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"mesh": "yes"}}
	if err := w.client.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w.istiod(t)
	w.ready(t)
	labels := map[string]string{"mesh": "yes"}
	w.eventually(t, "namespace app to be enrolled", func() (bool, string) { return w.enrolls(t, "app", labels, "1-29-1"), "no label" })

	step := func(name string, do func(*testing.T)) {
		t.Helper()
		if !t.Run(name, do) {
			t.FailNow()
		}
	}
	step("a second installation over the same namespace stalls, the first goes on", func(t *testing.T) {
		second := mesh("1.29")
		second.Name = "second"
		if err := w.client.Create(t.Context(), second); err != nil {
			t.Fatal(err)
		}
		w.eventually(t, "the second to stall", func() (bool, string) {
			err := w.client.Get(t.Context(), client.ObjectKeyFromObject(second), second)
			for _, c := range second.Status.Conditions {
				if c.Type == v1alpha1.ConditionStalled {
					return c.Status == metav1.ConditionTrue, c.Message
				}
			}
			return false, fmt.Sprint(err)
		})
		w.comesBack(t, defaultTag())
		w.ready(t)
		if err := w.client.Delete(t.Context(), second); err != nil {
			t.Fatal(err)
		}
	})
	step("a selector that does not parse takes no label away, and the mesh is kept", func(t *testing.T) {
		w.patch(t, m, `{"spec":{"dataPlane":{"namespaceSelector":{"matchLabels":null,"matchExpressions":[{"key":"mesh","operator":"In"}]}}}}`)
		w.condition(t, v1alpha1.ConditionReady, metav1.ConditionFalse, "namespaceSelector")
		w.comesBack(t, defaultTag())
		if !w.enrolls(t, "app", labels, "1-29-1") {
			t.Error("namespace app lost its label")
		}
		w.patch(t, m, `{"spec":{"dataPlane":{"namespaceSelector":{"matchLabels":{"mesh":"yes"},"matchExpressions":null}}}}`)
		w.ready(t)
	})
	step("a team's gateway in an enrolled namespace takes no sidecars away", func(t *testing.T) {
		team := &v1alpha1.MeshGateway{ObjectMeta: metav1.ObjectMeta{Namespace: "app", Name: "team"}, Spec: v1alpha1.MeshGatewaySpec{Mesh: "default"}}
		if err := w.client.Create(t.Context(), team); err != nil {
			t.Fatal(err)
		}
		w.deploy(t, "app")
		w.eventually(t, "the gateway to say that its namespace is enrolled", func() (bool, string) {
			err := w.client.Get(t.Context(), client.ObjectKeyFromObject(team), team)
			for _, c := range team.Status.Conditions {
				if c.Type == v1alpha1.ConditionReady {
					return c.Reason == v1alpha1.ReasonNamespaceEnrolled, c.Message
				}
			}
			return false, fmt.Sprint(err)
		})
		if !w.enrolls(t, "app", labels, "1-29-1") {
			t.Error("namespace app lost its label")
		}
		if err := w.client.Delete(t.Context(), team); err != nil {
			t.Fatal(err)
		}
	})
	step("a gateway takes no Service of somebody else, and leaves it when it goes", func(t *testing.T) {
		theirs := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "theirs"},
			Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}, Selector: map[string]string{"app": "theirs"}},
		}
		if err := w.client.Create(t.Context(), theirs); err != nil {
			t.Fatal(err)
		}
		greedy := &v1alpha1.MeshGateway{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "theirs"}, Spec: v1alpha1.MeshGatewaySpec{Mesh: "default"}}
		if err := w.client.Create(t.Context(), greedy); err != nil {
			t.Fatal(err)
		}
		w.eventually(t, "the gateway to say that the name is taken", func() (bool, string) {
			err := w.client.Get(t.Context(), client.ObjectKeyFromObject(greedy), greedy)
			for _, c := range greedy.Status.Conditions {
				if c.Type == v1alpha1.ConditionReady {
					return c.Reason == v1alpha1.ReasonNameTaken, c.Message
				}
			}
			return false, fmt.Sprint(err)
		})
		err := w.client.Get(t.Context(), client.ObjectKeyFromObject(greedy), &appsv1.Deployment{})
		if !apierrors.IsNotFound(err) {
			t.Errorf("half a gateway was made: %v", err)
		}
		if err := w.client.Delete(t.Context(), greedy); err != nil {
			t.Fatal(err)
		}
		w.eventually(t, "the gateway to be gone", func() (bool, string) {
			err := w.client.Get(t.Context(), client.ObjectKeyFromObject(greedy), greedy)
			return apierrors.IsNotFound(err), fmt.Sprint(err)
		})
		before := theirs.ResourceVersion
		if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(theirs), theirs); err != nil || theirs.ResourceVersion != before {
			t.Errorf("their Service: %v, version %s, want %s", err, theirs.ResourceVersion, before)
		}
	})
	step("Ready of a paused mesh speaks of the newest spec, and of what is there", func(t *testing.T) {
		w.patch(t, m, `{"spec":{"paused":true}}`)
		w.condition(t, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonPaused)
		if err := w.client.Delete(t.Context(), istiod()); err != nil {
			t.Fatal(err)
		}
		w.condition(t, v1alpha1.ConditionReady, metav1.ConditionFalse, "istiod-1-29-1")
		w.patch(t, m, `{"spec":{"controlPlane":{"meshConfig":{"accessLogFile":"/dev/stdout"}}}}`)
		w.condition(t, v1alpha1.ConditionReady, metav1.ConditionFalse, "spec.paused keeps what the newest spec wants from being applied")
		w.patch(t, m, `{"spec":{"paused":false}}`)
		w.istiod(t)
		w.ready(t)
	})
	step("webhooks are kept while istiod is not ready", func(t *testing.T) {
		d := istiod()
		if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(d), d); err != nil {
			t.Fatal(err)
		}
		d.Status.AvailableReplicas, d.Status.ReadyReplicas = 0, 0
		d.Status.Conditions[0].Status = corev1.ConditionFalse
		if err := w.client.Status().Update(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		w.condition(t, v1alpha1.ConditionControlPlaneReady, metav1.ConditionFalse, "istiod-1-29-1")
		w.comesBack(t, &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "istio-sidecar-injector-1-29-1"}})
		w.istiod(t)
		w.ready(t)
	})
	step("a revision that is deleted under its mesh is kept", func(t *testing.T) {
		revision := &v1alpha1.MeshRevision{ObjectMeta: metav1.ObjectMeta{Name: "1-29-1"}}
		if err := w.client.Delete(t.Context(), revision); err != nil {
			t.Fatal(err)
		}
		w.eventually(t, "the revision to say why it stays", func() (bool, string) {
			err := w.client.Get(t.Context(), client.ObjectKeyFromObject(revision), revision)
			for _, c := range revision.Status.Conditions {
				if c.Type == v1alpha1.ConditionReady {
					return c.Reason == v1alpha1.ReasonInUse, c.Message
				}
			}
			return false, fmt.Sprint(err)
		})
		if err := w.client.Get(t.Context(), client.ObjectKeyFromObject(istiod()), istiod()); err != nil {
			t.Errorf("istiod: %v", err)
		}
	})
	step("a tag that istioctl has set holds the removal, and the mesh is kept meanwhile", func(t *testing.T) {
		tag := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{
			Name: "istio-revision-tag-prod", Labels: map[string]string{"istio.io/tag": "prod", "istio.io/rev": "1-29-1"},
		}}
		if err := w.client.Create(t.Context(), tag); err != nil {
			t.Fatal(err)
		}
		if err := w.client.Delete(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		w.condition(t, v1alpha1.ConditionReady, metav1.ConditionFalse, "tag prod")
		w.comesBack(t, defaultTag())
		if err := w.client.Delete(t.Context(), tag); err != nil {
			t.Fatal(err)
		}
		w.eventually(t, "the mesh to be gone", func() (bool, string) {
			err := w.client.Get(t.Context(), client.ObjectKeyFromObject(m), m)
			return apierrors.IsNotFound(err), fmt.Sprintf("%v %+v", err, m.Status.Conditions)
		})
	})
}

func defaultTag() *admissionregistrationv1.MutatingWebhookConfiguration {
	return &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "istio-revision-tag-default"}}
}

func istiod() *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istiod-1-29-1"}}
}

// comesBack deletes an object of the mesh and waits until it is there again.
func (w *world) comesBack(t *testing.T, o client.Object) {
	t.Helper()
	if err := w.client.Delete(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	w.eventually(t, o.GetName()+" to be back", func() (bool, string) {
		err := w.client.Get(t.Context(), client.ObjectKeyFromObject(o), o)
		return err == nil, fmt.Sprint(err)
	})
}

// Each mistake that the schema can't refuse is said by the controller, with the field and the remedy, when no webhook is there
// to refuse it; nothing is created for it.
func TestMistakesWithoutTheWebhook(t *testing.T) {
	w := start(t)
	first := mesh("1.29")
	first.Spec.Tags = []v1alpha1.Tag{{Name: "prod"}}
	if err := w.client.Create(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	w.istiod(t)
	w.ready(t)
	values := func(text string) *apiextensionsv1.JSON { return &apiextensionsv1.JSON{Raw: []byte(text)} }
	for name, tc := range map[string]struct {
		spoil        func(*v1alpha1.MeshInstallation)
		reason, says string
	}{
		"version-nobody-has": {func(m *v1alpha1.MeshInstallation) { m.Spec.Version = "1.28.77" }, v1alpha1.ReasonVersionUnavailable, "1.28.2"},
		"constraint-of-none": {func(m *v1alpha1.MeshInstallation) { m.Spec.Version = ">=1.99" }, v1alpha1.ReasonVersionUnavailable, "1.31.0"},
		"kubernetes-too-new": {func(m *v1alpha1.MeshInstallation) { m.Spec.Version = "1.26.1" }, v1alpha1.ReasonUnsupportedKubernetes, "unsupportedKubernetes"},
		"same-namespace":     {func(m *v1alpha1.MeshInstallation) { m.Spec.Namespace = "istio-system" }, v1alpha1.ReasonInvalidSpec, "spec.namespace"},
		"same-tag":           {func(m *v1alpha1.MeshInstallation) { m.Spec.Tags = []v1alpha1.Tag{{Name: "prod"}} }, v1alpha1.ReasonInvalidSpec, "spec.tags[0].name"},
		"same-revision":      {func(m *v1alpha1.MeshInstallation) { m.Spec.Version = "1.29.1" }, v1alpha1.ReasonInvalidSpec, "the revision 1-29-1 belongs to"},
		"second-default":     {func(m *v1alpha1.MeshInstallation) { m.Spec.DefaultRevision = v1alpha1.DefaultRevisionClaim }, v1alpha1.ReasonInvalidSpec, "spec.defaultRevision"},
		"value-of-ours":      {func(m *v1alpha1.MeshInstallation) { m.Spec.ControlPlane.Values = values(`{"revision":"mine"}`) }, v1alpha1.ReasonInvalidSpec, "spec.controlPlane.values.revision"},
		"no-mesh-config":     {func(m *v1alpha1.MeshInstallation) { m.Spec.ControlPlane.MeshConfig = values(`{"accessLogFiel":"x"}`) }, v1alpha1.ReasonInvalidSpec, "accessLogFile"},
		"selector-of-nothing": {
			func(m *v1alpha1.MeshInstallation) {
				m.Spec.DataPlane.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "In"}}}
			}, v1alpha1.ReasonInvalidSpec, "spec.dataPlane.namespaceSelector",
		},
		"gateway-in-kube-system": {
			func(m *v1alpha1.MeshInstallation) {
				m.Spec.Gateways = []v1alpha1.Gateway{{Name: "a", Namespace: "kube-system"}}
			},
			v1alpha1.ReasonInvalidSpec, "spec.gateways[0].namespace",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := mesh("1.28.2")
			m.Name, m.Spec.Namespace, m.Spec.DefaultRevision = name, name, v1alpha1.DefaultRevisionLeave
			tc.spoil(m)
			if err := w.client.Create(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			w.eventually(t, "the mistake to be said", func() (bool, string) {
				err := w.client.Get(t.Context(), client.ObjectKeyFromObject(m), m)
				for _, c := range m.Status.Conditions {
					if c.Type == v1alpha1.ConditionStalled {
						return c.Reason == tc.reason && strings.Contains(c.Message, tc.says), c.Reason + ": " + c.Message
					}
				}
				return false, fmt.Sprint(err)
			})
			err := w.client.Get(t.Context(), client.ObjectKey{Name: name}, &corev1.Namespace{})
			if !apierrors.IsNotFound(err) {
				t.Errorf("a namespace was created for it: %v", err)
			}
			if err := w.client.Delete(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			w.eventually(t, "it to be gone", func() (bool, string) {
				err := w.client.Get(t.Context(), client.ObjectKeyFromObject(m), m)
				return apierrors.IsNotFound(err), fmt.Sprint(err)
			})
		})
	}
	w.ready(t)
}
