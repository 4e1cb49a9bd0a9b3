// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// memory holds what was just done to workloads and pods and is not in any object, or not yet. It is lost with the process, and
// nothing hangs on it but politeness: what is stamped twice is restarted once, an eviction is only asked for.
type memory struct {
	mu sync.Mutex
	// stamped are the times of restarts by stamp and workload.
	stamped map[string]map[string]time.Time
	// refused are pods whose eviction was refused.
	refused map[types.NamespacedName]refusal
}

type refusal struct {
	why   string
	times int
	until time.Time
}

// How long a pod is left alone whose eviction was refused: it doubles with each refusal.
const (
	refusedFirst = 5 * time.Second
	refusedLast  = 2 * time.Minute
)

// Stamped remembers that a workload, as kind/namespace/name, was restarted.
func (i *Index) Stamped(stamp, workload string, now time.Time) {
	m := &i.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stamped[stamp] == nil {
		m.stamped = map[string]map[string]time.Time{stamp: {}} // a rollout moves at a time, one way at a time
	}
	m.stamped[stamp][workload] = now
}

// stampedAt is when a workload was restarted by this process.
func (m *memory) stampedAt(stamp, workload string) (time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.stamped[stamp][workload]
	return at, ok
}

// Refused remembers that the eviction of a pod was refused.
func (i *Index) Refused(pod types.NamespacedName, why string, now time.Time) {
	defer i.tell()
	m := &i.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refused == nil {
		m.refused = map[types.NamespacedName]refusal{}
	}
	last := m.refused[pod]
	wait := min(refusedLast, refusedFirst<<min(last.times, 6))
	m.refused[pod] = refusal{why: why, times: last.times + 1, until: now.Add(wait)}
}

// tell lets the listeners know of what is remembered.
func (i *Index) tell() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.changed()
}

// refusedOf says whether the eviction of a pod was refused, why, and whether it is to be left alone still.
func (m *memory) refusedOf(pod types.NamespacedName, now time.Time) (why string, alone bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	last, refused := m.refused[pod]
	return last.why, refused && now.Before(last.until)
}

// forgetPod forgets a pod that is gone.
func (m *memory) forgetPod(pod types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.refused, pod)
}
