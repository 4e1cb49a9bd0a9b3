// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func newRetry(f *factory) *cobra.Command {
	v := &verb{factory: f}
	cmd := &cobra.Command{
		Use:   "retry",
		Short: "Try again what has halted or failed",
		Long: `Let a rollout that has halted try again, once. When a rollout has ended without reaching its target, the target is tried again by another rollout.

It needs the RBAC verb retry.`,
		Example: example("kubectl mesh retry --wait", "kubectl mesh retry --rollout default-8"),
		Args:    cobra.NoArgs, ValidArgsFunction: nothing,
	}
	v.addMesh(cmd, &v.mesh)
	v.addRollout(cmd, &v.which)
	v.output, v.patience = addObjectOutput(cmd), addPatience(cmd, "until the rollout has ended")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := v.ready(v.output)
		if err != nil {
			return err
		}
		return v.retry(cmd.Context(), c)
	}
	return cmd
}

func (v *verb) retry(ctx context.Context, c client.WithWatch) error {
	o, mesh, err := v.retried(ctx, c)
	if err != nil {
		return err
	}
	failed := unreached(mesh)
	used := o.Status.Progress.Retries
	ended := o.Status.Progress.Outcome != ""
	if ended && (failed == nil || failed.Rollout != o.Name) {
		return blockedf("%s has ended as %s, and what it was for is not wanted any more: there is nothing to try again", operation{rollout: o}, o.Status.Progress.Outcome)
	}
	if ended {
		used = failed.Retries
	}
	op := operation{rollout: o}
	if !ended && !o.Status.Progress.Halted && o.Spec.Retries <= used {
		reason, message := op.state()
		return blockedf("%s has not halted, it is at %s: %s", op, reason, message)
	}
	v.rollout = o.Name
	s := again(used)
	if ended {
		var known map[types.UID]bool
		if v.patience.wait {
			if known, err = v.endedBefore(ctx, c, mesh.Name); err != nil {
				return err
			}
		}
		s.what = text("another rollout tries its target again")
		s.anew = func(ctx context.Context, c client.WithWatch) error { return v.followNext(ctx, c, mesh.Name, known) }
	}
	return v.with(ctx, c, func(client.Client, operation) (set, error) { return s, nil })
}

// retried is the rollout that is meant: the one that is named, the one that is under way, or the one that did not reach what the mesh wants.
func (v *verb) retried(ctx context.Context, c client.Reader) (*v1alpha1.MeshRollout, *v1alpha1.MeshInstallation, error) {
	o := &v1alpha1.MeshRollout{}
	if v.rollout != "" {
		if err := v.named(ctx, c, v.rollout, o, &v1alpha1.MeshRolloutList{}); err != nil {
			return nil, nil, err
		}
		if err := v.belongs(operation{rollout: o}); err != nil {
			return nil, nil, err
		}
		mesh, err := v.Mesh(ctx, c, o.Spec.Plan.Mesh)
		return o, mesh, err
	}
	mesh, err := v.Mesh(ctx, c, v.mesh)
	if err != nil {
		return nil, nil, err
	}
	s := &snapshot{mesh: mesh}
	if err := s.children(ctx, c); err != nil {
		return nil, nil, err
	}
	if o := s.rollout(); o != nil {
		return o, mesh, nil
	}
	if failed := unreached(mesh); failed != nil {
		return o, mesh, v.named(ctx, c, failed.Rollout, o, &v1alpha1.MeshRolloutList{})
	}
	return nil, nil, blockedf("mesh %s has nothing to try again", mesh.Name)
}

// unreached is the target that a rollout did not reach and the mesh still wants, whatever stands in the way of another try by now; nil for none.
func unreached(m *v1alpha1.MeshInstallation) *v1alpha1.FailedTarget {
	if last := m.Status.FailedTarget; last != nil && last.Generation == m.Generation {
		return last
	}
	return nil
}

// again raises the retries above those that were used up.
func again(used int32) set {
	return set{
		right: "retry",
		change: func(o operation) (bool, error) {
			if o.rollout.Spec.Retries > used {
				return false, nil
			}
			o.rollout.Spec.Retries = used + 1
			return true, nil
		},
		already: func(o operation) string {
			return fmt.Sprintf("was told to try again already (spec.retries %d)", o.rollout.Spec.Retries)
		},
		done: func(o operation) string {
			return fmt.Sprintf("is given a retry (spec.retries %d)", o.rollout.Spec.Retries)
		},
		what: text("it goes on from where it halted"), reached: completes.reached,
	}
}

// followNext follows the rollout that comes after those that are known. As long as there is none, it says what the mesh does instead.
func (v *verb) followNext(ctx context.Context, c client.WithWatch, name string, known map[types.UID]bool) error {
	says := v.decisions(v.said(v.output))
	lists := []client.ObjectList{&v1alpha1.MeshInstallationList{}, &v1alpha1.MeshRolloutList{}}
	return v.await(ctx, c, lists, func(ctx context.Context) (bool, error) {
		s, err := v.take(ctx, c, name)
		if err != nil {
			return false, err
		}
		for i := range s.rollouts { // the newest is the first
			plan := &s.rollouts[i].Spec.Plan
			if o := (operation{rollout: &s.rollouts[i]}); !known[o.rollout.UID] && plan.From.Revision != plan.To.Revision {
				says.of(o)
				return completes.reached(o, v.Clock.Now())
			}
		}
		if s.mesh.Status.ObservedGeneration < s.mesh.Generation {
			return false, nil
		}
		there, err := s.between(says, v1alpha1.ReasonPreflight)
		if there && err == nil {
			return true, blockedf("mesh %s is where it wants to be now, and tries nothing again", name)
		}
		return there, err
	})
}
