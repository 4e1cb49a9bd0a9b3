// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package testkit is what the tests of controllers share: a real API server with the project's CRDs, and a count of what
// is asked of it.
package testkit

import (
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

// StartAPIServer starts a real etcd and kube-apiserver with the project's CRDs, until the test ends. Their binaries are in
// the folder that KUBEBUILDER_ASSETS names.
func StartAPIServer(t *testing.T) *rest.Config {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(file), "..", "..")
	environment := &envtest.Environment{
		CRDDirectoryPaths:     []string{filepath.Join(root, "config", "crd")},
		ErrorIfCRDPathMissing: true,
	}
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

// Requests counts what a client asks for.
type Requests struct {
	mu  sync.Mutex
	all []string
}

// Count makes a copy of a configuration whose requests are counted. Leases, watches and the discovery of kinds are left
// out: they are made whatever the mesh does.
func Count(config *rest.Config) (*rest.Config, *Requests) {
	counted, requests := rest.CopyConfig(config), &Requests{}
	counted.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			requests.note(r)
			return next.RoundTrip(r)
		})
	})
	return counted, requests
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (r *Requests) note(q *http.Request) {
	path := strings.Split(strings.Trim(q.URL.Path, "/"), "/")
	discovery := path[0] == "version" || path[0] == "api" && len(path) < 3 || path[0] == "apis" && len(path) < 4
	if q.URL.Query().Get("watch") != "" || strings.Contains(q.URL.Path, "/leases") || discovery {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, q.Method+" "+q.URL.Path)
}

// Take returns the requests since the last Take.
func (r *Requests) Take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.all
	r.all = nil
	return out
}
