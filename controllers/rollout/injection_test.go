// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

func canary() *v1alpha1.MeshRevision {
	return &v1alpha1.MeshRevision{
		ObjectMeta: metav1.ObjectMeta{Name: "1-29-1", UID: "canary"},
		Spec:       v1alpha1.MeshRevisionSpec{Mesh: "default", Namespace: "istio-system", InputsDigest: "inputs", Injection: "digest"},
	}
}

// A running pod with a sidecar, and what its template would have been.
func TestTrialIsLikeTheTemplate(t *testing.T) {
	yes, user := true, int64(1000)
	model := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-7d9c-x", UID: "u", ResourceVersion: "7", Finalizers: []string{"shop/keeps"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-7d9c"}},
			Labels: map[string]string{
				"app": "web", "version": "v2", "istio.io/rev": "stable", "sidecar.istio.io/inject": "true",
				"security.istio.io/tlsMode": "istio", "service.istio.io/canonical-name": "web", "service.istio.io/canonical-revision": "v2",
			},
			Annotations: map[string]string{
				"sidecar.istio.io/status": `{"revision":"1-28-2"}`, "istio.io/rev": "1-28-2", v1alpha1.AnnotationInjection: "old",
				"sidecar.istio.io/proxyCPU": "200m",
			},
		},
		Spec: corev1.PodSpec{
			NodeName: "node-1", ServiceAccountName: "web", HostNetwork: true,
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes},
			Volumes:         []corev1.Volume{{Name: "kube-api-access"}},
			InitContainers:  []corev1.Container{{Name: "istio-init"}, {Name: "istio-proxy"}, {Name: "migrate"}},
			Containers: []corev1.Container{
				{
					Name: "app", Image: "web:2", Command: []string{"/web"}, Args: []string{"-v"},
					Ports:           []corev1.ContainerPort{{ContainerPort: 8080}},
					SecurityContext: &corev1.SecurityContext{RunAsUser: &user},
					VolumeMounts:    []corev1.VolumeMount{{Name: "kube-api-access"}},
					Env:             []corev1.EnvVar{{Name: "PASSWORD", Value: "secret"}},
				},
				{Name: "istio-proxy", Image: "proxyv2"},
				{Name: "istio-validation", Image: "proxyv2"},
			},
		},
	}
	untouched := model.DeepCopy()
	want := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "meshwright-trial-", Namespace: "istio-system",
			Labels:      map[string]string{"app": "web", "version": "v2", "istio.io/rev": "1-29-1", trialLabel: "injection"},
			Annotations: map[string]string{"sidecar.istio.io/proxyCPU": "200m"},
		},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes},
			Containers: []corev1.Container{{
				Name: "app", Image: "web:2", Command: []string{"/web"}, Args: []string{"-v"},
				Ports:           []corev1.ContainerPort{{ContainerPort: 8080}},
				SecurityContext: &corev1.SecurityContext{RunAsUser: &user},
			}},
		},
	}
	if diff := cmp.Diff(want, trialOf(model, canary())); diff != "" {
		t.Errorf("trial (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(untouched, model); diff != "" {
		t.Errorf("the model was changed (-before +after):\n%s", diff)
	}
}

// A plain pod, where there is none to be like.
func TestTrialOfNothing(t *testing.T) {
	got := trialOf(&corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}}, canary())
	labels := map[string]string{"istio.io/rev": "1-29-1", trialLabel: "injection"}
	if diff := cmp.Diff(labels, got.Labels); diff != "" || len(got.Spec.Containers) != 1 {
		t.Errorf("%d containers, want one; labels (-want +got):\n%s", len(got.Spec.Containers), diff)
	}
}

func TestJudge(t *testing.T) {
	like := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1"}}
	unstamped := canary()
	unstamped.Spec.Injection = ""
	const status = "sidecar.istio.io/status"
	for _, tc := range []struct {
		reason      string
		model       *corev1.Pod
		target      *v1alpha1.MeshRevision
		annotations map[string]string
		want        rollout.Answer
		why         string
	}{
		{
			"nobody injected it", like, canary(), nil,
			rollout.No, "a pod like shop/web-1 would get no sidecar of revision 1-29-1: look at its MutatingWebhookConfiguration",
		},
		{"nor a plain one", &corev1.Pod{}, canary(), nil, rollout.No, "a plain pod would get no sidecar of revision 1-29-1"},
		{
			"the old revision injected it", like, canary(),
			map[string]string{status: `{"revision":"1-28-2"}`},
			rollout.No, "would get the sidecar of revision 1-28-2, not of 1-29-1",
		},
		{"an injector that is not Istio's", like, canary(), map[string]string{status: `?`}, rollout.No, "not of 1-29-1"},
		{
			"the canary, as it is now", like, canary(),
			map[string]string{status: `{"revision":"1-29-1"}`, v1alpha1.AnnotationInjection: "digest"},
			rollout.Yes, "a pod like shop/web-1 would get the sidecar of revision 1-29-1",
		},
		{
			"the canary, as it was before its configuration changed: it will know that soon", like, canary(),
			map[string]string{status: `{"revision":"1-29-1"}`, v1alpha1.AnnotationInjection: "old"},
			rollout.Unknown, "its istiod has not read its configuration yet",
		},
		{
			"the canary, without a stamp", like, canary(),
			map[string]string{status: `{"revision":"1-29-1"}`},
			rollout.Unknown, "its istiod has not read its configuration yet",
		},
		{
			"a canary that stamps nothing is known by its name", like, unstamped,
			map[string]string{status: `{"revision":"1-29-1"}`},
			rollout.Yes, "would get the sidecar of revision 1-29-1",
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			trial := trialOf(tc.model, tc.target)
			trial.Annotations = tc.annotations
			got := judge(trial, tc.model, tc.target)
			if got.Answer != tc.want || !strings.Contains(got.Why, tc.why) {
				t.Errorf("%d: %s, want %d: %s", got.Answer, got.Why, tc.want, tc.why)
			}
		})
	}
}

// A pod of a gateway that somebody else installed is injected too, and is no model: it has nothing but the proxy.
func TestGatewaysAreNoModels(t *testing.T) {
	gateway := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "istio-proxy"}}}}
	if hasSidecar(gateway) {
		t.Error("a gateway is taken for a workload with a sidecar")
	}
	gateway.Spec.Containers = append(gateway.Spec.Containers, corev1.Container{Name: "app"})
	if !hasSidecar(gateway) {
		t.Error("a workload with a sidecar is no model")
	}
}
