// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command prepare says which of Debian's packages the tests of the token lack, and has apt-get install them when it is told to. It needs none of them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// needs are files, or commands wherever they were installed to, each with the package that brings it.
var needs = []struct{ what, pkg string }{
	{"softhsm2-util", "softhsm2"},
	{"/usr/lib/softhsm/libsofthsm2.so", "softhsm2"},
	{"gcc", "gcc"},
	{"/usr/include/stdlib.h", "libc6-dev"},
}

func missing() []string {
	var out []string
	for _, n := range needs {
		look := func(name string) error { _, err := exec.LookPath(name); return err }
		if strings.HasPrefix(n.what, "/") {
			look = func(name string) error { _, err := os.Stat(name); return err }
		}
		if look(n.what) != nil && !slices.Contains(out, n.pkg) {
			out = append(out, n.pkg)
		}
	}
	return out
}

func main() {
	install := flag.Bool("install-packages", false, "have apt-get install the packages that are missing")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *install)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "prepare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, install bool) error {
	packages := missing()
	if len(packages) > 0 && install {
		fmt.Fprintln(os.Stderr, "installing", strings.Join(packages, " "))
		if err := aptGet(ctx, packages); err != nil {
			return err
		}
		packages = missing()
	}
	if len(packages) > 0 {
		return fmt.Errorf("packages are missing: apt-get install %s, or add -install-packages", strings.Join(packages, " "))
	}
	return nil
}

// aptGet installs as e2e/cluster does.
func aptGet(ctx context.Context, packages []string) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("there is no apt-get to install %s: install them by your distribution's means", strings.Join(packages, " "))
	}
	for _, args := range [][]string{{"update", "-q"}, append([]string{"install", "-y", "-q", "--no-install-recommends"}, packages...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}
