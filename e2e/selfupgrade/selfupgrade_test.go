// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package selfupgrade

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshwright/meshwright/e2e/cluster/artifact"
	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// A rollout that the earlier operator has planned and begun is carried on by this one, by the earlier one again, which reads what this one
// wrote under the CRDs of this one, and by this one to its end.
func TestUpgradeOfTheOperator(t *testing.T) {
	err := artifact.FindCommit(t.Context(), env.Root, earlier)
	if errors.Is(err, artifact.ErrNoHistory) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	older, newer := release(t, earlier), release(t, "")
	if err := env.RemoveRelease(t.Context(), newer); err != nil {
		t.Fatal(err)
	}
	if err := env.ApplyRelease(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	begin(t)
	stop := send(t)
	trace(t, "default-1")
	if err := env.SetVersion(t.Context(), "default", framework.Istio129); err != nil {
		t.Fatal(err)
	}
	plan := pausedAt(t, first).Spec.Plan
	for _, leg := range []struct {
		reason, pause string
		to            *framework.Release
	}{
		{"a newer operator, with newer CRDs, in the middle of a shift of a gateway", first, newer},
		{"one version back, under the newer CRDs", second, older.Without("CustomResourceDefinition")},
		{"the newer one again", third, newer},
	} {
		t.Log(leg.pause + ": " + leg.reason)
		pausedAt(t, leg.pause)
		handOver(t, []string{rev128, rev129}, leg.to.Image, func() error { return env.ApplyRelease(t.Context(), leg.to) })
		if t.Failed() {
			t.FailNow() // what follows would only say so again
		}
		approve(t, leg.pause)
	}
	wait(t, "to have moved everything", func(o *v1alpha1.MeshRollout) bool { return int(o.Status.Progress.Step) >= len(o.Spec.Plan.Steps) })
	stop()
	ended := wait(t, "to be completed", framework.Ended(v1alpha1.OutcomeCompleted))
	if diff := cmp.Diff(text(t, plan), text(t, ended.Spec.Plan)); diff != "" {
		t.Errorf("the plan is another one at the end (-planned +ended):\n%s", diff)
	}
	for _, app := range []framework.Echo{pay, cart} {
		revisions, err := env.Revisions(t.Context(), app)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]int{rev129: int(app.Replicas)}, revisions); diff != "" {
			t.Errorf("pods of %s by revision (-want +got):\n%s", app.Name, diff)
		}
	}
}

// release is the operator of a commit, or of this tree.
func release(t *testing.T, commit string) *framework.Release {
	t.Helper()
	out, err := env.ReleaseOf(t.Context(), commit)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// approve adds an approval to those that were given.
func approve(t *testing.T, step string) {
	t.Helper()
	rollout, err := env.Rollout(t.Context(), "default-1")
	if err != nil {
		t.Fatal(err)
	}
	rollout.Spec.Approvals = append(rollout.Spec.Approvals, v1alpha1.Approval{Step: step, By: "kubernetes-admin"})
	if err := env.Steer(t.Context(), "default-1", map[string]any{"approvals": rollout.Spec.Approvals}); err != nil {
		t.Fatal(err)
	}
}

// pausedAt waits until the rollout stands at a pause.
func pausedAt(t *testing.T, step string) *v1alpha1.MeshRollout {
	t.Helper()
	awaits := framework.Acts(v1alpha1.ActAwaitApproval, v1alpha1.ReasonAwaitingApproval)
	return wait(t, "to stand at "+step, func(o *v1alpha1.MeshRollout) bool {
		at := int(o.Status.Progress.Step)
		return awaits(o) && at < len(o.Spec.Plan.Steps) && o.Spec.Plan.Steps[at].Name == step
	})
}

func wait(t *testing.T, says string, done func(*v1alpha1.MeshRollout) bool) *v1alpha1.MeshRollout {
	t.Helper()
	o, err := env.WaitRollout(t.Context(), "default-1", says, done)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// trace logs what the rollout decides and does until the test ends.
func trace(t *testing.T, name string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		env.Trace(ctx, name, t.Output())
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
}
