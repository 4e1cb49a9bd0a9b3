// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// The values of -o.
const (
	outputText = ""
	outputWide = "wide"
	outputJSON = "json"
	outputYAML = "yaml"
	outputName = "name"
)

// output is the flag -o of a command.
type output struct {
	format  string
	allowed []string
}

// addOutput gives a command the flag -o for a view; text, the default, has no name.
func addOutput(cmd *cobra.Command) *output {
	return addOutputOf(cmd, outputJSON, outputYAML, outputWide, outputName)
}

// addObjectOutput gives a command that changes an object the flag -o: the object is printed, and what is said goes to standard error.
func addObjectOutput(cmd *cobra.Command) *output {
	return addOutputOf(cmd, outputJSON, outputYAML, outputName)
}

func addOutputOf(cmd *cobra.Command, allowed ...string) *output {
	o := &output{allowed: allowed}
	cmd.Flags().StringVarP(&o.format, "output", "o", "", "Output format: "+strings.Join(allowed, "|")+". Default: text for people")
	mustComplete(cmd, "output", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return allowed, cobra.ShellCompDirectiveNoFileComp
	})
	return o
}

func (o *output) check() error {
	if o.format == outputText || slices.Contains(o.allowed, o.format) {
		return nil
	}
	return usagef("-o %s: choose one of %s", o.format, strings.Join(o.allowed, ", "))
}

// ready is a client for a command whose -o is one that it has.
func (f *factory) ready(o *output) (client.WithWatch, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	return f.Client()
}

// view prints a view: as data, by names, or as the text that say writes.
func (f *factory) view(o *output, view any, names []string, say func(p *page, wide bool)) error {
	switch o.format {
	case outputJSON, outputYAML:
		return encode(f.Out, o.format, view)
	case outputName:
		for _, name := range names {
			if _, err := fmt.Fprintln(f.Out, name); err != nil {
				return err
			}
		}
		return nil
	}
	p := newPage(f.Out)
	say(p, o.format == outputWide)
	_, err := io.WriteString(f.Out, p.String())
	return err
}

func encode(out io.Writer, format string, view any) error {
	raw, err := json.MarshalIndent(view, "", "    ")
	if err != nil {
		return err
	}
	if format == outputYAML {
		if raw, err = yaml.JSONToYAML(raw); err != nil {
			return err
		}
		_, err = out.Write(raw)
		return err
	}
	_, err = out.Write(append(raw, '\n'))
	return err
}

// object prints an object of the API server as kubectl does, or nothing where text was asked for.
func (f *factory) object(o *output, c client.Client, object client.Object) error {
	if o.format == outputText {
		return nil
	}
	kind, err := apiutil.GVKForObject(object, c.Scheme())
	if err != nil {
		return err
	}
	object.GetObjectKind().SetGroupVersionKind(kind)
	var printer printers.ResourcePrinter
	switch o.format {
	case outputName:
		printer = &printers.NamePrinter{}
	case outputYAML:
		printer = &printers.OmitManagedFieldsPrinter{Delegate: &printers.YAMLPrinter{}}
	default:
		printer = &printers.OmitManagedFieldsPrinter{Delegate: &printers.JSONPrinter{}}
	}
	return printer.PrintObj(object, f.Out)
}

// said is where sentences of a command go that can print an object, too.
func (f *factory) said(o *output) io.Writer {
	if o.format == outputText {
		return f.Out
	}
	return f.ErrOut
}

// nameOf is an object as -o name prints it.
func nameOf(kind, name string) string {
	return strings.ToLower(kind) + "." + v1alpha1.GroupVersion.Group + "/" + name
}
