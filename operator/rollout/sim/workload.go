// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"fmt"
	"slices"

	"github.com/meshwright/meshwright/operator/rollout"
)

// Workload of the model: a Deployment that starts one new pod at a time and lets an old one go when it is ready.
type Workload struct {
	// Name is kind/namespace/name; Namespace is that of it.
	Name, Namespace string
	Replicas        int
	// StartSeconds a pod takes to get ready.
	StartSeconds int
	// Crashes are the revisions with which its pods crash.
	Crashes []string
	// Held is why it can't be moved; Pinned a revision that its template names.
	Held, Pinned string
	// Refuses evictions.
	Refuses bool

	pods    []*pod
	created int
	// template is the newest one.
	template int
	// started is the revision that it was told to restart for; settled that it has.
	started string
	settled bool
	refused string
}

type pod struct {
	name, revision string
	born           int
	ready          bool
	// template is the one that it was made from.
	template int
}

// begin starts its pods as they are before the rollout.
func (w *Workload) begin(revision string) {
	w.settled = true
	for range w.Replicas {
		w.add(revision, -60).ready = true
	}
}

func (w *Workload) add(revision string, turn int) *pod {
	w.created++
	p := &pod{name: fmt.Sprintf("%s-%d", w.short(), w.created), revision: revision, born: turn, template: w.template}
	w.pods = append(w.pods, p)
	return p
}

func (w *Workload) short() string { return w.Name[len(w.Name)-1:] }

// Restart is a user's own restart.
func (w *Workload) Restart() { w.restart("") }

func (w *Workload) restart(target string) {
	w.settled, w.started = false, target
	w.template++
}

// live lets a turn pass.
func (w *Workload) live(c *Cluster) {
	for _, p := range w.pods {
		p.ready = c.turn-p.born >= w.StartSeconds && !slices.Contains(w.Crashes, p.revision)
	}
	for len(w.pods) < w.Replicas {
		w.add(c.injector(w), c.turn)
	}
	if w.settled {
		return
	}
	w.roll(c)
}

// roll is a rolling update: pods of other templates that are not ready go; one pod of the newest is made at a time, and when it is
// ready an old one goes.
func (w *Workload) roll(c *Cluster) {
	old := func(p *pod) bool { return p.template != w.template }
	w.pods = slices.DeleteFunc(w.pods, func(p *pod) bool { return old(p) && !p.ready })
	fresh := 0
	for _, p := range w.pods {
		if old(p) {
			continue
		}
		fresh++
		if !p.ready {
			return
		}
	}
	if i := slices.IndexFunc(w.pods, old); i >= 0 && len(w.pods) > w.Replicas {
		w.pods = slices.Delete(w.pods, i, i+1)
	}
	if fresh < w.Replicas {
		w.add(c.injector(w), c.turn)
		return
	}
	w.settled = !slices.ContainsFunc(w.pods, old)
}

// evict lets a pod go, unless it may not.
func (w *Workload) evict(name string) bool {
	if w.Refuses {
		w.refused = "its PodDisruptionBudget allows no eviction"
		return false
	}
	w.refused = ""
	w.pods = slices.DeleteFunc(w.pods, func(p *pod) bool { return p.name == name })
	return true
}

// recent counts its pods that were born within the last minute.
func (w *Workload) recent(turn int) int32 {
	n := int32(0)
	for _, p := range w.pods {
		if turn-p.born < 60 {
			n++
		}
	}
	return n
}

// facts are what the dataplane knows of it.
func (w *Workload) facts(target string, back bool) rollout.Workload {
	out := rollout.Workload{
		Name: w.Name, Desired: int32(w.Replicas), Pods: int32(len(w.pods)), Settled: w.settled, //nolint:gosec // a model is small
		Started: w.started == target, Astray: back && !w.settled && w.started != "" && w.started != target, Held: w.Held, Remedy: "", Refused: w.refused,
	}
	for _, p := range w.pods {
		switch {
		case p.revision == target && p.ready:
			out.Moved, out.Ready = out.Moved+1, out.Ready+1
		case p.revision == target:
			out.Moved++
			if slices.Contains(w.Crashes, p.revision) {
				out.Failing = "pod " + p.name + " is not ready: CrashLoopBackOff in container app"
			}
		case p.ready:
			out.Waiting = append(out.Waiting, p.name)
		case back:
			out.Down = append(out.Down, p.name)
		default:
			out.Broken++
		}
		if p.revision != target && p.template == w.template {
			out.Behind++
			if w.started == target {
				out.Missed++
			}
		}
	}
	return out
}
