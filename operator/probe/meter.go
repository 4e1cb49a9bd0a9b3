// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/traffic"
)

// Meter counts what the proxies of gateways do, over all pods of a version and across their beginnings and ends, for as long as somebody
// wants to know. It reads beside the reconciles, which ask for what was counted since a moment that they name.
type Meter struct {
	// Read reads one proxy.
	Read func(ctx context.Context, address string) (Proxy, error)
	// Pods are those of a gateway.
	Pods  func(ctx context.Context, gateway types.NamespacedName) ([]Pod, error)
	Clock clock.WithTicker
	// Cut is told of requests that were under way when a pod of a gateway ended.
	Cut func(gateway types.NamespacedName, requests int64)

	mu        sync.Mutex
	watched   map[types.NamespacedName]*count
	listeners []func()
}

// Pod of a gateway.
type Pod struct {
	Name              string
	UID               types.UID
	Address, Revision string
	Created           time.Time
	// Ready serves; Ending has been told to end.
	Ready, Ending bool
}

const (
	// meterEvery is how often all proxies that count are read, and meterFresh how old a reading may be.
	meterEvery = 2 * time.Second
	meterFresh = 10 * time.Second
	// atOnce bounds how many pods are read at a time.
	atOnce = 16
	// maxMarks bounds the moments that are remembered of a gateway: those of its weights, and of what looks at them.
	maxMarks = 16
)

// count is what was counted of one gateway.
type count struct {
	old, next string
	// began is when counting began, read the last reading.
	began, read time.Time
	pods        map[types.UID]*podCount
	sides       map[string]*side
	marks       map[string]*marked
	order       []string
	// left is since when nobody asks any more; the last pods of one of the versions may have requests under way then.
	left time.Time
}

type podCount struct {
	revision string
	ending   bool
	last     Proxy
}

// side is one version: what was counted since the beginning, and what the last reading saw.
type side struct {
	counters traffic.Counters
	buckets  map[float64]int64
}

func (s *side) clone() side {
	return side{counters: s.counters, buckets: maps.Clone(s.buckets)}
}

// marked is what had been counted at a moment; without sides it has not begun.
type marked struct {
	at    time.Time
	sides map[string]side
}

// Watch counts a gateway from now on; again with other versions, it begins anew.
func (m *Meter) Watch(gateway types.NamespacedName, old, next string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watched == nil {
		m.watched = map[types.NamespacedName]*count{}
	}
	if known := m.watched[gateway]; known != nil && known.old == old && known.next == next && known.left.IsZero() {
		return
	}
	m.watched[gateway] = &count{
		old: old, next: next, began: m.Clock.Now(), pods: map[types.UID]*podCount{}, marks: map[string]*marked{},
		sides: map[string]*side{old: {buckets: map[float64]int64{}}, next: {buckets: map[float64]int64{}}},
	}
}

// Forget stops counting a gateway, when the pods of the version that it has no more are gone.
func (m *Meter) Forget(gateway types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.watched[gateway]; c != nil && c.left.IsZero() {
		c.left = m.Clock.Now()
	}
}

// Listen tells after each round in which something was read.
func (m *Meter) Listen(tell func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.listeners = append(m.listeners, tell)
}

// Since is what was counted since a mark began: with the first reading after it was first named, for what was read before says nothing of what
// came after; or with the watch, when nothing was read yet. It is false until something was read after that, and while nothing could be
// read lately.
func (m *Meter) Since(gateway types.NamespacedName, mark string) (traffic.Sample, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.watched[gateway]
	if c == nil || !c.left.IsZero() {
		return traffic.Sample{}, false
	}
	from := c.marks[mark]
	if from == nil {
		c.mark(mark)
		return traffic.Sample{}, false
	}
	if from.sides == nil || !c.read.After(from.at) || m.Clock.Since(c.read) > meterFresh {
		return traffic.Sample{}, false
	}
	return traffic.Sample{
		Old: difference(c.sides[c.old], from.sides[c.old]), New: difference(c.sides[c.next], from.sides[c.next]), For: c.read.Sub(from.at),
	}, true
}

// mark names a moment. The oldest mark goes when there are too many, but for that of the whole.
func (c *count) mark(name string) {
	c.marks[name] = &marked{}
	if c.read.IsZero() {
		c.begin(c.marks[name], c.began)
	}
	if name == traffic.Whole {
		return
	}
	if c.order = append(c.order, name); len(c.order) > maxMarks {
		delete(c.marks, c.order[0])
		c.order = c.order[1:]
	}
}

// begin remembers what has been counted by now.
func (c *count) begin(m *marked, at time.Time) {
	m.at, m.sides = at, map[string]side{}
	for revision, s := range c.sides {
		m.sides[revision] = s.clone()
	}
}

// difference is what was counted between a mark and now.
func difference(now *side, from side) traffic.Counters {
	out := now.counters
	out.Connections -= from.counters.Connections
	out.Requests -= from.counters.Requests
	out.Errors -= from.counters.Errors
	out.Rejected -= from.counters.Rejected
	out.Cut -= from.counters.Cut
	counts := map[float64]int64{}
	for bound, n := range now.buckets {
		counts[bound] = n - from.buckets[bound]
	}
	out.Buckets = bucketsOf(counts)
	return out
}

// NeedLeaderElection says that only the replica that acts reads.
func (m *Meter) NeedLeaderElection() bool { return true }

