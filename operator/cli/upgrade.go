// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/version"
)

// The values of --dry-run.
const (
	dryRunNone   = "none"
	dryRunClient = "client"
	dryRunServer = "server"
)

// upgradeOptions are the flags of upgrade.
type upgradeOptions struct {
	*factory

	mesh, dryRun string
	output       *output
	patience     *patience
}

func newUpgrade(f *factory) *cobra.Command {
	o := &upgradeOptions{factory: f}
	cmd := &cobra.Command{
		Use:   "upgrade VERSION",
		Short: "Move a mesh to another version of Istio",
		Long: `Move a mesh to another version of Istio: spec.version becomes VERSION, which is exact (1.29.1), a line (1.29, its newest patch) or a constraint (">=1.28 <1.30").
The operator does the rest, as spec.upgrade says; kubectl mesh plan shows what that is.

What Istio does not support moving to, or the operator has no charts of, is refused with the reason, and nothing is changed (exit code 3).

With --wait, each decision of the rollout is a line, until everything has moved (exit code 0), or it failed, was rolled back or halted (3). A step that
waits for an approval says so, and the wait goes on. Ctrl-C ends the wait and not the rollout (130).`,
		Example: example(
			"kubectl mesh upgrade 1.29.1",
			"kubectl mesh upgrade 1.29 --wait --timeout 2h",
			"kubectl mesh upgrade 1.29.1 --dry-run=server",
		),
		Args:              one("the version that is wanted"),
		ValidArgsFunction: first(f.live(f.targetNames)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			c, err := f.Client()
			if err != nil {
				return err
			}
			return o.run(cmd.Context(), c, args[0])
		},
	}
	f.addMesh(cmd, &o.mesh)
	o.output, o.patience = addObjectOutput(cmd), addPatience(cmd, "until everything has moved")
	cmd.Flags().StringVar(&o.dryRun, "dry-run", dryRunNone, "none, client (only say what would be done) or server (let the API server check it, and keep nothing)")
	cmd.Flags().Lookup("dry-run").NoOptDefVal = dryRunClient
	mustComplete(cmd, "dry-run", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{dryRunNone, dryRunClient, dryRunServer}, cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

func (o *upgradeOptions) check() error {
	if !slices.Contains([]string{dryRunNone, dryRunClient, dryRunServer}, o.dryRun) {
		return usagef("--dry-run=%s: choose one of none, client, server", o.dryRun)
	}
	if o.patience.wait && o.dryRun != dryRunNone {
		return usagef("--wait has nothing to wait for with --dry-run")
	}
	if err := o.patience.check(); err != nil {
		return err
	}
	return o.output.check()
}

func (o *upgradeOptions) run(ctx context.Context, c client.WithWatch, wanted string) error {
	mesh, err := o.Mesh(ctx, c, o.mesh)
	if err != nil {
		return err
	}
	target, err := targetOf(mesh, wanted)
	if err != nil {
		return err
	}
	var known map[types.UID]bool
	if o.patience.wait {
		if known, err = o.endedBefore(ctx, c, mesh.Name); err != nil {
			return err
		}
	}
	before := mesh.DeepCopy()
	mesh.Spec.Version = wanted
	options := []client.PatchOption{}
	note := ""
	switch o.dryRun {
	case dryRunServer:
		options, note = append(options, client.DryRunAll), " (server dry run)"
	case dryRunClient:
		note = " (dry run)"
	}
	if o.dryRun != dryRunClient && before.Spec.Version != wanted {
		if err := o.write(ctx, c, mesh, before, options); err != nil {
			return o.denied(ctx, c, err, "patch", "meshinstallations", mesh.Name)
		}
	}
	o.announce(before, mesh, target, note)
	if o.patience.wait {
		err := o.waiting(ctx, o.patience, "the upgrade of mesh "+mesh.Name, func(ctx context.Context) error {
			return o.follow(ctx, c, mesh, before, known)
		})
		if err != nil {
			return err
		}
	}
	return o.object(o.output, c, mesh)
}

// write sets the version that is wanted, if nobody else has wanted another one since it was read.
func (o *upgradeOptions) write(ctx context.Context, c client.Client, mesh, before *v1alpha1.MeshInstallation, options []client.PatchOption) error {
	wanted := mesh.Spec.Version
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		from := mesh.DeepCopy()
		from.Spec.Version = before.Spec.Version
		err := c.Patch(ctx, mesh, client.MergeFromWithOptions(from, client.MergeFromWithOptimisticLock{}), options...)
		if !apierrors.IsConflict(err) {
			return err
		}
		if err := c.Get(ctx, client.ObjectKeyFromObject(mesh), mesh); err != nil {
			return err
		}
		if mesh.Spec.Version != before.Spec.Version {
			return blockedf("mesh %s: somebody else set spec.version to %s just now, and nothing was done", mesh.Name, mesh.Spec.Version)
		}
		mesh.Spec.Version = wanted
		return err
	})
}

