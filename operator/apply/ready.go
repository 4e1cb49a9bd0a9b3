// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"
	"slices"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// notReady says why an applied object is not ready; nil when it is. A Service is ready when it exists: whether a load
// balancer gives it an address is not in the mesh's hands, and many clusters have none.
func (a *Applier) notReady(ctx context.Context, t *task, observe bool) (*NotReady, error) {
	item := t.record
	current, err := a.owned.Get(ctx, kindOf(item), keyOf(item).object())
	if err != nil {
		return nil, err
	}
	why := &NotReady{Kind: item.Kind, Namespace: item.Namespace, Name: item.Name}
	if observe && item.Applied != t.wanted.digest {
		why.Reason, why.Message = "Paused", "is not as the newest spec wants it: spec.paused of the mesh keeps it from being applied"
		return why, nil
	}
	if current == nil {
		if t.left {
			return nil, nil
		}
		why.Reason, why.Message = "NotFound", "was removed and is not there yet"
		return why, nil
	}
	if current.GetKind() == "Service" {
		return nil, nil
	}
	if t.confirmed && failsOpen(current) {
		why.Reason, why.Message = "Unconfirmed", "istiod has not been called by the API server yet"
		return why, nil
	}
	computed, err := status.Compute(current)
	if err != nil {
		return nil, fmt.Errorf("status of %s %s: %w", current.GetKind(), current.GetName(), err)
	}
	if computed.Status == status.CurrentStatus {
		return nil, nil
	}
	why.Reason, why.Message = "Progressing", computed.Message
	if computed.Status == status.FailedStatus {
		why.Reason = failure(computed)
	}
	if current.GetKind() != "Deployment" {
		return why, nil
	}
	reason, message, err := a.podReason(ctx, current)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		why.Reason, why.Message = reason, message
	}
	return why, nil
}

// failsOpen says whether a validating webhook configuration lets objects through when nobody answers.
func failsOpen(o *unstructured.Unstructured) bool {
	if o.GetKind() != "ValidatingWebhookConfiguration" {
		return false
	}
	webhooks, _, _ := unstructured.NestedSlice(o.Object, "webhooks")
	return slices.ContainsFunc(webhooks, func(w any) bool {
		webhook, ok := w.(map[string]any)
		return ok && webhook["failurePolicy"] == "Ignore"
	})
}

// failure is the word for a status that will not get better by itself.
func failure(computed *status.Result) string {
	for _, c := range computed.Conditions {
		if c.Type == status.ConditionStalled {
			return c.Reason
		}
	}
	return "Failed"
}

// podReason is why the pods of a Deployment don't get ready, in the words of their own status: the first that says
// something, in the order of what a person should look at.
func (a *Applier) podReason(ctx context.Context, deployment *unstructured.Unstructured) (reason, message string, err error) {
	if reason, message := replicaFailure(deployment); reason != "" {
		return reason, message, nil
	}
	selector, _, err := unstructured.NestedStringMap(deployment.Object, "spec", "selector", "matchLabels")
	if err != nil {
		return "", "", err
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(podKind)
	err = a.owned.Client.List(ctx, list, client.InNamespace(deployment.GetNamespace()), client.MatchingLabels(selector))
	if err != nil {
		return "", "", err
	}
	var found []string
	reasons := map[string]string{}
	for _, item := range list.Items {
		var pod corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(item.Object, &pod); err != nil {
			return "", "", err
		}
		if r, m := reasonOf(&pod); r != "" {
			found = append(found, m)
			reasons[m] = r
		}
	}
	if len(found) == 0 {
		return "", "", nil
	}
	slices.Sort(found) // the same pods give the same words, in whatever order the cache has them
	return reasons[found[0]], found[0], nil
}

func replicaFailure(deployment *unstructured.Unstructured) (reason, message string) {
	conditions, _, _ := unstructured.NestedSlice(deployment.Object, "status", "conditions")
	for _, c := range conditions {
		condition, ok := c.(map[string]any)
		if ok && condition["type"] == "ReplicaFailure" && condition["status"] == "True" {
			return fmt.Sprint(condition["reason"]), fmt.Sprint(condition["message"])
		}
	}
	return "", ""
}

// quiet are reasons of a container that waits as it should.
var quiet = []string{"", "ContainerCreating", "PodInitializing"}

// reasonOf is a pod's own reason for not being ready; empty when it only needs time. Pods have random names, so the words
// name the container.
func reasonOf(pod *corev1.Pod) (reason, message string) {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return c.Reason, c.Reason + ": " + c.Message
		}
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if s.Ready {
			continue
		}
		if reason, detail := containerReason(s); reason != "" {
			return reason, fmt.Sprintf("%s in container %s: %s", reason, s.Name, detail)
		}
	}
	return "", ""
}

// containerReason says why a container is not ready. The kubelet alternates between words while it goes on trying
// (ErrImagePull and ImagePullBackOff; Error, running and CrashLoopBackOff): each has one word here, so that a condition
// stands still.
func containerReason(s corev1.ContainerStatus) (reason, detail string) {
	if ended := endedBadly(s); ended != nil && s.RestartCount > 0 {
		return "CrashLoopBackOff", fmt.Sprintf("it ended with code %d (%s)", ended.ExitCode, ended.Reason)
	} else if ended != nil {
		return ended.Reason, fmt.Sprintf("it ended with code %d", ended.ExitCode)
	}
	waiting := s.State.Waiting
	switch {
	case waiting == nil || slices.Contains(quiet, waiting.Reason):
		return "", ""
	case waiting.Reason == "ErrImagePull" || waiting.Reason == "ImagePullBackOff":
		return "ImagePullBackOff", "image " + s.Image + " can't be pulled"
	case waiting.Message == "":
		return waiting.Reason, "it waits"
	default:
		return waiting.Reason, waiting.Message
	}
}

// endedBadly is how a container ended last, if it was with a failure.
func endedBadly(s corev1.ContainerStatus) *corev1.ContainerStateTerminated {
	for _, ended := range []*corev1.ContainerStateTerminated{s.State.Terminated, s.LastTerminationState.Terminated} {
		if ended != nil && ended.ExitCode != 0 {
			return ended
		}
	}
	return nil
}
