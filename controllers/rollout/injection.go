// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

// injects tries the injector of a canary: a copy of a pod of the mesh, or a plain pod where there is none, is created in the
// namespace of the control plane with the label of the canary, and without effect (a dry run). The label of an enrolled namespace
// would beat that of the pod, so that it can't be tried there before the namespace moves.
func (w *Witness) injects(ctx context.Context, q question) rollout.Evidence {
	model, err := w.model(ctx, q)
	if err != nil {
		return rollout.Evidence{Why: "no pod can be read to try the injection with: " + err.Error()}
	}
	trial := trialOf(model, q.target)
	err = w.Client.Create(ctx, trial, client.DryRunAll)
	switch {
	case apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err):
		return rollout.Evidence{Why: fmt.Sprintf("a dry run of a pod in namespace %s was refused (%v): exempt pods labelled %s there", trial.Namespace, err, trialLabel)}
	case err != nil:
		return rollout.Evidence{Why: "a dry run of a pod failed: " + err.Error()}
	}
	return judge(trial, model, q.target)
}

// proxyContainer is the name of the proxy in a pod.
const proxyContainer = "istio-proxy"

// trialLabel marks the pods that are tried, for policies that have to exempt them.
const trialLabel = "meshwright.io/trial"

// judge reads off a pod that came back from the API server who would inject it.
func judge(trial, model *corev1.Pod, target *v1alpha1.MeshRevision) rollout.Evidence {
	like := "a plain pod"
	if model.Name != "" {
		like = "a pod like " + model.Namespace + "/" + model.Name
	}
	var status struct {
		Revision string `json:"revision"`
	}
	text, injected := trial.Annotations["sidecar.istio.io/status"]
	if !injected {
		return rollout.Evidence{Answer: rollout.No, Why: like + " would get no sidecar of revision " + target.Name + ": look at its MutatingWebhookConfiguration"}
	}
	if json.Unmarshal([]byte(text), &status) != nil || status.Revision != target.Name {
		return rollout.Evidence{Answer: rollout.No, Why: fmt.Sprintf("%s would get the sidecar of revision %s, not of %s", like, status.Revision, target.Name)}
	}
	if stamp := trial.Annotations[v1alpha1.AnnotationInjection]; target.Spec.Injection != "" && stamp != target.Spec.Injection {
		return rollout.Evidence{Why: like + " would not get the sidecar as revision " + target.Name + " injects it now: its istiod has not read its configuration yet"}
	}
	return rollout.Evidence{Answer: rollout.Yes, Why: like + " would get the sidecar of revision " + target.Name}
}

// model is a pod with a sidecar of the revision that the rollout comes from; a plain one where there is none.
func (w *Witness) model(ctx context.Context, q question) (*corev1.Pod, error) {
	plain := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}}
	for _, example := range w.Examples(q.plan.From.Revision) {
		pod := &corev1.Pod{}
		err := w.Live.Get(ctx, example, pod)
		if client.IgnoreNotFound(err) != nil {
			return nil, err
		}
		if err == nil && hasSidecar(pod) {
			return pod, nil
		}
	}
	return plain, nil
}

// hasSidecar says whether a pod has a container of its own beside the proxy. One of a gateway, that somebody else installed, has not.
func hasSidecar(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name != proxyContainer })
}

// trialOf is a copy of a pod as its template would have it: without what injection, the scheduler and its service account added.
func trialOf(model *corev1.Pod, target *v1alpha1.MeshRevision) *corev1.Pod {
	out := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "meshwright-trial-", Namespace: target.Spec.Namespace, Labels: map[string]string{}, Annotations: map[string]string{},
	}}
	maps.Copy(out.Labels, model.Labels)
	for _, added := range []string{"security.istio.io/tlsMode", "service.istio.io/canonical-name", "service.istio.io/canonical-revision", "sidecar.istio.io/inject"} {
		delete(out.Labels, added)
	}
	out.Labels[v1alpha1.IstioRevision], out.Labels[trialLabel] = target.Name, "injection"
	for key, value := range model.Annotations {
		if key != "sidecar.istio.io/status" && key != v1alpha1.IstioRevision && key != v1alpha1.AnnotationInjection {
			out.Annotations[key] = value
		}
	}
	for _, c := range model.Spec.Containers {
		if c.Name == proxyContainer || c.Name == "istio-validation" {
			continue
		}
		// What is mounted and asked of nodes says nothing about injection, and may be refused in another namespace.
		out.Spec.Containers = append(out.Spec.Containers, corev1.Container{
			Name: c.Name, Image: c.Image, Ports: c.Ports, Command: c.Command, Args: c.Args, SecurityContext: c.SecurityContext,
		})
	}
	out.Spec.SecurityContext = model.Spec.SecurityContext
	return out
}
