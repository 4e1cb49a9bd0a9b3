// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"cmp"
	"context"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
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

// Read makes an index of the pods and workloads that there are at this moment, for a look that is not repeated.
func Read(ctx context.Context, live client.Reader) (*Index, error) {
	now := NewIndex(0, func() {})
	for _, source := range []struct {
		list  client.ObjectList
		store interface {
			Replace(objects []any, version string) error
		}
	}{
		{&corev1.PodList{}, now},
		{&appsv1.DeploymentList{}, now.workloadsOf(kindDeployment)},
		{&appsv1.StatefulSetList{}, now.workloadsOf(kindStatefulSet)},
		{&appsv1.DaemonSetList{}, now.workloadsOf(kindDaemonSet)},
	} {
		var all []any
		for {
			if err := live.List(ctx, source.list, client.Limit(page), client.Continue(source.list.GetContinue())); err != nil {
				return nil, err
			}
			err := apimeta.EachListItem(source.list, func(o runtime.Object) error {
				if p, is := o.(*corev1.Pod); !is || p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
					all = append(all, o.DeepCopyObject())
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
			if source.list.GetContinue() == "" {
				break
			}
		}
		if err := source.store.Replace(all, ""); err != nil {
			return nil, err
		}
	}
	return now, nil
}
