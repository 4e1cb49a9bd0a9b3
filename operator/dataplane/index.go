// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// pod is what is kept of a pod. Names of namespaces, revisions and gateways are shared between pods.
type pod struct {
	// revision that injected the proxy; the zero handle when there is none.
	revision unique.Handle[string]
	// gateway is the MeshGateway that the pod belongs to.
	gateway unique.Handle[string]
	// optedOut pods don't want a sidecar.
	optedOut bool
}

// namespacePods are the pods of one namespace by name.
type namespacePods map[string]pod

// Index holds every pod of the cluster that has not ended. It is the store that a reflector fills; it can be read from
// several goroutines.
type Index struct {
	mu         sync.RWMutex
	namespaces map[string]namespacePods
	synced     bool

	notify   func()
	debounce time.Duration
	timer    *time.Timer
}

// NewIndex makes an empty index. Changes are told by notify, at most once in debounce.
func NewIndex(debounce time.Duration, notify func()) *Index {
	return &Index{namespaces: map[string]namespacePods{}, notify: notify, debounce: debounce}
}

// Annotations and labels by which Istio's injector tells what it did and is told what not to do.
const (
	statusAnnotation = "sidecar.istio.io/status"
	injectKey        = "sidecar.istio.io/inject"
	// RevisionLabel on a namespace or pod says which revision or tag injects; on an injected pod, as annotation, which did.
	RevisionLabel = "istio.io/rev"
	// InjectionLabel on a namespace turns injection by the default revision on (enabled) or all injection off (disabled).
	InjectionLabel = "istio-injection"
)

var nothing = unique.Make("")

func podOf(meta metav1.Object) pod {
	annotations, labels := meta.GetAnnotations(), meta.GetLabels()
	p := pod{revision: nothing, gateway: unique.Make(labels[v1alpha1.LabelGateway])}
	if text, injected := annotations[statusAnnotation]; injected {
		var status struct {
			Revision string `json:"revision"`
		}
		if json.Unmarshal([]byte(text), &status) != nil || status.Revision == "" {
			status.Revision = annotations[RevisionLabel]
		}
		p.revision = unique.Make(status.Revision)
	}
	p.optedOut = labels[injectKey] == "false" || labels[injectKey] == "" && annotations[injectKey] == "false"
	return p
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

// changed starts the wait after which a notification is due, unless one is under way. The lock is held.
func (i *Index) changed() {
	if i.timer != nil || !i.synced {
		return
	}
	i.timer = time.AfterFunc(i.debounce, func() {
		i.mu.Lock()
		i.timer = nil
		i.mu.Unlock()
		i.notify()
	})
}

// The methods by which a reflector fills the index.
var _ cache.ReflectorStore = (*Index)(nil)

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
	i.mu.Unlock()
	i.notify()
	return nil
}

// Resync does nothing: what the index holds does not depend on when it looks.
func (i *Index) Resync() error { return nil }

// Synced says whether the index has seen all pods once. Before, nothing it says may be taken for a fact.
func (i *Index) Synced() bool {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.synced
}

// Query asks for the counts of one mesh.
type Query struct {
	// Stable is the revision that pods should have.
	Stable string
	// Namespaces belong to the mesh.
	Namespaces map[string]bool
	// Revisions are all revisions of the mesh.
	Revisions map[string]bool
}

// Counts are the pods of one mesh.
type Counts struct {
	// ByRevision counts proxies of the mesh's revisions.
	ByRevision map[string]int32
	// Current counts the proxies of the stable revision.
	Current int32
	// Outdated counts pods of the mesh's namespaces without a proxy of the stable revision, and proxies of its other
	// revisions elsewhere; Examples names some of them as namespace/name, in order.
	Outdated int32
	Examples []string
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
			revision := p.revision.Value()
			if q.Revisions[revision] {
				out.ByRevision[revision]++
			}
			switch {
			case revision == q.Stable && revision != "":
				out.Current++
			case q.Revisions[revision], q.Namespaces[namespace] && !p.optedOut:
				out.Outdated++
				out.Examples = append(out.Examples, namespace+"/"+name)
			}
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
