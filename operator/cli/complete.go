// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// completeFor is how long a shell waits for names at most.
const completeFor = 3 * time.Second

// completer proposes what an argument or a flag may be. What can't be read proposes nothing.
type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// mustComplete registers a completer of a flag that the command has.
func mustComplete(cmd *cobra.Command, flag string, complete completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // there is no such flag, or it has one: a mistake in this package
	}
}

// live completes by what names finds in the cluster.
func (f *factory) live(names func(ctx context.Context, c client.Client, cmd *cobra.Command) []string) completer {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completeFor)
		defer cancel()
		c, err := f.Client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all := slices.DeleteFunc(names(ctx, c, cmd), func(name string) bool { return !strings.HasPrefix(name, typed) })
		return all, cobra.ShellCompDirectiveNoFileComp
	}
}

// first completes the first argument only.
func first(complete completer) completer {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, typed)
	}
}

// nothing completes a command that has no arguments.
func nothing(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveNoFileComp
}

func meshNames(ctx context.Context, c client.Client, _ *cobra.Command) (out []string) {
	var all v1alpha1.MeshInstallationList
	if c.List(ctx, &all) != nil {
		return nil
	}
	for i := range all.Items {
		out = append(out, all.Items[i].Name)
	}
	return out
}

func rolloutNames(ctx context.Context, c client.Client, cmd *cobra.Command) (out []string) {
	var all v1alpha1.MeshRolloutList
	if c.List(ctx, &all) != nil {
		return nil
	}
	mesh := flagOf(cmd, meshFlag)
	for i := range all.Items {
		if mesh == "" || all.Items[i].Spec.Plan.Mesh == mesh {
			out = append(out, all.Items[i].Name)
		}
	}
	return out
}

func rotationNames(ctx context.Context, c client.Client, cmd *cobra.Command) (out []string) {
	var all v1alpha1.MeshRotationList
	if c.List(ctx, &all) != nil {
		return nil
	}
	mesh := flagOf(cmd, meshFlag)
	for i := range all.Items {
		if mesh == "" || all.Items[i].Spec.Mesh == mesh {
			out = append(out, all.Items[i].Name)
		}
	}
	return out
}

// operationNames are meshes, rollouts and rotations.
func operationNames(ctx context.Context, c client.Client, cmd *cobra.Command) []string {
	return slices.Concat(meshNames(ctx, c, cmd), rolloutNames(ctx, c, cmd), rotationNames(ctx, c, cmd))
}

// targetNames are the versions that a mesh could move to.
func (f *factory) targetNames(ctx context.Context, c client.Client, cmd *cobra.Command) []string {
	mesh, err := f.Mesh(ctx, c, flagOf(cmd, meshFlag))
	if err != nil {
		return nil
	}
	return mesh.Status.UpgradeTargets
}

// awaitingNames are the steps and phases that wait for an approval.
func (f *factory) awaitingNames(ctx context.Context, c client.Client, cmd *cobra.Command) (out []string) {
	which := which{mesh: flagOf(cmd, meshFlag), rollout: flagOf(cmd, rolloutFlag), rotation: flagOf(cmd, rotationFlag)}
	all, err := f.operations(ctx, c, which)
	if err != nil {
		return nil
	}
	for _, o := range all {
		if step := o.awaits(); step != "" {
			out = append(out, step)
		}
	}
	return out
}

// holdoutNames are the proxies for which a rotation waits.
func (f *factory) holdoutNames(ctx context.Context, c client.Client, cmd *cobra.Command) (out []string) {
	all, err := f.operations(ctx, c, which{mesh: flagOf(cmd, meshFlag), rotation: flagOf(cmd, rotationFlag)})
	if err != nil {
		return nil
	}
	for _, o := range all {
		if o.rotation != nil {
			for _, h := range o.rotation.Status.Holdouts {
				out = append(out, h.Proxy)
			}
		}
	}
	return out
}

func namespaceNames(ctx context.Context, c client.Client, _ *cobra.Command) (out []string) {
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if c.List(ctx, all) != nil {
		return nil
	}
	for i := range all.Items {
		out = append(out, all.Items[i].Name)
	}
	return out
}

// contextNames are those of the kubeconfig.
func (f *factory) contextNames(_ *cobra.Command, _ []string, typed string) (out []string, _ cobra.ShellCompDirective) {
	config, err := f.Flags.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	for name := range config.Contexts {
		if strings.HasPrefix(name, typed) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, cobra.ShellCompDirectiveNoFileComp
}

func flagOf(cmd *cobra.Command, name string) string {
	if flag := cmd.Flag(name); flag != nil {
		return flag.Value.String()
	}
	return ""
}
