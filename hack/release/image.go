// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// nobody runs the operator; the number is the one that distroless images call nonroot, and that config/manager asks for.
const nobody = "65532:65532"

// rootsFile is the first place where Go looks for the authorities that it trusts.
const rootsFile = "/etc/ssl/certs/ca-certificates.crt"

// operatorImage is the image of the operator for one platform: the program, the public authorities, a licence, and neither shell nor libraries.
func operatorImage(b binary, license string, labels map[string]string, date time.Time) (v1.Image, error) {
	at := "/usr/local/bin/" + b.program.name
	executable, err := os.ReadFile(b.path)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(license)
	if err != nil {
		return nil, err
	}
	return newImage(b.platform, []layerFile{
		{at, 0o755, executable},
		{rootsFile, 0o644, publicRoots()},
		{"/licenses/LICENSE", 0o644, text},
	}, v1.Config{
		Entrypoint: []string{at}, User: nobody, WorkingDir: "/", Labels: labels,
		Env: []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}, date)
}

// bundleImage is the image that OLM unpacks: the folders of a bundle, and its annotations as labels. Nothing in it runs, but engines ask for their own
// platform.
func bundleImage(on platform, dir string, labels map[string]string, date time.Time) (v1.Image, error) {
	text, err := os.ReadFile(filepath.Join(dir, "metadata", "annotations.yaml"))
	if err != nil {
		return nil, err
	}
	var metadata struct {
		Annotations map[string]string `json:"annotations"`
	}
	if err := yaml.Unmarshal(text, &metadata); err != nil {
		return nil, err
	}
	all := maps.Clone(labels)
	maps.Copy(all, metadata.Annotations)
	root := os.DirFS(dir)
	var files []layerFile
	err = fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, path)
		files = append(files, layerFile{"/" + path, 0o644, content})
		return err
	})
	if err != nil {
		return nil, err
	}
	return newImage(on, files, v1.Config{Labels: all}, date)
}

// newImage is an image of one layer.
func newImage(on platform, files []layerFile, run v1.Config, date time.Time) (v1.Image, error) {
	content, err := layerTar(files, date)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	img, err := mutate.Append(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), mutate.Addendum{
		Layer: layer, History: v1.History{Created: v1.Time{Time: date}, CreatedBy: module + "/hack/release"},
	})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created, config.Config = on.os, on.arch, v1.Time{Time: date}, run
	return mutate.ConfigFile(img, config)
}

// publicRoots are the authorities that browsers trust, as PEM, from a module whose sum Go verifies: what is on the machine that makes the release
// does not matter. Those that are trusted under conditions which a file can't say are left out.
func publicRoots() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes everything
	}
	return out.Bytes()
}

type layerFile struct {
	path    string
	mode    int64
	content []byte
}

// layerTar is a layer with files and the folders above them, all owned by root, and a folder /tmp for everybody.
func layerTar(files []layerFile, date time.Time) ([]byte, error) {
	folders := map[string]int64{"/tmp": 0o1777}
	for _, f := range files {
		for dir := path.Dir(f.path); dir != "/"; dir = path.Dir(dir) {
			folders[dir] = 0o755
		}
	}
	var out bytes.Buffer
	t := tar.NewWriter(&out)
	for _, dir := range slices.Sorted(maps.Keys(folders)) {
		err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: folders[dir], ModTime: date})
		if err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		if err := writeFile(t, strings.TrimPrefix(f.path, "/"), f.mode, f.content, date); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func writeFile(t *tar.Writer, name string, mode int64, content []byte, date time.Time) error {
	err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: date})
	if err != nil {
		return err
	}
	_, err = t.Write(content)
	return err
}

// indexOf puts the images of all platforms under one digest.
func indexOf(images map[platform]v1.Image, annotations map[string]string) v1.ImageIndex {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, on := range slices.SortedFunc(maps.Keys(images), func(a, b platform) int { return strings.Compare(a.String(), b.String()) }) {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: images[on], Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: on.os, Architecture: on.arch}},
		})
	}
	return mutate.Annotations(index, annotations).(v1.ImageIndex) //nolint:forcetypeassert // an index in, an index out
}

// imageLabels say what an image is, in the words of the OCI image specification.
func imageLabels(title, version string, s source) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":         title,
		"org.opencontainers.image.description":   "Istio lifecycle operator",
		"org.opencontainers.image.version":       version,
		"org.opencontainers.image.revision":      s.revision(),
		"org.opencontainers.image.created":       s.date.Format(time.RFC3339),
		"org.opencontainers.image.source":        "https://" + module,
		"org.opencontainers.image.documentation": v1alpha1.DocsURL,
		"org.opencontainers.image.licenses":      "Apache-2.0",
	}
}

// imageArchive is the name of the file with the image for one platform.
func imageArchive(dir, version string, on platform) string {
	return filepath.Join(dir, fmt.Sprintf("meshwright-%s-image-%s.tar", version, on.suffix()))
}
