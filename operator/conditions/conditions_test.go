// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package conditions

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/apply"
)

// What an apply came to, in the words of conditions.
func TestOfApply(t *testing.T) {
	starting := apply.NotReady{Kind: "Deployment", Namespace: "istio-system", Name: "istiod", Reason: "Progressing", Message: "Available: 0/1"}
	crashing := apply.NotReady{Kind: "Deployment", Namespace: "istio-system", Name: "istiod", Reason: "CrashLoopBackOff", Message: "it ended with code 1"}
	unreached := apply.NotReady{Kind: "ValidatingWebhookConfiguration", Name: "v", Reason: "Unconfirmed", Message: "not called yet"}
	for reason, tc := range map[string]struct {
		result apply.Result
		err    error
		want   Verdict
	}{
		"all is there": {
			result: apply.Result{Complete: true},
			want:   Verdict{Ready: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady, Message: "all objects are applied and ready"},
		},
		"a phase waits for the one before": {
			want: Verdict{Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonProgressing, Message: "objects are being applied", Reconciling: true},
		},
		"something only needs time": {
			result: apply.Result{NotReady: []apply.NotReady{starting}},
			want: Verdict{
				Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonProgressing, Message: "Deployment istio-system/istiod: Available: 0/1", Reconciling: true,
			},
		},
		"the pods say more than what only needs time": {
			result: apply.Result{NotReady: []apply.NotReady{unreached, crashing}},
			want: Verdict{
				Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonPodsNotReady,
				Message: "Deployment istio-system/istiod: it ended with code 1", Reconciling: true,
			},
		},
		"an error that may pass": {
			err: errors.New("connection refused"),
			want: Verdict{
				Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonApplyFailed, Message: "connection refused", Reconciling: true,
			},
		},
		"somebody else has it": {
			err: &apply.TakenError{Kind: "MutatingWebhookConfiguration", Name: "istio-revision-tag-prod"},
			want: Verdict{
				Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonTagTaken, Stalled: true,
				Message: (&apply.TakenError{Kind: "MutatingWebhookConfiguration", Name: "istio-revision-tag-prod"}).Error(),
			},
		},
	} {
		t.Run(reason, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, OfApply(tc.result, tc.err)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Stalled and Reconciling are there only while they hold, and each condition says which generation it speaks of.
func TestSummarise(t *testing.T) {
	var conditions []metav1.Condition
	Summarise(&conditions, 1, Verdict{Ready: metav1.ConditionFalse, Reason: "Bad", Message: "wrong", Stalled: true})
	if !apimeta.IsStatusConditionTrue(conditions, v1alpha1.ConditionStalled) || apimeta.FindStatusCondition(conditions, v1alpha1.ConditionReconciling) != nil {
		t.Errorf("stalled: %+v", conditions)
	}
	Summarise(&conditions, 2, Verdict{Ready: metav1.ConditionTrue, Reason: "Ready", Message: "good"})
	if len(conditions) != 1 || !Current(conditions, 2, v1alpha1.ConditionReady) || conditions[0].Message != "good" {
		t.Errorf("ready: %+v", conditions)
	}
	if Current(conditions, 3, v1alpha1.ConditionReady) {
		t.Error("Ready of an older generation counts as news")
	}
}

// A message of any length is cut between characters.
func TestLongMessage(t *testing.T) {
	for _, letter := range []string{"a", "ü", "€", "🌊"} {
		var conditions []metav1.Condition
		Set(&conditions, 1, "Ready", metav1.ConditionFalse, "Long", "x"+strings.Repeat(letter, 2000))
		if got := conditions[0].Message; len(got) > maxMessage || !utf8.ValidString(got) || !strings.HasSuffix(got, letter+"... (https://meshwright.io/docs/runbook/Long/)") {
			t.Errorf("%s: %d bytes, ending %q", letter, len(got), got[len(got)-60:])
		}
	}
}

// A message of what somebody has to see to names the page that says how; that of another condition, which it quotes, is enough.
func TestPages(t *testing.T) {
	for _, tc := range []struct{ reason, message, want string }{
		{v1alpha1.ReasonGateFailed, "success-rate 96%", "success-rate 96% (https://meshwright.io/docs/runbook/GateFailed/)"},
		{
			v1alpha1.ReasonGatewaysNotReady, "edge/ingress: pod crashes (https://meshwright.io/docs/runbook/PodsNotReady/)",
			"edge/ingress: pod crashes (https://meshwright.io/docs/runbook/PodsNotReady/)",
		},
		{v1alpha1.ReasonMoving, "3 of 5 workloads", "3 of 5 workloads"},
		{v1alpha1.ReasonReady, "serves", "serves"},
	} {
		var conditions []metav1.Condition
		Set(&conditions, 1, "Any", metav1.ConditionFalse, tc.reason, tc.message)
		if got := conditions[0].Message; got != tc.want {
			t.Errorf("%s: %q, want %q", tc.reason, got, tc.want)
		}
	}
}
