// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// everything that can be asked for, in every version.
func everything() []Artifact {
	all := []Artifact{
		Etcd(), CoreDNS(), HelmCLI(), Runcw(), Pause(), NodeInit(), EchoImage(), LoadImage(), OperatorImage(),
		PrometheusImage(), CertManagerImage(), Sources(strings.Repeat("a", 40)), OperatorImageOf(strings.Repeat("a", 40)),
	}
	for _, v := range KubeVersions() {
		all = append(all, Kube(v), Kubeadm(v))
		all = append(all, ControlPlaneImages(v)...)
	}
	for _, v := range IstioVersions() {
		all = append(all, IstioImages(v)...)
	}
	for _, v := range IstioctlVersions() {
		all = append(all, Istioctl(v))
	}
	return all
}

func openHere(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestEveryArtifactHasARecipe also walks what goes into each of them.
func TestEveryArtifactHasARecipe(t *testing.T) {
	steps, err := openHere(t).plan(everything())
	if err != nil {
		t.Fatal(err)
	}
	made := map[Artifact]bool{}
	for _, step := range steps {
		for _, in := range step.recipe.inputs {
			if !made[in] {
				t.Errorf("%s comes before its input %s", step.artifact, in)
			}
		}
		made[step.artifact] = true
		if step.recipe.estimate <= 0 {
			t.Errorf("%s has no estimate", step.artifact)
		}
		if step.recipe.file == "" || step.recipe.maker == nil {
			t.Errorf("%s has no file name or no maker", step.artifact)
		}
	}
}

// TestModulesAreWhatTheySay reads the version of the main dependency out of each nested module.
func TestModulesAreWhatTheySay(t *testing.T) {
	tree, err := sourceTree()
	if err != nil {
		t.Fatal(err)
	}
	g := newGolang(tree)
	for _, v := range KubeVersions() {
		out, err := g.run(t.Context(), nestedDir("kube-"+v), "list", "-m", "k8s.io/kubernetes")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := strings.TrimSpace(string(out)), "k8s.io/kubernetes v"+v; got != want {
			t.Errorf("kube-%s holds %s", v, got)
		}
	}
	out, err := g.run(t.Context(), nestedDir("cert-manager"), "list", "-m", "github.com/cert-manager/cert-manager")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimSpace(string(out)), "github.com/cert-manager/cert-manager v"+CertManagerVersion; got != want {
		t.Errorf("cert-manager holds %s, want %s", got, want)
	}
	for _, v := range IstioVersions() {
		if _, err := g.run(t.Context(), nestedDir("istio-"+v), "list", "-m", "istio.io/istio"); err != nil {
			t.Error(err)
		}
		if len(envoyWheels[envoyOf[v]]) != 64 {
			t.Errorf("the wheel of Envoy %q, which Istio %s needs, has no SHA-256", envoyOf[v], v)
		}
	}
}

func TestUnknownVersions(t *testing.T) {
	s := openHere(t)
	for want, a := range map[string]Artifact{
		`Kubernetes "1.35.0" cannot be built here: there are modules for 1.33.13, 1.34.4, 1.36.3`: ControlPlaneImages("1.35.0")[0],
		`Istio "1.29" cannot be built here: there are modules for 1.26.1, 1.28.2, 1.29.1, 1.31.0`: ProxyImage("1.29"),
		`istioctl "1.31.0" cannot be built here: there are modules for 1.29.1`:                    Istioctl("1.31.0"),
		`artifact "" is unknown: use the functions of this package`:                               {},
		`"main" is no commit: it has 40 digits`:                                                   OperatorImageOf("main"),
		`"" is no commit: it has 40 digits`:                                                       Sources(""),
	} {
		if diff := cmp.Diff(want, s.Preflight(t.Context(), a).Error()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestRemedies(t *testing.T) {
	for _, n := range []need{needGo, needPip, needXtables, needPlatform, needCharts(t.TempDir()), needCommit(t.TempDir(), "a")} {
		if missing, remedy, ok := strings.Cut(n.remedy, ": "); !ok || missing == "" || remedy == "" || strings.Contains(n.remedy, "\n") {
			t.Errorf("%q does not say in one line what is missing and what to do", n.remedy)
		}
	}
	if needCharts(t.TempDir()).met() {
		t.Error("an empty tree holds no charts")
	}
	t.Setenv("PATH", t.TempDir())
	if needGo.met() || needPip.met() {
		t.Error("with an empty PATH there is neither go nor pip")
	}
	if err := openHere(t).Preflight(t.Context(), Pause()); err == nil || err.Error() != needGo.remedy {
		t.Errorf("without go the sentence about go is all one hears: got %v", err)
	}
}

func TestOutsideACheckout(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is not inside a checkout of Meshwright") {
		t.Errorf("got %v", err)
	}
}

// smallTree is a source tree with a root module of two packages, one embedding a file, and a nested module.
func smallTree(t *testing.T) string {
	t.Helper()
	tree := t.TempDir()
	for path, content := range map[string]string{
		"go.mod":                    "module example.com/root\n\ngo 1.26.0\n",
		"go.sum":                    "",
		"used/used.go":              "package used\n\nimport _ \"embed\"\n\n//go:embed data.txt\nvar Data string\n",
		"used/data.txt":             "data",
		"used/used_test.go":         "package used\n",
		"unused/unused.go":          "package unused\n",
		"program/main.go":           "package main\n\nimport _ \"example.com/root/used\"\n\nfunc main() {}\n",
		appsDir + "/go.mod":         "module example.com/apps\n\ngo 1.26.0\n",
		appsDir + "/go.sum":         "",
		appsDir + "/echo/main.go":   "package main\n\nfunc main() {}\n",
		appsDir + "/echo/x_test.go": "package main\n",
	} {
		path = filepath.Join(tree, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func fingerprint(t *testing.T, tree string, b goBuild) string {
	t.Helper()
	var out bytes.Buffer
	if err := (goBinary{newGolang(tree), b}).fingerprint(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestFingerprintOfABuild(t *testing.T) {
	root, apps := goBuild{pkg: "./program"}, goBuild{dir: appsDir, pkg: "./echo"}
	for name, tc := range map[string]struct {
		reason  string
		build   goBuild
		edit    string
		changed bool
	}{
		"own source":           {"is compiled", root, "program/main.go", true},
		"imported source":      {"is compiled", root, "used/used.go", true},
		"embedded file":        {"is part of the program", root, "used/data.txt", true},
		"dependencies":         {"go.sum decides what is linked", root, "go.sum", true},
		"package not imported": {"stays out of the program", root, "unused/unused.go", false},
		"test":                 {"stays out of the program", root, "used/used_test.go", false},
		"nested source":        {"is compiled", apps, appsDir + "/echo/main.go", true},
		"nested dependencies":  {"go.mod decides what is linked", apps, appsDir + "/go.mod", true},
		"nested test":          {"stays out of the program", apps, appsDir + "/echo/x_test.go", false},
		"other module":         {"a nested module does not see the root's packages", apps, "used/used.go", false},
	} {
		t.Run(name, func(t *testing.T) {
			tree := smallTree(t)
			before := fingerprint(t, tree, tc.build)
			if again := fingerprint(t, smallTree(t), tc.build); again != before {
				t.Errorf("the same sources elsewhere are the same (-here +there):\n%s", cmp.Diff(before, again))
			}
			file, err := os.OpenFile(filepath.Join(tree, tc.edit), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(file, "\n"); err != nil {
				t.Fatal(err)
			}
			if err := file.Close(); err != nil {
				t.Fatal(err)
			}
			if after := fingerprint(t, tree, tc.build); (after != before) != tc.changed {
				t.Errorf("%s: changed is %v, want %v", tc.reason, after != before, tc.changed)
			}
		})
	}
}

func TestFlagsAreInTheFingerprint(t *testing.T) {
	tree := smallTree(t)
	plain := goBuild{dir: appsDir, pkg: "./echo"}
	stamped := plain
	stamped.ldflags = []string{"main.version=1"}
	if fingerprint(t, tree, plain) == fingerprint(t, tree, stamped) {
		t.Error("a variable set by the linker makes another program")
	}
	t.Setenv("GOAMD64", "v3")
	if got := fingerprint(t, tree, plain); !slices.Contains(strings.Fields(got), "v3") {
		t.Errorf("another instruction set makes another program:\n%s", got)
	}
}

func TestUsersGoFlagsDoNotReachTheBuild(t *testing.T) {
	tree := smallTree(t)
	before := fingerprint(t, tree, goBuild{dir: appsDir, pkg: "./echo"})
	t.Setenv("GOFLAGS", "-mod=mod -race")
	t.Setenv("CGO_ENABLED", "1")
	if diff := cmp.Diff(before, fingerprint(t, tree, goBuild{dir: appsDir, pkg: "./echo"})); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func TestBuildErrorSaysWhere(t *testing.T) {
	tree := smallTree(t)
	if err := os.WriteFile(filepath.Join(tree, appsDir, "echo", "main.go"), []byte("package main\n\nfunc main() { oops }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := goBinary{newGolang(tree), goBuild{dir: appsDir, pkg: "./echo"}}.make(t.Context(), filepath.Join(t.TempDir(), "echo"))
	if err == nil || !strings.Contains(err.Error(), "undefined: oops") || !strings.Contains(err.Error(), "in "+appsDir) {
		t.Errorf("got %v", err)
	}
}

// TestReal makes the smallest real artifacts, from source to image.
func TestReal(t *testing.T) {
	s := openHere(t)
	started := time.Now()
	paths := mustEnsure(t, s, Pause(), Runcw(), EchoImage())
	t.Logf("built in %s", time.Since(started))
	for _, a := range []Artifact{Pause(), Runcw()} {
		if interpreter, needed, err := links(paths[a]); err != nil || interpreter != "" || len(needed) > 0 {
			t.Errorf("%s must be a static executable: %q %v %v", a, interpreter, needed, err)
		}
	}
	tags, err := Tags(paths[EchoImage()])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{EchoImageName}, tags); diff != "" {
		t.Errorf("names of the echo image (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(paths, mustEnsure(t, s, Pause(), Runcw(), EchoImage()), cmp.AllowUnexported(Artifact{})); diff != "" {
		t.Errorf("unchanged sources are found again (-first +second):\n%s", diff)
	}
}
