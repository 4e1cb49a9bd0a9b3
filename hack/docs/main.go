// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command docs makes one site of the documentation and checks it: docs/, README.md, CONTRIBUTING.md and CHANGELOG.md become pages, built by mkdocs in a
// Python environment of its own, and then every link inside the site has to lead somewhere. Links to elsewhere are listed and not followed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	to := flag.String("to", "dist/site", "folder that the site is built into; what is there goes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, ".", *to, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

// run builds the site of the checkout at root, and checks it.
func run(ctx context.Context, root, to string, out io.Writer) error {
	settings, err := readSettings(root)
	if err != nil {
		return err
	}
	staged, err := os.MkdirTemp("", "meshwright-docs")
	if err != nil {
		return err
	}
	defer os.RemoveAll(staged)
	to, err = filepath.Abs(to)
	if err != nil {
		return err
	}
	config, err := stage(root, staged, to, settings)
	if err != nil {
		return err
	}
	if err := build(ctx, root, config); err != nil {
		return err
	}
	report, err := checkSite(to, settings.SiteURL)
	if err != nil {
		return err
	}
	report.print(out)
	if len(report.Wrong) > 0 {
		return errors.New("the site has faults")
	}
	return nil
}
