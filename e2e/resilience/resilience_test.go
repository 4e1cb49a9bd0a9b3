// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && long

package resilience

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func mesh() *v1alpha1.MeshInstallation {
	m := framework.Mesh("default", framework.Istio129)
	m.Spec.Tags = []v1alpha1.Tag{{Name: "stable"}}
	m.Spec.Gateways = []v1alpha1.Gateway{framework.Gateway("istio-ingress", "ingress")}
	return m
}

// owned lists what a mesh consists of, by the label that every object of it carries.
func owned(t *testing.T) []string {
	t.Helper()
	names, err := env.Owned(t.Context(), "default")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// Killing every replica of the operator at a random moment of an installation changes nothing of its end.
func TestOperatorKilledDuringInstallation(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	start := time.Now()
	env.Install(t, mesh())
	undisturbed := time.Since(start)
	want := owned(t)
	if err := env.Remove(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}

	for range 10 {
		moment := time.Duration(random.Int64N(int64(undisturbed)))
		t.Run("after "+moment.Round(time.Millisecond).String(), func(t *testing.T) {
			timer := time.NewTimer(moment)
			env.Create(t, mesh())
			<-timer.C
			if err := env.KillOperator(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := env.WaitReady(t.Context(), "default"); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, owned(t)); diff != "" {
				t.Errorf("another end than without the kill (-want +got):\n%s", diff)
			}
		})
	}
}

// An API server that restarts, first in the middle of an installation, then beside a finished one, is only waited for:
// the mesh gets Ready, drift is corrected afterwards, and nothing that is as it should be is written for it.
func TestAPIServerRestarted(t *testing.T) {
	env.Create(t, mesh())
	if err := env.Cluster.RestartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := env.WaitReady(t.Context(), "default"); err != nil {
		t.Fatal(err)
	}
	before := owned(t)
	audit, err := env.Audit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := env.Cluster.RestartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := env.Kubectl(t.Context(), "delete", "mutatingwebhookconfiguration", "istio-revision-tag-stable"); err != nil {
		t.Fatal(err)
	}
	err = env.WaitFor(t.Context(), "the deleted tag to be back after the restart", func(ctx context.Context) (bool, string, error) {
		names, err := env.Owned(ctx, "default")
		return slices.Equal(names, before), "not all objects are there", err
	})
	if err != nil {
		t.Error(err)
	}
	writes, err := audit.Stop(t.Context(), func(e framework.AuditEvent) bool {
		return framework.OperatorRequests(e) && e.Write() && e.ObjectRef.Subresource != "status" && e.ObjectRef.Resource != "events"
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range writes {
		if w.ObjectRef.Name != "istio-revision-tag-stable" {
			t.Errorf("%s of %s %s, which was as it should be", w.Verb, w.ObjectRef.Resource, w.ObjectRef.Name)
		}
	}
	if len(writes) == 0 {
		t.Error("the audit log does not have the correction: it says nothing of the rest either")
	}
}
