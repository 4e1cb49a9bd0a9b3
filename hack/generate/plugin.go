// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/utils/clock"

	"github.com/meshwright/meshwright/operator/cli"
)

// pluginIntro is what neither a command nor a type says.
const pluginIntro = `# kubectl mesh

Written by ` + "`make generate`" + ` from operator/cli.

The plugin shows and steers the meshes of a cluster. It does nothing that the operator does: it reads objects, and writes a spec or a verb, with your own
rights. ` + "`kubectl mesh`" + ` takes every flag of kubectl that says which cluster is meant and as whom (` + "`--context`, `--kubeconfig`, `--as`, `-n`, `--request-timeout`" + `, …).

` + "```sh" + `
kubectl mesh status --watch                      # what there is, and what waits for a person
kubectl mesh upgrade 1.29.1 --wait               # a line for each decision
kubectl mesh approve                             # the step that waits
kubectl mesh rollback --wait                     # everything back; a rotation of the CA only with --rotation
` + "```" + `

## Installing

Put the program ` + "`kubectl-mesh`" + ` on your PATH: ` + "`go build -o ~/.local/bin/kubectl-mesh ./operator/cmd/kubectl-mesh`" + `, or from the archive of a release. For completion
of live names, put what ` + "`kubectl mesh completion kubectl`" + ` prints beside it, as ` + "`kubectl_complete-mesh`" + `, and make it executable.

## Exit codes

| code | meaning |
|---|---|
| 0 | done; for ` + "`plan`" + `: nothing to do; for ` + "`preflight`" + `: nothing holds a rollout back |
| 1 | it did not work; standard error says why |
| 2 | ` + "`plan`" + ` found something to do |
| 3 | what is wanted is held back: by findings, by a version that can't be moved to, because nothing is there to be steered, or (with ` + "`--wait`" + `) because it failed |
| 4 | ` + "`--timeout`" + ` has passed; the cluster goes on as it was told |
| 64 | the command was not understood, and did nothing |
| 130 | Ctrl-C; the cluster goes on as it was told. Ending ` + "`status --watch`" + ` is no failure: that is 0 |

## Waiting

` + "`--wait`" + ` prints a line for each decision, as the operator makes it; every ten seconds it looks in any case. While the API server does not answer, it goes on and says
so; it ends when you may not look any more. An upgrade has ended well when everything has moved: the old revision is kept for
` + "`retireAfterSeconds`" + ` after that, and can be rolled back to until then. A step that waits for an approval says so, and the wait goes on. Ctrl-C ends the wait and
nothing else.

## Rights

Each verb needs its own right besides ` + "`patch`" + `: the ClusterRoles ` + "`meshwright-rollout-approver`, `meshwright-rollout-operator`" + ` and ` + "`meshwright-rotation-operator`" + ` have
them. A denial names the right that is missing. ` + "`status`" + ` leaves out what you may not read, and says so.

## Output

Text is for people, and may change. Colours are on a terminal only, without ` + "`NO_COLOR`" + `, and say nothing that words don't. ` + "`-o json`" + ` and ` + "`-o yaml`" + ` are for programs:
commands that change an object print it, all others print what is described [below](#json-and-yaml).

`

// Where the plugin is, and its page.
const (
	pluginDir  = "operator/cli"
	pluginPage = "docs/kubectl-mesh.md"
)

