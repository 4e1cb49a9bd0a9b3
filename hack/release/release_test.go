// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/hack/packaging"
)

type silent struct{}

func (silent) Say(string)                              {}
func (silent) Begin(string, time.Duration) func(error) { return func(error) {} }

// someBuilder releases the stand-in as both programs; its manifests only name the image.
func someBuilder(t *testing.T, out string) *builder {
	t.Helper()
	return &builder{
		Options: Options{
			Root: root, Out: out, Version: "0.1.0-test", Registry: "registry.example.com/meshwright", Downloads: "https://example.com/", Epoch: "1700000000",
		},
		progress: silent{},
		operator: standin("meshwright", platform{"linux", "amd64"}),
		plugin:   standin("kubectl-mesh", platform{"windows", "amd64"}),
		manifests: func(_ context.Context, dir string, o packaging.Options) error {
			if err := os.CopyFS(filepath.Join(dir, "olm"), os.DirFS(filepath.Join(root, "bundles", "olm"))); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(dir, "meshwright.yaml"), []byte(o.Version+" "+o.Image+" "+o.Previous+" "+o.Catalogue+"\n"), 0o600)
		},
	}
}

func TestBuild(t *testing.T) {
	out := t.TempDir()
	b := someBuilder(t, out)
	b.operator.platforms = append(b.operator.platforms, platform{"linux", "arm64"})
	b.plugin.platforms = append(b.plugin.platforms, platform{"linux", "amd64"})
	var public string
	b.SignKey, public = ed25519Pair(t)
	b.Previous, b.Catalogue = "0.0.9", filepath.Join(t.TempDir(), "before.yaml")
	before := "schema: olm.package\nname: meshwright\ndefaultChannel: stable\n---\n" +
		"schema: olm.channel\npackage: meshwright\nname: candidate\nentries: [{name: meshwright.v0.0.9}]\n"
	write(t, filepath.Dir(b.Catalogue), "before.yaml", before)
	dir, err := b.build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := Verify(dir, public); err != nil {
		t.Error(err)
	}
	sums, err := sumTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"images/meshwright/index.json", "images/meshwright/oci-layout", "images/meshwright-bundle/index.json",
		"images/meshwright-bundle/oci-layout", "images.json", "images.txt", "kubectl-mesh-0.1.0-test-linux-amd64.tar.gz",
		"kubectl-mesh-0.1.0-test-windows-amd64.zip", "kubectl-mesh-0.1.0-test.spdx.json", "mesh.yaml", "meshwright-0.1.0-test-image-linux-amd64.tar",
		"meshwright-0.1.0-test-image-linux-arm64.tar", "meshwright-0.1.0-test.spdx.json", "meshwright.yaml",
	} {
		if sums[want] == "" {
			t.Errorf("%s is not there", want)
		}
		delete(sums, want)
	}
	for name := range sums {
		if !strings.HasPrefix(name, "olm/") && !strings.Contains(name, "/blobs/sha256/") {
			t.Errorf("%s is there", name)
		}
	}
	images, err := ReadImages(dir)
	if err != nil {
		t.Fatal(err)
	}
	index, err := readLayout(layoutDir(dir, operatorName))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(digestOf(t, index), images[0].Digest); diff != "" {
		t.Errorf("digest of the operator's image (-layout +list):\n%s", diff)
	}
	manifests, err := os.ReadFile(filepath.Join(dir, "meshwright.yaml"))
	want := "0.1.0-test registry.example.com/meshwright/meshwright@" + images[0].Digest + " 0.0.9 " + b.Catalogue + "\n"
	if diff := cmp.Diff(want, string(manifests)); diff != "" {
		t.Errorf("what manifests were asked for (-want +got): %v\n%s", err, diff)
	}
	if got := below(t, out); len(got) != 1 {
		t.Errorf("beside the release there is nothing: %q", got)
	}
}

// below are the names in a folder.
func below(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestBuildIsReproducible(t *testing.T) {
	var sums []string
	for range 2 {
		dir, err := someBuilder(t, t.TempDir()).build(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, sumsName))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, string(text))
	}
	if diff := cmp.Diff(sums[0], sums[1]); diff != "" {
		t.Errorf("the same source makes the same release (-first +again):\n%s", diff)
	}
}

