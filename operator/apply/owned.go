// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Owned is the cache of everything that carries the label of a mesh, and nothing else: what Meshwright applied, and the
// pods of istiod and of gateways. Kinds are watched from the first time they are asked for.
type Owned struct {
	cache cache.Cache
	// Client reads from this cache, waits until the cache has seen its own writes, and writes to the API server.
	Client client.Client

	mu       sync.Mutex
	watching map[schema.GroupVersionKind]bool
	handlers []func(*unstructured.Unstructured)
}

// NewOwned makes the cache; it has to be started.
func NewOwned(config *rest.Config, scheme *runtime.Scheme, mapper meta.RESTMapper) (*Owned, error) {
	marked, err := labels.NewRequirement(v1alpha1.LabelMesh, selection.Exists, nil)
	if err != nil {
		return nil, err
	}
	c, err := cache.New(config, cache.Options{
		Scheme:               scheme,
		Mapper:               mapper,
		DefaultLabelSelector: labels.NewSelector().Add(*marked),
		DefaultTransform:     trim,
	})
	if err != nil {
		return nil, fmt.Errorf("cache of owned objects: %w", err)
	}
	cl, err := client.New(config, client.Options{
		Scheme: scheme,
		Mapper: mapper,
		Cache:  &client.CacheOptions{Reader: c, Unstructured: true, EnableReadYourWritesConsistency: new(true)},
	})
	if err != nil {
		return nil, fmt.Errorf("client of owned objects: %w", err)
	}
	return &Owned{cache: c, Client: cl, watching: map[schema.GroupVersionKind]bool{}}, nil
}

// Start runs the cache until the context ends.
func (o *Owned) Start(ctx context.Context) error { return o.cache.Start(ctx) }

// trim drops what nobody reads: the schemas of CRDs, which are most of Istio's bytes, the content of ConfigMaps, and which
// fields others own. Of webhooks the latter is kept: it says whether istiod took over the failurePolicy.
func trim(in any) (any, error) {
	u, ok := in.(*unstructured.Unstructured)
	if !ok {
		return in, nil
	}
	if u.GetKind() == "CustomResourceDefinition" {
		unstructured.RemoveNestedField(u.Object, "spec", "versions")
		unstructured.RemoveNestedField(u.Object, "spec", "conversion")
	}
	if u.GetKind() == "ConfigMap" {
		unstructured.RemoveNestedField(u.Object, "data")
	}
	if !isWebhook(u) {
		u.SetManagedFields(slices.DeleteFunc(u.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool {
			return e.Operation != metav1.ManagedFieldsOperationApply || !strings.HasPrefix(e.Manager, "meshwright-")
		}))
	}
	unstructured.RemoveNestedField(u.Object, "metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration")
	return u, nil
}

// Watch starts to watch kinds that are not watched yet, and returns when the cache holds them.
func (o *Owned) Watch(ctx context.Context, kinds ...schema.GroupVersionKind) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, kind := range kinds {
		o.mu.Lock()
		known := o.watching[kind]
		o.mu.Unlock()
		if !known {
			group.Go(func() error { return o.watch(ctx, kind) })
		}
	}
	return group.Wait()
}

func (o *Owned) watch(ctx context.Context, kind schema.GroupVersionKind) error {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	informer, err := o.cache.GetInformer(ctx, u, cache.BlockUntilSynced(true))
	if err != nil {
		return fmt.Errorf("watching %s: %w", kind.Kind, err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.watching[kind] {
		return nil
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    o.notify,
		UpdateFunc: func(_, now any) { o.notify(now) },
		DeleteFunc: o.notify,
	})
	if err != nil {
		return fmt.Errorf("watching %s: %w", kind.Kind, err)
	}
	o.watching[kind] = true
	return nil
}

func (o *Owned) notify(event any) {
	if gone, ok := event.(toolscache.DeletedFinalStateUnknown); ok {
		event = gone.Obj
	}
	u, ok := event.(*unstructured.Unstructured)
	if !ok {
		return
	}
	o.mu.Lock()
	handlers := o.handlers
	o.mu.Unlock()
	for _, handle := range handlers {
		handle(u)
	}
}

// Source turns events of owned objects into requests of a controller.
func (o *Owned) Source(requests func(*unstructured.Unstructured) []reconcile.Request) source.Source {
	return source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.handlers = append(o.handlers, func(u *unstructured.Unstructured) {
			for _, r := range requests(u) {
				queue.Add(r)
			}
		})
		return nil
	})
}

// Get reads an object from the cache; nil when it is not there.
func (o *Owned) Get(ctx context.Context, kind schema.GroupVersionKind, key client.ObjectKey) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	if err := o.Client.Get(ctx, key, u); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return u, nil
}
