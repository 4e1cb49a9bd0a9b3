// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// The flags that say what is meant.
const (
	meshFlag     = "mesh"
	rolloutFlag  = "rollout"
	rotationFlag = "rotation"
)

// The kinds of operations.
const (
	rolloutKind  = "MeshRollout"
	rotationKind = "MeshRotation"
)

// which says which operation is meant.
type which struct {
	mesh, rollout, rotation string
	// only is the kind that is meant where none is named; empty for either.
	only string
}

func (f *factory) addMesh(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVar(name, meshFlag, "", "The mesh. Default: the only one of the cluster")
	mustComplete(cmd, meshFlag, f.live(meshNames))
}

func (f *factory) addWhich(cmd *cobra.Command, w *which) {
	f.addMesh(cmd, &w.mesh)
	f.addRollout(cmd, w)
	f.addRotation(cmd, w, "The MeshRotation. Default: the one that is under way")
	cmd.MarkFlagsMutuallyExclusive(rolloutFlag, rotationFlag)
}

func (f *factory) addRollout(cmd *cobra.Command, w *which) {
	cmd.Flags().StringVar(&w.rollout, rolloutFlag, "", "The MeshRollout. Default: the one that is under way")
	mustComplete(cmd, rolloutFlag, f.live(rolloutNames))
}

func (f *factory) addRotation(cmd *cobra.Command, w *which, means string) {
	cmd.Flags().StringVar(&w.rotation, rotationFlag, "", means)
	mustComplete(cmd, rotationFlag, f.live(rotationNames))
}

// operation is a MeshRollout or a MeshRotation: one of both.
type operation struct {
	rollout  *v1alpha1.MeshRollout
	rotation *v1alpha1.MeshRotation
}

// object is the one of both that it is; nil for an empty operation.
func (o operation) object() client.Object {
	switch {
	case o.rollout != nil:
		return o.rollout
	case o.rotation != nil:
		return o.rotation
	}
	return nil
}

func (o operation) kind() string {
	if o.rollout != nil {
		return rolloutKind
	}
	return rotationKind
}

// resource is the plural of its kind, as RBAC has it.
func (o operation) resource() string { return strings.ToLower(o.kind()) + "s" }

func (o operation) String() string { return o.kind() + " " + o.object().GetName() }

// mesh is the name of its mesh.
func (o operation) mesh() string {
	if o.rollout != nil {
		return o.rollout.Spec.Plan.Mesh
	}
	return o.rotation.Spec.Mesh
}

// verbs are the fields that both kinds have.
func (o operation) verbs() (paused *bool, goal *v1alpha1.RolloutGoal, approvals *[]v1alpha1.Approval) {
	if o.rollout != nil {
		return &o.rollout.Spec.Paused, &o.rollout.Spec.Goal, &o.rollout.Spec.Approvals
	}
	return &o.rotation.Spec.Paused, &o.rotation.Spec.Goal, &o.rotation.Spec.Approvals
}

func (o operation) outcome() v1alpha1.RolloutOutcome {
	if o.rollout != nil {
		return o.rollout.Status.Progress.Outcome
	}
	return o.rotation.Status.Progress.Outcome
}

// state is reason and message of its condition Complete.
func (o operation) state() (reason, message string) {
	all := o.conditions()
	if c := apimeta.FindStatusCondition(*all, v1alpha1.ConditionComplete); c != nil {
		return c.Reason, c.Message
	}
	return "New", "the operator has not looked at it yet"
}

// observed says that the operator has seen the newest spec.
func (o operation) observed() bool {
	if o.rollout != nil {
		return o.rollout.Status.ObservedGeneration >= o.rollout.Generation
	}
	return o.rotation.Status.ObservedGeneration >= o.rotation.Generation
}

// halted says that nothing is done until a person says how to go on.
func (o operation) halted() bool {
	return o.outcome() == "" && apimeta.IsStatusConditionTrue(*o.conditions(), v1alpha1.ConditionStalled)
}

// awaits is the step or phase that waits for an approval; empty for none.
func (o operation) awaits() string {
	reason, _ := o.state()
	if o.outcome() != "" {
		return ""
	}
	if o.rollout == nil {
		if reason != v1alpha1.ReasonAwaitingApproval {
			return ""
		}
		return string(nextPhase(o.rotation))
	}
	awaited := []string{v1alpha1.ReasonAwaitingApproval, v1alpha1.ReasonOvershoot, v1alpha1.ReasonInconclusive}
	step, steps := int(o.rollout.Status.Progress.Step), o.rollout.Spec.Plan.Steps
	if !slices.Contains(awaited, reason) || step < 0 || step >= len(steps) {
		return ""
	}
	return steps[step].Name
}

// nextPhase is the phase that a rotation has not begun yet; empty for none.
func nextPhase(o *v1alpha1.MeshRotation) v1alpha1.RotationPhase {
	if o.Status.Plan == nil {
		return ""
	}
	phases := o.Status.Plan.Phases
	next := slices.Index(phases, o.Status.Progress.Phase) + 1
	if next >= len(phases) {
		return ""
	}
	return phases[next]
}

// steps are the names of the steps or phases of its plan.
func (o operation) steps() (out []string) {
	if o.rollout != nil {
		for _, s := range o.rollout.Spec.Plan.Steps {
			out = append(out, s.Name)
		}
		return out
	}
	if o.rotation.Status.Plan != nil {
		for _, p := range o.rotation.Status.Plan.Phases {
			out = append(out, string(p))
		}
	}
	return out
}

// flag names it on a command line.
func (o operation) flag() string {
	return "--" + strings.ToLower(strings.TrimPrefix(o.kind(), "Mesh")) + " " + o.object().GetName()
}

