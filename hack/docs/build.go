// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

const (
	python       = "python3"
	requirements = "hack/docs/requirements.txt"
	// done is a file in a Python environment that is whole.
	done = "done"
)

// build runs mkdocs, which fails on every warning.
func build(ctx context.Context, root, config string) error {
	venv, err := environment(ctx, root)
	if err != nil {
		return err
	}
	// Without the variable the theme advertises other software among the warnings.
	return command(ctx, []string{"NO_MKDOCS_2_WARNING=true"}, filepath.Join(venv, "bin", python), "-m", "mkdocs", "build", "--quiet", "--strict", "--config-file", config)
}

// environment is a Python environment with what the site is built by. It is kept outside the checkout, by what it consists of.
func environment(ctx context.Context, root string) (string, error) {
	wanted := filepath.Join(root, requirements)
	raw, err := os.ReadFile(wanted)
	if err != nil {
		return "", err
	}
	version, err := exec.CommandContext(ctx, python, "-c", "import sys, venv, ensurepip; print(sys.version, sys.executable)").Output()
	if err != nil {
		return "", fmt.Errorf("the site is built by Python: apt-get install python3 python3-venv, or the like (%w)", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	venv := filepath.Join(cache, "meshwright", "site", fmt.Sprintf("%.16x", sha256.Sum256(append(version, raw...))))
	if _, err := os.Stat(filepath.Join(venv, done)); err == nil { //nolint:gosec // it is in the user's own cache
		return venv, nil
	}
	if err := os.RemoveAll(venv); err != nil { //nolint:gosec // as above
		return "", err
	}
	if err := command(ctx, nil, python, "-m", "venv", venv); err != nil {
		return "", err
	}
	err = command(ctx, nil, filepath.Join(venv, "bin", python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", wanted)
	if err != nil {
		return "", err
	}
	return venv, os.WriteFile(filepath.Join(venv, done), nil, 0o600) //nolint:gosec // as above
}

func command(ctx context.Context, env []string, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(name), err)
	}
	return nil
}
