// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package istio

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
)

// archive packs entries; a name that ends in "@" becomes a symbolic link.
func archive(t *testing.T, entries map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for path, text := range entries {
		header := &tar.Header{Name: path, Mode: 0o644, Size: int64(len(text))}
		if link, ok := strings.CutSuffix(path, "@"); ok {
			header = &tar.Header{Name: link, Typeflag: tar.TypeSymlink, Linkname: text}
			text = ""
		}
		if err := w.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestBuiltinVersions(t *testing.T) {
	l, err := Open(t.Context(), Builtin())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range l.Versions() {
		got = append(got, v.String())
	}
	want := []string{"1.26.0", "1.26.1", "1.27.9", "1.28.2", "1.29.1", "1.31.0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("built-in versions; without any, run make bundles (-want +got):\n%s", diff)
	}
	for _, version := range want {
		b, err := l.Get(t.Context(), version)
		if err != nil {
			t.Fatal(err)
		}
		for _, chart := range []string{ChartBase, ChartIstiod, ChartGateway, ChartDefault, ChartCNI, ChartZtunnel} {
			stampedAs(t, b, chart)
		}
	}
}

// stampedAs checks that a chart names its release where Istio's published chart does, and no test registry.
func stampedAs(t *testing.T, b *Bundle, chart string) {
	t.Helper()
	files, err := b.Chart(chart)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		switch f.Name {
		case "Chart.yaml":
			if !bytes.Contains(f.Data, []byte("\nappVersion: "+b.Version())) || !bytes.Contains(f.Data, []byte("\nversion: "+b.Version())) {
				t.Errorf("%s of Istio %s: Chart.yaml is not stamped:\n%s", chart, b.Version(), f.Data)
			}
		case "values.yaml":
			if testImage.Match(f.Data) {
				t.Errorf("%s of Istio %s: values.yaml names a test image", chart, b.Version())
			}
		}
	}
}

// testImage is what values.yaml says before a release: registries and a tag that nobody pulls from.
var testImage = regexp.MustCompile(`istio-testing|(?m)^\s*(hub: .*/testing|tag: latest)$`)

func TestReleaseHub(t *testing.T) {
	l, err := Open(t.Context(), Builtin())
	if err != nil {
		t.Fatal(err)
	}
	for version, hub := range map[string]string{"1.28.2": "docker.io/istio", "1.29.1": "registry.istio.io/release"} {
		b, err := l.Get(t.Context(), version)
		if err != nil {
			t.Fatal(err)
		}
		files, err := b.Chart(ChartIstiod)
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range files {
			found = found || f.Name == "values.yaml" && bytes.Contains(f.Data, []byte("hub: "+hub+"\n"))
		}
		if !found {
			t.Errorf("istiod %s: values.yaml does not name %s", version, hub)
		}
	}
}

func TestHostileArchives(t *testing.T) {
	for reason, data := range map[string][]byte{
		"a path that leaves the archive": archive(t, map[string]string{"base/../../etc/passwd": "x"}),
		"an absolute path":               archive(t, map[string]string{"/etc/passwd": "x"}),
		"a link":                         archive(t, map[string]string{"base/link@": "/etc/passwd"}),
		"more than fits":                 archive(t, map[string]string{"base/zeros": strings.Repeat("0", maxArchive+1)}),
		"no archive":                     []byte("apiVersion: v2"),
	} {
		if _, err := newBundle("1.30.0", data); err == nil {
			t.Errorf("%s was accepted", reason)
		}
	}
}

func TestDigestIsOfContent(t *testing.T) {
	together, err := newBundle("1.30.0", archive(t, map[string]string{"base/a": "1", "istiod/b": "2"}))
	if err != nil {
		t.Fatal(err)
	}
	apart, err := newBundle("1.30.0", archive(t, map[string]string{"istiod/b": "2"}), archive(t, map[string]string{"base/a": "1"}))
	if err != nil {
		t.Fatal(err)
	}
	other, err := newBundle("1.30.0", archive(t, map[string]string{"base/a": "1", "istiod/b": "3"}))
	if err != nil {
		t.Fatal(err)
	}
	if together.Digest() != apart.Digest() || together.Digest() == other.Digest() {
		t.Errorf("digests: together %s, apart %s, other content %s", together.Digest(), apart.Digest(), other.Digest())
	}
}

func publishedCharts(t *testing.T, version string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, chart := range published {
		out[chart] = archive(t, map[string]string{chart + "/Chart.yaml": "name: " + chart + "\nversion: " + version + "\n"})
	}
	return out
}

func TestFolderAddsAVersion(t *testing.T) {
	dir := t.TempDir()
	for chart, data := range publishedCharts(t, "1.30.3") {
		if err := os.WriteFile(filepath.Join(dir, chart+"-1.30.3.tgz"), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	whole := archive(t, map[string]string{"base/Chart.yaml": "name: base\n"})
	if err := os.WriteFile(filepath.Join(dir, "istio-1.30.4.tgz"), whole, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Open(t.Context(), Folder(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"1.30.3", "1.30.4"} {
		b, err := l.Get(t.Context(), version)
		if err != nil {
			t.Fatal(err)
		}
		if files, err := b.Chart(ChartBase); err != nil || len(files) != 1 || files[0].Name != "Chart.yaml" {
			t.Errorf("chart base of %s: %v, %v", version, files, err)
		}
	}

	if err := os.Remove(filepath.Join(dir, "gateway-1.30.3.tgz")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Folder(dir)); err == nil || !strings.Contains(err.Error(), "gateway-1.30.3.tgz") {
		t.Errorf("a folder that lacks a chart: %v, want an error that names the file", err)
	}
}

func TestRegistryAddsAVersion(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	repository := strings.TrimPrefix(server.URL, "http://") + "/istio/charts"
	for chart, data := range publishedCharts(t, "1.30.3") {
		image, err := mutate.Append(empty.Image, mutate.Addendum{Layer: static.NewLayer(data, chartLayer)})
		if err != nil {
			t.Fatal(err)
		}
		reference, err := name.ParseReference(repository + "/" + chart + ":1.30.3")
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(reference, image); err != nil {
			t.Fatal(err)
		}
	}
	l, err := Open(t.Context(), OCI("oci://"+repository))
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Get(t.Context(), "1.30.3")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Chart(ChartGateway); err != nil {
		t.Error(err)
	}
	if _, err := l.Get(t.Context(), "1.30.9"); err == nil {
		t.Error("a version that the registry does not have was found")
	}
}

func TestCatalogueCoversWhatIsBuiltIn(t *testing.T) {
	c, err := BuiltinCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(t.Context(), Builtin())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range l.Versions() {
		if _, ok := c.Line(v); !ok {
			t.Errorf("the catalogue knows nothing of %s", v)
		}
	}
}

func TestCatalogueIsChecked(t *testing.T) {
	const good = `{name: "1.29", released: 2026-02-16, kubernetes: {min: "1.31", max: "1.35"}`
	for reason, line := range map[string]string{
		"unknown field":         good + `, colour: red}`,
		"known-bad of another":  good + `, knownBad: {"1.28.1": crashes}}`,
		"no date":               `{name: "1.29", released: soon, kubernetes: {min: "1.31", max: "1.35"}}`,
		"no line":               `{name: "1.29.1", released: 2026-02-16, kubernetes: {min: "1.31", max: "1.35"}}`,
		"range that is empty":   `{name: "1.29", released: 2026-02-16, kubernetes: {min: "1.35", max: "1.31"}}`,
		"range that is missing": `{name: "1.29", released: 2026-02-16}`,
	} {
		if _, err := ParseCatalogue([]byte("lines:\n- " + line)); err == nil {
			t.Errorf("%s was accepted", reason)
		}
	}
	c, err := ParseCatalogue([]byte("lines:\n- " + good + `, knownBad: {"1.29.0": "loses leaves"}}`))
	if err != nil || c["1.29"].KnownBad["1.29.0"] != "loses leaves" {
		t.Errorf("a good line: %+v, %v", c, err)
	}
}

// down is a source that does not answer for a while.
type down struct {
	Source
	answers bool
}

func (d *down) index(ctx context.Context) (map[string]load, error) {
	if !d.answers {
		return nil, errors.New("no route to host")
	}
	return d.Source.index(ctx)
}

// A source that does not answer hides no version of the others, and is read when it does.
func TestSourceIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	charts, err := embedded.ReadFile("builtin/istio-1.29.1.tgz")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "istio-9.9.9.tgz"), charts, 0o600); err != nil {
		t.Fatal(err)
	}
	source := &down{Source: Folder(dir)}
	library, err := Open(t.Context(), Builtin(), source)
	if err == nil || !strings.Contains(err.Error(), "no route to host") {
		t.Errorf("error %v, want that of the source", err)
	}
	holds := func(version string) bool {
		return slices.ContainsFunc(library.Versions(), func(v *semver.Version) bool { return v.String() == version })
	}
	if !holds("1.29.1") || holds("9.9.9") {
		t.Errorf("versions %v", library.Versions())
	}
	if _, err := library.Get(t.Context(), "1.29.1"); err != nil {
		t.Error(err)
	}
	if err := library.Retry(t.Context()); err == nil {
		t.Error("the source still does not answer, and no error says so")
	}
	source.answers = true
	if err := library.Retry(t.Context()); err != nil || !holds("9.9.9") {
		t.Errorf("%v, versions %v", err, library.Versions())
	}
}
