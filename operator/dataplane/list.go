// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"cmp"
	"slices"
)

// Judged is a pod as it counts for a mesh.
type Judged struct {
	Namespace, Name string
	// Owner is kind/name of what would have to be restarted.
	Owner string
	// Revision that injected its proxy; empty for none.
	Revision string
	// Gateway says that it belongs to a MeshGateway.
	Gateway bool
	// Verdict says how it counts.
	Verdict PodVerdict
	Ready   bool
}

// PodVerdict is how a pod counts for a mesh.
type PodVerdict int8

// The values of PodVerdict.
const (
	// PodForeign does not count.
	PodForeign PodVerdict = iota
	// PodCurrent has the proxy of the stable revision, as that injects it now.
	PodCurrent
	// PodStale has the proxy of the stable revision, but not as that injects it now.
	PodStale
	// PodOutdated has the proxy of another revision of the mesh, or none in a namespace of the mesh.
	PodOutdated
)

// judge says how a pod of a namespace counts, and whether its proxy is of the mesh.
func (q Query) judge(namespace string, p pod) (verdict PodVerdict, ours bool) {
	revision := p.revision.Value()
	injection, of := q.Revisions[revision]
	stale := injection != "" && p.injection.Value() != injection && p.gateway == nothing
	switch {
	case revision == q.Stable && revision != "" && !stale:
		return PodCurrent, of
	case revision == q.Stable && revision != "":
		return PodStale, of
	case of, q.Namespaces[namespace] && !p.optedOut:
		return PodOutdated, of
	}
	return PodForeign, of
}

// Judged are the pods that count for a mesh, in the order of their names.
func (i *Index) Judged(q Query) []Judged {
	i.mu.RLock()
	defer i.mu.RUnlock()
	var out []Judged
	for namespace, pods := range i.namespaces {
		for name, p := range pods {
			if verdict, _ := q.judge(namespace, p); verdict != PodForeign {
				out = append(out, Judged{
					Namespace: namespace, Name: name, Owner: p.owner.Value(), Revision: p.revision.Value(), Gateway: p.gateway != nothing, Verdict: verdict, Ready: p.ready,
				})
			}
		}
	}
	slices.SortFunc(out, func(a, b Judged) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}
