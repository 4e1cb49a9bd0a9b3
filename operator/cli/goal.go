// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func newAbort(f *factory) *cobra.Command {
	v := &verb{factory: f}
	cmd := &cobra.Command{
		Use:   "abort",
		Short: "Go no further: take the canary away before anything has moved",
		Long: `Go no further. A rollout that has moved nothing yet takes its canary away; one that has moved something halts where it is, and rollback moves that back. A
rotation goes back as long as nothing new signs, and else no further than Drain.

It can't be taken back, and needs the RBAC verb abort. A rotation has to be named by --rotation.`,
		Example: example("kubectl mesh abort --wait", "kubectl mesh abort --rotation default-2"),
		Args:    cobra.NoArgs, ValidArgsFunction: nothing,
	}
	v.bindTurn(cmd, "until it has ended")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return v.run(cmd.Context(), func(client.Client, operation) (set, error) { return turn(v1alpha1.GoalAbort), nil })
	}
	return cmd
}

func newRollback(f *factory) *cobra.Command {
	v := &verb{factory: f}
	cmd := &cobra.Command{
		Use:   "rollback",
		Short: "Move back whatever has moved",
		Long: `Move back whatever a rollout has moved, and take its canary away; it walks back through its steps, without waiting for windows. It can be rolled back until the old
revision is retired. A rotation goes back to the old CA, until the phase Drop begins.

It can't be taken back, and needs the RBAC verb rollback. A rotation has to be named by --rotation. Setting spec.version back has the same effect, and lets the
mesh stay there: after a rollback the version that the spec asks for is not tried again until the spec changes, or retry says so.`,
		Example: example("kubectl mesh rollback --wait", "kubectl mesh rollback --rollout default-8", "kubectl mesh rollback --rotation default-2"),
		Args:    cobra.NoArgs, ValidArgsFunction: nothing,
	}
	v.bindTurn(cmd, "until everything is back")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return v.run(cmd.Context(), func(client.Client, operation) (set, error) { return turn(v1alpha1.GoalRollBack), nil })
	}
	return cmd
}

// bindTurn is bind for what can't be taken back. A rotation has to be named: the rollout that was meant may have ended, and a rotation begun, a second ago.
func (v *verb) bindTurn(cmd *cobra.Command, wait string) {
	v.addMesh(cmd, &v.mesh)
	v.addRollout(cmd, &v.which)
	v.addRotation(cmd, &v.which, "The MeshRotation. Without it, a MeshRollout is meant")
	cmd.MarkFlagsMutuallyExclusive(rolloutFlag, rotationFlag)
	v.only = rolloutKind
	v.output, v.patience = addObjectOutput(cmd), addPatience(cmd, wait)
}

// turn sets another goal.
func turn(to v1alpha1.RolloutGoal) set {
	s := set{
		right: "rollback", already: text("is already to be rolled back"), done: text("is to be rolled back"), reached: goesBack.reached,
		what: func(o operation) string {
			if o.rotation != nil {
				return "it goes back to the old CA"
			}
			return "what has moved goes back to " + o.rollout.Spec.Plan.From.Revision
		},
	}
	if to == v1alpha1.GoalAbort {
		s.right, s.already, s.done = "abort", text("is already to be aborted"), text("is to be aborted")
		s.what = func(o operation) string {
			if o.rotation != nil {
				return "it goes back while nothing new signs, and else no further than Drain"
			}
			return "if nothing has moved yet, its canary is taken away; else it halts, and kubectl mesh rollback moves that back"
		}
	}
	s.change = func(o operation) (bool, error) {
		_, goal, _ := o.verbs()
		if *goal == to {
			return false, nil
		}
		if *goal == v1alpha1.GoalRollBack && o.rotation == nil {
			return false, blockedf("%s is to be rolled back already, and the goal goes one way: Complete, Abort, RollBack", o)
		}
		*goal = to
		return true, nil
	}
	return s
}
