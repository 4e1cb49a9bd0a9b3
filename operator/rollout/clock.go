// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func (w *walker) stamp() *metav1.Time { return &metav1.Time{Time: w.now} }

// since is the time that has passed since a moment; a clock that went back makes it none.
func (w *walker) since(t *metav1.Time) time.Duration { return max(0, w.now.Sub(t.Time)) }

// progressed begins the progress deadline anew.
func (w *walker) progressed() {
	w.p.ClockSeconds = 0
	if w.p.ClockSince != nil {
		w.p.ClockSince = w.stamp()
	}
}

// exceeded says whether the time without progress has come to the deadline.
func (w *walker) exceeded() bool {
	spent := time.Duration(w.p.ClockSeconds) * time.Second
	if w.p.ClockSince != nil {
		spent += w.since(w.p.ClockSince)
	}
	return spent >= time.Duration(w.plan.ProgressDeadlineSeconds)*time.Second
}

// clock lets the clock of the deadline run or stand still.
func (w *walker) clock(ticks bool) {
	switch {
	case ticks && w.p.ClockSince == nil:
		w.p.ClockSince = w.stamp()
	case !ticks && w.p.ClockSince != nil:
		w.p.ClockSeconds += int64(w.since(w.p.ClockSince) / time.Second)
		w.p.ClockSince = nil
	}
}

// Deadline is when the progress deadline passes if nothing progresses; zero while its clock stands still.
func Deadline(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress) time.Time {
	if p.ClockSince == nil {
		return time.Time{}
	}
	left := time.Duration(int64(plan.ProgressDeadlineSeconds)-p.ClockSeconds) * time.Second
	return p.ClockSince.Add(left)
}
