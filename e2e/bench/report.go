// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"runtime"
	"strings"
)

// report collects the rows of the table.
type report struct {
	rows []row
}

// row is one measurement; a cell that does not apply is "–".
type row struct {
	what, bound, ours, helm, ratio string
}

func (r *report) add(what, bound, ours string) {
	r.rows = append(r.rows, row{what: what, bound: bound, ours: ours, helm: "–", ratio: "–"})
	fmt.Printf("%-60s %s\n", what, ours)
}

// beside puts what helm needed in the row of a scenario, and the ratio.
func (r *report) beside(what string, ours, helm float64, text string) {
	for i := range r.rows {
		if r.rows[i].what != what {
			continue
		}
		r.rows[i].helm, r.rows[i].ratio = text, fmt.Sprintf("%.2f", ours/helm)
	}
}

func (r *report) markdown() string {
	var b strings.Builder
	b.WriteString("# Benchmarks\n\n")
	b.WriteString("Written by `make bench`; one run on one real cluster. Requests are those that the API server wrote into its audit log,\n")
	b.WriteString("without leases, watches and the operator's own authentication of scrapes; watches have a row of their own. Each\n")
	b.WriteString("install is measured on a cluster that has seen one before. The ratio is Meshwright to the helm CLI.\n\n")
	fmt.Fprintf(&b, "Machine: %s/%s, %d CPUs.\n\n", runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	b.WriteString("| scenario | bound | Meshwright | helm CLI | ratio |\n|---|---|---|---|---|\n")
	for _, row := range r.rows {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", row.what, row.bound, row.ours, row.helm, row.ratio)
	}
	return b.String()
}
