// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// image is a docker-archive tarball with one uncompressed layer. The same files make the same bytes: entries are
// sorted, owned by root and dated 1970.
type image struct {
	// Tags are the names under which an engine will know the image.
	Tags []string
	// Entrypoint, User and Env are those of the image's configuration; PATH is always set.
	Entrypoint []string
	User       string
	Env        []string
	// Files by absolute path. Folders above them need not be named.
	Files map[string]imageFile

	identity func(path string) (string, error)
}

// imageFile is a copy of a host file, or a symbolic link, or an empty folder.
type imageFile struct {
	// From is the host file to copy.
	From string
	// Link is the target of a symbolic link.
	Link string
	// Mode are the permission bits of a file or folder.
	Mode int64
}

func program(from string) imageFile { return imageFile{From: from, Mode: 0o755} }
func link(target string) imageFile  { return imageFile{Link: target, Mode: 0o777} }
func folder(mode int64) imageFile   { return imageFile{Mode: mode} }

const imagePath = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func (i image) fingerprint(_ context.Context, w io.Writer) error {
	named := i
	named.Files = map[string]imageFile{}
	for at, f := range i.Files {
		if f.From != "" {
			id, err := i.identity(f.From)
			if err != nil {
				return err
			}
			f.From = id
		}
		named.Files[at] = f
	}
	return json.NewEncoder(w).Encode(named)
}

func (i image) make(_ context.Context, out string) error {
	img, err := i.build()
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	return errors.Join(writeArchive(f, img, i.Tags), f.Close())
}

// build is the image as a registry would know it.
func (i image) build() (v1.Image, error) {
	layer, err := newRawLayer(i.writeLayer)
	if err != nil {
		return nil, err
	}
	img, err := mutate.Append(empty.Image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: time.Unix(0, 0).UTC()}, CreatedBy: "meshwright e2e/cluster/artifact"},
	})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", "amd64"
	config.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	config.Config = v1.Config{Entrypoint: i.Entrypoint, User: i.User, Env: append([]string{imagePath}, i.Env...), WorkingDir: "/"}
	return mutate.ConfigFile(img, config)
}

// writeLayer writes the files as a tar stream.
func (i image) writeLayer(w io.Writer) error {
	files := map[string]imageFile{"/tmp": folder(0o1777)}
	maps.Copy(files, i.Files)
	for at := range files {
		for dir := path.Dir(at); dir != "/"; dir = path.Dir(dir) {
			if _, named := files[dir]; !named {
				files[dir] = folder(0o755)
			}
		}
	}
	names := make([]string, 0, len(files))
	for at := range files {
		names = append(names, at)
	}
	slices.Sort(names) // a folder sorts before what it holds
	t := tar.NewWriter(w)
	for _, at := range names {
		if err := writeEntry(t, strings.TrimPrefix(at, "/"), files[at]); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	return t.Close()
}

func writeEntry(t *tar.Writer, name string, f imageFile) error {
	header := &tar.Header{Name: name, Mode: f.Mode, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	switch {
	case f.Link != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, f.Link
		return t.WriteHeader(header)
	case f.From == "":
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
		return t.WriteHeader(header)
	}
	in, err := os.Open(f.From)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := t.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(t, in)
	return err
}

// rawLayer is a layer whose blob is the tar stream itself. Compressing it would cost seconds and gain nothing on a
// machine that unpacks it at once; tarball.LayerFromOpener always compresses.
type rawLayer struct {
	write func(io.Writer) error
	hash  v1.Hash
	size  int64
}

func newRawLayer(write func(io.Writer) error) (*rawLayer, error) {
	h := sha256.New()
	count := &countingWriter{w: h}
	if err := write(count); err != nil {
		return nil, err
	}
	return &rawLayer{write, v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}, count.n}, nil
}

func (l *rawLayer) Digest() (v1.Hash, error)            { return l.hash, nil }
func (l *rawLayer) DiffID() (v1.Hash, error)            { return l.hash, nil }
func (l *rawLayer) Size() (int64, error)                { return l.size, nil }
func (l *rawLayer) MediaType() (types.MediaType, error) { return types.DockerUncompressedLayer, nil }
func (l *rawLayer) Compressed() (io.ReadCloser, error)  { return l.Uncompressed() }
func (l *rawLayer) Uncompressed() (io.ReadCloser, error) {
	r, w := io.Pipe()
	go func() { w.CloseWithError(l.write(w)) }()
	return r, nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// writeArchive writes what `docker load` and `ctr images import` read. The tarball package would write the names of one
// image in the order of a map.
func writeArchive(w io.Writer, img v1.Image, tags []string) error {
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	id, err := img.ConfigName()
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	manifest := tarball.Descriptor{Config: id.Hex + ".json", RepoTags: tags}
	t := tar.NewWriter(w)
	for _, layer := range layers {
		digest, err := layer.Digest()
		if err != nil {
			return err
		}
		size, err := layer.Size()
		if err != nil {
			return err
		}
		content, err := layer.Compressed()
		if err != nil {
			return err
		}
		name := digest.Hex + ".tar"
		manifest.Layers = append(manifest.Layers, name)
		if err := errors.Join(writeMember(t, name, content, size), content.Close()); err != nil {
			return err
		}
	}
	if err := writeMember(t, manifest.Config, bytes.NewReader(config), int64(len(config))); err != nil {
		return err
	}
	list, err := json.Marshal(tarball.Manifest{manifest})
	if err != nil {
		return err
	}
	if err := writeMember(t, "manifest.json", bytes.NewReader(list), int64(len(list))); err != nil {
		return err
	}
	return t.Close()
}

func writeMember(t *tar.Writer, name string, content io.Reader, size int64) error {
	err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)})
	if err != nil {
		return err
	}
	_, err = io.Copy(t, content)
	return err
}

// Tags lists the names under which the image in a docker-archive tarball is known.
func Tags(path string) ([]string, error) {
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(path) })
	if err != nil {
		return nil, fmt.Errorf("%s is not an image archive: %w", path, err)
	}
	var tags []string
	for _, d := range manifest {
		tags = append(tags, d.RepoTags...)
	}
	return tags, nil
}
