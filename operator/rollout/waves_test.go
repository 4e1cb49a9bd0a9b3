// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// waits is a workload that has not been touched: all its pods are ready, and none has moved.
func waits(name string, pods int32, changes ...func(*Workload)) Workload {
	w := Workload{Name: name, Desired: pods, Pods: pods, Behind: pods, Settled: true}
	for i := range pods {
		w.Waiting = append(w.Waiting, fmt.Sprintf("%s-%d", name, i+1))
	}
	for _, change := range changes {
		change(&w)
	}
	return w
}

// done is a workload that has moved.
func done(name string, pods int32) Workload {
	return Workload{Name: name, Desired: pods, Pods: pods, Moved: pods, Ready: pods, Settled: true, Started: true}
}

// rolls is a workload that was restarted, and whose first new pod is not ready yet.
func rolls(name string, pods int32, changes ...func(*Workload)) Workload {
	w := Workload{Name: name, Desired: pods, Pods: pods + 1, Moved: 1, Started: true}
	for i := range pods {
		w.Waiting = append(w.Waiting, fmt.Sprintf("%s-%d", name, i+1))
	}
	for _, change := range changes {
		change(&w)
	}
	return w
}

// astray is a workload that the rollout had sent forward when it turned back: one of its pods is on its way there still.
func astray(name string, pods int32, changes ...func(*Workload)) Workload {
	w := Workload{
		Name: name, Desired: pods, Pods: pods + 1, Moved: pods, Ready: pods, Behind: 1, Astray: true, Waiting: []string{name + "-new"},
	}
	for _, change := range changes {
		change(&w)
	}
	return w
}

func excluded(w *Workload) { w.Held, w.Remedy = HeldExcluded, "remove the annotation" }

func crashed(w *Workload) {
	w.Failing = "pod " + w.Name + "-new is not ready: CrashLoopBackOff in container app"
}

// sick is a workload of which a pod was not ready before the rollout came.
func sick(w *Workload) {
	w.Broken++
	w.Waiting = w.Waiting[1:]
}

