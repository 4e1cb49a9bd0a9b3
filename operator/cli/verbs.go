// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// verb is a command that sets one field of an operation.
type verb struct {
	*factory
	which

	output   *output
	patience *patience
}

// set is what a verb does to an operation.
type set struct {
	// right that it needs, as RBAC has it.
	right string
	// change sets the field, or says that there is nothing to change.
	change func(o operation) (needed bool, err error)
	// already and done are what is said of the operation when there was nothing to change, and when there was; what says what comes of it.
	already, done, what func(o operation) string
	// reached says whether a wait for the operation is over, and with which error.
	reached func(o operation, now time.Time) (bool, error)
	// anew is the wait for the rollout that takes up what this one, which has ended, did not reach.
	anew func(context.Context, client.WithWatch) error
}

// bind gives a command the flags of a verb.
func (v *verb) bind(cmd *cobra.Command, wait string) {
	v.addWhich(cmd, &v.which)
	v.output, v.patience = addObjectOutput(cmd), addPatience(cmd, wait)
}

// ready is a client for a verb whose flags make sense.
func (v *verb) ready(o *output) (client.WithWatch, error) {
	if err := v.patience.check(); err != nil {
		return nil, err
	}
	return v.factory.ready(o)
}

func (v *verb) run(ctx context.Context, choose func(client.Client, operation) (set, error)) error {
	c, err := v.ready(v.output)
	if err != nil {
		return err
	}
	return v.with(ctx, c, choose)
}

func (v *verb) with(ctx context.Context, c client.WithWatch, choose func(client.Client, operation) (set, error)) error {
	o, err := v.operation(ctx, c, v.which)
	if err != nil {
		return err
	}
	s, err := choose(c, o)
	if err != nil {
		return err
	}
	changed, err := v.steer(ctx, c, o, s.right, func() (bool, error) {
		if err := ended(o); err != nil && s.anew == nil { // it may have ended since it was read
			return false, err
		}
		return s.change(o)
	})
	if err != nil {
		return err
	}
	said := v.said(v.output)
	if changed {
		_, _ = fmt.Fprintf(said, "%s %s: %s\n", o, s.done(o), s.what(o))
	} else {
		_, _ = fmt.Fprintf(said, "%s %s\n", o, s.already(o))
	}
	if v.patience.wait {
		if err := v.waitFor(ctx, c, o, s); err != nil {
			return err
		}
	}
	return v.object(v.output, c, o.object())
}

func (v *verb) waitFor(ctx context.Context, c client.WithWatch, o operation, s set) error {
	if s.anew != nil {
		return v.waiting(ctx, v.patience, "the retry of "+o.String(), func(ctx context.Context) error { return s.anew(ctx, c) })
	}
	return v.waiting(ctx, v.patience, o.String(), func(ctx context.Context) error {
		return v.follow(ctx, c, v.said(v.output), o, s.reached)
	})
}

func text(t string) func(operation) string { return func(operation) string { return t } }

// ended refuses to steer what has ended.
func ended(o operation) error {
	if o.outcome() == "" {
		return nil
	}
	return blockedf("%s has ended as %s: nothing is left to steer", o, o.outcome())
}

func newApprove(f *factory) *cobra.Command {
	v := &verb{factory: f}
	cmd := &cobra.Command{
		Use:   "approve [STEP]",
		Short: "Let a step of a rollout, or a phase of a rotation, go on",
		Long: `Let a step of the rollout, or a phase of the rotation, go on that waits for an approval. Without a name it is the one that waits. A step of a rollout may be
approved before it is reached, by its name; a phase of a rotation when the one before it has begun.

An approval carries your own user name, and can't be taken back. It needs the RBAC verb approve.`,
		Example: example(
			"kubectl mesh approve",
			"kubectl mesh approve go --wait",
			"kubectl mesh approve Drop --rotation default-2",
		),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: first(f.live(f.awaitingNames)),
	}
	v.bind(cmd, "until the operation has ended")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return v.run(cmd.Context(), func(c client.Client, o operation) (set, error) {
			return v.approval(cmd.Context(), c, o, strings.Join(args, ""))
		})
	}
	return cmd
}

// approval is what an approval of a step does, by default of the one that waits.
func (v *verb) approval(ctx context.Context, c client.Client, o operation, step string) (set, error) {
	if err := ended(o); err != nil {
		return set{}, err
	}
	if step == "" {
		if step = o.awaits(); step == "" {
			reason, message := o.state()
			return set{}, blockedf("no step of %s waits for an approval, it is at %s: %s. To approve one ahead, name it: %s", o, reason, message, strings.Join(o.steps(), ", "))
		}
	}
	if !slices.Contains(o.steps(), step) {
		return set{}, usagef("%s has no step %s: choose one of %s", o, step, strings.Join(o.steps(), ", "))
	}
	me, err := v.Whoami(ctx, c)
	if err != nil {
		return set{}, err
	}
	return approvalBy(step, me), nil
}

