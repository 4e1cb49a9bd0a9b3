// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"

	"github.com/meshwright/meshwright/hack/docs/runbook"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/preflight"
)

// runbookIntro is how the index begins.
const runbookIntro = `# Runbook

Written by ` + "`make generate`" + `: a page for every alert, for every reason of a condition, and for every code of a finding. Messages that somebody has to
see end with the address of their page.

Where to begin, whatever it is:

` + "```sh" + `
kubectl get meshwright -A -o wide          # every object of Meshwright, with what it does or waits for
kubectl describe mesh default              # conditions, and what happened last
kubectl logs -n meshwright-system deployment/meshwright --since=1h
` + "```" + `

` + "`kubectl mesh status`" + ` says the same as a tree. While the operator is down a mesh serves on: nothing is corrected, enrolled or moved until it is back.
`

// runbookIndex lists the pages by what brings a person here.
func runbookIndex(root string, reasons []runbook.Reason) ([]byte, error) {
	alerts, err := runbook.Alerts(root)
	if err != nil {
		return nil, err
	}
	pages, err := runbook.Pages(root)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBufferString(runbookIntro)
	section := func(title, says string) { fmt.Fprintf(out, "\n## %s\n\n%s\n\n| | |\n|---|---|\n", title, says) }
	row := func(name, says string) { fmt.Fprintf(out, "| [`%s`](%s.md) | %s |\n", name, name, says) }
	section("Alerts", "Of `config/prometheus`.")
	for _, alert := range alerts {
		row(alert.Name, runbook.Lead(pages[alert.Name]))
	}
	for _, group := range []struct {
		title, says string
		unattended  bool
	}{
		{"Reasons that somebody has to see", "Somebody is waited for, or something has to be mended.", false},
		{"Reasons that need nobody", "It goes on by itself, or is well.", true},
	} {
		section(group.title, group.says)
		for _, r := range reasons {
			if v1alpha1.Unattended(r.Name) == group.unattended {
				row(r.Name, r.Meaning)
			}
		}
	}
	section("Codes of findings", "What is found before a rollout, by `kubectl mesh preflight` and by the operator: see [Preflight](../preflight.md).")
	for _, c := range preflight.Codes() {
		row(string(c.Code), c.Name+": "+c.Meaning)
	}
	return out.Bytes(), nil
}
