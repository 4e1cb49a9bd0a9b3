// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package traffic

import (
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Every request to the gateway reaches a sidecar that accepts mTLS only, from the gateway's own identity; a client
// without a sidecar that goes around the gateway is refused.
func TestGatewayToSidecarOverMutualTLS(t *testing.T) {
	mesh := framework.Mesh("default", framework.Istio129)
	mesh.Spec.Gateways = []v1alpha1.Gateway{framework.Gateway("istio-ingress", "ingress")}
	env.Install(t, mesh)

	app := framework.Echo{Namespace: "shop", Name: "cart", Version: "v1", Replicas: 2}
	env.TemporaryNamespace(t, app.Namespace, map[string]string{framework.EnrollLabel: mesh.Name})
	env.TemporaryNamespace(t, "outside", nil)
	gateway := client.ObjectKey{Namespace: "istio-ingress", Name: "ingress"}
	waitEnrolled(t, app.Namespace, "1-29-1")
	for _, err := range []error{
		env.Deploy(t.Context(), app),
		env.RequireMTLS(t.Context(), app.Namespace),
		env.Expose(t.Context(), gateway, app),
		env.WaitDeployment(t.Context(), client.ObjectKey{Namespace: app.Namespace, Name: app.Name}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	url := framework.ServiceURL(gateway, 80)
	if err := env.WaitServing(t.Context(), gateway); err != nil {
		t.Fatal(err)
	}

	result, err := env.RunLoad(t.Context(), framework.Load{Namespace: "outside", Name: "load", URL: url, Requests: 200, QPS: 100, Connections: 4})
	if err != nil {
		t.Fatal(err)
	}
	if result.Failed != 0 || result.Requests != 200 {
		t.Errorf("load through the gateway: %+v, want 200 requests and none failed", result)
	}
	answer, err := env.Ask(t.Context(), gateway)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Revision != "1-29-1" {
		t.Errorf("the answering pod says revision %q, want 1-29-1", answer.Revision)
	}
	if !strings.Contains(answer.Peer, "/ns/istio-ingress/sa/ingress") {
		t.Errorf("the sidecar saw peer %q, want the gateway's service account", answer.Peer)
	}

	around := framework.ServiceURL(client.ObjectKey{Namespace: app.Namespace, Name: app.Name}, framework.EchoPort)
	direct, err := env.RunLoad(t.Context(), framework.Load{Namespace: "outside", Name: "around", URL: around, Requests: 10, QPS: 10, Connections: 1})
	if err != nil {
		t.Fatal(err)
	}
	if direct.Failed != direct.Requests || direct.Requests == 0 {
		t.Errorf("plain text around the gateway: %+v, want every request refused", direct)
	}
}
