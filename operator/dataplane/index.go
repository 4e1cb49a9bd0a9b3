// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// namespacePods are the pods of one namespace by name.
type namespacePods map[string]pod

// Index holds every pod of the cluster that has not ended. It is the store that a reflector fills; it can be read from
// several goroutines.
type Index struct {
	mu         sync.RWMutex
	namespaces map[string]namespacePods
	synced     bool
	// workloads by namespace and kind/name; kinds are those that have been seen once.
	workloads map[string]map[string]workload
	kinds     map[string]bool

	listeners []*listener
	memory    memory
}

// listener is told of changes, at most once in debounce.
type listener struct {
	notify   func()
	debounce time.Duration
	timer    *time.Timer
}

// NewIndex makes an empty index. Changes are told by notify, at most once in debounce.
func NewIndex(debounce time.Duration, notify func()) *Index {
	i := &Index{namespaces: map[string]namespacePods{}, workloads: map[string]map[string]workload{}, kinds: map[string]bool{}}
	i.Listen(debounce, notify)
	return i
}

// Listen tells changes to one more listener, at most once in debounce. Listeners come before the index is filled.
func (i *Index) Listen(debounce time.Duration, notify func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.listeners = append(i.listeners, &listener{notify: notify, debounce: debounce})
}

func (i *Index) set(object any) error {
	meta, ok := object.(metav1.Object)
	if !ok {
		return fmt.Errorf("the index of pods was given a %T", object)
	}
	namespace, name := meta.GetNamespace(), meta.GetName()
	next := podOf(meta)
	i.mu.Lock()
	defer i.mu.Unlock()
	pods := i.namespaces[namespace]
	if pods == nil {
		pods = namespacePods{}
		i.namespaces[namespace] = pods
	}
	if last, known := pods[name]; known && last == next {
		return nil
	}
	pods[name] = next
	i.changed()
	return nil
}

// changed starts the waits after which notifications are due, unless they are under way. The lock is held.
func (i *Index) changed() {
	if !i.synced {
		return
	}
	for _, l := range i.listeners {
		if l.timer != nil {
			continue
		}
		l.timer = time.AfterFunc(l.debounce, func() {
			i.mu.Lock()
			l.timer = nil
			i.mu.Unlock()
			l.notify()
		})
	}
}

// The methods by which a reflector fills the index.
var _ cache.TransformingStore = (*Index)(nil)

// Add keeps a pod.
func (i *Index) Add(object any) error { return i.set(object) }

// Update keeps a pod as it is now.
func (i *Index) Update(object any) error { return i.set(object) }

