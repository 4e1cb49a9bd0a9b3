// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package authority

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// Watcher watches single Secrets, from the first time that one is asked for.
type Watcher struct {
	client kubernetes.Interface
	notify func()

	mu      sync.Mutex
	ctx     context.Context //nolint:containedctx // it is that of Start, for what is asked for later
	watched map[types.NamespacedName]*watched
}

// watched is one Secret.
type watched struct {
	store  cache.Store
	synced cache.InformerSynced
	run    func(stop <-chan struct{})
}

// NewWatcher makes a watcher, which tells of each change by notify.
func NewWatcher(config *rest.Config, notify func()) (*Watcher, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &Watcher{client: client, notify: notify, watched: map[types.NamespacedName]*watched{}}, nil
}

// Start watches until the context ends.
func (w *Watcher) Start(ctx context.Context) error {
	w.mu.Lock()
	w.ctx = ctx
	for _, one := range w.watched {
		go one.run(ctx.Done())
	}
	w.mu.Unlock()
	<-ctx.Done()
	return nil
}

// get is a Secret as it was last read, nil when it is not there, and whether that is known.
func (w *Watcher) get(namespace, name string) (*corev1.Secret, bool) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	w.mu.Lock()
	defer w.mu.Unlock()
	one := w.watched[key]
	if one == nil {
		one = w.watch(key)
		w.watched[key] = one
		if w.ctx != nil {
			go one.run(w.ctx.Done())
		}
	}
	if !one.synced() {
		return nil, false
	}
	found, exists, err := one.store.GetByKey(key.String())
	if err != nil || !exists {
		return nil, err == nil
	}
	secret, is := found.(*corev1.Secret)
	return secret, is
}

func (w *Watcher) watch(key types.NamespacedName) *watched {
	source := cache.NewListWatchFromClient(w.client.CoreV1().RESTClient(), "secrets", key.Namespace, fields.OneTermEqualSelector("metadata.name", key.Name))
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: source, ObjectType: &corev1.Secret{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { w.notify() },
			UpdateFunc: func(any, any) { w.notify() },
			DeleteFunc: func(any) { w.notify() },
		},
	})
	// An informer of something that is not there tells nothing when it has found that out.
	run := func(stop <-chan struct{}) {
		go func() {
			if cache.WaitForCacheSync(stop, controller.HasSynced) {
				w.notify()
			}
		}()
		controller.Run(stop)
	}
	return &watched{store: store, synced: controller.HasSynced, run: run}
}
