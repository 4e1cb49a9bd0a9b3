// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Images that are made here.
const (
	operatorName = "meshwright"
	bundleName   = "meshwright-bundle" // where the catalogue says that it is: see hack/packaging
)

// layoutDir is the folder of a release that holds an image for all platforms.
func layoutDir(release, image string) string { return filepath.Join(release, "images", image) }

// Push brings the images of a release to a registry: registry is what comes before the names of images. It returns the references by digest, which are
// the same in every registry. Pushing again changes nothing.
func Push(ctx context.Context, dir, registry string, options ...remote.Option) (references []string, err error) {
	images, err := ReadImages(dir)
	if err != nil {
		return nil, err
	}
	for _, i := range images {
		if i.Component != operatorName {
			continue
		}
		reference, err := pushImage(ctx, dir, registry, i, options)
		if err != nil {
			return nil, err
		}
		references = append(references, reference)
	}
	return references, nil
}

func pushImage(ctx context.Context, dir, registry string, i Image, options []remote.Option) (string, error) {
	tag, err := imageTag(registry, i.Name, i.Version)
	if err != nil {
		return "", err
	}
	index, err := readLayout(layoutDir(dir, i.Name))
	if err != nil {
		return "", err
	}
	digest, err := index.Digest()
	if err != nil {
		return "", err
	}
	if digest.String() != i.Digest {
		return "", fmt.Errorf("the image %s of the release is %s, but %s lists %s", i.Name, digest, imagesJSON, i.Digest)
	}
	if err := remote.WriteIndex(tag, index, append([]remote.Option{remote.WithContext(ctx)}, options...)...); err != nil {
		return "", fmt.Errorf("pushing %s: %w", tag, err)
	}
	return tag.Context().Digest(i.Digest).String(), nil
}

// imageTag is what an image of a version is called.
func imageTag(registry, image, version string) (name.Tag, error) {
	return name.NewTag(registry+"/"+image+":v"+version, name.StrictValidation)
}