// plugin writes the page of kubectl mesh: its commands from the commands themselves, what they print from the types.
func plugin(root string) ([]byte, error) {
	out := bytes.NewBufferString(pluginIntro)
	command := cli.New(genericiooptions.IOStreams{In: strings.NewReader(""), Out: io.Discard, ErrOut: io.Discard}, clock.RealClock{})
	out.WriteString("## Commands\n\n| command | what it does |\n|---|---|\n")
	each(command, func(c *cobra.Command) {
		fmt.Fprintf(out, "| [`%s`](#%s) | %s |\n", c.CommandPath(), strings.ReplaceAll(c.CommandPath(), " ", "-"), c.Short)
	})
	each(command, func(c *cobra.Command) { section(out, c) })
	out.WriteString("\n## Flags of every command\n\n| flag | meaning |\n|---|---|\n")
	flags(out, command.PersistentFlags())
	out.WriteString("\n## JSON and YAML\n\nWithin `" + cli.SchemaVersion + "` fields are only added.\n")
	if err := types(out, root); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// each walks the commands that do something, in the order of their names.
func each(c *cobra.Command, do func(*cobra.Command)) {
	for _, below := range c.Commands() {
		if below.Hidden || below.Name() == "help" {
			continue
		}
		if below.HasSubCommands() {
			each(below, do)
			continue
		}
		do(below)
	}
}

func section(out io.Writer, c *cobra.Command) {
	long := c.Long
	if long == "" {
		long = c.Short + "."
	}
	fmt.Fprintf(out, "\n### %s\n\n%s\n", c.CommandPath(), fenced(long))
	if c.Example != "" {
		fmt.Fprintf(out, "\n```sh\n%s\n```\n", unindent(c.Example))
	}
	fmt.Fprintf(out, "\nUsage: `%s`\n", c.UseLine())
	if c.LocalNonPersistentFlags().HasAvailableFlags() {
		fmt.Fprintf(out, "\n| flag | meaning |\n|---|---|\n")
		flags(out, c.LocalNonPersistentFlags())
	}
}

// fenced puts what is indented in a text into fences, as it stands.
func fenced(text string) string {
	var out []string
	open := false
	for line := range strings.SplitSeq(text, "\n") {
		if indented := strings.HasPrefix(line, "  "); indented != open {
			out = append(out, "```")
			open = indented
		}
		out = append(out, line)
	}
	if open {
		out = append(out, "```")
	}
	return strings.Join(out, "\n")
}

func unindent(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}

func flags(out io.Writer, set *pflag.FlagSet) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		usage := strings.NewReplacer("|", "\\|", "<", "&lt;", ">", "&gt;").Replace(f.Usage)
		switch f.DefValue {
		case "", "false", "[]", "0", "0s":
		default:
			if !strings.Contains(f.Usage, "efault:") && f.Name != "cache-dir" { // whose default is a folder of whoever runs it
				usage += fmt.Sprintf(" (default %s)", defaultOf(f))
			}
		}
		fmt.Fprintf(out, "| `%s` | %s |\n", name, usage)
	})
}

// defaultOf writes durations as people do: 1h0m0s is 1h.
func defaultOf(f *pflag.Flag) string {
	if d, err := time.ParseDuration(f.DefValue); err == nil && f.Value.Type() == "duration" {
		return strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m")
	}
	return f.DefValue
}

// types describes the types that the commands print: all that are exported and have names in JSON.
func types(out io.Writer, root string) error {
	files, err := filepath.Glob(filepath.Join(root, pluginDir, "*.go"))
	if err != nil {
		return err
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		for _, decl := range parsed.Decls {
			group, ok := decl.(*ast.GenDecl)
			if !ok || group.Tok != token.TYPE {
				continue
			}
			for _, spec := range group.Specs {
				of, ok := spec.(*ast.TypeSpec)
				if !ok || !of.Name.IsExported() {
					continue
				}
				if members, ok := of.Type.(*ast.StructType); ok {
					if err := fields(out, of.Name.Name, text(group.Doc), members); err != nil {
						return fmt.Errorf("%s: %w", name, err)
					}
				}
			}
		}
	}
	return nil
}

// fields describes one type; every field has a name in JSON. One without a comment shares that of the field before it, or of the type.
func fields(out io.Writer, name, doc string, members *ast.StructType) error {
	fmt.Fprintf(out, "\n### %s\n\n%s\n\n| field | type | meaning |\n|---|---|---|\n", name, doc)
	meaning := doc
	for _, f := range members.Fields.List {
		if len(f.Names) == 0 {
			fmt.Fprintf(out, "| `apiVersion`, `kind` | string | `%s`, `%s` |\n", cli.SchemaVersion, name)
			continue
		}
		if f.Tag == nil {
			return fmt.Errorf("%s.%s has no json tag", name, f.Names[0].Name)
		}
		key, options, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json"), ",")
		if own := text(f.Doc); own != "" {
			meaning = own
		}
		end := ""
		if strings.Contains(options, "omitempty") {
			end = " Absent when empty."
		}
		fmt.Fprintf(out, "| `%s` | %s | %s%s |\n", key, typeName(f.Type), strings.ReplaceAll(meaning, "|", "\\|"), end)
	}
	return nil
}

func text(doc *ast.CommentGroup) string {
	if doc == nil {
		return ""
	}
	return strings.NewReplacer("<", "&lt;", ">", "&gt;").Replace(strings.Join(strings.Fields(doc.Text()), " "))
}

// typeName is a type as a reader of JSON knows it.
func typeName(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return typeName(t.X)
	case *ast.ArrayType:
		return "list of " + typeName(t.Elt)
	case *ast.MapType:
		return "map of " + typeName(t.Value)
	case *ast.SelectorExpr:
		if t.Sel.Name == "Time" {
			return "time"
		}
		return "string"
	case *ast.Ident:
		switch name := t.Name; {
		case strings.HasPrefix(name, "int"):
			return "number"
		case name == "bool":
			return "boolean"
		case name == "string" || strings.HasSuffix(name, "State") || strings.HasSuffix(name, "Role") || strings.HasSuffix(name, "Result") || strings.HasSuffix(name, "Severity"):
			return "string"
		default:
			return "[" + name + "](#" + strings.ToLower(name) + ")"
		}
	}
	return "any"
}
