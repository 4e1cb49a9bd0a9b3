// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// program is the file that kubectl looks for on the PATH, and completer what it asks for words.
const (
	program          = "kubectl-mesh"
	completerProgram = "kubectl_complete-mesh"
)

// completions are what completion can print, in the order of help.
var completions = []string{"bash", "zsh", "fish", "powershell", "kubectl"}

func newCompletion(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell|kubectl",
		Short: "Print the script that completes commands and live names in a shell",
		Long: `Print a script for completion. Names of meshes, rollouts, steps, versions and proxies are those of the cluster.

kubectl completes its plugins by a program beside them: with the one that "completion kubectl" prints, as ` + completerProgram + ` on the PATH, "kubectl mesh" is
completed wherever kubectl is, in every shell. The scripts of the shells complete the command kubectl-mesh itself.`,
		Example: example(
			`kubectl mesh completion kubectl > ~/.local/bin/`+completerProgram+` && chmod +x ~/.local/bin/`+completerProgram,
			"source <(kubectl mesh completion bash)",
		),
		ValidArgs: completions,
		Args:      one("the shell, or kubectl"),
		RunE: func(_ *cobra.Command, args []string) error {
			named := &cobra.Command{Use: program} // of the program a script holds the name only
			switch args[0] {
			case "bash":
				return named.GenBashCompletionV2(f.Out, true)
			case "zsh":
				return named.GenZshCompletion(f.Out)
			case "fish":
				return named.GenFishCompletion(f.Out, true)
			case "powershell":
				return named.GenPowerShellCompletionWithDesc(f.Out)
			case "kubectl":
				_, err := fmt.Fprintf(f.Out, "#!/bin/sh\n# Completion of kubectl mesh: kubectl runs this as %s.\nexec %s __complete \"$@\"\n", completerProgram, program)
				return err
			}
			return usagef("there is no completion for %s: choose one of %v", args[0], completions)
		},
	}
}
