// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package architecture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/meshwright/meshwright/"

// layers from the lowest to the highest. A package imports its own layer and lower ones.
var layers = []struct {
	name  string
	holds []string // packages, or folders when they end in a slash
}{
	{"api", []string{"operator/api/", "config/crd"}},
	{"pure", pure},
	{"adapters", []string{
		"bundles/istio", "config/policy", "operator/admit", "operator/apply", "operator/authority", "operator/conditions", "operator/dataplane", "operator/facts", "operator/metrics", "operator/plan",
		"operator/probe", "operator/render", "operator/testkit",
	}},
	{"controllers and webhooks", []string{"controllers", "controllers/", "webhooks", "webhooks/"}},
	{"manager and plugin", []string{"operator/manager", "operator/cli"}},
	{"cmd", []string{"operator/cmd/"}},
}

// pure packages decide and do nothing else.
var pure = []string{
	"operator/version", "operator/traffic", "operator/analysis", "operator/rollout", "operator/rollout/sim", "operator/validate",
	"operator/pki", "operator/preflight",
}

// impure is what a pure package may not stand on, directly or not. Loggers and clocks that API machinery itself brings
// along are among direct.
var impure = []struct{ prefix, reason string }{
	{"k8s.io/client-go/", "a client"},
	{"sigs.k8s.io/controller-runtime", "a client"},
	{"helm.sh/helm/", "a renderer"},
	{"go.uber.org/zap", "a logger"},
	{"os/exec", "the outside world"},
}

// layerOf is the index of a package's layer, -1 for none.
func layerOf(pkg string) int {
	return slices.IndexFunc(layers, func(l struct {
		name  string
		holds []string
	},
	) bool {
		return slices.ContainsFunc(l.holds, func(h string) bool {
			return pkg == h || strings.HasSuffix(h, "/") && strings.HasPrefix(pkg, h)
		})
	})
}

type listed struct {
	ImportPath string   `json:"ImportPath"`
	Dir        string   `json:"Dir"`
	Imports    []string `json:"Imports"`
	Deps       []string `json:"Deps"`
	GoFiles    []string `json:"GoFiles"`
}

// list asks go about packages of this module, by patterns relative to its root.
func list(t *testing.T, patterns ...string) []listed {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-json=ImportPath,Dir,Imports,Deps,GoFiles"}, patterns...)...)
	cmd.Dir = filepath.Join("..", "..")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []listed
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportsPointDownwards(t *testing.T) {
	for _, p := range list(t, "./operator/...", "./controllers/...", "./webhooks/...", "./bundles/istio") {
		own := strings.TrimPrefix(p.ImportPath, module)
		layer := layerOf(own)
		if layer < 0 {
			t.Errorf("%s is in no layer: add it to the list in this test", own)
			continue
		}
		for _, imported := range p.Imports {
			other, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			if l := layerOf(other); l < 0 || l > layer {
				t.Errorf("%s (%s) imports %s, which is in no lower layer", own, layers[layer].name, other)
			}
		}
	}
}

func TestControllersMeetInTheAPI(t *testing.T) {
	for _, p := range list(t, "./controllers/...") {
		for _, dep := range p.Deps {
			if strings.HasPrefix(dep, module+"controllers/") || strings.HasPrefix(dep, module+"webhooks") {
				t.Errorf("%s reaches %s", strings.TrimPrefix(p.ImportPath, module), strings.TrimPrefix(dep, module))
			}
		}
	}
}

func TestOneRenderer(t *testing.T) {
	for _, p := range list(t, "./operator/...", "./controllers/...", "./webhooks/...", "./bundles/istio") {
		own := strings.TrimPrefix(p.ImportPath, module)
		for _, imported := range p.Imports {
			if strings.HasPrefix(imported, "helm.sh/helm/") && own != "operator/render" {
				t.Errorf("%s imports %s: only operator/render does", own, imported)
			}
		}
	}
}

func TestPurePackagesStandOnNothingImpure(t *testing.T) {
	for _, p := range list(t, patterns(pure)...) {
		for _, dep := range p.Deps {
			if reason := impurity(dep); reason != "" {
				t.Errorf("%s reaches %s: %s", strings.TrimPrefix(p.ImportPath, module), dep, reason)
			}
		}
	}
}

func patterns(packages []string) []string {
	out := make([]string, len(packages))
	for i, p := range packages {
		out[i] = "./" + p
	}
	return out
}

func impurity(dep string) string {
	for _, bad := range impure {
		if strings.HasPrefix(dep, bad.prefix) {
			return bad.reason
		}
	}
	return ""
}

// TestPurePackagesHaveNoClock looks at calls, for the types of package time are as pure as numbers.
func TestPurePackagesHaveNoClock(t *testing.T) {
	for _, p := range list(t, patterns(pure)...) {
		for _, name := range p.GoFiles {
			found, err := clocks(filepath.Join(p.Dir, name), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				t.Errorf("%s: %s", strings.TrimPrefix(p.ImportPath, module), f)
			}
		}
	}
}

// direct are imports that the files of a pure package may not have, although it may reach them through its libraries.
var direct = []string{
	"os", "net", "net/http", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand",
	"k8s.io/klog/v2", "github.com/go-logr/logr", "k8s.io/utils/clock",
}

// clocks finds uses of the clock, of chance and of the outside world in a Go file; src replaces its content when not nil.
func clocks(file string, src any) (found []string, err error) {
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	timeName := ""
	for _, i := range parsed.Imports {
		imported, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return nil, err
		}
		if slices.Contains(direct, imported) {
			found = append(found, fmt.Sprintf("%s imports %s", filepath.Base(file), imported))
		}
		if imported == "time" {
			timeName = path.Base(imported)
			if i.Name != nil {
				timeName = i.Name.Name
			}
		}
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok || timeName == "" {
			return true
		}
		x, ok := s.X.(*ast.Ident)
		if ok && x.Name == timeName && slices.Contains([]string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker"}, s.Sel.Name) {
			found = append(found, fmt.Sprintf("%s uses time.%s", set.Position(s.Pos()), s.Sel.Name))
		}
		return true
	})
	return found, nil
}

func TestClocksAreFound(t *testing.T) {
	for _, tc := range []struct {
		reason, source string
		want           []string
	}{
		{"a value of type time.Time is pure", "package p\nimport \"time\"\nvar t time.Time", nil},
		{"the clock is not", "package p\nimport \"time\"\nvar t = time.Now()", []string{"f.go:3:9 uses time.Now"}},
		{"under another name neither", "package p\nimport x \"time\"\nvar t = x.Since", []string{"f.go:3:9 uses time.Since"}},
		{"chance is not", "package p\nimport \"math/rand/v2\"\nvar t = rand.Int()", []string{"f.go imports math/rand/v2"}},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			got, err := clocks("f.go", tc.source)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}
