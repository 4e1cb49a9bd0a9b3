// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package apply

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/testkit"
)

const manager = "meshwright-test"

// world is a mesh of a test: its namespace on a shared API server, an applier with its cache, and the inventory that a
// controller would keep in a status.
type world struct {
	*Applier
	// others writes as somebody else, and reads past the cache.
	others    client.Client
	config    *rest.Config
	requests  *testkit.Requests
	mesh      string
	events    chan struct{}
	inventory []v1alpha1.InventoryItem
	// stop ends the process that start began.
	stop func()
}

func newWorld(t *testing.T, config *rest.Config, mesh string) *world {
	t.Helper()
	others, err := client.New(config, client.Options{Scheme: runtime.NewScheme()})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{others: others, config: config, mesh: mesh, stop: func() {}}
	w.create(t, "helper", w.object(t, "{apiVersion: v1, kind: Namespace, metadata: {name: NS}}"))
	w.start(t, nil)
	return w
}

// start ends the process that went before and begins with an empty cache, as a new one does. What interrupt returns instead of nil is the error of a
// request; it gets the request and the way to the API server.
func (w *world) start(t *testing.T, interrupt func(*http.Request, http.RoundTripper) (*http.Response, error)) {
	t.Helper()
	config, requests := testkit.Count(w.config)
	if interrupt != nil {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) { return interrupt(r, next) })
		})
	}
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	mapper, err := apiutil.NewDynamicRESTMapper(config, httpClient)
	if err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	owned, err := NewOwned(config, scheme, mapper)
	if err != nil {
		t.Fatal(err)
	}
	live, err := client.New(config, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan struct{}, 1)
	owned.handlers = append(owned.handlers, func(*unstructured.Unstructured) {
		select {
		case events <- struct{}{}:
		default:
		}
	})
	w.stop()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- owned.Start(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the cache ended with %v", err)
		}
	})
	t.Cleanup(w.stop)
	w.Applier, w.requests, w.events = New(owned, live), requests, events
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// object reads YAML, in which NS stands for the namespace of this world.
func (w *world) object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	raw, err := yaml.YAMLToJSON([]byte(strings.ReplaceAll(text, "NS", w.mesh)))
	if err != nil {
		t.Fatal(err)
	}
	if err := o.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	return o
}

// marked is an object with the labels that render gives it.
func (w *world) marked(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	o := w.object(t, text)
	labels := o.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[v1alpha1.LabelMesh], labels[managedBy] = w.mesh, "meshwright"
	if o.GetKind() == crdKind.Kind {
		labels[v1alpha1.LabelMesh] = ""
	}
	o.SetLabels(labels)
	return o
}

func (w *world) configMap(t *testing.T, name, value string) *unstructured.Unstructured {
	t.Helper()
	return w.marked(t, fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: %s, namespace: NS}, data: {key: %s}}", name, value))
}

func isCRD(o *unstructured.Unstructured) bool { return o.GetKind() == crdKind.Kind }

func phaseOf(t *testing.T, objects ...*unstructured.Unstructured) Phase {
	t.Helper()
	wanted, err := Want(objects)
	if err != nil {
		t.Fatal(err)
	}
	// Only CRDs may be there already, whoever brought them.
	return Phase{Objects: wanted, Shared: slices.ContainsFunc(objects, isCRD)}
}

// try applies, and keeps the inventory as a controller does.
func (w *world) try(t *testing.T, phases ...Phase) (Result, error) {
	t.Helper()
	result, err := w.Apply(t.Context(), Request{
		Manager: manager, Mesh: w.mesh, Phases: phases, Inventory: w.inventory,
		Record: func(_ context.Context, intents []v1alpha1.InventoryItem) error {
			w.inventory = intents
			return nil
		},
	})
	w.inventory = result.Inventory
	return result, err
}

func (w *world) apply(t *testing.T, phases ...Phase) Result {
	t.Helper()
	result, err := w.try(t, phases...)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// unchanged asserts the fixpoint: one more apply asks for nothing.
func (w *world) unchanged(t *testing.T, phases ...Phase) {
	t.Helper()
	w.requests.Take()
	before := slices.Clone(w.inventory)
	if result := w.apply(t, phases...); result.Applied+result.Pruned != 0 {
		t.Errorf("with nothing to do, %d objects were applied and %d pruned", result.Applied, result.Pruned)
	}
	if asked := w.requests.Take(); len(asked) > 0 {
		t.Errorf("with nothing to do, the API server was asked:\n%s", strings.Join(asked, "\n"))
	}
	if !slices.Equal(before, w.inventory) {
		t.Errorf("with nothing to do, the inventory changed from %v to %v", before, w.inventory)
	}
}

// until waits until the cache satisfies a condition, looking again at each event.
func (w *world) until(t *testing.T, what string, satisfied func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !satisfied() {
		select {
		case <-w.events:
		case <-deadline:
			t.Fatalf("the cache never showed that %s", what)
		}
	}
}

// cached waits until the cache has caught up with what is live.
func (w *world) cached(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	live := w.live(t, o)
	w.until(t, o.GetKind()+" "+o.GetName()+" is as it is", func() bool {
		there, err := w.owned.Get(t.Context(), o.GroupVersionKind(), client.ObjectKeyFromObject(o))
		if err != nil {
			t.Fatal(err)
		}
		if live == nil || there == nil {
			return live == nil && there == nil
		}
		return there.GetResourceVersion() == live.GetResourceVersion()
	})
}

// live reads an object from the API server; nil when it is not there.
func (w *world) live(t *testing.T, o *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	out := &unstructured.Unstructured{}
	out.SetGroupVersionKind(o.GroupVersionKind())
	if err := w.others.Get(t.Context(), client.ObjectKeyFromObject(o), out); err != nil {
		if client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
		return nil
	}
	return out
}

func (w *world) create(t *testing.T, by string, o *unstructured.Unstructured) {
	t.Helper()
	if err := w.others.Create(t.Context(), o.DeepCopy(), client.FieldOwner(by)); err != nil {
		t.Fatal(err)
	}
}

// change changes an object as somebody else.
func (w *world) change(t *testing.T, by string, o *unstructured.Unstructured, how func(map[string]any)) {
	t.Helper()
	live := w.live(t, o)
	how(live.Object)
	if err := w.others.Update(t.Context(), live, client.FieldOwner(by)); err != nil {
		t.Fatal(err)
	}
}

func (w *world) remove(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	if err := w.others.Delete(t.Context(), o.DeepCopy()); err != nil {
		t.Fatal(err)
	}
}

// set sets a field; nil removes it.
func set(value any, path ...string) func(map[string]any) {
	return func(o map[string]any) {
		if value == nil {
			unstructured.RemoveNestedField(o, path...)
			return
		}
		if err := unstructured.SetNestedField(o, value, path...); err != nil {
			panic(err)
		}
	}
}

func field(t *testing.T, o *unstructured.Unstructured, path ...string) any {
	t.Helper()
	if o == nil {
		t.Fatalf("the object with %v is not there", path)
	}
	value, _, err := unstructured.NestedFieldNoCopy(o.Object, path...)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