func TestCount(t *testing.T) {
	tests := []struct {
		name, reason string
		restart      v1alpha1.RestartType
		workloads    []Workload
		want         Wave
	}{
		{
			"nothing", "a wave without workloads is known, and done", v1alpha1.RestartRollout,
			nil,
			Wave{Known: true},
		},
		{
			"workloads", "each is counted once, whatever pods it has; the next one is the first by name", v1alpha1.RestartRollout,
			[]Workload{waits("d", 3), waits("c", 1), rolls("b", 2), done("a", 5)},
			Wave{Known: true, Total: 4, Moved: 1, Moving: 1, Next: "c"},
		},
		{
			"pods", "under Evict pods are counted; one that is not there yet is on its way", v1alpha1.RestartEvict,
			[]Workload{
				waits("d", 3), done("a", 5),
				{Name: "b", Desired: 3, Pods: 2, Moved: 1, Behind: 1, Settled: true, Waiting: []string{"b-1"}},
			},
			Wave{Known: true, Total: 11, Moved: 5, Moving: 2, Next: "b"},
		},
		{
			"by hand", "people restart workloads: these are what is counted", v1alpha1.RestartManual,
			[]Workload{waits("b", 3), done("a", 5)},
			Wave{Known: true, Total: 2, Moved: 1, Next: "b"},
		},
		{
			"a workload without pods", "it has nothing to move, so it has moved", v1alpha1.RestartRollout,
			[]Workload{waits("a", 0)},
			Wave{Known: true, Total: 1, Moved: 1},
		},
		{
			"a workload that shrinks to none", "its pods are there still", v1alpha1.RestartRollout,
			[]Workload{waits("a", 2, func(w *Workload) { w.Desired = 0 })},
			Wave{Known: true, Total: 1, Next: "a"},
		},
		{
			"a workload whose pods have all moved, one of them not ready", "it may have pods away until they are ready",
			v1alpha1.RestartRollout,
			[]Workload{{Name: "a", Desired: 2, Pods: 2, Moved: 2, Ready: 1, Settled: true, Started: true}},
			Wave{Known: true, Total: 1, Moving: 1},
		},
		{
			"a workload that others restart", "its own controller moves all of it: it is on its way, and not next",
			v1alpha1.RestartRollout,
			[]Workload{rolls("a", 2, func(w *Workload) { w.Started = false })},
			Wave{Known: true, Total: 1, Moving: 1},
		},
		{
			"a workload of which some pods were replaced by chance", "it needs a restart for the rest, and is not on its way",
			v1alpha1.RestartRollout,
			[]Workload{{Name: "a", Desired: 2, Pods: 2, Moved: 1, Ready: 1, Behind: 1, Settled: true}},
			Wave{Known: true, Total: 1, Next: "a"},
		},
		{
			"a workload that others deploy to the old revision", "they come first: it is neither on its way nor next",
			v1alpha1.RestartRollout,
			[]Workload{waits("a", 2, func(w *Workload) { w.Settled = false })},
			Wave{Known: true, Total: 1},
		},
		{
			"held workloads", "what can't be moved is named with its remedy, and is not counted", v1alpha1.RestartRollout,
			[]Workload{waits("b", 1, excluded), waits("a", 1)},
			Wave{
				Known: true, Total: 1, Next: "a",
				Held: []v1alpha1.UnmovableWorkload{{Workload: "b", Reason: HeldExcluded, Message: "remove the annotation"}},
			},
		},
		{
			"held workloads under Evict", "their pods are not counted either", v1alpha1.RestartEvict,
			[]Workload{waits("b", 4, excluded), waits("a", 1)},
			Wave{
				Known: true, Total: 1, Next: "a",
				Held: []v1alpha1.UnmovableWorkload{{Workload: "b", Reason: HeldExcluded, Message: "remove the annotation"}},
			},
		},
		{
			"a held workload that has moved", "somebody has moved it: there is nothing to hold it for", v1alpha1.RestartRollout,
			[]Workload{func() Workload {
				w := done("a", 2)
				excluded(&w)
				return w
			}()},
			Wave{Known: true, Total: 1, Moved: 1},
		},
		{
			"a held workload that crashes", "it is not the rollout's failure", v1alpha1.RestartRollout,
			[]Workload{waits("b", 1, excluded, crashed), waits("a", 1)},
			Wave{
				Known: true, Total: 1, Next: "a",
				Held: []v1alpha1.UnmovableWorkload{{Workload: "b", Reason: HeldExcluded, Message: "remove the annotation"}},
			},
		},
		{
			"a workload that was not healthy before", "it would only get worse: it is left alone", v1alpha1.RestartRollout,
			[]Workload{waits("a", 2, sick)},
			Wave{Known: true, Held: []v1alpha1.UnmovableWorkload{
				{Workload: "a", Reason: HeldNotReady, Message: "1 of its pods were not ready before: mend it, and it is moved"},
			}},
		},
		{
			"a workload that was not healthy before, once it was told to restart", "it is the rollout's now", v1alpha1.RestartRollout,
			[]Workload{rolls("a", 2, sick)},
			Wave{Known: true, Total: 1, Moving: 1},
		},
		{
			"somebody else's deployment that fails", "it is left alone, and not the rollout's failure", v1alpha1.RestartRollout,
			[]Workload{rolls("a", 2, crashed, func(w *Workload) { w.Started = false })},
			Wave{Known: true, Held: []v1alpha1.UnmovableWorkload{{
				Workload: "a", Reason: HeldNotReady,
				Message: "somebody else's rollout of it does not get ready (pod a-new is not ready: CrashLoopBackOff in container app): " +
					"mend it, and it is moved",
			}}},
		},
		{
			"a moved pod that crashes", "the first failure by name is named", v1alpha1.RestartRollout,
			[]Workload{rolls("b", 2, crashed), rolls("a", 2, crashed), waits("c", 1)},
			Wave{
				Known: true, Total: 3, Moving: 2, Next: "c",
				Failing: "a: pod a-new is not ready: CrashLoopBackOff in container app",
			},
		},
		{
			"a restart that did not bring the new sidecar", "another restart would not help: its labels say otherwise",
			v1alpha1.RestartRollout,
			[]Workload{waits("a", 1, func(w *Workload) { w.Started, w.Missed = true, 1 })},
			Wave{
				Known: true, Total: 1, Moving: 1,
				Failing: "a: was restarted, and its new pods did not get the sidecar: look at the labels istio.io/rev and " +
					"sidecar.istio.io/inject of its pods",
			},
		},
		{
			"a restart whose new pods are not seen yet", "news of pods may come later than that of their workload", v1alpha1.RestartRollout,
			[]Workload{waits("a", 1, func(w *Workload) { w.Started = true })},
			Wave{Known: true, Total: 1, Moving: 1},
		},
		{
			"an eviction that was refused", "the first refusal by name is named", v1alpha1.RestartEvict,
			[]Workload{
				waits("b", 1, func(w *Workload) { w.Refused = "no" }),
				waits("a", 1, func(w *Workload) { w.Refused = "its PodDisruptionBudget allows no eviction" }),
			},
			Wave{Known: true, Total: 2, Next: "a", Refused: "a: its PodDisruptionBudget allows no eviction"},
		},
		{
			"one that is astray", "it is away already, and has to be sent back", v1alpha1.RestartRollout,
			[]Workload{astray("a", 2), waits("b", 1)},
			Wave{Known: true, Total: 2, Moving: 1, Next: "b"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, Count(tt.restart, tt.workloads)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
		})
	}
}

