// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdxlib"

	"github.com/meshwright/meshwright/bundles/istio"
)

// linked are executables of the stand-in.
func linked(t *testing.T, p program) []binary {
	t.Helper()
	dir := t.TempDir()
	var out []binary
	for _, on := range p.platforms {
		b := binary{p, on, binaryPath(dir, p, on)}
		if err := p.link(t.Context(), root, on, "0.1.0", b.path); err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func TestSBOM(t *testing.T) {
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	charts, err := readCharts(root, library)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := readRootsModule(t.Context(), root)
	if err != nil || roots.Sum == "" || roots.Version == "" {
		t.Fatalf("%+v: %v", roots, err)
	}
	in := inventory{
		product: "meshwright", version: "0.1.0", purl: "pkg:oci/meshwright@sha256:0", source: someSource,
		binaries: linked(t, standin("meshwright", platform{"linux", "amd64"}, platform{"linux", "arm64"})), charts: charts, roots: roots,
	}
	file := filepath.Join(t.TempDir(), "a.spdx.json")
	if err := writeSBOM(file, in); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	document, err := spdxjson.Read(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(document); err != nil {
		t.Error(err)
	}
	ids := map[spdx.ElementID]string{"DOCUMENT": "the document"}
	var packages []string
	for _, p := range document.Packages {
		if !regexp.MustCompile(`^[A-Za-z0-9.-]+$`).MatchString(string(p.PackageSPDXIdentifier)) {
			t.Errorf("%q is no identifier of SPDX", p.PackageSPDXIdentifier)
		}
		if ids[p.PackageSPDXIdentifier] != "" {
			t.Errorf("%s is there twice", p.PackageSPDXIdentifier)
		}
		if p.PackageDownloadLocation == "" || p.FilesAnalyzed {
			t.Errorf("%s: a download location is asked for, and files were not analyzed", p.PackageName)
		}
		ids[p.PackageSPDXIdentifier] = p.PackageName
		packages = append(packages, p.PackageName+" "+p.PackageVersion)
	}
	want := []string{
		"meshwright 0.1.0", "meshwright-linux-amd64 0.1.0", "stdlib " + strings.TrimPrefix(runtime.Version(), "go"),
		"github.com/Masterminds/semver/v3 " + semverVersion(t),
	}
	for _, c := range charts {
		want = append(want, "istio-charts "+c.version)
	}
	want = append(want, "meshwright-linux-arm64 0.1.0", roots.Path+" "+roots.Version)
	if diff := cmp.Diff(want, packages); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
	var relations []string
	for _, r := range document.Relationships {
		relations = append(relations, ids[r.RefA.ElementRefID]+" "+r.Relationship+" "+ids[r.RefB.ElementRefID])
	}
	for _, want := range []string{
		"the document DESCRIBES meshwright", "meshwright CONTAINS meshwright-linux-amd64", "meshwright-linux-arm64 STATIC_LINK github.com/Masterminds/semver/v3",
		"meshwright-linux-amd64 STATIC_LINK stdlib", "meshwright-linux-amd64 CONTAINS istio-charts",
		"meshwright CONTAINS golang.org/x/crypto/x509roots/fallback",
	} {
		if !slices.Contains(relations, want) {
			t.Errorf("%q is not among %q", want, relations)
		}
	}
	again := filepath.Join(t.TempDir(), "a.spdx.json")
	if err := writeSBOM(again, in); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(again)
	if err != nil || !bytes.Equal(text, second) {
		t.Errorf("the same executables make the same document (%v)", err)
	}
	in.version = "0.1.1"
	if err := writeSBOM(again, in); err != nil {
		t.Fatal(err)
	}
	if second, err = os.ReadFile(again); err != nil || bytes.Contains(second, []byte(document.DocumentNamespace)) {
		t.Errorf("no two documents have one namespace (%v)", err)
	}
}

// semverVersion is the version of the stand-in's dependency, as go.mod has it.
func semverVersion(t *testing.T) string {
	t.Helper()
	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`github\.com/Masterminds/semver/v3 (\S+)`).FindSubmatch(gomod)
	if m == nil {
		t.Fatal("go.mod does not require semver")
	}
	return string(m[1])
}

func TestModulePurl(t *testing.T) {
	for _, tc := range []struct{ reason, path, version, want string }{
		{"a version", "istio.io/api", "v1.31.1", "pkg:golang/istio.io/api@v1.31.1"},
		{"a plus sign would be read as a space", "a.example.com/b", "v2.0.0+incompatible", "pkg:golang/a.example.com/b@v2.0.0%2Bincompatible"},
	} {
		if diff := cmp.Diff(tc.want, modulePurl(tc.path, tc.version)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
		}
	}
}
