// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// goBuild is one main package and how it is linked.
type goBuild struct {
	// dir of the module below the source tree; empty for the root module.
	dir string
	// pkg to build, as go build takes it.
	pkg string
	// ldflags set variables, as -X takes them.
	ldflags []string
	// tags of the build.
	tags []string
}

// appsDir holds the module of the programs that run inside test clusters only.
const appsDir = "e2e/apps"

func nestedDir(module string) string { return "e2e/cluster/modules/" + module }

func nested(module, pkg string, ldflags ...string) goBuild {
	return goBuild{dir: nestedDir(module), pkg: pkg, ldflags: ldflags}
}

// prometheusBuild leaves out what finds targets in other people's clouds, with all their client libraries.
func prometheusBuild() goBuild {
	out := nested("prometheus", "github.com/prometheus/prometheus/cmd/prometheus")
	out.tags = []string{"remove_all_sd", "enable_kubernetes_sd"}
	return out
}

// kubeVersionFlags make the binaries report the version they are. kubeadm compares it with the version it is asked for.
func kubeVersionFlags(version string) []string {
	parts := strings.Split(version, ".")
	base := "k8s.io/component-base/version."
	return []string{
		base + "gitVersion=v" + version, base + "gitMajor=" + parts[0], base + "gitMinor=" + parts[1],
		base + "gitTreeState=clean", "k8s.io/client-go/pkg/version.gitVersion=v" + version,
	}
}

// istioBuild stamps what Istio's release stamps. The hub is where the test images are.
func istioBuild(version, pkg string) goBuild {
	base := "istio.io/istio/pkg/version."
	return nested("istio-"+version, "istio.io/istio/"+pkg,
		base+"buildVersion="+version, base+"buildTag="+version, base+"buildHub="+istioHub, base+"buildStatus=Clean")
}

// golang runs the go command for one source tree. Modules come with verified checksums only: go.sum may not grow.
type golang struct {
	tree string
	env  []string
}

func newGolang(tree string) *golang {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains([]string{"GOFLAGS", "GOOS", "GOARCH", "CGO_ENABLED", "GOWORK", "PWD"}, name)
	})
	return &golang{tree: tree, env: append(env,
		"GOFLAGS=-mod=readonly -trimpath -buildvcs=false", "GOOS=linux", "GOARCH="+runtime.GOARCH, "CGO_ENABLED=0", "GOWORK=off")}
}

func (g *golang) binary(file string, build goBuild) recipe {
	return recipe{file: file, reads: []need{needGo}, maker: fixed(goBinary{g, build})}
}

// run runs the go command in a folder below the tree and returns its standard output.
func (g *golang) run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(g.tree, dir)
	cmd.Env = g.env
	// Interrupted, go ends its compilers and leaves no half-written file; killed, it would leave them running.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 10 * time.Second
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("go %s in %s: %w\n%s", strings.Join(args, " "), folderName(dir), err, lastLines(errs.String(), 20))
	}
	return out.Bytes(), nil
}

// folderName names also the folder of the root module.
func folderName(dir string) string {
	if dir == "" {
		return "the root of the source tree"
	}
	return dir
}

// lastLines of what a command printed, without go's notes on downloads.
func lastLines(text string, n int) string {
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(text), "\n"), func(line string) bool {
		return strings.HasPrefix(line, "go: downloading ")
	})
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// goBinary is a static executable.
type goBinary struct {
	golang *golang
	build  goBuild
}

func (b goBinary) flags() []string {
	var ldflags strings.Builder
	ldflags.WriteString("-s -w")
	for _, x := range b.build.ldflags {
		ldflags.WriteString(" -X " + x)
	}
	flags := []string{"-ldflags", ldflags.String()}
	if len(b.build.tags) > 0 {
		flags = append(flags, "-tags", strings.Join(b.build.tags, ","))
	}
	return flags
}

// make links the program. Flags beyond those that every build shares concern the linker, or leave packages out, so that packages of
// an earlier build are used again.
func (b goBinary) make(ctx context.Context, out string) error {
	args := append([]string{"build"}, b.flags()...)
	_, err := b.golang.run(ctx, b.build.dir, append(args, "-o", out, b.build.pkg)...)
	return err
}

func (b goBinary) fingerprint(ctx context.Context, w io.Writer) error {
	version, err := b.golang.run(ctx, b.build.dir, "env", "GOVERSION", "GOOS", "GOARCH", "GOAMD64", "GOEXPERIMENT", "GOFLAGS")
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s%s %q\n", version, b.build.pkg, b.flags())
	files, err := b.sources(ctx)
	if err != nil {
		return err
	}
	for _, file := range files {
		sum, err := contentHash(filepath.Join(b.golang.tree, file))
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s %s\n", sum, file)
	}
	return nil
}

// sources are the files of the tree that go into the program, by their paths below it. What lies outside the tree is
// named by go.mod and go.sum.
func (b goBinary) sources(ctx context.Context) ([]string, error) {
	if b.build.dir == "" {
		return b.golang.packageFiles(ctx, b.build.pkg)
	}
	// A nested module is small: all of it, which saves asking go to load Kubernetes' thousands of packages.
	var files []string
	root := filepath.Join(b.golang.tree, b.build.dir)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := d.Name()
		isSource := name == "go.mod" || name == "go.sum" || strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
		if !isSource {
			return nil
		}
		rel, err := filepath.Rel(b.golang.tree, path)
		files = append(files, rel)
		return err
	})
	return files, err
}

// packageFiles asks go which files of the tree a package of the root module is made of, embedded ones included.
func (g *golang) packageFiles(ctx context.Context, pkg string) ([]string, error) {
	out, err := g.run(ctx, "", "list", "-deps", "-json=Dir,Standard,GoFiles,SFiles,HFiles,EmbedFiles", pkg)
	if err != nil {
		return nil, err
	}
	files := []string{"go.mod", "go.sum"}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir                                 string
			Standard                            bool
			GoFiles, SFiles, HFiles, EmbedFiles []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("output of go list %s: %w", pkg, err)
		}
		dir, err := filepath.Rel(g.tree, p.Dir)
		if p.Standard || err != nil || !filepath.IsLocal(dir) {
			continue
		}
		for _, name := range slices.Concat(p.GoFiles, p.SFiles, p.HFiles, p.EmbedFiles) {
			files = append(files, filepath.Join(dir, name))
		}
	}
	slices.Sort(files)
	return files, nil
}

// moduleFile takes one file of a dependency, whose checksum go verifies.
func (g *golang) moduleFile(dir, module, path string) recipe {
	return recipe{file: filepath.Base(path), reads: []need{needGo}, maker: fixed(moduleFile{g, dir, module, path})}
}

type moduleFile struct {
	golang            *golang
	dir, module, path string
}

func (m moduleFile) fingerprint(_ context.Context, w io.Writer) error {
	for _, name := range []string{"go.mod", "go.sum"} {
		sum, err := contentHash(filepath.Join(m.golang.tree, m.dir, name))
		if err != nil {
			return err
		}
		fmt.Fprintln(w, sum)
	}
	fmt.Fprintln(w, m.module, m.path)
	return nil
}

func (m moduleFile) make(ctx context.Context, out string) error {
	info, err := m.golang.run(ctx, m.dir, "mod", "download", "-json", m.module)
	if err != nil {
		return err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(info, &module); err != nil {
		return fmt.Errorf("output of go mod download %s: %w", m.module, err)
	}
	content, err := os.ReadFile(filepath.Join(module.Dir, m.path))
	if err != nil {
		return err
	}
	return os.WriteFile(out, content, 0o644)
}
