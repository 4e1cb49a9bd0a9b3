// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// repository makes a repository of two commits whose operator prints other words, and returns its folder and the commits.
func repository(t *testing.T) (tree, first, second string) {
	t.Helper()
	tree = t.TempDir()
	write := func(path, content string) {
		path = filepath.Join(tree, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	commit := func() string {
		for _, args := range [][]string{{"add", "-A"}, {"-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "x"}} {
			mustGit(t, tree, args...)
		}
		return mustGit(t, tree, "rev-parse", "HEAD")
	}
	mustGit(t, tree, "init", "-q")
	write("go.mod", "module example.com/root\n\ngo 1.26.0\n")
	write("go.sum", "")
	write("bundles/istio/cmd/bundle/main.go", `package main

import "os"

func main() {
	if err := os.WriteFile("operator/cmd/meshwright/charts", []byte("made"), 0o644); err != nil {
		panic(err)
	}
}
`)
	write("operator/cmd/meshwright/main.go", `package main

import _ "embed"

//go:embed charts
var charts string

func main() { print("first " + charts) }
`)
	first = commit()
	write("operator/cmd/meshwright/main.go", "package main\n\nfunc main() {}\n")
	return tree, first, commit()
}

func mustGit(t *testing.T, tree string, args ...string) string {
	t.Helper()
	out, err := git(t.Context(), tree, nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// The operator of a commit is built from what that commit had, with charts that it made itself, and the checkout is left as it was.
func TestOperatorOfACommit(t *testing.T) {
	tree, first, second := repository(t)
	s := &Store{dir: t.TempDir()}
	s.recipes = newWorkshop(tree, s.identity).recipe
	paths := mustEnsure(t, s, Sources(first), OperatorImageOf(first), OperatorImageOf(second))
	made, err := os.ReadFile(filepath.Join(paths[Sources(first)], "operator", "cmd", "meshwright", "charts"))
	if err != nil || string(made) != "made" {
		t.Errorf("charts of the commit: %q %v", made, err)
	}
	for _, commit := range []string{first, second} {
		tags, err := Tags(paths[OperatorImageOf(commit)])
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"local.test/meshwright:" + commit[:12]}, tags); diff != "" {
			t.Errorf("names of the image (-want +got):\n%s", diff)
		}
	}
	if status := mustGit(t, tree, "status", "--porcelain"); status != "" {
		t.Errorf("the checkout was changed: %s", status)
	}
	again := mustEnsure(t, s, Sources(first), OperatorImageOf(first), OperatorImageOf(second))
	if diff := cmp.Diff(paths, again, cmp.AllowUnexported(Artifact{})); diff != "" {
		t.Errorf("the same commits are found again (-first +second):\n%s", diff)
	}
}

func TestFindCommit(t *testing.T) {
	tree, first, second := repository(t)
	shallow := filepath.Join(t.TempDir(), "shallow")
	mustGit(t, tree, "clone", "-q", "--depth=1", "file://"+tree, shallow)
	for _, tc := range []struct {
		reason, tree, commit string
		found, noHistory     bool
	}{
		{"a whole clone has all", tree, first, true, false},
		{"a shallow clone has the last one", shallow, second, true, false},
		{"a shallow clone lacks the others, which is how it was made", shallow, first, false, true},
		{"what is no checkout lacks all", t.TempDir(), first, false, true},
		{"a whole clone that lacks a commit is another repository", tree, strings.Repeat("a", 40), false, false},
	} {
		err := FindCommit(t.Context(), tc.tree, tc.commit)
		if (err == nil) != tc.found || errors.Is(err, ErrNoHistory) != tc.noHistory {
			t.Errorf("%s: %v", tc.reason, err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if err := FindCommit(t.Context(), tree, first); !errors.Is(err, ErrNoHistory) {
		t.Errorf("without git: %v", err)
	}
}