// many are workloads with one pod each, called a, b, and so on.
func many(n int, pods int32) []Workload {
	var out []Workload
	for i := range n {
		out = append(out, waits(string(rune('a'+i)), pods))
	}
	return out
}

func rolling(limit string, podsPerMinute int32) v1alpha1.Restart {
	return v1alpha1.Restart{Type: v1alpha1.RestartRollout, MaxUnavailable: new(intstr.Parse(limit)), PodsPerMinute: podsPerMinute}
}

func evicting(limit string, podsPerMinute int32) v1alpha1.Restart {
	return v1alpha1.Restart{Type: v1alpha1.RestartEvict, MaxUnavailable: new(intstr.Parse(limit)), PodsPerMinute: podsPerMinute}
}

func TestNext(t *testing.T) {
	with := func(more []Workload, others ...Workload) []Workload { return append(more, others...) }
	tests := []struct {
		name, reason string
		restart      v1alpha1.Restart
		percent      int32
		workloads    []Workload
		recent       int32
		want         []string
	}{
		// Budgets.
		{"a number", "as many as that, the first by name", rolling("2", 0), 100, many(5, 3), 0, []string{"a", "b"}},
		{"a number above the wave", "all of it", rolling("10", 0), 100, many(2, 1), 0, []string{"a", "b"}},
		{"a percentage", "40% of 5 are two", rolling("40%", 0), 100, many(5, 3), 0, []string{"a", "b"}},
		{"a percentage is rounded down", "59% of 5 are two", rolling("59%", 0), 100, many(5, 1), 0, []string{"a", "b"}},
		{
			"a percentage of less than one", "one at least, or nothing would ever move",
			rolling("10%", 0), 100, many(3, 1), 0,
			[]string{"a"},
		},
		{"a budget that can't be read", "the least", rolling("a few", 0), 100, many(3, 1), 0, []string{"a"}},
		{"no budget", "the least", v1alpha1.Restart{Type: v1alpha1.RestartRollout}, 100, many(3, 1), 0, []string{"a"}},
		{
			"some are on their way", "they count against the budget",
			rolling("2", 0), 100, with(many(3, 1), rolls("x", 1)), 0,
			[]string{"a"},
		},
		{
			"others have restarted more than the budget", "nothing is added",
			rolling("1", 0), 100, with(many(3, 1), rolls("x", 1), rolls("y", 1)), 0, nil,
		},
		{
			"some have moved", "what has moved is not away",
			rolling("1", 0), 100, with(many(2, 1), done("x", 1), done("y", 1)), 0,
			[]string{"a"},
		},
		{
			"held workloads", "a budget is a share of what can move: 50% of 2, not of 4",
			rolling("50%", 0), 100, with(many(2, 1), waits("x", 1, excluded), waits("y", 1, excluded)), 0,
			[]string{"a"},
		},
		// Shares.
		{"a share", "40% of 5 are two", rolling("5", 0), 40, many(5, 1), 0, []string{"a", "b"}},
		{"a share is rounded up", "41% of 5 are three", rolling("5", 0), 41, many(5, 1), 0, []string{"a", "b", "c"}},
		{"one percent", "is one workload", rolling("5", 0), 1, many(5, 1), 0, []string{"a"}},
		{"no percent", "is none", rolling("5", 0), 0, many(5, 1), 0, nil},
		{"a share that has moved", "there is none to go", rolling("5", 0), 50, with(many(1, 1), done("x", 1)), 0, nil},
		{
			"a share that is on its way", "there is none to go",
			rolling("5", 0), 50, with(many(1, 1), rolls("x", 1)), 0, nil,
		},
		{
			"others have moved more than the share", "nothing is added",
			rolling("5", 0), 25, with(many(2, 1), done("x", 1), done("y", 1)), 0, nil,
		},
		// Pods in a minute.
		{"five pods a minute", "two workloads of two pods, and no third", rolling("5", 5), 100, many(5, 2), 0, []string{"a", "b"}},
		{"some within the last minute", "they count", rolling("5", 5), 100, many(5, 2), 3, []string{"a"}},
		{"all within the last minute", "none is left", rolling("5", 5), 100, many(5, 2), 5, nil},
		{"more pods than a minute may have", "it has a minute of its own", rolling("5", 5), 100, many(5, 9), 0, []string{"a"}},
		{
			"more pods than a minute may have, after others", "it waits until nothing was restarted for a minute",
			rolling("5", 5), 100, many(5, 9), 1, nil,
		},
		{"no bound", "0 says so", rolling("5", 0), 100, many(2, 99), 1000, []string{"a", "b"}},
		{
			"a small one behind a large one", "the order is kept: the large one would never have its turn",
			rolling("5", 5), 100,
			[]Workload{waits("a", 9), waits("b", 1)},
			1, nil,
		},
		// What is never picked.
		{"held", "it can't be moved", rolling("5", 0), 100, []Workload{waits("a", 1, excluded), waits("b", 1)}, 0, []string{"b"}},
		{
			"not healthy before", "it is left alone",
			rolling("5", 0), 100,
			[]Workload{waits("a", 2, sick), waits("b", 1)},
			0,
			[]string{"b"},
		},
		{"moved", "there is nothing to do", rolling("5", 0), 100, []Workload{done("a", 2), waits("b", 0)}, 0, nil},
		{"told already", "once is enough", rolling("5", 0), 100, []Workload{rolls("a", 2)}, 0, nil},
		{
			"others deploy it", "they come first",
			rolling("5", 0), 100,
			[]Workload{waits("a", 2, func(w *Workload) { w.Settled = false }), waits("b", 1)},
			0,
			[]string{"b"},
		},
		{
			"one fails", "no other is put at risk",
			rolling("5", 0), 100, with(many(3, 1), rolls("x", 1, crashed)), 0, nil,
		},
		{
			"one of those that were not healthy before fails", "it was not the rollout",
			rolling("5", 0), 100, with(many(1, 1), waits("x", 2, sick, crashed)), 0,
			[]string{"a"},
		},
		{
			"by hand", "people restart",
			v1alpha1.Restart{Type: v1alpha1.RestartManual, MaxUnavailable: new(intstr.FromInt32(5))},
			100, many(3, 1), 0, nil,
		},
		{
			"by hand, one astray", "people restart that one too",
			v1alpha1.Restart{Type: v1alpha1.RestartManual, MaxUnavailable: new(intstr.FromInt32(5))},
			100,
			[]Workload{astray("a", 1)},
			0, nil,
		},
		// Astray.
		{
			"astray ones", "they are away already: sending them back takes no room",
			rolling("1", 0), 100,
			[]Workload{astray("x", 2), waits("a", 1), astray("y", 1)},
			0,
			[]string{"x", "y"},
		},
		{
			"an astray one beside room", "it takes its own place only",
			rolling("2", 0), 100,
			[]Workload{astray("x", 2), waits("a", 1), waits("b", 1)},
			0,
			[]string{"x", "a"},
		},
		{
			"an astray one of a wave that is not to move yet", "it waits until its wave is undone",
			rolling("1", 0), 0,
			[]Workload{astray("x", 2)},
			0, nil,
		},
		{
			"astray ones, pods a minute", "the rate holds for them too",
			rolling("1", 3), 100,
			[]Workload{astray("x", 2), astray("y", 2)},
			0,
			[]string{"x"},
		},
		{"an astray one that is held", "it can't be moved", rolling("1", 0), 100, []Workload{astray("x", 2, excluded)}, 0, nil},
		{
			"one that was astray and was sent back", "once is enough",
			rolling("1", 0), 100,
			[]Workload{astray("x", 2, func(w *Workload) { w.Started, w.Astray = true, false })},
			0, nil,
		},
		// Evictions.
		{
			"pods", "as many pods as the budget, of the first workload and then of the next",
			evicting("3", 0), 100, many(2, 2), 0,
			[]string{"a a-1", "a a-2", "b b-1"},
		},
		{"a percentage of pods", "50% of 4 are two", evicting("50%", 0), 100, many(2, 2), 0, []string{"a a-1", "a a-2"}},
		{"a share of pods", "26% of 4 are two, rounded up", evicting("10", 0), 26, many(2, 2), 0, []string{"a a-1", "a a-2"}},
		{
			"pods that are away", "they count against the budget",
			evicting("2", 0), 100,
			[]Workload{{Name: "a", Desired: 3, Pods: 2, Behind: 2, Settled: true, Waiting: []string{"a-1", "a-2"}}},
			0,
			[]string{"a a-1"},
		},
		{"evictions in a minute", "one pod counts as one", evicting("5", 3), 100, many(3, 2), 1, []string{"a a-1", "a a-2"}},
		{
			"evictions of a held workload", "it can't be moved",
			evicting("5", 0), 100,
			[]Workload{waits("a", 2, excluded), waits("b", 1)},
			0,
			[]string{"b b-1"},
		},
		{
			"evictions while a pod fails", "no other is put at risk",
			evicting("5", 0), 100,
			[]Workload{
				waits("b", 2),
				{Name: "a", Desired: 1, Pods: 1, Moved: 1, Settled: true, Failing: "pod a-2 is not ready: CrashLoopBackOff in container app"},
			},
			0, nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, p := range Next(tt.restart, tt.percent, tt.workloads, tt.recent) {
				if p.Pod != "" {
					p.Workload += " " + p.Pod
				}
				got = append(got, p.Workload)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
		})
	}
}

