// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCommittedFilesAreCurrent says that make generate leaves a clean tree.
func TestCommittedFilesAreCurrent(t *testing.T) {
	root := filepath.Join("..", "..")
	files, err := generate(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range compare(root, files) {
		committed, _ := os.ReadFile(filepath.Join(root, path))
		t.Errorf("%s is stale, run make generate (-committed +generated):\n%s", path, cmp.Diff(string(committed), string(files[path])))
	}
}

func TestCompareNamesWhatDiffersAndWhatIsMissing(t *testing.T) {
	root := t.TempDir()
	for name, content := range map[string]string{"same": "a", "stale": "a"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := compare(root, map[string][]byte{"same": []byte("a"), "stale": []byte("b"), "missing": []byte("c")})
	if diff := cmp.Diff([]string{"missing", "stale"}, got); diff != "" {
		t.Errorf("stale files (-want +got):\n%s", diff)
	}
}