func TestBuildIsAllOrNothing(t *testing.T) {
	out := t.TempDir()
	b := someBuilder(t, out)
	broken := errors.New("no manifests today")
	b.manifests = func(context.Context, string, packaging.Options) error { return broken }
	if _, err := b.build(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if got := below(t, out); len(got) != 0 {
		t.Errorf("a release that failed leaves nothing: %q", got)
	}
	first, err := someBuilder(t, out).build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b = someBuilder(t, out)
	b.manifests = func(context.Context, string, packaging.Options) error { return broken }
	if _, err := b.build(t.Context()); !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if err := Verify(first, ""); err != nil {
		t.Errorf("the one that was there stays: %v", err)
	}
	write(t, first, "meshwright.yaml", "changed")
	second, err := someBuilder(t, out).build(t.Context())
	if err != nil || second != first {
		t.Fatalf("released to %s (%v), want %s", second, err, first)
	}
	if err := Verify(second, ""); err != nil {
		t.Errorf("a newer one takes its place: %v", err)
	}
	if diff := cmp.Diff([]string{"0.1.0-test"}, below(t, out)); diff != "" {
		t.Errorf("and nothing stays of the other (-want +got):\n%s", diff)
	}
}

func TestBuildRefuses(t *testing.T) {
	for _, tc := range []struct {
		reason string
		change func(*builder)
		want   string
	}{
		{"a version that is none", func(b *builder) { b.Version = "v1" }, "want three numbers"},
		{"a previous version that is none", func(b *builder) { b.Previous = "0.0" }, "want three numbers"},
		{"a previous version that is newer", func(b *builder) { b.Previous = "0.2.0" }, "does not come after 0.2.0"},
		{"a previous version without its catalogue", func(b *builder) { b.Previous = "0.0.9" }, "say CATALOGUE="},
		{"a catalogue that is not there", func(b *builder) { b.Previous, b.Catalogue = "0.0.9", "none.yaml" }, "none.yaml"},
		{"a registry that is none", func(b *builder) { b.Registry = "UPPER/case" }, "UPPER/case"},
		{"a key that is not there", func(b *builder) { b.SignKey = "none.pem" }, "none.pem"},
		{"a date that is none", func(b *builder) { b.Epoch = "now" }, "SOURCE_DATE_EPOCH"},
		{"somebody's folder", func(b *builder) {
			if err := os.MkdirAll(filepath.Join(b.Out, b.Version), 0o700); err != nil {
				panic(err)
			}
		}, "is no release: remove it"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			b := someBuilder(t, t.TempDir())
			tc.change(b)
			if _, err := b.build(t.Context()); !says(err, tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

// The manifests that a release really has name the images that it really makes.
func TestManifestsNameTheImages(t *testing.T) {
	dir := t.TempDir()
	tag, err := imageTag("registry.example.com/meshwright", operatorName, "9.9.9")
	if err != nil {
		t.Fatal(err)
	}
	digest := tag.Context().Digest("sha256:" + strings.Repeat("0", 64)).String()
	if err := packaging.Write(t.Context(), dir, packaging.Options{Root: root, Version: "9.9.9", Image: digest}); err != nil {
		t.Fatal(err)
	}
	bundle, err := imageTag("registry.example.com/meshwright", bundleName, "9.9.9")
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"meshwright.yaml": "image: " + digest + "\n", filepath.Join("olm", "catalogue", "meshwright", "catalog.yaml"): "image: " + bundle.Name() + "\n",
		filepath.Join("olm", "bundle", "manifests", "meshwright.clusterserviceversion.yaml"): "image: " + digest + "\n",
	} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s does not say %q (%v)", file, want, err)
		}
	}
}

// When the digests of Istio's images are known, OLM's bundle names them: the list is one that packaging reads.
func TestBundleNamesResolvedImages(t *testing.T) {
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	b := someBuilder(t, t.TempDir())
	b.Resolve, b.dir, b.work, b.manifests = true, t.TempDir(), t.TempDir(), packaging.Write
	if b.istio, err = istioImages(t.Context(), library); err != nil {
		t.Fatal(err)
	}
	digest := "sha256:" + strings.Repeat("0", 64)
	for i := range b.istio {
		b.istio[i].Digest = digest
	}
	if err := b.packages(t.Context(), "registry.example.com/meshwright/meshwright@"+digest); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(b.dir, "olm", "bundle", "manifests", "meshwright.clusterserviceversion.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range b.istio {
		if !strings.Contains(string(text), "- image: "+i.Repository+"@"+digest+"\n    name: istio-"+i.Version+"-"+i.Name+"\n") {
			t.Errorf("the CSV does not relate to %s", i.Reference())
		}
	}
}
