// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// moment is a gateway some seconds after it was seen first, with a share of its new version.
func moment(seconds int, weight int32, measured string, state v1alpha1.ShiftState) GatewayMoment {
	return GatewayMoment{
		At: time.Unix(int64(seconds), 0),
		Versions: []v1alpha1.GatewayVersion{
			{Revision: "1-28-2", Weight: 100 - weight, Replicas: 3, ReadyReplicas: 3},
			{Revision: "1-29-1", Weight: weight, Measured: measured, Replicas: 1, ReadyReplicas: 1},
		},
		Shift: &v1alpha1.ShiftStatus{From: "1-28-2", To: "1-29-1", Weight: weight, State: state},
	}
}

// Of each weight that was wanted one after the other, the last measurement counts; what comes after it was reached is a matter of the next
// one. A shift to another revision is not looked at.
func TestSharesOf(t *testing.T) {
	if never := SharesOf([]GatewayMoment{moment(1, 25, "", v1alpha1.ShiftMeasuring)}, "1-29-1"); len(never) != 1 || !math.IsNaN(never[0].Measured) {
		t.Errorf("a share that was never measured is no number: got %+v", never)
	}
	back := moment(40, 100, "100.0%", v1alpha1.ShiftReached)
	back.Shift.To = "1-28-2"
	got := SharesOf([]GatewayMoment{
		{At: time.Unix(0, 0)},
		moment(1, 25, "", v1alpha1.ShiftProgressing),
		moment(5, 25, "40.0%", v1alpha1.ShiftMeasuring),
		moment(11, 25, "24.6%", v1alpha1.ShiftReached),
		moment(12, 50, "", v1alpha1.ShiftProgressing),
		moment(20, 50, "49.5%", v1alpha1.ShiftInconclusive),
		moment(21, 100, "", v1alpha1.ShiftProgressing),
		moment(24, 100, "", v1alpha1.ShiftReached),
		moment(34, 100, "99.9%", v1alpha1.ShiftReached),
		moment(35, 100, "", v1alpha1.ShiftProgressing),
		back,
	}, "1-29-1")
	want := []GatewayShare{
		{Weight: 25, Measured: 24.6, State: v1alpha1.ShiftReached, Took: 10 * time.Second},
		{Weight: 50, Measured: 49.5, State: v1alpha1.ShiftInconclusive},
		{Weight: 100, Measured: 99.9, State: v1alpha1.ShiftReached, Took: 3 * time.Second},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestGatewayMoment(t *testing.T) {
	m := moment(1, 25, "24.6%", v1alpha1.ShiftReached)
	want := "1-28-2 wanted 75% (3 of 3 ready); 1-29-1 wanted 25%, measured 24.6% (1 of 1 ready); Reached"
	if diff := cmp.Diff(want, m.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	later, moved := moment(9, 25, "24.6%", v1alpha1.ShiftReached), moment(1, 25, "24.7%", v1alpha1.ShiftReached)
	if !m.same(later) || m.same(moved) || m.same(GatewayMoment{}) {
		t.Error("time alone is no change, and each other thing is")
	}
	if m.Weight("1-29-1") != 25 || m.Weight("1-31-0") != -1 {
		t.Errorf("weights: got %d, and %d for a version that is not there", m.Weight("1-29-1"), m.Weight("1-31-0"))
	}
}

// A load client gets only what its load asks for.
func TestLoadArguments(t *testing.T) {
	for reason, tc := range map[string]struct {
		load Load
		want string
	}{
		"kept connections": {
			load: Load{URL: "http://a/", Requests: 10, QPS: 5, Connections: 2},
			want: "-url=http://a/ -requests=10 -qps=5 -connections=2",
		},
		"new ones": {
			load: Load{URL: "http://a/", Requests: 10, QPS: 5, Connections: 2, Fresh: true},
			want: "-url=http://a/ -requests=10 -qps=5 -connections=2 -fresh",
		},
		"HTTP/2 and a stream": {
			load: Load{URL: "http://a/", Requests: 10, QPS: 5, Connections: 2, HTTP2: true, Stream: "http://a/stream"},
			want: "-url=http://a/ -requests=10 -qps=5 -connections=2 -h2 -stream=http://a/stream",
		},
	} {
		if diff := cmp.Diff(tc.want, strings.Join(tc.load.arguments(), " ")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", reason, diff)
		}
	}
}

// The failures of all clients are added up, and the stream is none of the requests.
func TestTrafficResult(t *testing.T) {
	early, late := time.Unix(10, 0), time.Unix(20, 0)
	r := TrafficResult{
		"fresh": {Requests: 100, Failed: 2, Connections: 100, Codes: map[string]int64{"200": 98, "503": 2}, LastFailure: &late},
		"http2": {Requests: 50, Connections: 4, Stream: &StreamResult{Lines: 7, Broken: []StreamBreach{{Seconds: 1.5, Cause: "reset"}}}},
		"kept":  {Requests: 50, Failed: 1, Connections: 4, Codes: map[string]int64{"-1": 1, "200": 49}, LastFailure: &early},
	}
	if sent, failed := r.Requests(); sent != 200 || failed != 3 || !r.LastFailure().Equal(late) {
		t.Errorf("%d failed of %d, the last at %v", failed, sent, r.LastFailure())
	}
	want := "3 failed of 200 requests; fresh: 100 over 100 connections, 2 failed map[200:98 503:2] map[]; http2: 50 over 4 connections; " +
		"kept: 50 over 4 connections, 1 failed map[-1:1 200:49] map[]; stream: 7 lines, broken 1 times, after 1.5 s (reset)"
	if diff := cmp.Diff(want, r.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Each misbehaviour is one patch, for gateways alone.
func TestPatches(t *testing.T) {
	for how, text := range patches {
		var list []struct {
			ApplyTo string
			Match   struct{ Context string }
			Patch   struct {
				Operation string
				Value     map[string]any
			}
		}
		if err := yaml.Unmarshal([]byte(text), &list); err != nil {
			t.Errorf("%s: %v", how, err)
		}
		for _, patch := range list {
			if patch.ApplyTo == "" || patch.Match.Context != "GATEWAY" || patch.Patch.Operation == "" || len(patch.Patch.Value) == 0 {
				t.Errorf("%s: %+v", how, patch)
			}
		}
		if len(list) != 1 {
			t.Errorf("%s has %d patches", how, len(list))
		}
	}
}
