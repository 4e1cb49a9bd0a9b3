// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestBoundingSet(t *testing.T) {
	got, err := boundingSet("Name:\trunc\nCapBnd:\t0000000000200001\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"CAP_CHOWN", "CAP_SYS_ADMIN"}; !slices.Equal(got, want) {
		t.Errorf("bounding set: got %v, want %v", got, want)
	}
	if _, err := boundingSet("Name:\trunc\n"); err == nil {
		t.Error("a status without CapBnd must be an error: guessing would start containers without any capability")
	}
}

func TestRestrict(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, in, want string
		members          []string
	}{
		"spec": {
			reason:  "a bundle's process loses what the machine lacks, and 64-bit numbers stay exact",
			in:      `{"linux":{"limit":9223372036854775807},"process":{"capabilities":{"bounding":["CAP_KILL","CAP_SYS_RESOURCE"]}}}`,
			want:    `{"linux":{"limit":9223372036854775807},"process":{"capabilities":{"bounding":["CAP_KILL"]}}}`,
			members: []string{"process"},
		},
		"process": {
			reason: "exec passes the process alone",
			in:     `{"capabilities":{"effective":["CAP_SYS_RESOURCE"]}}`,
			want:   `{"capabilities":{"effective":[]}}`,
		},
		"none": {
			reason: "a process without capabilities is not touched",
			in:     `{"args": ["sh"]}`,
			want:   `{"args": ["sh"]}`,
		},
		"garbage": {
			reason: "what is not JSON is left for runc to complain about",
			in:     `{`,
			want:   `{`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config.json")
			if err := os.WriteFile(file, []byte(tc.in), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := restrict(file, []string{"CAP_KILL"}, tc.members...); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tc.want {
				t.Errorf("%s: got %s, want %s", tc.reason, got, tc.want)
			}
		})
	}
}
