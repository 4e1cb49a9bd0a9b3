// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package manager

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// further is how many writes each operator of TestCrashes comes further than the one before it: an installation has some
// sixty, and what was not recorded is written again.
const further = 4

// An operator that dies again and again in the middle of its writes, once before the API server has a write and once after,
// ends where one ends that lives.
func TestCrashes(t *testing.T) {
	w := startAPIServer(t)
	stop := w.operate(t, nil)
	w.install(t)
	want := w.installed(t)
	w.uninstall(t)
	stop()

	var deaths atomic.Int32
	stop = w.operate(t, func(die func()) func(*http.Request, http.RoundTripper) (*http.Response, error) {
		var writes atomic.Int32
		last := further * (deaths.Load() + 1)
		return func(r *http.Request, next http.RoundTripper) (*http.Response, error) {
			if r.Method == http.MethodGet || strings.Contains(r.URL.Path, "/leases") || strings.Contains(r.URL.Path, "/events") || writes.Add(1) != last {
				return next.RoundTrip(r)
			}
			before := deaths.Add(1)%2 == 0
			die()
			if before {
				return nil, context.Canceled
			}
			if response, err := next.RoundTrip(r); err == nil {
				_ = response.Body.Close()
			}
			return nil, context.Canceled // the answer never reached it
		}
	})
	w.install(t)
	t.Logf("%d deaths", deaths.Load())
	if deaths.Load() < 4 {
		t.Errorf("the operator died %d times only: this test says little", deaths.Load())
	}
	if diff := cmp.Diff(want, w.installed(t)); diff != "" {
		t.Errorf("another end than without deaths (-want +got):\n%s", diff)
	}
	w.uninstall(t)
	stop()
}

func (w *world) install(t *testing.T) {
	t.Helper()
	m := mesh("1.29")
	m.Spec.Tags = []v1alpha1.Tag{{Name: "prod"}}
	m.Spec.Gateways = []v1alpha1.Gateway{{Name: "ingress", Namespace: "istio-ingress"}}
	if err := w.client.Create(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w.istiod(t)
	w.deploy(t, "istio-ingress")
	w.ready(t)
}

func (w *world) uninstall(t *testing.T) {
	t.Helper()
	m := mesh("1.29")
	w.patch(t, m, `{"spec":{"deletionPolicy":{"inUse":"Proceed"}}}`)
	if err := w.client.Delete(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w.eventually(t, "the mesh to be gone", func() (bool, string) {
		err := w.client.Get(t.Context(), client.ObjectKeyFromObject(m), m)
		return client.IgnoreNotFound(err) == nil && err != nil, w.conditions()
	})
}

// installed is what the inventories of the mesh, its revision and its gateway hold.
func (w *world) installed(t *testing.T) []v1alpha1.InventoryItem {
	t.Helper()
	var m v1alpha1.MeshInstallation
	var r v1alpha1.MeshRevision
	var g v1alpha1.MeshGateway
	for key, o := range map[client.ObjectKey]client.Object{{Name: "default"}: &m, {Name: "1-29-1"}: &r, {Namespace: "istio-ingress", Name: "ingress"}: &g} {
		if err := w.client.Get(t.Context(), key, o); err != nil {
			t.Fatal(err)
		}
	}
	all := append(append(m.Status.Inventory, r.Status.Inventory...), g.Status.Inventory...)
	for i := range all {
		all[i].Fields = "" // follows from who wrote first
	}
	return all
}

// operate runs operators one after the other until stop: interrupt, when there is one, sees each request of one operator and may
// let it die.
func (w *world) operate(t *testing.T, interrupt func(die func()) func(*http.Request, http.RoundTripper) (*http.Response, error)) (stop func()) {
	t.Helper()
	all, end := context.WithCancel(context.Background())
	ended := make(chan struct{})
	options := optionsOf(t)
	go func() {
		defer close(ended)
		for all.Err() == nil {
			one, die := context.WithCancel(all)
			config := rest.CopyConfig(w.config)
			if interrupt != nil {
				see := interrupt(die) //nolint:bodyclose // it makes a function, no response
				config.Wrap(func(next http.RoundTripper) http.RoundTripper {
					return roundTripper(func(r *http.Request) (*http.Response, error) { return see(r, next) })
				})
			}
			mgr, err := New(one, config, options)
			if err == nil {
				err = mgr.Start(one)
			}
			if err != nil && one.Err() == nil {
				t.Errorf("the operator ended with %v", err)
				die()
				return
			}
			die()
		}
	}()
	return func() {
		end()
		<-ended
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