// targetOf is the version that a mesh would move to; the error says why it can't.
func targetOf(mesh *v1alpha1.MeshInstallation, text string) (string, error) {
	wanted, err := version.Parse(text)
	if err != nil {
		return "", usagef("%s", err)
	}
	var installed *semver.Version
	if resolved := mesh.Status.ResolvedVersion; resolved != "" {
		if installed, err = semver.NewVersion(resolved); err != nil {
			return "", fmt.Errorf("status.resolvedVersion of mesh %s: %w", mesh.Name, err)
		}
	}
	var targets []*semver.Version
	for _, t := range mesh.Status.UpgradeTargets {
		if v, err := semver.NewVersion(t); err == nil {
			targets = append(targets, v)
		}
	}
	best, err := version.Resolve(wanted, targets, installed, false)
	if err == nil {
		return best.String(), nil
	}
	if installed == nil || mesh.Spec.Upgrade.VersionSkew == v1alpha1.VersionSkewAccept {
		return "", nil // the API server knows better
	}
	could := "it could move to none now"
	if len(mesh.Status.UpgradeTargets) > 0 {
		could = "it could move to " + strings.Join(mesh.Status.UpgradeTargets, ", ")
	}
	if exact, parsed := semver.StrictNewVersion(text); parsed == nil {
		err := version.CheckMove(installed, exact, mesh.Spec.Upgrade.Type == v1alpha1.UpgradeInPlace)
		if skew, is := errors.AsType[*version.SkewError](err); is {
			return "", blockedf("mesh %s can't move %s; %s", mesh.Name, skew, could)
		}
	}
	return "", blockedf("mesh %s can't move from Istio %s to %s: this operator has no charts of such a version; %s", mesh.Name, installed, text, could)
}

// announce says what comes of an upgrade.
func (o *upgradeOptions) announce(before, mesh *v1alpha1.MeshInstallation, target, note string) {
	out := o.said(o.output)
	from := cmp.Or(before.Status.ResolvedVersion, before.Spec.Version)
	if before.Spec.Version == mesh.Spec.Version {
		_, _ = fmt.Fprintf(out, "mesh %s: spec.version is %s already%s\n", mesh.Name, mesh.Spec.Version, note)
		return
	}
	_, _ = fmt.Fprintf(out, "mesh %s: spec.version %s -> %s%s\n", mesh.Name, before.Spec.Version, mesh.Spec.Version, note)
	if target == "" {
		return
	}
	v, err := semver.NewVersion(target)
	active := before.Status.ActiveOperation
	switch {
	case err != nil:
	case target == from && active == nil:
		_, _ = fmt.Fprintf(out, "Istio %s is what serves, and stays\n", target)
	case active != nil:
		_, _ = fmt.Fprintf(out, "Istio %s -> %s; %s %s is under way and is dealt with first\n", from, target, active.Kind, active.Name)
	case mesh.Spec.Upgrade.Type == v1alpha1.UpgradeInPlace:
		_, _ = fmt.Fprintf(out, "Istio %s -> %s: the control plane is replaced where it stands, then workloads are restarted as spec.upgrade says\n", from, target)
	default:
		_, _ = fmt.Fprintf(out, "Istio %s -> %s: revision %s comes up beside %s, then gateways and workloads move as spec.upgrade says\n",
			from, target, version.RevisionName(v), before.Status.StableRevision)
	}
}

