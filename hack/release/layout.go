// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Annotations of a descriptor: the tag, as the OCI layout has it, and the name that containerd gives what it imports.
const (
	annotationTag  = "org.opencontainers.image.ref.name"
	annotationName = "io.containerd.image.name"
)

func nameAnnotations(tag name.Tag) map[string]string {
	return map[string]string{annotationTag: tag.TagStr(), annotationName: tag.Name()}
}

// writeLayout writes the index and all that it names as an OCI layout.
func writeLayout(dir string, index v1.ImageIndex, tag name.Tag) error {
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendIndex(index, layout.WithAnnotations(nameAnnotations(tag)))
}

// readLayout is the index in a folder that writeLayout wrote.
func readLayout(dir string) (v1.ImageIndex, error) {
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	manifest, err := top.IndexManifest()
	if err != nil {
		return nil, err
	}
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].MediaType != types.OCIImageIndex {
		return nil, fmt.Errorf("%s: want one image of several platforms", dir)
	}
	return top.ImageIndex(manifest.Manifests[0].Digest)
}

// writeArchive writes what engines load, for one platform, in two forms that share their blobs: an OCI layout, whose index is that of all platforms so
// that a node knows the image by the digest in the manifests, and the manifest.json of docker save.
func writeArchive(file string, index v1.ImageIndex, img v1.Image, tag name.Tag, date time.Time) (err error) {
	blobs, docker, err := archiveBlobs(index, img, tag)
	if err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	top, err := json.Marshal(v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: types.OCIImageIndex, Digest: digest, Size: int64(len(blobs[digest])), Annotations: nameAnnotations(tag),
		}},
	})
	if err != nil {
		return err
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	t := tar.NewWriter(out)
	for _, blob := range slices.SortedFunc(maps.Keys(blobs), func(a, b v1.Hash) int { return strings.Compare(a.Hex, b.Hex) }) {
		if err := writeFile(t, blobName(blob), 0o644, blobs[blob], date); err != nil {
			return err
		}
	}
	for _, f := range []layerFile{
		{"index.json", 0o644, top}, {"manifest.json", 0o644, docker}, {"oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`)},
	} {
		if err := writeFile(t, f.path, f.mode, f.content, date); err != nil {
			return err
		}
	}
	return t.Close()
}

// archiveBlobs are the blobs of an image for one platform with the index above it, and docker's manifest.json.
func archiveBlobs(index v1.ImageIndex, img v1.Image, tag name.Tag) (blobs map[v1.Hash][]byte, docker []byte, err error) {
	blobs = map[v1.Hash][]byte{}
	add := func(raw func() ([]byte, error), digest func() (v1.Hash, error)) (string, error) {
		content, err := raw()
		if err != nil {
			return "", err
		}
		h, err := digest()
		if err != nil {
			return "", err
		}
		blobs[h] = content
		return blobName(h), nil
	}
	if _, err := add(index.RawManifest, index.Digest); err != nil {
		return nil, nil, err
	}
	if _, err := add(img.RawManifest, img.Digest); err != nil {
		return nil, nil, err
	}
	config, err := add(img.RawConfigFile, img.ConfigName)
	if err != nil {
		return nil, nil, err
	}
	list := tarball.Descriptor{Config: config, RepoTags: []string{tag.Name()}}
	layers, err := img.Layers()
	if err != nil {
		return nil, nil, err
	}
	for _, layer := range layers {
		at, err := add(func() ([]byte, error) {
			content, err := layer.Compressed()
			if err != nil {
				return nil, err
			}
			defer content.Close()
			return io.ReadAll(content)
		}, layer.Digest)
		if err != nil {
			return nil, nil, err
		}
		list.Layers = append(list.Layers, at)
	}
	docker, err = json.Marshal(tarball.Manifest{list})
	return blobs, docker, err
}

func blobName(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }
