// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command generate writes what follows from the code: deep copies, CRDs, RBAC, the references of the API
// and of conditions, and the index of the runbook. With -check it writes nothing and
// fails when a committed file is not what it would write.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/meshwright/meshwright/hack/docs/runbook"
	"github.com/meshwright/meshwright/hack/packaging"
	"github.com/meshwright/meshwright/hack/rbac"
)

func main() {
	log.SetFlags(0)
	check := flag.Bool("check", false, "write nothing; fail when a file is stale")
	flag.Parse()
	ctx := context.Background()
	files, err := generate(ctx, ".")
	if err != nil {
		log.Fatal(err)
	}
	if *check {
		if stale := compare(".", files); len(stale) > 0 {
			log.Fatalf("stale, run make generate: %q", stale)
		}
		return
	}
	for path, content := range files {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// compare names the files below root that differ from what was generated.
func compare(root string, files map[string][]byte) (stale []string) {
	for _, path := range slices.Sorted(maps.Keys(files)) {
		there, err := os.ReadFile(filepath.Join(root, path))
		if err != nil || !bytes.Equal(there, files[path]) {
			stale = append(stale, path)
		}
	}
	return stale
}

// Where the generated files belong.
const (
	apiDir    = "operator/api/v1alpha1"
	crdDir    = "config/crd"
	roleFile  = "config/rbac/zz_generated_role.yaml"
	reference = "docs/reference.md"
	condition = "docs/conditions.md"
	index     = runbook.Dir + "/" + runbook.Index
)

// generate makes all files, by their path below root.
func generate(ctx context.Context, root string) (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "meshwright-generate")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	copies, crds, page := filepath.Join(dir, "object"), filepath.Join(dir, "crd"), filepath.Join(dir, "reference.md")
	err = tool(ctx, root, "controller-gen", "object:headerFile=hack/boilerplate.go.txt", "crd:generateEmbeddedObjectMeta=false",
		"paths=./"+apiDir, "output:object:dir="+copies, "output:crd:dir="+crds)
	if err != nil {
		return nil, err
	}
	err = tool(ctx, root, "crd-ref-docs", "--source-path="+apiDir, "--config=hack/generate/reference.yaml",
		"--renderer=markdown", "--output-path="+page, "--log-level=ERROR")
	if err != nil {
		return nil, err
	}
	var role bytes.Buffer
	if err := rbac.Write(ctx, &role); err != nil {
		return nil, err
	}
	files := map[string][]byte{roleFile: role.Bytes()}
	reasons, err := runbook.Reasons(root)
	if err != nil {
		return nil, err
	}
	files[condition] = conditions(reasons)
	if files[index], err = runbookIndex(root, reasons); err != nil {
		return nil, err
	}
	if files[pluginPage], err = plugin(root); err != nil { //nolint:contextcheck // no command is run
		return nil, err
	}
	if files[reference], err = os.ReadFile(page); err != nil {
		return nil, err
	}
	for from, to := range map[string]string{copies: apiDir, crds: crdDir} {
		if err := collect(files, from, to); err != nil {
			return nil, err
		}
	}
	packages, err := packaging.Generate(root, files)
	if err != nil {
		return nil, err
	}
	maps.Copy(files, packages)
	return files, nil
}

func collect(files map[string][]byte, from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		files[filepath.Join(to, e.Name())] = content
	}
	return nil
}

// tool runs a program of hack/tools/generate, whose dependencies are kept out of the module that users get.
func tool(ctx context.Context, root, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"tool", "-modfile=hack/tools/generate/go.mod", name}, args...)...)
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out)
	}
	return nil
}