// anyWorkload is a workload in any state that a cluster can show.
func anyWorkload(name string) *rapid.Generator[Workload] {
	return rapid.Custom(func(t *rapid.T) Workload {
		w := Workload{Name: name, Desired: rapid.Int32Range(0, 4).Draw(t, "desired")}
		w.Moved = rapid.Int32Range(0, 4).Draw(t, "moved")
		w.Ready = rapid.Int32Range(0, w.Moved).Draw(t, "ready")
		w.Broken = max(0, rapid.Int32Range(-6, 1).Draw(t, "broken"))
		waiting := rapid.Int32Range(0, 4).Draw(t, "waiting")
		for i := range waiting {
			w.Waiting = append(w.Waiting, fmt.Sprintf("%s-%d", name, i))
		}
		w.Pods = w.Moved + w.Broken + waiting
		w.Settled = rapid.Bool().Draw(t, "settled")
		w.Behind = w.Broken + waiting
		if !w.Settled {
			w.Behind = rapid.Int32Range(0, w.Broken+waiting).Draw(t, "behind")
		}
		w.Started = rapid.Bool().Draw(t, "started")
		if w.Started {
			w.Missed = w.Behind
		}
		if w.Started && w.Settled && rapid.IntRange(0, 9).Draw(t, "without a sidecar") > 0 {
			w.Pods, w.Behind, w.Missed, w.Broken, w.Waiting = w.Moved, 0, 0, 0, nil
		}
		w.Astray = !w.Started && !w.Settled && rapid.Bool().Draw(t, "astray")
		if rapid.IntRange(0, 4).Draw(t, "held") == 0 {
			w.Held = HeldExcluded
		}
		if w.Ready < w.Moved && rapid.IntRange(0, 19).Draw(t, "failing") == 0 {
			w.Failing = "pod " + name + "-new is not ready: CrashLoopBackOff in container app"
		}
		return w
	})
}

