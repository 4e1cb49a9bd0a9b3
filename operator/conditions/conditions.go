// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package conditions writes status conditions the same way for every kind: observed for a generation, with a reason of
// the closed list, and kstatus's two abnormal conditions (Reconciling, Stalled) only while they are True.
package conditions

import (
	"errors"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/apply"
)

// Verdict is the summary of one kind's reconcile.
type Verdict struct {
	Ready metav1.ConditionStatus
	// Reason and Message of Ready; the abnormal condition that fits carries the same.
	Reason, Message string
	// Stalled says that nothing changes without a person; Reconciling that waiting is enough.
	Stalled, Reconciling bool
}

// maxMessage bounds a message; the API allows 32,768 characters, people read fewer.
const maxMessage = 1024

// Summarise writes Ready and the abnormal conditions of a verdict.
func Summarise(conditions *[]metav1.Condition, generation int64, v Verdict) {
	Set(conditions, generation, v1alpha1.ConditionReady, v.Ready, v.Reason, v.Message)
	for typ, holds := range map[string]bool{v1alpha1.ConditionStalled: v.Stalled, v1alpha1.ConditionReconciling: v.Reconciling} {
		if holds {
			Set(conditions, generation, typ, metav1.ConditionTrue, v.Reason, v.Message)
		} else {
			apimeta.RemoveStatusCondition(conditions, typ)
		}
	}
}

// Set writes one condition. The message of a reason that somebody has to see to ends with the address of its page.
func Set(conditions *[]metav1.Condition, generation int64, typ string, status metav1.ConditionStatus, reason, message string) {
	apimeta.SetStatusCondition(conditions, metav1.Condition{
		Type: typ, Status: status, Reason: reason, Message: withPage(reason, message), ObservedGeneration: generation,
	})
}

// withPage names the page of a reason, however long the message is. One that quotes another condition names its page already, which is
// nearer to the matter.
func withPage(reason, message string) string {
	if v1alpha1.Unattended(reason) || strings.Contains(message, v1alpha1.DocsURL) {
		return Shorten(message)
	}
	page := " (" + v1alpha1.Runbook(reason) + ")"
	return shorten(message, maxMessage-len(page)) + page
}

// Shorten cuts a message to what people read and the API allows.
func Shorten(message string) string { return shorten(message, maxMessage) }

func shorten(message string, limit int) string {
	if len(message) <= limit {
		return message
	}
	return strings.ToValidUTF8(message[:limit-3], "") + "..." // the cut may go through a character
}

// Current says whether a condition is True and was observed for the newest generation.
func Current(conditions []metav1.Condition, generation int64, typ string) bool {
	c := apimeta.FindStatusCondition(conditions, typ)
	return c != nil && c.Status == metav1.ConditionTrue && c.ObservedGeneration == generation
}

// OfApply is the verdict over what an apply came to.
func OfApply(result apply.Result, err error) Verdict {
	var taken *apply.TakenError
	switch {
	case errors.As(err, &taken):
		reason := v1alpha1.ReasonNameTaken
		if strings.Contains(taken.Name, "-revision-tag-") || taken.Name == "istiod-default-validator" {
			reason = v1alpha1.ReasonTagTaken
		}
		return Verdict{Ready: metav1.ConditionFalse, Reason: reason, Message: err.Error(), Stalled: true}
	case apierrors.IsConflict(err): // nobody has to do anything about it
		return Verdict{
			Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonProgressing, Message: "somebody else wrote at the same time: it is tried again", Reconciling: true,
		}
	case err != nil:
		return Verdict{
			Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonApplyFailed, Message: err.Error(),
			Stalled: apply.IsTerminal(err), Reconciling: !apply.IsTerminal(err),
		}
	case result.Ready():
		return Verdict{Ready: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady, Message: "all objects are applied and ready"}
	}
	return notReady(result.NotReady)
}

// waits are the reasons of objects that only need time.
var waits = []string{"Progressing", "NotFound", "Unconfirmed"}

// notReady names the objects whose pods say a reason, else the first object.
func notReady(objects []apply.NotReady) Verdict {
	v := Verdict{Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonProgressing, Message: "objects are being applied", Reconciling: true}
	var said []string
	for _, o := range objects {
		if !slices.Contains(waits, o.Reason) {
			said = append(said, o.String())
		}
	}
	switch {
	case len(said) > 0:
		v.Reason, v.Message = v1alpha1.ReasonPodsNotReady, strings.Join(said, "; ")
	case len(objects) > 0:
		v.Message = objects[0].String()
	}
	return v
}
