// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// module is what is released.
const module = "github.com/meshwright/meshwright"

// platform is an operating system and an architecture, as Go names them.
type platform struct{ os, arch string }

func (p platform) String() string { return p.os + "/" + p.arch }

// suffix of a file that is for the platform.
func (p platform) suffix() string { return p.os + "-" + p.arch }

// program is one main package and the platforms that it is released for.
type program struct {
	name string
	// pkg below the root of the checkout, as go build takes it.
	pkg string
	// version is the variable that is set to the version when the program is linked; empty for none.
	version   string
	platforms []platform
}

// operator is what the image holds.
var operator = program{
	name: "meshwright", pkg: "./operator/cmd/meshwright",
	platforms: []platform{{"linux", "amd64"}, {"linux", "arm64"}},
}

// plugin is what kubectl calls for kubectl mesh.
var plugin = program{
	name: "kubectl-mesh", pkg: "./operator/cmd/kubectl-mesh", version: module + "/operator/cli.Version",
	platforms: []platform{{"darwin", "amd64"}, {"darwin", "arm64"}, {"linux", "amd64"}, {"linux", "arm64"}, {"windows", "amd64"}},
}

// file is what the program is called on a platform.
func (p program) file(on platform) string {
	if on.os == "windows" {
		return p.name + ".exe"
	}
	return p.name
}

// link makes a static executable that depends on nothing but its source, its version and Go itself: no path, no time, no setting of
// whoever runs it.
func (p program) link(ctx context.Context, root string, on platform, version, out string) error {
	flags := "-s -w"
	if p.version != "" {
		flags += " -X " + p.version + "=" + version
	}
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains([]string{"PWD", "GOEXPERIMENT", "GODEBUG"}, name)
	})
	return run(ctx, root, append(env, "GOOS="+on.os, "GOARCH="+on.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off", "CGO_ENABLED=0", "GOWORK=off",
		"GOFLAGS=-mod=readonly -trimpath -buildvcs=false"), "build", "-ldflags", flags, "-o", out, p.pkg)
}

// imports says whether the program has a package in it, whatever the platform.
func (p program) imports(ctx context.Context, root, pkg string) (bool, error) {
	out, err := ask(ctx, root, "list", "-deps", p.pkg)
	return slices.Contains(strings.Fields(string(out)), pkg), err
}

// ask runs the go command and returns what it prints.
func ask(ctx context.Context, root string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s %s: %w\n%s", args[0], args[len(args)-1], err, bytes.TrimSpace(said.Bytes()))
	}
	return out, nil
}

func run(ctx context.Context, root string, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = root, env
	// Interrupted, go ends its compilers; killed, it would leave them running.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("go %s %s: %w\n%s", args[0], args[len(args)-1], err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// binary is a program that was linked.
type binary struct {
	program  program
	platform platform
	// path of the executable.
	path string
}

// binaryPath is where a program for a platform lies below a folder.
func binaryPath(dir string, p program, on platform) string {
	return filepath.Join(dir, on.suffix(), p.file(on))
}