// anyRestart is a way to move workloads.
func anyRestart(types ...v1alpha1.RestartType) *rapid.Generator[v1alpha1.Restart] {
	return rapid.Custom(func(t *rapid.T) v1alpha1.Restart {
		r := v1alpha1.Restart{Type: rapid.SampledFrom(types).Draw(t, "type")}
		r.MaxUnavailable = new(intstr.FromInt32(rapid.Int32Range(1, 10).Draw(t, "number")))
		if rapid.Bool().Draw(t, "in percent") {
			r.MaxUnavailable = new(intstr.FromString(fmt.Sprintf("%d%%", rapid.IntRange(1, 100).Draw(t, "percent"))))
		}
		if rapid.IntRange(0, 2).Draw(t, "bounded") == 0 {
			r.PodsPerMinute = rapid.Int32Range(1, 12).Draw(t, "pods a minute")
		}
		return r
	})
}

// Whatever a wave looks like, no more of it is away than was allowed, and what is not to be touched is not.
func TestNextKeepsItsLimits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		restart := anyRestart(v1alpha1.RestartRollout, v1alpha1.RestartEvict).Draw(t, "restart")
		percent, recent := rapid.Int32Range(0, 100).Draw(t, "share"), rapid.Int32Range(0, 12).Draw(t, "recent")
		var workloads []Workload
		byName := map[string]*Workload{}
		for i := range rapid.IntRange(0, 8).Draw(t, "workloads") {
			workloads = append(workloads, anyWorkload(string(rune('a'+i))).Draw(t, "workload"))
		}
		for i := range workloads {
			byName[workloads[i].Name] = &workloads[i]
		}
		wave := Count(restart.Type, workloads)
		if wave.Moved+wave.Moving > wave.Total {
			t.Errorf("%d moved and %d on their way, of %d", wave.Moved, wave.Moving, wave.Total)
		}

		picks := Next(restart, percent, workloads, recent)
		added, pods, seen := int32(0), int32(0), map[Pick]bool{}
		for _, pick := range picks {
			w := byName[pick.Workload]
			if reason, _ := w.held(); reason != "" || w.moved() {
				t.Errorf("%+v was picked: held %q, moved %t", pick, reason, w.moved())
			}
			if seen[pick] {
				t.Errorf("%+v was picked twice", pick)
			}
			seen[pick] = true
			if restart.Type == v1alpha1.RestartEvict {
				if !slices.Contains(w.Waiting, pick.Pod) {
					t.Errorf("%+v was picked: it is not waiting", pick)
				}
				added, pods = added+1, pods+1
				continue
			}
			if w.Started || pick.Pod != "" {
				t.Errorf("%+v was picked: started %t", pick, w.Started)
			}
			if pods += w.Pods; !w.Astray {
				added++
			}
		}
		if limit := unavailable(restart.MaxUnavailable, wave.Total); added+wave.Moving > max(limit, wave.Moving) {
			t.Errorf("%d picks beside %d on their way, and %d may be away", added, wave.Moving, limit)
		}
		if allowed, is := share(wave.Total, percent), wave.Moved+wave.Moving; added+is > max(allowed, is) {
			t.Errorf("%d picks beside %d that have moved or are on their way, and %d%% of %d may", added, is, percent, wave.Total)
		}
		if limit := restart.PodsPerMinute; limit > 0 && recent+pods > limit && (recent > 0 || len(picks) > 1) && len(picks) > 0 {
			t.Errorf("%d pods after %d in this minute, and %d may", pods, recent, limit)
		}
		if len(picks) > 0 && wave.Failing != "" {
			t.Errorf("%v were picked while one fails: %s", picks, wave.Failing)
		}
	})
}