// Start reads until the context ends.
func (m *Meter) Start(ctx context.Context) error {
	ticker := m.Clock.NewTicker(meterEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C():
		}
		m.round(ctx)
	}
}

// round reads every proxy of the gateways that are watched.
func (m *Meter) round(ctx context.Context) {
	m.mu.Lock()
	gateways, asked := slices.Collect(maps.Keys(m.watched)), false
	for _, c := range m.watched {
		asked = asked || c.left.IsZero()
	}
	m.mu.Unlock()
	for _, gateway := range gateways {
		pods, err := m.Pods(ctx, gateway)
		if err != nil {
			continue // what is not read grows old, and is said then
		}
		readings := m.readings(ctx, pods)
		m.mu.Lock()
		if c := m.watched[gateway]; c != nil {
			if cut := c.take(pods, readings, m.Clock.Now()); cut > 0 {
				m.Cut(gateway, cut)
			}
			if c.ended(m.Clock.Now()) {
				delete(m.watched, gateway)
			}
		}
		m.mu.Unlock()
	}
	m.mu.Lock()
	listeners := slices.Clone(m.listeners)
	m.mu.Unlock()
	if !asked {
		return
	}
	for _, tell := range listeners {
		tell()
	}
}

// readings of the pods that have an address; those that can't be read are left out.
func (m *Meter) readings(ctx context.Context, pods []Pod) map[types.UID]Proxy {
	var mu sync.Mutex
	out := map[types.UID]Proxy{}
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, p := range pods {
		if p.Address == "" {
			continue
		}
		group.Go(func() error {
			reading, err := m.Read(ctx, p.Address)
			if err != nil {
				return nil // a proxy that is not read is missing in the sample, which says so
			}
			mu.Lock()
			defer mu.Unlock()
			out[p.UID] = reading
			return nil
		})
	}
	_ = group.Wait() // no reading ends the others
	return out
}

// meterLeaves bounds how long a gateway is counted that nobody asks for: longer than any pod drains.
const meterLeaves = time.Hour

// ended says whether nobody asks any more, and one of the versions has no pods left.
func (c *count) ended(now time.Time) bool {
	if c.left.IsZero() {
		return false
	}
	revisions := map[string]bool{}
	for _, p := range c.pods {
		revisions[p.revision] = true
	}
	return len(revisions) < len(c.sides) || now.Sub(c.left) > meterLeaves
}

// take takes a round in, and says how many requests were cut off.
func (c *count) take(pods []Pod, readings map[types.UID]Proxy, now time.Time) (cut int64) {
	for _, s := range c.sides {
		s.counters.Pods, s.counters.Wanted, s.counters.Active, s.counters.Listeners = 0, 0, 0, nil
	}
	there := map[types.UID]bool{}
	for _, p := range pods {
		s := c.sides[p.Revision]
		if s == nil {
			continue
		}
		there[p.UID] = true
		reading, read := readings[p.UID]
		if p.Ready && !p.Ending {
			s.counters.Wanted++
			if read {
				s.counters.Pods++
				common(&s.counters, reading.Listeners)
			}
		}
		if !read {
			continue
		}
		known := c.pods[p.UID]
		if known == nil {
			known = &podCount{revision: p.Revision, last: reading}
			// The API server keeps whole seconds of when a pod was made.
			if !p.Created.Before(c.began.Truncate(time.Second)) {
				known.last = Proxy{} // all that it has counted is new
			}
			known.last.Rejected = 0 // what it rejects it may have rejected since it began, and not count again
			c.pods[p.UID] = known
		}
		add(&s.counters, s.buckets, reading, known.last)
		known.last, known.ending = reading, p.Ending
		s.counters.Active += reading.Active
	}
	for uid, p := range c.pods {
		if there[uid] {
			continue
		}
		if p.ending {
			c.sides[p.revision].counters.Cut += p.last.Active
			cut += p.last.Active
		}
		delete(c.pods, uid)
	}
	c.read = now
	for _, m := range c.marks {
		if m.sides == nil {
			c.begin(m, now)
		}
	}
	return cut
}

// common keeps the listeners that every pod has.
func common(c *traffic.Counters, listeners []string) {
	if c.Pods == 1 {
		c.Listeners = slices.Clone(listeners)
		return
	}
	c.Listeners = slices.DeleteFunc(c.Listeners, func(l string) bool { return !slices.Contains(listeners, l) })
}

// PodsOf lists the pods of a gateway from the cache of what carries the label of a mesh.
func PodsOf(owned client.Reader) func(ctx context.Context, gateway types.NamespacedName) ([]Pod, error) {
	return func(ctx context.Context, gateway types.NamespacedName) ([]Pod, error) {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
		err := owned.List(ctx, list, client.InNamespace(gateway.Namespace), client.MatchingLabels{v1alpha1.LabelGateway: gateway.Name})
		if err != nil {
			return nil, err
		}
		var out []Pod
		for i := range list.Items {
			var p corev1.Pod
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &p); err != nil {
				return nil, err
			}
			if p.Status.Phase != corev1.PodRunning {
				continue
			}
			out = append(out, Pod{
				Name: p.Name, UID: p.UID, Address: p.Status.PodIP, Revision: p.Labels[v1alpha1.IstioRevision], Created: p.CreationTimestamp.Time,
				Ready: ready(&p), Ending: p.DeletionTimestamp != nil,
			})
		}
		return out, nil
	}
}

func ready(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
