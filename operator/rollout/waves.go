// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Workload is something that can be restarted, as it is. Pods that are being deleted are not counted.
type Workload struct {
	// Name is kind/namespace/name.
	Name string
	// Desired pods; Pods that there are; Moved of them have the proxy that the rollout moves to; Ready of the moved ones are
	// ready; Behind are of the newest template and have not moved; Missed were made by the restart for this rollout, in this
	// direction, and have not moved; Broken have not moved, and were not ready before.
	Desired, Pods, Moved, Ready, Behind, Missed, Broken int32
	// Started says that it was told to restart for this rollout, in this direction.
	Started bool
	// Settled says that all its pods are of its newest template.
	Settled bool
	// Astray says that the rollout sent it the other way before it turned back, and that it is not settled since.
	Astray bool
	// Failing names a moved pod and the reason why it does not become ready; empty while it may still.
	Failing string
	// Held is the reason why it can't be moved; Remedy says what to do.
	Held, Remedy string
	// Refused says why its pods could not be evicted last time.
	Refused string
	// Waiting are the names of its ready pods that could be evicted, in order; Resting counts those whose eviction was just
	// refused. Down are pods that could be evicted and serve nobody: those that the rollout broke before it turned back.
	Waiting, Down []string
	Resting       int32
}

// moved says whether all of it has moved. One that wants no pods has nothing to move.
func (w *Workload) moved() bool {
	return w.Pods == 0 && w.Desired == 0 || w.Settled && w.Moved == w.Pods && w.Ready >= w.Desired
}

// needs says whether it has to be restarted. Where the pods of its newest template have moved, its own controller is about to
// move the rest; while others deploy it, they come first.
func (w *Workload) needs() bool { return !w.Started && w.Behind > 0 && (w.Settled || w.Astray) }

// moving says whether it is on its way, and may have pods away.
func (w *Workload) moving() bool {
	return !w.moved() && (w.Started || w.Astray || w.Moved > 0 && !w.needs())
}

// failing says why the move of it has failed, if it has.
func (w *Workload) failing() string {
	if w.Started && w.Settled && w.Missed > 0 { // pods say themselves what made them: news of them may come later than that of their workload
		return "was restarted, and its new pods did not get the sidecar: look at the labels istio.io/rev and sidecar.istio.io/inject of its pods"
	}
	return w.Failing
}

// held says whether it can't be moved, now or ever. One that was not healthy before is left alone: it would only get worse, and
// the rollout would be blamed for it.
func (w *Workload) held() (reason, remedy string) {
	switch {
	case w.moved():
		return "", ""
	case w.Held != "":
		return w.Held, w.Remedy
	case !w.Started && !w.Astray && w.Moved == 0 && w.Broken > 0:
		return HeldNotReady, fmt.Sprintf("%d of its pods were not ready before: mend it, and it is moved", w.Broken)
	case !w.Started && !w.Astray && !w.Settled && w.Failing != "":
		return HeldNotReady, "somebody else's rollout of it does not get ready (" + w.Failing + "): mend it, and it is moved"
	}
	return "", ""
}

// Movable says whether a workload has something to move, and nothing keeps it from being moved.
func (w *Workload) Movable() bool {
	reason, _ := w.held()
	return reason == "" && !w.moved()
}

// Reasons why a workload can't be moved.
const (
	HeldBarePod      = "BarePod"
	HeldUnknownOwner = "UnknownOwner"
	HeldRunningJob   = "RunningJob"
	HeldOnDelete     = "OnDelete"
	HeldPaused       = "Paused"
	HeldExcluded     = "Excluded"
	HeldReverted     = "Reverted"
	HeldBlocked      = "EnrollmentBlocked"
	HeldNotReady     = "NotReady"
)

// Wave is a wave as it is, in workloads under restart type Rollout and Manual, in pods under Evict.
type Wave struct {
	// Known says that the counts are facts.
	Known bool
	// Total can be moved; Moved of them have; Moving are on their way.
	Total, Moved, Moving int32
	// Failing names a workload whose new pods do not become ready, and why.
	Failing string
	// Next is what is moved next; Refused why it could not be.
	Next, Refused string
	// Held workloads can't be moved.
	Held []v1alpha1.UnmovableWorkload
}

// Count counts a wave.
func Count(restart v1alpha1.RestartType, workloads []Workload) Wave {
	c := Counter{Restart: restart}
	for i := range workloads {
		c.Add(&workloads[i])
	}
	return c.Wave()
}

// Counter counts a wave workload by workload, in any order, so that those of a large cluster need not be held at once.
type Counter struct {
	Restart v1alpha1.RestartType

	wave Wave
	// The workloads that the sentences of the wave are about: the first by name.
	failing, refused, next string
}

