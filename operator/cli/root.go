// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// Version of the plugin; a release sets it when it is linked.
var Version = "dev"

// Run is the whole plugin: it runs a command line and returns the exit code.
func Run(ctx context.Context, args []string, streams genericiooptions.IOStreams) ExitCode {
	log.SetLogger(logr.Discard())                      // what the client has to say, it says in errors
	root, begun := newRoot(streams, clock.RealClock{}) //nolint:contextcheck // what completes has the context that cobra gives it
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var coded *exitError
	if err != nil && !*begun && !errors.As(err, &coded) {
		err = usagef("%s", err) // cobra did not understand the command line
	}
	if err != nil && err.Error() != "" && ExitCodeOf(err) != ExitInterrupted {
		_, _ = fmt.Fprintln(streams.ErrOut, "error: "+err.Error())
	}
	return ExitCodeOf(err)
}

// operatorNamespaceFlag names the namespace of the operator.
const operatorNamespaceFlag = "operator-namespace"

// New is the command line of the plugin.
func New(streams genericiooptions.IOStreams, now clock.Clock) *cobra.Command {
	root, _ := newRoot(streams, now)
	return root
}

// newRoot is the command line, and whether a command of it has begun to run.
func newRoot(streams genericiooptions.IOStreams, now clock.Clock) (root *cobra.Command, begun *bool) {
	f := &factory{Flags: genericclioptions.NewConfigFlags(true), IOStreams: streams, Clock: now}
	root = &cobra.Command{
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
	f.OperatorNamespace = root.PersistentFlags().String(operatorNamespaceFlag, "meshwright-system", "The namespace that the operator runs in. Where it is not given, the operator is looked for")
	f.operatorGiven = func() bool { return root.PersistentFlags().Changed(operatorNamespaceFlag) }
	for _, group := range groups {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, command := range group.commands {
			c := command(f)
			c.GroupID = group.id
			root.AddCommand(c)
		}
	}
	root.CompletionOptions.DisableDefaultCmd = true
	mustComplete(root, "namespace", f.live(namespaceNames))
	mustComplete(root, "context", f.contextNames)
	begun = new(bool)
	noteBegin(root, begun)
	return root, begun
}

// noteBegin makes every command say that it has begun: an error before that is one of the command line.
func noteBegin(cmd *cobra.Command, begun *bool) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			*begun = true
			return run(cmd, args)
		}
	}
	for _, below := range cmd.Commands() {
		noteBegin(below, begun)
	}
}

// groups are the commands, in the order in which help lists them.
var groups = []struct {
	id, title string
	commands  []func(*factory) *cobra.Command
}{
	{"see", "See:", []func(*factory) *cobra.Command{newStatus, newProxies, newHistory, newPlan, newPreflight}},
	{"steer", "Steer:", []func(*factory) *cobra.Command{
		newUpgrade, newApprove, newPause, newResume, newAbort, newRollback, newRetry, newWaive, newCerts,
	}},
	{"other", "Other:", []func(*factory) *cobra.Command{newBundle, newVersion, newCompletion}},
}

// example indents the examples of a command as help prints them.
func example(lines ...string) string { return "  " + strings.Join(lines, "\n  ") }