// The same wave makes the same choice, however it was listed; and choosing changes nothing.
func TestNextDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		restart := anyRestart(v1alpha1.RestartRollout, v1alpha1.RestartEvict, v1alpha1.RestartManual).Draw(t, "restart")
		percent, recent := rapid.Int32Range(0, 100).Draw(t, "share"), rapid.Int32Range(0, 12).Draw(t, "recent")
		var workloads []Workload
		for i := range rapid.IntRange(0, 8).Draw(t, "workloads") {
			workloads = append(workloads, anyWorkload(string(rune('a'+i))).Draw(t, "workload"))
		}
		picks, wave := Next(restart, percent, workloads, recent), Count(restart.Type, workloads)
		if restart.Type == v1alpha1.RestartManual && len(picks) > 0 {
			t.Errorf("%v were picked; people restart", picks)
		}
		shuffled := slices.Clone(workloads)
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "order"), 0))
		random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		listed := slices.Clone(shuffled)
		if diff := cmp.Diff(picks, Next(restart, percent, shuffled, recent)); diff != "" {
			t.Errorf("other picks in another order (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(wave, Count(restart.Type, shuffled)); diff != "" {
			t.Errorf("other counts in another order (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(listed, shuffled); diff != "" {
			t.Errorf("the list of workloads was changed (-want +got):\n%s", diff)
		}
	})
}

// What may move moves at last: room and rate never keep a wave where it is while nothing is on its way.
func TestNextGoesOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		restart := anyRestart(v1alpha1.RestartRollout, v1alpha1.RestartEvict).Draw(t, "restart")
		var workloads []Workload
		for i := range rapid.IntRange(1, 8).Draw(t, "workloads") {
			workloads = append(workloads, waits(string(rune('a'+i)), rapid.Int32Range(1, 30).Draw(t, "pods")))
		}
		percent := rapid.Int32Range(1, 100).Draw(t, "share")
		if picks := Next(restart, percent, workloads, 0); len(picks) == 0 {
			t.Errorf("nothing was picked of a wave in which nothing has moved")
		}
	})
}