// Add counts one workload.
func (c *Counter) Add(w *Workload) {
	out := &c.wave
	if reason, remedy := w.held(); reason != "" {
		out.Held = append(out.Held, v1alpha1.UnmovableWorkload{Workload: w.Name, Reason: reason, Message: remedy})
		return
	}
	if why := w.failing(); why != "" && first(&c.failing, w.Name) {
		out.Failing = w.Name + ": " + why
	}
	if w.Refused != "" && first(&c.refused, w.Name) {
		out.Refused = w.Name + ": " + w.Refused
	}
	if c.Restart == v1alpha1.RestartEvict {
		pods := max(w.Desired, w.Pods)
		away := pods - w.Ready - w.Resting - int32(len(w.Waiting)) //nolint:gosec // a workload has fewer pods
		out.Total, out.Moved, out.Moving = out.Total+pods, out.Moved+w.Ready, out.Moving+max(0, away)
		if len(w.Waiting)+len(w.Down) > 0 && first(&c.next, w.Name) {
			out.Next = w.Name
		}
		return
	}
	out.Total++
	switch {
	case w.moved():
		out.Moved++
	case w.moving():
		out.Moving++
	case w.needs() && first(&c.next, w.Name):
		out.Next = w.Name
	}
}

// first keeps the smaller one of two names, and says whether it is the new one.
func first(kept *string, name string) bool {
	if *kept != "" && *kept <= name {
		return false
	}
	*kept = name
	return true
}

// Wave is what was counted.
func (c *Counter) Wave() Wave {
	c.wave.Known = true
	slices.SortFunc(c.wave.Held, func(a, b v1alpha1.UnmovableWorkload) int { return cmp.Compare(a.Workload, b.Workload) })
	return c.wave
}

// Pick is one thing to restart: a workload, or one of its pods.
type Pick struct {
	// Workload is kind/namespace/name.
	Workload string
	// Pod is the name of the pod to evict; empty under type Rollout.
	Pod string
}

// Next chooses what may be restarted now in a wave of which a share may move. Recent is how many pods were restarted within the
// last minute.
func Next(restart v1alpha1.Restart, percent int32, workloads []Workload, recent int32) []Pick {
	wave := Count(restart.Type, workloads)
	if restart.Type == v1alpha1.RestartManual || wave.Failing != "" || percent == 0 {
		return nil
	}
	var sorted []Workload
	for i := range workloads {
		if workloads[i].Movable() {
			sorted = append(sorted, workloads[i])
		}
	}
	slices.SortFunc(sorted, func(a, b Workload) int { return cmp.Compare(a.Name, b.Name) })
	picks := picker{
		limit: restart.PodsPerMinute, recent: recent,
		room: min(unavailable(restart.MaxUnavailable, wave.Total), share(wave.Total, percent)-wave.Moved) - wave.Moving,
	}
	if restart.Type == v1alpha1.RestartEvict {
		picks.evictions(sorted)
	} else {
		picks.restarts(sorted)
	}
	return picks.out
}

// picker picks while there is room and the rate allows it.
type picker struct {
	out                 []Pick
	limit, recent, room int32
}

// away picks what is away already, and takes no room; false when the rate does not allow it.
func (p *picker) away(pick Pick, pods int32) bool {
	if !withinRate(p.limit, p.recent, pods) {
		return false
	}
	p.out, p.recent = append(p.out, pick), p.recent+pods
	return true
}

// serving picks what serves still; false when there is no room.
func (p *picker) serving(pick Pick, pods int32) bool {
	if p.room <= 0 || !p.away(pick, pods) {
		return false
	}
	p.room--
	return true
}

// evictions picks pods, first those that serve nobody.
func (p *picker) evictions(sorted []Workload) {
	for i := range sorted {
		for _, pod := range sorted[i].Down {
			p.away(Pick{Workload: sorted[i].Name, Pod: pod}, 1)
		}
	}
	for i := range sorted {
		for _, pod := range sorted[i].Waiting {
			if !p.serving(Pick{Workload: sorted[i].Name, Pod: pod}, 1) {
				return
			}
		}
	}
}

// restarts picks workloads, first those that are on their way to somewhere else.
func (p *picker) restarts(sorted []Workload) {
	for i := range sorted {
		if w := &sorted[i]; w.needs() && w.Astray {
			p.away(Pick{Workload: w.Name}, w.Pods)
		}
	}
	for i := range sorted {
		if w := &sorted[i]; w.needs() && !w.Astray && !p.serving(Pick{Workload: w.Name}, w.Pods) {
			return
		}
	}
}

// withinRate says whether more pods may be restarted in this minute. A workload with more pods than that has a minute of its
// own.
func withinRate(limit, recent, pods int32) bool {
	return limit == 0 || recent+pods <= limit || recent == 0
}

// unavailable is how many of a total may be away at a time, one at least.
func unavailable(limit *intstr.IntOrString, total int32) int32 {
	if limit == nil {
		return 1
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(limit, int(total), false)
	if err != nil {
		return 1 // what can't be read is taken for the least
	}
	return max(1, int32(min(n, int(total)))) //nolint:gosec // bounded by total
}
