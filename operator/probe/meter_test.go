// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/meshwright/meshwright/operator/traffic"
)

// bench is a gateway with pods that count what a test says.
type bench struct {
	t     *testing.T
	meter *Meter
	clock *clocktesting.FakeClock
	pods  []Pod
	reads map[string]Proxy // by address; none: it can't be read
}

var ingress = types.NamespacedName{Namespace: "istio-ingress", Name: "ingress"}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, clock: clocktesting.NewFakeClock(time.Unix(1000, 0)), reads: map[string]Proxy{}}
	b.meter = &Meter{
		Clock: b.clock,
		Cut:   func(types.NamespacedName, int64) {},
		Pods:  func(context.Context, types.NamespacedName) ([]Pod, error) { return b.pods, nil },
		Read: func(_ context.Context, address string) (Proxy, error) {
			if p, there := b.reads[address]; there {
				return p, nil
			}
			return Proxy{}, errors.New("connection refused")
		},
	}
	b.meter.Watch(ingress, "old", "new")
	return b
}

// pod adds a pod; age is how long it is older than the watch.
func (b *bench) pod(name, revision string, age time.Duration) {
	b.pods = append(b.pods, Pod{
		Name: name, UID: types.UID(name), Address: name, Revision: revision, Ready: true, Created: time.Unix(1000, 0).Add(-age),
	})
}

func (b *bench) round() {
	b.clock.Step(meterEvery)
	b.meter.round(b.t.Context())
}

func (b *bench) since(mark string) traffic.Sample {
	b.t.Helper()
	s, known := b.meter.Since(ingress, mark)
	if !known {
		b.t.Fatalf("nothing is known since %q", mark)
	}
	return s
}

func TestMeterCountsSinceAMark(t *testing.T) {
	b := newBench(t)
	b.pod("a", "old", time.Hour)
	b.pod("b", "new", -time.Second)
	b.reads["a"] = Proxy{Requests: 1000, Connections: 100}
	b.reads["b"] = Proxy{Requests: 5}
	b.round()
	if _, known := b.meter.Since(ingress, "weight 25"); known {
		t.Error("a mark knows something before it was named")
	}
	b.reads["a"] = Proxy{Requests: 1010, Connections: 101}
	b.reads["b"] = Proxy{Requests: 9}
	b.round()
	if _, known := b.meter.Since(ingress, "weight 25"); known {
		t.Error("a mark knows something of before its first reading")
	}
	b.reads["a"] = Proxy{Requests: 1030, Connections: 103, Errors: 1, Buckets: map[float64]int64{10: 30}, Active: 2}
	b.reads["b"] = Proxy{Requests: 15, Connections: 1, Listeners: []string{"0.0.0.0_80"}}
	b.round()
	got := b.since("weight 25")
	want := traffic.Sample{
		Old: traffic.Counters{Pods: 1, Wanted: 1, Requests: 20, Connections: 2, Errors: 1, Active: 2, Buckets: []traffic.Bucket{{Millis: 10, Count: 30}}, Listeners: []string{}},
		New: traffic.Counters{Pods: 1, Wanted: 1, Requests: 6, Connections: 1, Listeners: []string{"0.0.0.0_80"}},
		For: meterEvery,
	}
	if diff := cmp.Diff(want, got, cmp.Transformer("none", func(s []string) int { return len(s) })); diff != "" {
		t.Errorf("another sample (-want +got):\n%s", diff)
	}
}

// What a pod had counted before the watch began is not counted, and all is that a pod counts which came later.
func TestPodsThatCameLaterCountFromZero(t *testing.T) {
	b := newBench(t)
	b.meter.Since(ingress, traffic.Whole)
	b.pod("older", "old", time.Hour)
	b.pod("later", "new", -time.Second)
	b.reads["older"], b.reads["later"] = Proxy{Requests: 1000}, Proxy{Requests: 7, Rejected: 1}
	b.round()
	got := b.since(traffic.Whole)
	if got.Old.Requests != 0 || got.New.Requests != 7 || got.New.Rejected != 1 {
		t.Errorf("old %d, new %d with %d rejected, want 0, 7 and 1", got.Old.Requests, got.New.Requests, got.New.Rejected)
	}
}

