// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"testing"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/apply"
	"github.com/meshwright/meshwright/operator/rollout"
	"github.com/meshwright/meshwright/operator/traffic"
)

// A version that gets no traffic does not keep the gateway from serving; that its pods crash is told all the same.
func TestACanaryThatCrashesIsTold(t *testing.T) {
	s := &scope{
		gateway: &v1alpha1.MeshGateway{}, old: "1-28-2", want: rollout.Shift{Old: "1-28-2", New: "1-29-1", Weight: 25, Wanted: true},
	}
	s.gateway.Name = "ingress"
	result := apply.Result{NotReady: []apply.NotReady{
		{Kind: "Deployment", Name: "ingress-1-29-1", Reason: "CrashLoopBackOff", Message: "pod ingress-1-29-1-x crashes"},
	}}
	if left := serving(s, traffic.Decision{Pointer: traffic.ToOld}, result); len(left.NotReady) > 0 {
		t.Errorf("the gateway does not serve: %v", left.NotReady)
	}
	if got := failing(s, result); got != "pod ingress-1-29-1-x crashes" {
		t.Errorf("failing = %q", got)
	}
}
