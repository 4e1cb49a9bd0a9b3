// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

var (
	named      = regexp.MustCompile(`fqName: "([^"]+)"`)
	documented = regexp.MustCompile("(?m)^\\| `(meshwright_[a-z_]+)`")
)

// TestEachMetricIsDocumented compares the metrics with the table of docs/metrics.md.
func TestEachMetricIsDocumented(t *testing.T) {
	var got []string
	for _, c := range Collectors() {
		descriptions := make(chan *prometheus.Desc, 1)
		go func() {
			defer close(descriptions)
			c.Describe(descriptions)
		}()
		for d := range descriptions {
			got = append(got, named.FindStringSubmatch(d.String())[1])
		}
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range documented.FindAllSubmatch(page, -1) {
		want = append(want, string(m[1]))
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-docs/metrics.md +code):\n%s", diff)
	}
}
