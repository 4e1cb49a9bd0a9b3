// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"cmp"
	"slices"
	"time"
)

// Proxy is a pod with a proxy, as one that dials it has to know it.
type Proxy struct {
	Namespace, Name string
	// Address is its IP.
	Address string
	// Born is the time of its creation, in seconds since 1970: it tells pods of one name apart.
	Born int64
	// Edge says that it takes no mTLS of the mesh: a gateway.
	Edge bool
	// Leaf is how long the certificates live that it asks for; 0: as long as Istio has it.
	Leaf time.Duration
}

// Proxies are the pods that revisions of the given names have injected and that have an address, by namespace and name. Those that are being deleted
// are among them until they are gone.
func (i *Index) Proxies(revisions map[string]bool) []Proxy {
	var out []Proxy
	i.mu.RLock()
	defer i.mu.RUnlock()
	for namespace, pods := range i.namespaces {
		for name, p := range pods {
			if p.revision != nothing && revisions[p.revision.Value()] && p.address != "" {
				out = append(out, Proxy{Namespace: namespace, Name: name, Address: p.address, Born: p.born, Edge: p.edge, Leaf: p.leaf})
			}
		}
	}
	slices.SortFunc(out, func(a, b Proxy) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out
}