// again reads it anew.
func (o operation) again(ctx context.Context, c client.Reader) error {
	return c.Get(ctx, client.ObjectKeyFromObject(o.object()), o.object())
}

// operations are those that may be meant: the one that is named, else all of the mesh that have not ended, the active one first. An error says
// that what was named is not there.
func (f *factory) operations(ctx context.Context, c client.Reader, w which) ([]operation, error) {
	switch {
	case w.rollout != "":
		o := operation{rollout: &v1alpha1.MeshRollout{}}
		if err := f.named(ctx, c, w.rollout, o.rollout, &v1alpha1.MeshRolloutList{}); err != nil {
			return nil, err
		}
		return []operation{o}, w.belongs(o)
	case w.rotation != "":
		o := operation{rotation: &v1alpha1.MeshRotation{}}
		if err := f.named(ctx, c, w.rotation, o.rotation, &v1alpha1.MeshRotationList{}); err != nil {
			return nil, err
		}
		return []operation{o}, w.belongs(o)
	}
	mesh, err := f.Mesh(ctx, c, w.mesh)
	if err != nil {
		return nil, err
	}
	s := &snapshot{mesh: mesh}
	if err := s.children(ctx, c); err != nil {
		return nil, err
	}
	var out []operation
	for i := range s.rollouts {
		if s.rollouts[i].Status.Progress.Outcome == "" {
			out = append(out, operation{rollout: &s.rollouts[i]})
		}
	}
	for i := range s.rotations {
		if s.rotations[i].Status.Progress.Outcome == "" {
			out = append(out, operation{rotation: &s.rotations[i]})
		}
	}
	if active := mesh.Status.ActiveOperation; active != nil {
		slices.SortStableFunc(out, func(a, b operation) int {
			return rank(b, active) - rank(a, active)
		})
	}
	return out, nil
}

// belongs refuses an operation of another mesh than the one that is named beside it.
func (w which) belongs(o operation) error {
	if w.mesh != "" && o.mesh() != w.mesh {
		return usagef("%s is of mesh %s, not of %s: leave --mesh out, or name another", o, o.mesh(), w.mesh)
	}
	return nil
}

func rank(o operation, active *v1alpha1.ActiveOperation) int {
	if o.object().GetUID() == active.UID {
		return 1
	}
	return 0
}

// named reads an object that the command line names, and says which there are when there is none of the name.
func (f *factory) named(ctx context.Context, c client.Reader, name string, o client.Object, all client.ObjectList) error {
	err := c.Get(ctx, client.ObjectKey{Name: name}, o)
	if !apierrors.IsNotFound(err) {
		return explain(err)
	}
	var names []string
	if c.List(ctx, all) == nil {
		_ = apimeta.EachListItem(all, func(item runtime.Object) error {
			if o, err := apimeta.Accessor(item); err == nil {
				names = append(names, o.GetName())
			}
			return nil
		})
	}
	if len(names) == 0 {
		return &notFoundError{fmt.Sprintf("there is no %s, and so none is called %s", kindOf(o), name)}
	}
	return &notFoundError{fmt.Sprintf("no %s is called %s; there are %s", kindOf(o), name, strings.Join(names, ", "))}
}

func kindOf(o client.Object) string {
	switch o.(type) {
	case *v1alpha1.MeshRollout:
		return rolloutKind
	case *v1alpha1.MeshRotation:
		return rotationKind
	}
	return "MeshInstallation"
}

func (o operation) conditions() *[]metav1.Condition {
	if o.rollout != nil {
		return &o.rollout.Status.Conditions
	}
	return &o.rotation.Status.Conditions
}

// operation chooses the one that is meant.
func (f *factory) operation(ctx context.Context, c client.Reader, w which) (operation, error) {
	all, err := f.operations(ctx, c, w)
	if err != nil {
		return operation{}, err
	}
	if w.only != "" && w.rollout == "" && w.rotation == "" {
		var others []string
		all = slices.DeleteFunc(all, func(o operation) bool {
			if o.kind() != w.only {
				others = append(others, o.flag())
			}
			return o.kind() != w.only
		})
		if len(all) == 0 && len(others) > 0 && w.only == rolloutKind {
			return operation{}, usagef("no rollout is under way, but a rotation: if that is meant, name it by %s", strings.Join(others, " or "))
		}
	}
	switch {
	case len(all) == 1:
		return all[0], nil
	case len(all) == 0:
		return operation{}, f.idle(ctx, c, w)
	}
	mesh, err := f.Mesh(ctx, c, all[0].mesh())
	if err != nil {
		return operation{}, err
	}
	active := mesh.Status.ActiveOperation
	if active != nil && active.Preempted == "" && all[0].object().GetUID() == active.UID {
		return all[0], nil // the others wait for it
	}
	var flags []string
	for _, o := range all {
		flags = append(flags, o.flag())
	}
	return operation{}, usagef("more than one operation is under way on mesh %s: say which by %s", mesh.Name, strings.Join(flags, " or "))
}

// idle says that there is nothing to steer, and what was there last.
func (f *factory) idle(ctx context.Context, c client.Reader, w which) error {
	mesh, err := f.Mesh(ctx, c, w.mesh)
	if err != nil {
		return err
	}
	text := "nothing is under way on mesh " + mesh.Name
	if w.only == rotationKind {
		return blockedf("no MeshRotation is under way on mesh %s", mesh.Name)
	}
	if failed := failedTarget(mesh); failed != nil {
		text += fmt.Sprintf("; MeshRollout %s did not reach %s: kubectl mesh retry --rollout %s tries it again", failed.Rollout, failed.Version, failed.Rollout)
	}
	return blockedf("%s", text)
}
