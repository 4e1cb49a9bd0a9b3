// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/meshwright/meshwright/e2e/cluster"
	"github.com/meshwright/meshwright/e2e/cluster/artifact"
)

// Kubectl runs the real kubectl against the cluster and returns what it printed on standard output.
func (e *Env) Kubectl(ctx context.Context, args ...string) (string, error) {
	program, err := e.KubectlProgram(ctx)
	if err != nil {
		return "", err
	}
	return e.run(ctx, program, nil, args)
}

// KubectlProgram is the file of the kubectl that has the version of the cluster.
func (e *Env) KubectlProgram(ctx context.Context) (string, error) {
	dir, err := cluster.EnvtestAssets(ctx, e.Store, e.Cluster.Kubernetes(), e.Progress)
	return filepath.Join(dir, "kubectl"), err
}

// KubectlApply runs kubectl apply with a manifest on standard input.
func (e *Env) KubectlApply(ctx context.Context, manifest string, flags ...string) (string, error) {
	program, err := e.KubectlProgram(ctx)
	if err != nil {
		return "", err
	}
	return e.run(ctx, program, strings.NewReader(manifest), append([]string{"apply", "-f", "-"}, flags...))
}

// Istioctl runs the real istioctl against the cluster.
func (e *Env) Istioctl(ctx context.Context, args ...string) (string, error) {
	tool := artifact.Istioctl(Istio129)
	paths, err := e.Store.Ensure(ctx, e.Progress, tool)
	if err != nil {
		return "", err
	}
	return e.run(ctx, paths[tool], nil, args)
}

// Helm runs the real helm against the cluster.
func (e *Env) Helm(ctx context.Context, args ...string) (string, error) {
	tool := artifact.HelmCLI()
	paths, err := e.Store.Ensure(ctx, e.Progress, tool)
	if err != nil {
		return "", err
	}
	return e.run(ctx, paths[tool], nil, args)
}

func (e *Env) run(ctx context.Context, program string, stdin *strings.Reader, args []string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+e.Cluster.Kubeconfig())
	if stdin != nil {
		cmd.Stdin = stdin
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", filepath.Base(program), strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}