func approvalBy(step, me string) set {
	by := func(o operation) string {
		_, _, approvals := o.verbs()
		for _, a := range *approvals {
			if a.Step == step {
				return a.By
			}
		}
		return ""
	}
	return set{
		right: "approve",
		change: func(o operation) (bool, error) {
			if by(o) != "" {
				return false, nil
			}
			_, _, approvals := o.verbs()
			*approvals = append(*approvals, v1alpha1.Approval{Step: step, By: me})
			return true, nil
		},
		already: func(o operation) string { return "step " + step + " is approved already, by " + by(o) },
		done:    func(operation) string { return "step " + step + " approved by " + me },
		what: func(o operation) string {
			if o.awaits() == step {
				return "it goes on"
			}
			return "it will not wait there"
		},
		reached: completes.reached,
	}
}

func newPause(f *factory) *cobra.Command { return newHold(f, true) }

func newResume(f *factory) *cobra.Command { return newHold(f, false) }

// newHold is pause or resume.
func newHold(f *factory, paused bool) *cobra.Command {
	v, wide := &verb{factory: f}, false
	cmd := &cobra.Command{
		Use:   "pause",
		Short: "Let a rollout or a rotation stand still where it is",
		Long: `Let the rollout or the rotation stand still where it is. What is under way ends by itself: a workload that is being restarted goes on to be. With --mesh-wide
nothing at all is done for the mesh, repairs included: spec.paused of the MeshInstallation.

It needs the RBAC verb pause on the operation, or patch on the MeshInstallation.`,
		Example: example("kubectl mesh pause", "kubectl mesh pause --rotation default-2", "kubectl mesh pause --mesh-wide"),
		Args:    cobra.NoArgs, ValidArgsFunction: nothing,
	}
	if !paused {
		cmd.Use, cmd.Short = "resume", "Let a paused rollout, rotation or mesh go on"
		cmd.Long = `Let a rollout or a rotation that was paused go on. With --mesh-wide, the mesh: spec.paused of the MeshInstallation.

It needs the RBAC verb pause on the operation, or patch on the MeshInstallation.`
		cmd.Example = example("kubectl mesh resume", "kubectl mesh resume --rollout default-8 --wait", "kubectl mesh resume --mesh-wide")
	}
	v.bind(cmd, "until the operator has taken it in")
	cmd.Flags().BoolVar(&wide, "mesh-wide", false, "The whole mesh: spec.paused of the MeshInstallation")
	cmd.MarkFlagsMutuallyExclusive("mesh-wide", rolloutFlag)
	cmd.MarkFlagsMutuallyExclusive("mesh-wide", rotationFlag)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !wide {
			return v.run(cmd.Context(), func(client.Client, operation) (set, error) { return hold(paused), nil })
		}
		c, err := v.ready(v.output)
		if err != nil {
			return err
		}
		return v.holdMesh(cmd.Context(), c, paused)
	}
	return cmd
}

func hold(paused bool) set {
	s := set{
		right: "pause",
		change: func(o operation) (bool, error) {
			field, _, _ := o.verbs()
			if *field == paused {
				return false, nil
			}
			*field = paused
			return true, nil
		},
		already: text("is already paused"), done: text("paused"), what: text("it stands still where it is; kubectl mesh resume lets it go on"),
		reached: taken,
	}
	if !paused {
		s.already, s.done, s.what = text("is not paused"), text("resumed"), text("it goes on from where it is")
	}
	return s
}

// holdMesh pauses or resumes all that is done for a mesh.
func (v *verb) holdMesh(ctx context.Context, c client.WithWatch, paused bool) error {
	mesh, err := v.Mesh(ctx, c, v.mesh)
	if err != nil {
		return err
	}
	said := v.said(v.output)
	state, what := "paused", "nothing is done for it any more, repairs included; kubectl mesh resume --mesh-wide lets it go on"
	if !paused {
		state, what = "resumed", "it goes on"
	}
	changed, err := locked(ctx, c, mesh, func() (bool, error) {
		needed := mesh.Spec.Paused != paused
		mesh.Spec.Paused = paused
		return needed, nil
	})
	if err != nil {
		return v.denied(ctx, c, err, "patch", "meshinstallations", mesh.Name)
	}
	if !changed {
		state = map[bool]string{true: "already paused", false: "not paused"}[paused]
		_, _ = fmt.Fprintf(said, "mesh %s is %s\n", mesh.Name, state)
		return v.object(v.output, c, mesh)
	}
	_, _ = fmt.Fprintf(said, "mesh %s %s: %s\n", mesh.Name, state, what)
	if v.patience.wait {
		err := v.waiting(ctx, v.patience, "mesh "+mesh.Name, func(ctx context.Context) error {
			return v.await(ctx, c, []client.ObjectList{&v1alpha1.MeshInstallationList{}}, func(ctx context.Context) (bool, error) {
				err := c.Get(ctx, client.ObjectKeyFromObject(mesh), mesh)
				return err == nil && mesh.Status.ObservedGeneration >= mesh.Generation, explain(err)
			})
		})
		if err != nil {
			return err
		}
	}
	return v.object(v.output, c, mesh)
}