// A proxy that has begun anew in its pod counts from zero, and a pod that is gone keeps what it has counted.
func TestCountersSurviveTheirProxies(t *testing.T) {
	b := newBench(t)
	b.meter.Since(ingress, traffic.Whole)
	b.pod("a", "new", -time.Second)
	b.reads["a"] = Proxy{Requests: 100, Connections: 10}
	b.round()
	b.reads["a"] = Proxy{Requests: 3, Connections: 1}
	b.round()
	if got := b.since(traffic.Whole).New; got.Requests != 103 || got.Connections != 11 {
		t.Errorf("%d requests over %d connections, want 103 and 11", got.Requests, got.Connections)
	}
	b.pods[0].Ending = true
	b.reads["a"] = Proxy{Requests: 4, Connections: 1, Active: 2}
	b.round()
	b.pods = nil
	b.round()
	if got := b.since(traffic.Whole).New; got.Requests != 104 || got.Cut != 2 {
		t.Errorf("%d requests, %d cut off, want 104 and the 2 that were under way when the pod ended", got.Requests, got.Cut)
	}
}

// A pod that can't be read is missing in the sample, and a reading grows old.
func TestWhatIsNotReadIsSaid(t *testing.T) {
	b := newBench(t)
	b.pod("a", "old", time.Hour)
	b.pod("b", "new", -time.Second)
	b.reads["a"] = Proxy{}
	b.meter.Since(ingress, "now")
	b.round()
	if got := b.since("now"); got.New.Pods != 0 || got.New.Wanted != 1 || got.Old.Pods != 1 {
		t.Errorf("%d of %d pods of the new version were read, want 0 of 1", got.New.Pods, got.New.Wanted)
	}
	b.clock.Step(meterFresh + time.Second)
	if _, known := b.meter.Since(ingress, "now"); known {
		t.Error("an old reading is taken for what is")
	}
}

// Nobody asks any more when the old version goes, and its pods still drain: what is cut off then is counted too.
func TestTheLastPodsOfAVersion(t *testing.T) {
	b := newBench(t)
	b.pod("old-1", "old", time.Hour)
	b.pod("new-1", "new", time.Hour)
	b.reads["old-1"], b.reads["new-1"] = Proxy{Active: 3}, Proxy{Active: 9}
	var cut int64
	b.meter.Cut = func(_ types.NamespacedName, n int64) { cut += n }
	b.round()
	b.meter.Forget(ingress)
	b.pods[0].Ending = true
	b.round()
	if cut != 0 || len(b.meter.watched) != 1 {
		t.Fatalf("%d cut, %d counted, want none cut and the gateway counted while the pod drains", cut, len(b.meter.watched))
	}
	b.pods = b.pods[1:]
	b.round()
	if cut != 3 || len(b.meter.watched) != 0 {
		t.Errorf("%d cut, %d counted, want 3 cut and nothing counted any more", cut, len(b.meter.watched))
	}
}

// Only what all pods of a version listen at counts as its listeners.
func TestListenersAreThoseOfAllPods(t *testing.T) {
	b := newBench(t)
	b.pod("a", "new", -time.Second)
	b.pod("b", "new", -time.Second)
	b.reads["a"], b.reads["b"] = Proxy{Listeners: []string{"0.0.0.0_443", "0.0.0.0_80"}}, Proxy{Listeners: []string{"0.0.0.0_80"}}
	b.meter.Since(ingress, "now")
	b.round()
	if diff := cmp.Diff([]string{"0.0.0.0_80"}, b.since("now").New.Listeners); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Who watches other versions begins anew, who watches the same goes on, and nothing is read for nobody.
func TestWatching(t *testing.T) {
	b := newBench(t)
	b.meter.Since(ingress, "now")
	b.round()
	b.meter.Watch(ingress, "old", "new")
	b.since("now")
	b.meter.Watch(ingress, "new", "newer")
	if _, known := b.meter.Since(ingress, "now"); known {
		t.Error("a mark of other versions is known")
	}
	told := 0
	b.meter.Listen(func() { told++ })
	b.round()
	b.meter.Forget(ingress)
	b.round()
	if told != 1 {
		t.Errorf("told %d times, want once: nothing is watched any more", told)
	}
}
