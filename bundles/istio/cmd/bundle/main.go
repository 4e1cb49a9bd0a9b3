// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bundle writes bundles/istio/builtin/istio-<version>.tgz for every nested module of bundles/istio/modules: the
// charts that Istio's Go module of that version embeds, stamped as Istio's release stamps them. What is up to date is
// left as it is.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// format is part of the key of an archive: raise it when what this command writes changes.
const format = "2"

// charts says where Istio's module keeps each chart, by the name under which it is published.
var charts = map[string]string{
	"base":    "charts/base",
	"istiod":  "charts/istio-control/istio-discovery",
	"gateway": "charts/gateway",
	"default": "charts/default",
	"cni":     "charts/istio-cni",
	"ztunnel": "charts/ztunnel",
}

func main() {
	log.SetFlags(0)
	root := filepath.Join("bundles", "istio")
	if _, err := os.Stat(root); err != nil {
		root = "." // as go generate runs it
	}
	modules, err := filepath.Glob(filepath.Join(root, "modules", "istio-*"))
	if err != nil || len(modules) == 0 {
		log.Fatalf("no modules below %s: run this from the root of the checkout", root)
	}
	for _, module := range modules {
		version := strings.TrimPrefix(filepath.Base(module), "istio-")
		if err := bundle(context.Background(), module, version, filepath.Join(root, "builtin", "istio-"+version+".tgz")); err != nil {
			log.Fatalf("bundle of Istio %s: %v", version, err)
		}
	}
}

func bundle(ctx context.Context, module, version, out string) error {
	key, err := keyOf(module)
	if err != nil {
		return err
	}
	if current(out) == key {
		return nil
	}
	fmt.Println("charts of Istio", version)
	dir, err := os.MkdirTemp("", "meshwright-charts")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	run := exec.CommandContext(ctx, "go", "run", "-mod=readonly", ".", dir)
	run.Dir = module
	run.Stderr = os.Stderr
	if err := run.Run(); err != nil {
		return err
	}
	archive, err := pack(dir, version, key)
	if err != nil {
		return err
	}
	temporary := out + ".tmp"
	if err := os.WriteFile(temporary, archive, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, out)
}

// keyOf is a digest of everything an archive is made from.
func keyOf(module string) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, format)
	for _, name := range []string{"go.mod", "go.sum", "main.go"} {
		data, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, len(data))
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// current is the key in the header of an archive; empty when there is none.
func current(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return ""
	}
	return z.Comment
}

func pack(dir, version, key string) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	z.Comment = key
	t := tar.NewWriter(z)
	for _, chart := range slices.Sorted(func(yield func(string) bool) {
		for name := range charts {
			if !yield(name) {
				return
			}
		}
	}) {
		if err := packChart(t, chart, filepath.Join(dir, filepath.FromSlash(charts[chart])), version); err != nil {
			return nil, fmt.Errorf("chart %s: %w", chart, err)
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func packChart(t *tar.Writer, chart, dir, version string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if data, err = stamp(filepath.ToSlash(name), data, version); err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Name: chart + "/" + filepath.ToSlash(name), Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err = t.Write(data)
		return err
	})
}

var (
	chartVersion = regexp.MustCompile(`(?m)^(version|appVersion): .*$`)
	testHub      = regexp.MustCompile(`(?m)^(\s*hub): (?:gcr\.io/istio-testing|registry\.istio\.io/testing)$`)
	testTag      = regexp.MustCompile(`(?m)^(\s*tag): latest$`)
)

// stamp puts the version, and the registry and tag of the release's images, where Istio's release puts them.
func stamp(name string, data []byte, version string) ([]byte, error) {
	switch name {
	case "Chart.yaml":
		if n := len(chartVersion.FindAll(data, -1)); n != 2 {
			return nil, fmt.Errorf("%s: want one version and one appVersion, found %d", name, n)
		}
		return chartVersion.ReplaceAll(data, []byte("${1}: "+version)), nil
	case "values.yaml":
		hub, err := releaseHub(version)
		if err != nil {
			return nil, err
		}
		data = testHub.ReplaceAll(data, []byte("${1}: "+hub))
		return testTag.ReplaceAll(data, []byte("${1}: "+version)), nil
	}
	return data, nil
}

// releaseHub is the registry that the charts of Istio's release name.
func releaseHub(text string) (string, error) {
	v, err := semver.StrictNewVersion(text)
	if err != nil {
		return "", err
	}
	if v.Major() == 1 && v.Minor() < 29 {
		return "docker.io/istio", nil
	}
	return "registry.istio.io/release", nil
}
