// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"net"
	"path/filepath"
	"runtime"
	"testing"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// StartRoutingAPIServer is [StartAPIServer] with an API server that finds the webhooks of Services through EndpointSlices: there is
// no network of Services around it, and a test that plays such a webhook only has to say where it listens. See [HostIP].
func StartRoutingAPIServer(t *testing.T) *rest.Config {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..")
	environment := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join(root, "config", "crd")},
		ErrorIfCRDPathMissing: true,
	}
	environment.ControlPlane.GetAPIServer().Configure().Set("enable-aggregator-routing", "true")
	config, err := environment.Start()
	if err != nil {
		t.Fatalf("starting an API server (run make test-api, which sets KUBEBUILDER_ASSETS): %v", err)
	}
	t.Cleanup(func() {
		if err := environment.Stop(); err != nil {
			t.Errorf("stopping the API server: %v", err)
		}
	})
	return config
}

// HostIP is an address of this machine that an EndpointSlice may name, which loopback is not.
func HostIP(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	t.Fatal("this machine has no address but loopback: EndpointSlices can't name it")
	return ""
}
