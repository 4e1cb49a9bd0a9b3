// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package istio

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
)

// The charts of a bundle, by the names under which Istio publishes them. Not every bundle has all of them.
const (
	ChartBase    = "base"
	ChartIstiod  = "istiod"
	ChartGateway = "gateway"
	ChartDefault = "default"
	ChartCNI     = "cni"
	ChartZtunnel = "ztunnel"
)

// File is one file of a chart; Name is its slash-separated path inside the chart.
type File struct {
	Name string
	Data []byte
}

// Bundle holds the charts of one exact Istio version. It stays compressed; a chart is unpacked when it is asked for.
type Bundle struct {
	version  string
	digest   string
	archives [][]byte
}

// Version is the exact Istio version, such as 1.29.1.
func (b *Bundle) Version() string { return b.version }

// Digest is "sha256:" and a digest over the names and contents of all files, whatever order and archive they came in.
func (b *Bundle) Digest() string { return b.digest }

// Chart unpacks the files of one chart, in the order of their names.
func (b *Bundle) Chart(name string) ([]File, error) {
	var files []File
	for _, archive := range b.archives {
		err := walk(archive, func(path string, data []byte) {
			if inside, ok := strings.CutPrefix(path, name+"/"); ok {
				files = append(files, File{Name: inside, Data: data})
			}
		})
		if err != nil {
			return nil, fmt.Errorf("bundle of Istio %s: %w", b.version, err)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("the bundle of Istio %s has no chart %q", b.version, name)
	}
	slices.SortFunc(files, func(x, y File) int { return strings.Compare(x.Name, y.Name) })
	return files, nil
}

// newBundle checks archives (gzipped tar files whose top folders are charts) and computes their digest.
func newBundle(version string, archives ...[]byte) (*Bundle, error) {
	sums := map[string][sha256.Size]byte{}
	var names []string
	for _, archive := range archives {
		err := walk(archive, func(path string, data []byte) {
			if _, again := sums[path]; !again {
				names = append(names, path)
			}
			sums[path] = sha256.Sum256(data)
		})
		if err != nil {
			return nil, fmt.Errorf("bundle of Istio %s: %w", version, err)
		}
	}
	slices.Sort(names)
	all := sha256.New()
	for _, name := range names {
		sum := sums[name]
		fmt.Fprintf(all, "%s\x00%x\x00", name, sum)
	}
	return &Bundle{version: version, digest: "sha256:" + hex.EncodeToString(all.Sum(nil)), archives: archives}, nil
}

// Bounds of an archive, against one that was made to fill the memory. Istio's own charts are about 3 MB in 200 files.
const (
	maxArchive = 32 << 20
	maxFiles   = 5000
)

// walk calls visit for each regular file of a gzipped tar file.
func walk(archive []byte, visit func(path string, data []byte)) error {
	unzipped, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		return fmt.Errorf("not a gzipped archive: %w", err)
	}
	entries := tar.NewReader(io.LimitReader(unzipped, maxArchive))
	for count := 0; ; count++ {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the archive (larger than %d MiB, or damaged): %w", maxArchive>>20, err)
		}
		if count >= maxFiles {
			return fmt.Errorf("the archive has more than %d entries", maxFiles)
		}
		switch header.Typeflag {
		case tar.TypeDir, tar.TypeXGlobalHeader:
			continue
		case tar.TypeReg:
		default:
			return fmt.Errorf("the archive holds %q, which is no regular file", header.Name)
		}
		path := strings.TrimPrefix(header.Name, "./")
		if !fs.ValidPath(path) {
			return fmt.Errorf("the archive holds the path %q, which leaves it", header.Name)
		}
		data, err := io.ReadAll(entries)
		if err != nil {
			return fmt.Errorf("reading %q from the archive (larger than %d MiB, or damaged): %w", header.Name, maxArchive>>20, err)
		}
		visit(path, data)
	}
}
