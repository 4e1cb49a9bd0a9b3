// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"strings"
	"testing"
)

// A gateway that somebody else installed is adopted only where what is sent to it would still arrive.
func TestAdoptable(t *testing.T) {
	for _, tc := range []struct {
		reason string
		values map[string]any
		change func(spec map[string]any)
		want   string
	}{
		{"one of Istio's gateway chart", nil, nil, ""},
		{
			"labels that ours would not have", nil,
			func(spec map[string]any) { labelsOf(spec)["istio"] = "edge" },
			`gateway istio-ingress/ingress can't be adopted: its Service would select pods with istio=ingress, and those that are there have istio="edge": set values.labels.istio`,
		},
		{
			"labels that the values name",
			map[string]any{"labels": map[string]any{"istio": "edge"}},
			func(spec map[string]any) { labelsOf(spec)["istio"] = "edge" }, "",
		},
		{
			"something else of the same name", nil,
			func(spec map[string]any) {
				pod := spec["template"].(map[string]any)["spec"].(map[string]any)
				pod["containers"] = []any{map[string]any{"name": "controller"}}
			},
			"its Deployment has no container istio-proxy, as gateways of Istio's have: choose another name",
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			objects := rendered(t, ingress(t, "1.29.1", tc.values))
			theirs := find(t, rendered(t, ingress(t, "1.28.2", nil)).Workload, "Deployment")
			theirs.SetName("ingress")
			delete(labelsOf(theirs.Object["spec"].(map[string]any)), revisionLabel)
			if tc.change != nil {
				tc.change(theirs.Object["spec"].(map[string]any))
			}
			err := Adoptable(theirs, objects.Shared)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func labelsOf(deployment map[string]any) map[string]any {
	return deployment["template"].(map[string]any)["metadata"].(map[string]any)["labels"].(map[string]any)
}
