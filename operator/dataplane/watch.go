// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// running leaves out pods that have ended: they have no proxy any more.
const running = "status.phase!=Succeeded,status.phase!=Failed"

// Watcher fills an index with all pods, and with what restarts them, until its context ends. Of what it reads only a few
// fields are kept.
type Watcher struct {
	index  *Index
	client kubernetes.Interface
}

// NewWatcher makes a watcher for an index.
func NewWatcher(config *rest.Config, index *Index) (*Watcher, error) {
	config = rest.CopyConfig(config)
	config.ContentType = runtime.ContentTypeProtobuf // pods are many, and JSON takes several times as long to read
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of pods: %w", err)
	}
	return &Watcher{index: index, client: client}, nil
}

// Start lists and watches until the context ends.
func (w *Watcher) Start(ctx context.Context) error {
	apps := w.client.AppsV1().RESTClient()
	group, ctx := errgroup.WithContext(ctx)
	for _, source := range []struct {
		name   string
		kind   runtime.Object
		fields string
		client cache.Getter
		store  cache.ReflectorStore
	}{
		{"pods", &corev1.Pod{}, running, w.client.CoreV1().RESTClient(), w.index},
		{"deployments", &appsv1.Deployment{}, "", apps, w.index.workloadsOf(kindDeployment)},
		{"statefulsets", &appsv1.StatefulSet{}, "", apps, w.index.workloadsOf(kindStatefulSet)},
		{"daemonsets", &appsv1.DaemonSet{}, "", apps, w.index.workloadsOf(kindDaemonSet)},
	} {
		selector, err := fields.ParseSelector(source.fields)
		if err != nil {
			return err
		}
		list := cache.NewListWatchFromClient(source.client, source.name, metav1.NamespaceAll, selector)
		reflector := cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(list, w.client), source.kind, source.store,
			cache.ReflectorOptions{Name: source.name, TypeDescription: source.name})
		group.Go(func() error {
			reflector.RunWithContext(ctx)
			return nil
		})
	}
	return group.Wait()
}

// NeedLeaderElection says that only the replica that acts needs the pods.
func (w *Watcher) NeedLeaderElection() bool { return true }
