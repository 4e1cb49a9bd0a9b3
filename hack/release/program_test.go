// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bytes"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// root of the checkout, as tests see it.
var root = filepath.Join("..", "..")

// standin is linked in seconds, and stands for the operator and the plugin.
func standin(name string, platforms ...platform) program {
	return program{name: name, pkg: "./hack/release/testdata/standin", version: "main.version", platforms: platforms}
}

// Two checkouts in two places, and a person who has settings, make the same bytes.
func TestLinkIsReproducible(t *testing.T) {
	on := platform{"linux", "arm64"}
	var made [][]byte
	for _, flags := range []string{"", "-ldflags=-X=main.version=other"} {
		t.Setenv("GOFLAGS", flags)
		dir := t.TempDir()
		for name, content := range map[string]string{
			"go.mod": "module example.com/a\n\ngo 1.26\n", "main.go": "package main\n\nvar version = \"dev\"\n\nfunc main() { println(version) }\n",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out := filepath.Join(dir, "out")
		if err := (program{name: "a", pkg: ".", version: "main.version"}).link(t.Context(), dir, on, "0.1.0", out); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, content)
	}
	if !bytes.Equal(made[0], made[1]) {
		t.Error("two checkouts made different executables")
	}
}

func TestLinkSetsTheVersion(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	if err := standin("a").link(t.Context(), root, platform{runtime.GOOS, runtime.GOARCH}, "1.2.3-rc.4", out); err != nil {
		t.Fatal(err)
	}
	said, err := exec.CommandContext(t.Context(), out).Output()
	if err != nil || string(said) != "1.2.3-rc.4\n" {
		t.Errorf("the program says %q (%v)", said, err)
	}
}

func TestLinkFails(t *testing.T) {
	err := program{name: "a", pkg: "./nothing"}.link(t.Context(), root, platform{"linux", "amd64"}, "0.1.0", filepath.Join(t.TempDir(), "out"))
	if !says(err, "directory not found") {
		t.Errorf("the reason is Go's: got %v", err)
	}
}

// The linker says nothing when it is told to set a variable that is not there.
func TestVersionVariableExists(t *testing.T) {
	for _, p := range []program{operator, plugin} {
		if p.version == "" {
			continue
		}
		dot := strings.LastIndex(p.version, ".")
		pkg, variable := strings.TrimPrefix(p.version[:dot], module+"/"), p.version[dot+1:]
		files, err := filepath.Glob(filepath.Join(root, pkg, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, file := range files {
			parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			if o := parsed.Scope.Lookup(variable); o != nil && o.Kind.String() == "var" {
				found = true
			}
		}
		if !found {
			t.Errorf("%s has no variable %s, which %s is linked with", pkg, variable, p.name)
		}
	}
}

func TestImports(t *testing.T) {
	p := standin("a")
	for pkg, want := range map[string]bool{"github.com/Masterminds/semver/v3": true, module + "/bundles/istio": false} {
		got, err := p.imports(t.Context(), root, pkg)
		if err != nil || got != want {
			t.Errorf("imports %s: got %t (%v), want %t", pkg, got, err, want)
		}
	}
}