// follow prints what comes of an upgrade until it has ended.
func (o *upgradeOptions) follow(ctx context.Context, c client.WithWatch, mesh, before *v1alpha1.MeshInstallation, known map[types.UID]bool) error {
	says := o.decisions(o.said(o.output))
	generation := mesh.Generation
	lists := []client.ObjectList{&v1alpha1.MeshInstallationList{}, &v1alpha1.MeshRolloutList{}, &v1alpha1.MeshRotationList{}}
	return o.await(ctx, c, lists, func(ctx context.Context) (bool, error) {
		s, err := o.take(ctx, c, mesh.Name)
		if err != nil {
			return false, err
		}
		s.mesh.DeepCopyInto(mesh)
		if mesh.Status.ObservedGeneration < generation {
			return false, nil
		}
		if move := s.moveTo(before, known); move != nil {
			says.of(operation{rollout: move})
			return completes.reached(operation{rollout: move}, o.Clock.Now())
		}
		return s.between(says, v1alpha1.ReasonPreflight, v1alpha1.ReasonTargetFailed)
	})
}

// endedBefore are the rollouts that have ended already: what begins now is another one.
func (f *factory) endedBefore(ctx context.Context, c client.Reader, mesh string) (map[types.UID]bool, error) {
	var all v1alpha1.MeshRolloutList
	if err := c.List(ctx, &all); err != nil {
		return nil, explain(err)
	}
	out := map[types.UID]bool{}
	for i := range all.Items {
		if r := &all.Items[i]; r.Spec.Plan.Mesh == mesh && r.Status.Progress.Outcome != "" {
			out[r.UID] = true
		}
	}
	return out, nil
}

// moveTo is the newest rollout to what the mesh wants; nil while there is none.
func (s *snapshot) moveTo(before *v1alpha1.MeshInstallation, known map[types.UID]bool) *v1alpha1.MeshRollout {
	wanted, err := version.Parse(s.mesh.Spec.Version)
	if err != nil {
		return nil
	}
	for i := range s.rollouts {
		r := &s.rollouts[i]
		to, err := semver.NewVersion(r.Spec.Plan.To.Version)
		failedBefore := known[r.UID] || r.Status.Progress.Back && before.Spec.Version == s.mesh.Spec.Version
		if err == nil && !failedBefore && wanted.Allows(to) {
			return r
		}
	}
	return nil
}

// between says what a mesh does that has no rollout to what it wants: it is there, or something comes first, or one of the reasons stands in the way.
func (s *snapshot) between(says *decisions, held ...string) (there bool, err error) {
	m := s.mesh
	for _, kind := range []string{v1alpha1.ConditionStalled, v1alpha1.ConditionUpToDate} {
		c := apimeta.FindStatusCondition(m.Status.Conditions, kind)
		if c == nil || kind == v1alpha1.ConditionStalled && c.Status != metav1.ConditionTrue {
			continue
		}
		if kind == v1alpha1.ConditionStalled || slices.Contains(held, c.Reason) {
			return true, blockedf("mesh %s does not move (%s): %s", m.Name, c.Reason, c.Message)
		}
		says.say(c.Reason, m.Status.Step, c.Message)
		if c.Status == metav1.ConditionTrue && m.Status.ActiveOperation == nil && m.Status.PendingVersion == "" {
			return true, nil
		}
	}
	return false, nil
}
