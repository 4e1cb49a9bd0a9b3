// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// The operator of an earlier commit is built like the one of this tree, from the sources that git has of it.

// operatorPackage is the operator's program.
const operatorPackage = "./operator/cmd/meshwright"

// fullCommit is the only way to name a commit: a short one, a branch or a tag may mean another one tomorrow.
var fullCommit = regexp.MustCompile(`^[0-9a-f]{40}$`)

// Sources of a commit of this repository: a folder, with the charts made that its operator embeds. Commits have all 40 digits.
func Sources(commit string) Artifact { return Artifact{kindSources, commit} }

// OperatorImageOf is the operator of a commit, under the name that [OperatorImageNameOf] gives.
func OperatorImageOf(commit string) Artifact { return Artifact{kindOperatorImage, commit} }

// OperatorImageNameOf is the name of the image of [OperatorImageOf].
func OperatorImageNameOf(commit string) string {
	return "local.test/meshwright:" + commit[:min(12, len(commit))]
}

// ErrNoHistory says that a checkout has no history, or one that does not go back so far: nothing is broken.
var ErrNoHistory = errors.New("the checkout has no history back to it: git fetch --unshallow, in a clone")

// FindCommit looks for a commit in the repository that a checkout is of.
func FindCommit(ctx context.Context, tree, commit string) error {
	if _, err := exec.LookPath("git"); err != nil {
		return fmt.Errorf("commit %s: there is no git command in the PATH: %w", commit, ErrNoHistory)
	}
	if _, err := os.Stat(filepath.Join(tree, ".git")); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("commit %s: %w", commit, ErrNoHistory)
	}
	shallow, err := git(ctx, tree, nil, "rev-parse", "--is-shallow-repository")
	if err != nil {
		return err
	}
	_, err = git(ctx, tree, nil, "cat-file", "-e", commit+"^{commit}")
	if err != nil && shallow == "true" {
		return fmt.Errorf("commit %s: %w", commit, ErrNoHistory)
	}
	return err
}

// needCommit is for what is made of the sources of a commit.
func needCommit(tree, commit string) need {
	return need{
		remedy: "the checkout has no commit " + commit + ": git fetch --unshallow",
		met:    func() bool { return FindCommit(context.Background(), tree, commit) == nil },
	}
}

// sources is the recipe of a folder of sources.
func (w *workshop) sources(commit string) recipe {
	return recipe{
		file:  "sources",
		reads: []need{needGo},
		tools: []need{needCommit(w.golang.tree, commit)},
		maker: fixed(sources{w.golang.tree, commit}),
	}
}

// operatorOf is the recipe of the operator of a commit.
func (w *workshop) operatorOf(commit string) recipe {
	from := Sources(commit)
	return recipe{
		file:   "meshwright",
		inputs: []Artifact{from},
		reads:  []need{needGo},
		maker: func(_ context.Context, inputs map[Artifact]string) (maker, error) {
			return goBinary{newGolang(inputs[from]), goBuild{pkg: operatorPackage}}, nil
		},
	}
}

type sources struct{ tree, commit string }

// fingerprint is the commit: its charts come from modules that its go.sum names.
func (s sources) fingerprint(_ context.Context, w io.Writer) error {
	_, err := fmt.Fprintln(w, s.commit)
	return err
}

// make writes the files of the commit, through an index of its own so that the checkout's stays as it is, and the charts by the program
// that the commit has for them.
func (s sources) make(ctx context.Context, out string) error {
	index := out + ".index"
	env := []string{"GIT_INDEX_FILE=" + index}
	if _, err := git(ctx, s.tree, env, "read-tree", s.commit); err != nil {
		return err
	}
	if _, err := git(ctx, s.tree, env, "checkout-index", "--all", "--prefix="+out+"/"); err != nil {
		return err
	}
	if err := os.Remove(index); err != nil {
		return err
	}
	_, err := newGolang(out).run(ctx, "", "run", "./bundles/istio/cmd/bundle")
	return err
}

// git runs git in a checkout and returns what it printed.
func git(ctx context.Context, tree string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = tree
	cmd.Env = append(os.Environ(), env...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s in %s: %w\n%s", strings.Join(args, " "), tree, err, lastLines(errs.String(), 5))
	}
	return strings.TrimSpace(string(out)), nil
}
