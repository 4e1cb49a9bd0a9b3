// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"
)

// Every command says what it does, shows it by an example, and completes what it takes.
func TestCommandsAreHelpful(t *testing.T) {
	root := New(genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.Discard, ErrOut: io.Discard}, clock.RealClock{})
	var look func(c *cobra.Command)
	look = func(c *cobra.Command) {
		for _, below := range c.Commands() {
			if below.Short == "" || !strings.Contains(below.Example, below.CommandPath()) {
				t.Errorf("%s: short help %q, example %q", below.CommandPath(), below.Short, below.Example)
			}
			if takes := strings.Contains(below.Use, " "); takes && below.ValidArgsFunction == nil && len(below.ValidArgs) == 0 {
				t.Errorf("%s completes nothing", below.CommandPath())
			}
			look(below)
		}
	}
	look(root)
}

// Scripts of completion are for the program that kubectl runs.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range completions {
		var out, errs bytes.Buffer
		code := Run(t.Context(), []string{"completion", shell}, genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &errs})
		if code != ExitOK || !strings.Contains(out.String(), program) || !strings.Contains(out.String(), "__complete") {
			t.Errorf("completion %s ends with %d: %s%s", shell, code, &out, &errs)
		}
	}
	var errs bytes.Buffer
	if code := Run(t.Context(), []string{"completion", "tcsh"}, genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.Discard, ErrOut: &errs}); code != ExitUsage {
		t.Errorf("completion of another shell ends with %d: %s", code, &errs)
	}
}
