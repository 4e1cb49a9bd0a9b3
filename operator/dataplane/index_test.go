// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func podMeta(namespace, name, revision string, labels map[string]string) *metav1.PartialObjectMetadata {
	p := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}}
	if revision != "" {
		p.Annotations = map[string]string{statusAnnotation: fmt.Sprintf(`{"initContainers":["istio-init"],"revision":%q}`, revision)}
	}
	return p
}

func quiet() *Index { return NewIndex(time.Hour, func() {}) }

func fill(t *testing.T, i *Index, pods ...*metav1.PartialObjectMetadata) {
	t.Helper()
	all := make([]any, len(pods))
	for n, p := range pods {
		all[n] = p
	}
	if err := i.Replace(all, "1"); err != nil {
		t.Fatal(err)
	}
}

func TestCount(t *testing.T) {
	i := quiet()
	if i.Synced() {
		t.Error("an index that has seen nothing says it is whole")
	}
	fill(t, i,
		podMeta("shop", "current", "1-29-1", nil),
		podMeta("shop", "earlier", "1-28-2", nil),
		podMeta("shop", "before", "", nil),
		podMeta("shop", "opted-out", "", map[string]string{injectKey: "false"}),
		podMeta("elsewhere", "plain", "", nil),
		podMeta("elsewhere", "earlier", "1-28-2", nil),
		podMeta("elsewhere", "foreign", "other-mesh", nil),
		podMeta("istio-ingress", "gateway", "1-29-1", map[string]string{v1alpha1.LabelGateway: "ingress"}),
	)
	got := i.Count(Query{
		Stable: "1-29-1", Namespaces: map[string]bool{"shop": true}, Revisions: map[string]string{"1-29-1": "", "1-28-2": ""},
	})
	want := Counts{
		ByRevision: map[string]int32{"1-29-1": 2, "1-28-2": 2}, Current: 2, Outdated: 3,
		Examples: []string{"elsewhere/earlier", "shop/before", "shop/earlier"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	users := i.Users(map[string]bool{"1-29-1": true}, map[string]bool{"istio-ingress/ingress": true})
	if diff := cmp.Diff([]string{"shop/current"}, users); diff != "" {
		t.Errorf("users without the mesh's own gateway (-want +got):\n%s", diff)
	}
}

// Many changes make one notification, after the debounce; a change that means nothing makes none.
func TestNotificationsAreDebounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := 0
		i := NewIndex(10*time.Second, func() { told++ })
		fill(t, i, podMeta("shop", "a", "1-29-1", nil))
		if told != 1 {
			t.Errorf("told %d times of the first sight of the cluster, want once", told)
		}
		for n := range 300 {
			if err := i.Add(podMeta("shop", fmt.Sprint("p", n), "1-29-1", nil)); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 300 {
			if err := i.Delete(podMeta("shop", fmt.Sprint("p", n), "1-29-1", nil)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if told != 2 {
			t.Errorf("told %d times of 600 changes within the debounce, want once more", told)
		}
		if err := i.Update(podMeta("shop", "a", "1-29-1", map[string]string{"changed": "label"})); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if told != 2 {
			t.Error("told of a change that means nothing")
		}
	})
}

// Whatever comes and goes, the index equals a count from scratch.
func TestIndexEqualsARecount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := quiet()
		there := map[string]*metav1.PartialObjectMetadata{}
		draw := func() *metav1.PartialObjectMetadata {
			return podMeta(
				rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace"),
				rapid.SampledFrom([]string{"p", "q", "r"}).Draw(t, "name"),
				rapid.SampledFrom([]string{"", "1-28-2", "1-29-1"}).Draw(t, "revision"), nil)
		}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(*rapid.T) {
				p := draw()
				there[p.Namespace+"/"+p.Name] = p
				if err := i.Update(p); err != nil {
					t.Fatal(err)
				}
			},
			"delete": func(*rapid.T) {
				p := draw()
				delete(there, p.Namespace+"/"+p.Name)
				if err := i.Delete(p); err != nil {
					t.Fatal(err)
				}
			},
			"replace": func(*rapid.T) {
				p := draw()
				there = map[string]*metav1.PartialObjectMetadata{p.Namespace + "/" + p.Name: p}
				if err := i.Replace([]any{p}, "1"); err != nil {
					t.Fatal(err)
				}
			},
			"": func(*rapid.T) {
				scratch := quiet()
				for _, p := range there {
					if err := scratch.Add(p); err != nil {
						t.Fatal(err)
					}
				}
				q := Query{Stable: "1-29-1", Namespaces: map[string]bool{"a": true}, Revisions: map[string]string{"1-28-2": "", "1-29-1": ""}}
				if diff := cmp.Diff(scratch.Count(q), i.Count(q)); diff != "" {
					t.Fatalf("index (-recount +index):\n%s", diff)
				}
			},
		})
	})
}

func TestExamplesAreBounded(t *testing.T) {
	i := quiet()
	var pods []*metav1.PartialObjectMetadata
	for n := range 50 {
		pods = append(pods, podMeta("shop", fmt.Sprintf("p%02d", n), "", nil))
	}
	fill(t, i, pods...)
	got := i.Count(Query{Stable: "1-29-1", Namespaces: map[string]bool{"shop": true}})
	if got.Outdated != 50 || len(got.Examples) != maxExamples || !slices.IsSorted(got.Examples) {
		t.Errorf("%d outdated with %d examples, want 50 with the first %d", got.Outdated, len(got.Examples), maxExamples)
	}
}

// BenchmarkMemory reports what a pod costs in the index.
func BenchmarkMemory(b *testing.B) {
	const pods = 100_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		i := quiet()
		for n := range pods {
			p := podMeta(fmt.Sprintf("namespace-%d", n/100), fmt.Sprintf("workload-7d9c5b8f6-%05d", n), "1-29-1", nil)
			if err := i.Add(p); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/pods, "B/pod")
		runtime.KeepAlive(i)
	}
}
