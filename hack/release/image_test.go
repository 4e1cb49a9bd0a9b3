// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

var (
	someDate   = time.Unix(1700000000, 0).UTC()
	someSource = source{commit: "0123456789abcdef0123456789abcdef01234567", date: someDate}
)

// someBinary is an executable of a fixed content.
func someBinary(t *testing.T, p program, on platform, content string) binary {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return binary{p, on, path}
}

// someImage is the operator's image of fixed executables.
func someImage(t *testing.T, date time.Time) (v1.ImageIndex, map[platform]v1.Image) {
	t.Helper()
	images := map[platform]v1.Image{}
	for _, on := range operator.platforms {
		b := someBinary(t, operator, on, "program for "+on.String())
		img, err := operatorImage(b, filepath.Join(root, "LICENSE"), imageLabels("meshwright", "0.1.0", someSource), date)
		if err != nil {
			t.Fatal(err)
		}
		images[on] = img
	}
	return indexOf(images, imageLabels("meshwright", "0.1.0", someSource)), images
}

func digestOf(t *testing.T, of interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := of.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

func TestImageIsReproducible(t *testing.T) {
	first, _ := someImage(t, someDate)
	again, _ := someImage(t, someDate)
	if diff := cmp.Diff(digestOf(t, first), digestOf(t, again)); diff != "" {
		t.Errorf("the same files of the same date make the same digest (-first +again):\n%s", diff)
	}
	later, _ := someImage(t, someDate.Add(time.Second))
	if digestOf(t, first) == digestOf(t, later) {
		t.Error("the date is in the image, so another makes another digest")
	}
}

func TestImageHolds(t *testing.T) {
	index, images := someImage(t, someDate)
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var platforms []string
	for _, m := range manifest.Manifests {
		platforms = append(platforms, m.Platform.String())
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64"}, platforms); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
	for on, img := range images {
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		got := []any{config.OS, config.Architecture, config.Created.UTC(), config.Config.User, config.Config.Entrypoint, config.Config.Labels}
		want := []any{on.os, on.arch, someDate, nobody, []string{"/usr/local/bin/meshwright"}, imageLabels("meshwright", "0.1.0", someSource)}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("configuration for %s (-want +got):\n%s", on, diff)
		}
		layers, err := img.Layers()
		if err != nil || len(layers) != 1 {
			t.Fatalf("%d layers (%v), want one", len(layers), err)
		}
		content, err := layers[0].Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		wantFiles := []string{
			"etc/ 755", "etc/ssl/ 755", "etc/ssl/certs/ 755", "licenses/ 755", "tmp/ 1777", "usr/ 755", "usr/local/ 755", "usr/local/bin/ 755",
			"usr/local/bin/meshwright 755", "etc/ssl/certs/ca-certificates.crt 644", "licenses/LICENSE 644",
		}
		if diff := cmp.Diff(wantFiles, tarList(t, content)); diff != "" {
			t.Errorf("files for %s (-want +got):\n%s", on, diff)
		}
	}
}

// Go reads a tar stream without its end, and other programs don't.
func TestLayerHasAnEnd(t *testing.T) {
	content, err := layerTar([]layerFile{{"/a", 0o644, []byte("a")}}, someDate)
	if err != nil {
		t.Fatal(err)
	}
	if end := make([]byte, 1024); len(content)%512 != 0 || !bytes.HasSuffix(content, end) {
		t.Errorf("%d bytes do not end in two empty blocks", len(content))
	}
}

// tarList are the names and permissions in a tar stream; all of it is root's, and of one date.
func tarList(t *testing.T, r io.Reader) (out []string) {
	t.Helper()
	for entries := tar.NewReader(r); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(someDate) {
			t.Errorf("%s belongs to %d:%d and is of %s", h.Name, h.Uid, h.Gid, h.ModTime)
		}
		out = append(out, fmt.Sprintf("%s %o", h.Name, h.Mode))
	}
}

