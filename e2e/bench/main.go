// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures on one real cluster, in one run, what installing and keeping a mesh costs the API server, with
// the operator and with the helm CLI beside it, and writes the table to docs/benchmarks.md. Requests are counted from
// the API server's audit log; nothing is estimated.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/meshwright/meshwright/e2e/framework"
)

func main() {
	out := flag.String("o", "", "file to write; default: docs/benchmarks.md of this checkout")
	only := flag.Bool("scale", false, "measure only how a rollout does in a large cluster, and write nothing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *out, *only)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out string, only bool) error {
	env, err := framework.Start(ctx, framework.Options{Name: "bench", Istio: []string{framework.Istio129, framework.Istio131}, InstallPackages: true})
	if err != nil {
		return err
	}
	if err := env.RemoveLeftovers(ctx); err != nil {
		return err
	}
	if out == "" {
		out = filepath.Join(env.Root, "docs", "benchmarks.md")
	}
	bench := &bench{env: env, report: &report{}}
	scenarios := []func(context.Context) error{
		bench.clean, bench.first, bench.install, bench.noop, bench.drift, bench.memory, bench.podChurn, bench.removeOurs, bench.helm, bench.scale,
	}
	if only {
		scenarios = []func(context.Context) error{bench.scale}
	}
	for _, scenario := range scenarios {
		if err := scenario(ctx); err != nil {
			return err
		}
	}
	text := bench.report.markdown()
	fmt.Print("\n", text)
	if only {
		return nil
	}
	return os.WriteFile(out, []byte(text), 0o644)
}
