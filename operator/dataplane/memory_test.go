// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A pod whose eviction is refused is left alone, for twice as long each time.
func TestBackOffDoubles(t *testing.T) {
	i, now := quiet(), noon
	p := types.NamespacedName{Namespace: "shop", Name: "web-1"}
	for n, seconds := range []int{5, 10, 20, 40, 80, 120, 120, 120} {
		want := time.Duration(seconds) * time.Second
		i.Refused(p, "a PodDisruptionBudget", now)
		for at, alone := range map[time.Duration]bool{0: true, want - 1: true, want: false} {
			why, got := i.memory.refusedOf(p, now.Add(at))
			if got != alone || why != "a PodDisruptionBudget" {
				t.Errorf("%s after refusal %d: left alone %v (%s), want %v", at, n+1, got, why, alone)
			}
		}
		now = now.Add(want)
	}
	if why, alone := i.memory.refusedOf(types.NamespacedName{Namespace: "shop", Name: "web-2"}, now); alone || why != "" {
		t.Errorf("another pod is left alone: %s", why)
	}
}

// Another pod of the same name, as a StatefulSet makes it, begins anew.
func TestBackOffEndsWithThePod(t *testing.T) {
	i := quiet()
	fill(t, i, podMeta("shop", "db-0", "1-28-2", nil))
	p := types.NamespacedName{Namespace: "shop", Name: "db-0"}
	i.Refused(p, "a PodDisruptionBudget", noon)
	i.Refused(p, "a PodDisruptionBudget", noon)
	if err := i.Delete(podMeta("shop", "db-0", "", nil)); err != nil {
		t.Fatal(err)
	}
	if why, alone := i.memory.refusedOf(p, noon); alone || why != "" {
		t.Errorf("it is left alone: %s", why)
	}
	i.Refused(p, "a PodDisruptionBudget", noon)
	if _, alone := i.memory.refusedOf(p, noon.Add(refusedFirst)); alone {
		t.Error("the first refusal counts as a later one")
	}
}

// A restart is remembered by its stamp; that of another rollout, direction or retry forgets all others.
func TestRestartsAreRemembered(t *testing.T) {
	i := quiet()
	i.Stamped("forward", "Deployment/shop/web", noon)
	i.Stamped("forward", "Deployment/shop/api", noon.Add(time.Second))
	if at, ok := i.memory.stampedAt("forward", "Deployment/shop/web"); !ok || !at.Equal(noon) {
		t.Errorf("stampedAt = %v, %v, want noon", at, ok)
	}
	if _, ok := i.memory.stampedAt("back", "Deployment/shop/web"); ok {
		t.Error("a restart forward is taken for one back")
	}
	i.Stamped("back", "Deployment/shop/api", noon.Add(time.Minute))
	if _, ok := i.memory.stampedAt("forward", "Deployment/shop/api"); ok {
		t.Error("the restarts of the other direction are remembered still")
	}
	if at, ok := i.memory.stampedAt("back", "Deployment/shop/api"); !ok || !at.Equal(noon.Add(time.Minute)) {
		t.Errorf("stampedAt = %v, %v, want a minute past noon", at, ok)
	}
}