// Delete forgets a pod.
func (i *Index) Delete(object any) error {
	meta, ok := object.(metav1.Object)
	if !ok {
		return fmt.Errorf("the index of pods was given a %T", object)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	pods := i.namespaces[meta.GetNamespace()]
	if _, known := pods[meta.GetName()]; !known {
		return nil
	}
	delete(pods, meta.GetName())
	i.memory.forgetPod(types.NamespacedName{Namespace: meta.GetNamespace(), Name: meta.GetName()})
	if len(pods) == 0 {
		delete(i.namespaces, meta.GetNamespace()) // a map that was large keeps its memory
	}
	i.changed()
	return nil
}

// Replace forgets all pods and keeps the given ones; from then on the index is known to be whole.
func (i *Index) Replace(objects []any, _ string) error {
	next := map[string]namespacePods{}
	for _, object := range objects {
		meta, ok := object.(metav1.Object)
		if !ok {
			return fmt.Errorf("the index of pods was given a %T", object)
		}
		pods := next[meta.GetNamespace()]
		if pods == nil {
			pods = namespacePods{}
			next[meta.GetNamespace()] = pods
		}
		pods[meta.GetName()] = podOf(meta)
	}
	i.mu.Lock()
	i.namespaces, i.synced = next, true
	listeners := i.listeners
	i.mu.Unlock()
	for _, l := range listeners {
		l.notify()
	}
	return nil
}

// Transformer drops what the index does not keep, as soon as it is read.
func (i *Index) Transformer() cache.TransformFunc { return trimPod }

// Resync does nothing: what the index holds does not depend on when it looks.
func (i *Index) Resync() error { return nil }

// Synced says whether the index has seen all pods once. Before, nothing it says may be taken for a fact.
func (i *Index) Synced() bool {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.synced
}

// Whole says whether the index has seen all pods and all workloads once.
func (i *Index) Whole() bool {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.synced && i.kinds[kindDeployment] && i.kinds[kindStatefulSet] && i.kinds[kindDaemonSet]
}

// Query asks for the counts of one mesh.
type Query struct {
	// Stable is the revision that pods should have.
	Stable string
	// Namespaces belong to the mesh.
	Namespaces map[string]bool
	// Revisions are all revisions of the mesh, with the digest of what each injects now; empty where that is not known.
	Revisions map[string]string
}

// Counts are the pods of one mesh.
type Counts struct {
	// ByRevision counts proxies of the mesh's revisions.
	ByRevision map[string]int32
	// Current counts the proxies of the stable revision, as it injects them now.
	Current int32
	// Outdated counts pods of the mesh's namespaces without such a proxy, and proxies of its other revisions elsewhere;
	// Examples names some of them as namespace/name, in order. Stale ones among them are of the stable revision, but not as it
	// injects them now.
	Outdated, Stale int32
	Examples        []string
}

// maxExamples bounds lists of examples in status.
const maxExamples = 20

// Count counts the pods of one mesh.
func (i *Index) Count(q Query) Counts {
	i.mu.RLock()
	defer i.mu.RUnlock()
	out := Counts{ByRevision: map[string]int32{}}
	for namespace, pods := range i.namespaces {
		for name, p := range pods {
			verdict, ours := q.judge(namespace, p)
			if ours {
				out.ByRevision[p.revision.Value()]++
			}
			switch verdict {
			case PodForeign:
				continue
			case PodCurrent:
				out.Current++
				continue
			case PodStale:
				out.Stale++
			case PodOutdated:
			}
			out.Outdated++
			out.Examples = append(out.Examples, namespace+"/"+name)
		}
	}
	slices.Sort(out.Examples)
	out.Examples = slices.Clip(out.Examples[:min(maxExamples, len(out.Examples))])
	return out
}

// Users names pods, as namespace/name in order, that a revision of the given ones injected and that belong to no gateway
// in except, whose entries are namespace/name of MeshGateways.
func (i *Index) Users(revisions, except map[string]bool) []string {
	i.mu.RLock()
	defer i.mu.RUnlock()
	var out []string
	for namespace, pods := range i.namespaces {
		for name, p := range pods {
			if revisions[p.revision.Value()] && p.revision != nothing && !except[namespace+"/"+p.gateway.Value()] {
				out = append(out, namespace+"/"+name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// Examples names a few pods that a revision injected and that belong to no gateway, in order.
func (i *Index) Examples(revision string) []types.NamespacedName {
	var out []types.NamespacedName
	i.mu.RLock()
	defer i.mu.RUnlock()
	for namespace, pods := range i.namespaces {
		for name, p := range pods {
			if revision != "" && p.revision.Value() == revision && p.gateway == nothing && !p.ending {
				out = append(out, types.NamespacedName{Namespace: namespace, Name: name})
			}
		}
	}
	slices.SortFunc(out, func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	return slices.Clip(out[:min(maxTried, len(out))])
}

// Ready are the pods that a revision injected and that serve: their proxies have been configured by its istiod.
func (i *Index) Ready(revision string) map[types.NamespacedName]bool {
	out := map[types.NamespacedName]bool{}
	i.mu.RLock()
	defer i.mu.RUnlock()
	for namespace, pods := range i.namespaces {
		for name, p := range pods {
			if p.revision != nothing && p.revision.Value() == revision && p.ready && !p.ending {
				out[types.NamespacedName{Namespace: namespace, Name: name}] = true
			}
		}
	}
	return out
}

// maxTried is how many pods are tried as an example before a plain one is taken.
const maxTried = 3
