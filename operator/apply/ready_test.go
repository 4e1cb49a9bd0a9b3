// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// A pod that is tried again and again keeps one reason, whichever of the kubelet's words it is at.
func TestReasonOfAPod(t *testing.T) {
	crashed := &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"}
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	}
	container := func(s corev1.ContainerStatus) corev1.PodStatus {
		s.Name, s.Image = "discovery", "example.com/pilot:1"
		return corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{s}}
	}
	const crashes = "CrashLoopBackOff in container discovery: it ended with code 1 (Error)"
	const cannotPull = "ImagePullBackOff in container discovery: image example.com/pilot:1 can't be pulled"
	for _, tc := range []struct {
		reason, wantReason, wantMessage string
		status                          corev1.PodStatus
	}{
		{reason: "a new pod only needs time", status: corev1.PodStatus{}},
		{reason: "a container that is created only needs time", status: container(corev1.ContainerStatus{State: waiting("ContainerCreating")})},
		{
			reason: "no node takes it", wantReason: "Unschedulable", wantMessage: "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.",
			status: corev1.PodStatus{Conditions: []corev1.PodCondition{{
				Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
				Message: "0/1 nodes are available: 1 Insufficient cpu.",
			}}},
		},
		{
			reason: "waiting for its next start", wantReason: "CrashLoopBackOff", wantMessage: crashes,
			status: container(corev1.ContainerStatus{
				State: waiting("CrashLoopBackOff"), LastTerminationState: corev1.ContainerState{Terminated: crashed}, RestartCount: 2,
			}),
		},
		{
			reason: "started again and not ready yet", wantReason: "CrashLoopBackOff", wantMessage: crashes,
			status: container(corev1.ContainerStatus{
				State:                corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
				LastTerminationState: corev1.ContainerState{Terminated: crashed}, RestartCount: 2,
			}),
		},
		{
			reason: "just ended again", wantReason: "CrashLoopBackOff", wantMessage: crashes,
			status: container(corev1.ContainerStatus{State: corev1.ContainerState{Terminated: crashed}, RestartCount: 2}),
		},
		{
			reason: "ended for the first time", wantReason: "Error", wantMessage: "Error in container discovery: it ended with code 1",
			status: container(corev1.ContainerStatus{State: corev1.ContainerState{Terminated: crashed}}),
		},
		{
			reason: "crashed once and serves since", status: container(corev1.ContainerStatus{
				Ready: true, LastTerminationState: corev1.ContainerState{Terminated: crashed}, RestartCount: 1,
			}),
		},
		{
			reason: "the pull failed", wantReason: "ImagePullBackOff", wantMessage: cannotPull,
			status: container(corev1.ContainerStatus{State: waiting("ErrImagePull")}),
		},
		{
			reason: "the pull will be tried again", wantReason: "ImagePullBackOff", wantMessage: cannotPull,
			status: container(corev1.ContainerStatus{State: waiting("ImagePullBackOff")}),
		},
		{
			reason: "an init container holds it up", wantReason: "CreateContainerConfigError",
			wantMessage: `CreateContainerConfigError in container istio-init: secret "x" not found`,
			status: corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{{
				Name: "istio-init", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
					Reason: "CreateContainerConfigError", Message: `secret "x" not found`,
				}},
			}}},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			reason, message := reasonOf(&corev1.Pod{Status: tc.status})
			if reason != tc.wantReason || message != tc.wantMessage {
				t.Errorf("got %q, %q; want %q, %q", reason, message, tc.wantReason, tc.wantMessage)
			}
		})
	}
}

// Istiod makes its webhooks fail closed when the API server has reached it; until then they fail open.
func TestFailsOpen(t *testing.T) {
	configuration := func(kind string, policies ...any) *unstructured.Unstructured {
		var webhooks []any
		for _, p := range policies {
			webhooks = append(webhooks, map[string]any{"failurePolicy": p})
		}
		return &unstructured.Unstructured{Object: map[string]any{"kind": kind, "webhooks": webhooks}}
	}
	for _, tc := range []struct {
		reason string
		object *unstructured.Unstructured
		want   bool
	}{
		{reason: "all closed", object: configuration("ValidatingWebhookConfiguration", "Fail", "Fail")},
		{reason: "one is open", object: configuration("ValidatingWebhookConfiguration", "Fail", "Ignore"), want: true},
		{reason: "none at all", object: configuration("ValidatingWebhookConfiguration")},
		{reason: "injection is not what istiod confirms", object: configuration("MutatingWebhookConfiguration", "Ignore")},
	} {
		if got := failsOpen(tc.object); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.reason, got, tc.want)
		}
	}
}
