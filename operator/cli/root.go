// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"
)

// Version of the plugin; a release sets it when it is linked.
var Version = "dev"

// Run is the whole plugin: it runs a command line and returns the exit code.
func Run(ctx context.Context, args []string, streams genericiooptions.IOStreams) ExitCode {
	root := New(streams, clock.RealClock{})
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && err.Error() != "" && ExitCodeOf(err) != ExitInterrupted {
		_, _ = fmt.Fprintln(streams.ErrOut, "error: "+err.Error())
	}
	return ExitCodeOf(err)
}

// New is the command line of the plugin.
func New(streams genericiooptions.IOStreams, now clock.Clock) *cobra.Command {
	f := &factory{Flags: genericclioptions.NewConfigFlags(true), IOStreams: streams, Clock: now}
	root := &cobra.Command{
		Use:   "mesh",
		Short: "See and steer Istio meshes that Meshwright keeps",
		Annotations: map[string]string{
			cobra.CommandDisplayNameAnnotation: "kubectl mesh",
		},
		SilenceErrors: true, SilenceUsage: true,
	}
	root.SetIn(streams.In)
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%s", err) })
	f.Flags.AddFlags(root.PersistentFlags())
	for _, group := range groups {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, command := range group.commands {
			c := command(f)
			c.GroupID = group.id
			root.AddCommand(c)
		}
	}
	return root
}

// groups are the commands, in the order in which help lists them.
var groups = []struct {
	id, title string
	commands  []func(*factory) *cobra.Command
}{
	{"see", "See:", []func(*factory) *cobra.Command{newPlan}},
	{"steer", "Steer:", []func(*factory) *cobra.Command{}},
	{"other", "Other:", []func(*factory) *cobra.Command{}},
}

// example indents the examples of a command as help prints them.
func example(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }
