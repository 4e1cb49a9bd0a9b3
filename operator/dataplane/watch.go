// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// running leaves out pods that have ended: they have no proxy any more.
const running = "status.phase!=Succeeded,status.phase!=Failed"

// Watcher fills an index with the metadata of all pods, until its context ends.
type Watcher struct {
	index  *Index
	client metadata.Interface
}

// NewWatcher makes a watcher for an index.
func NewWatcher(config *rest.Config, index *Index) (*Watcher, error) {
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of pods' metadata: %w", err)
	}
	return &Watcher{index: index, client: client}, nil
}

// Start lists and watches until the context ends.
func (w *Watcher) Start(ctx context.Context) error {
	pods := w.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"})
	source := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.FieldSelector = running
			return pods.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			options.FieldSelector = running
			return pods.Watch(ctx, options)
		},
	}, w.client)
	reflector := cache.NewReflectorWithOptions(source, &metav1.PartialObjectMetadata{}, w.index, cache.ReflectorOptions{
		Name:            "pods",
		TypeDescription: "metadata of pods",
	})
	reflector.RunWithContext(ctx)
	return nil
}

// NeedLeaderElection says that only the replica that acts needs the pods.
func (w *Watcher) NeedLeaderElection() bool { return true }
