// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package selfupgrade

import (
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
)

// The namespaces of clients: inside they have sidecars.
const (
	inside  = "clients"
	outside = "outside"
)

const (
	// bound is how long traffic flows at most.
	bound = 10 * time.Minute
	// qps of each client inside; those outside send framework.TrafficQPS together.
	qps = 50
)

// send has clients inside send requests to both applications, and clients outside through the gateway. Stop ends them, and fails the test for
// each request that failed.
func send(t *testing.T) (stop func()) {
	t.Helper()
	var loads []framework.Load
	for _, app := range []framework.Echo{pay, cart} {
		load := framework.Load{
			Namespace: inside, Name: "load-" + app.Name, Requests: qps * int(bound.Seconds()), QPS: qps, Connections: 4,
			URL: framework.ServiceURL(client.ObjectKey{Namespace: app.Namespace, Name: app.Name}, framework.EchoPort),
		}
		if err := env.StartLoad(t.Context(), load); err != nil {
			t.Fatal(err)
		}
		loads = append(loads, load)
	}
	for _, load := range loads {
		if err := env.WaitLoading(t.Context(), load); err != nil {
			t.Fatal(err)
		}
	}
	traffic, err := env.StartTraffic(t.Context(), outside, ingress, bound)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		through, err := traffic.Stop(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Log("through the gateway: " + through.String())
		if sent, failed := through.Requests(); failed > 0 || sent == 0 {
			t.Errorf("%d of %d requests through the gateway failed", failed, sent)
		}
		for _, load := range loads {
			if err := env.StopLoad(t.Context(), load); err != nil {
				t.Fatal(err)
			}
			result, err := env.FinishLoad(t.Context(), load)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %d failed of %d requests", load.Name, result.Failed, result.Requests)
			if result.Failed > 0 || result.Requests == 0 {
				t.Errorf("%s: %d of %d requests failed: %v %v", load.Name, result.Failed, result.Requests, result.Codes, result.Errors)
			}
		}
	}
}