func TestPublicRoots(t *testing.T) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(publicRoots()) {
		t.Fatal("no certificate can be read")
	}
	if n := bytes.Count(publicRoots(), []byte("BEGIN CERTIFICATE")); n < 100 {
		t.Errorf("%d authorities are fewer than browsers trust", n)
	}
}

func TestLayout(t *testing.T) {
	index, _ := someImage(t, someDate)
	tag := name.MustParseReference("registry.example.com/meshwright/meshwright:v0.1.0").(name.Tag)
	dir := t.TempDir()
	if err := writeLayout(dir, index, tag); err != nil {
		t.Fatal(err)
	}
	back, err := readLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(digestOf(t, index), digestOf(t, back)); diff != "" {
		t.Errorf("digest (-written +read):\n%s", diff)
	}
	if err := validate.Index(back); err != nil {
		t.Error(err)
	}
	if _, err := readLayout(t.TempDir()); err == nil {
		t.Error("an empty folder is no layout")
	}
}

// Engines read one of two forms of the same image.
func TestImageArchive(t *testing.T) {
	index, images := someImage(t, someDate)
	on := platform{"linux", "arm64"}
	tag := name.MustParseReference("registry.example.com/meshwright/meshwright:v0.1.0").(name.Tag)
	file := imageArchive(t.TempDir(), "0.1.0", on)
	if err := writeArchive(file, index, images[on], tag, someDate); err != nil {
		t.Fatal(err)
	}
	t.Run("as docker save writes it", func(t *testing.T) {
		img, err := tarball.ImageFromPath(file, &tag)
		if err != nil {
			t.Fatal(err)
		}
		want, err := images[on].ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		got, err := img.ConfigName()
		if err != nil || got != want {
			t.Errorf("identifier %s (%v), want %s", got, err, want)
		}
		if err := validate.Image(img); err != nil {
			t.Error(err)
		}
	})
	t.Run("as an OCI layout", func(t *testing.T) {
		dir := t.TempDir()
		unpack(t, file, dir)
		back, err := readLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(digestOf(t, index), digestOf(t, back)); diff != "" {
			t.Errorf("the digest is that of all platforms, which manifests name (-want +got):\n%s", diff)
		}
		h, err := images[on].Digest()
		if err != nil {
			t.Fatal(err)
		}
		img, err := back.Image(h)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(img); err != nil {
			t.Error(err)
		}
		top, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			t.Fatal(err)
		}
		manifest, err := top.IndexManifest()
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{annotationTag: "v0.1.0", annotationName: "registry.example.com/meshwright/meshwright:v0.1.0"}
		if diff := cmp.Diff(want, manifest.Manifests[0].Annotations); diff != "" {
			t.Errorf("names (-want +got):\n%s", diff)
		}
	})
}

// unpack writes the files of a tar file below a folder.
func unpack(t *testing.T, file, dir string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for entries := tar.NewReader(f); ; {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(entries)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What OLM unpacks is the bundle, and what it looks at first are the labels.
func TestBundleImage(t *testing.T) {
	img, err := bundleImage(platform{"linux", "arm64"}, filepath.Join(root, "bundles", "olm", "bundle"), imageLabels(bundleName, "0.1.0", someSource), someDate)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]string{
		"operators.operatorframework.io.bundle.mediatype.v1": "registry+v1", "operators.operatorframework.io.bundle.package.v1": "meshwright",
		"operators.operatorframework.io.bundle.manifests.v1": "manifests/", "org.opencontainers.image.title": bundleName,
	} {
		if got := config.Config.Labels[label]; got != want {
			t.Errorf("label %s is %q, want %q", label, got, want)
		}
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	files := tarList(t, content)
	for _, want := range []string{"manifests/ 755", "manifests/meshwright.clusterserviceversion.yaml 644", "metadata/annotations.yaml 644"} {
		if !slices.Contains(files, want) {
			t.Errorf("%s is not among %q", want, files)
		}
	}
}
