// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/meshwright/meshwright/bundles/istio"
)

// image is a reference taken apart.
type image struct{ repository, tag, digest string }

func parseImage(reference string) (image, error) {
	var out image
	rest, digest, _ := strings.Cut(reference, "@")
	out.repository, out.digest = rest, digest
	if i := strings.LastIndex(rest, ":"); i > strings.LastIndex(rest, "/") {
		out.repository, out.tag = rest[:i], rest[i+1:]
	}
	if out.repository == "" || out.tag == "" && out.digest == "" {
		return out, fmt.Errorf("IMAGE %q: %s", reference, wantDigest)
	}
	return out, nil
}

const wantDigest = "want the operator's image by digest, such as registry.example.com/mesh/meshwright@sha256:…"

var digestForm = regexp.MustCompile("^sha256:[0-9a-f]{64}$")

// pinned refuses an image that may be another one tomorrow. The one that is built from the source tree for tests has no digest before it is built.
func (i image) pinned(reference string) error {
	if reference == DevelopmentImage || digestForm.MatchString(i.digest) {
		return nil
	}
	return fmt.Errorf("IMAGE %q: %s: the digest of a tag is printed by crane digest, and by skopeo inspect --format {{.Digest}}", reference, wantDigest)
}

// istioImages reads from a list of images (as JSON, see hack/release) those that a mesh of each version in the operator pulls, by digest.
func istioImages(ctx context.Context, file string) ([]namedImage, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("IMAGES: %w", err)
	}
	var list struct {
		Images []struct {
			Component  string `json:"component"`
			Version    string `json:"version"`
			Name       string `json:"name"`
			Repository string `json:"repository"`
			Digest     string `json:"digest"`
		} `json:"images"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("IMAGES: %s is no list of images as JSON: %w", file, err)
	}
	digests := map[[2]string]string{}
	for _, i := range list.Images {
		if i.Component == "istio" && digestForm.MatchString(i.Digest) {
			digests[[2]string{i.Version, i.Name}] = i.Repository + "@" + i.Digest
		}
	}
	library, err := istio.Open(ctx, istio.Builtin())
	if err != nil {
		return nil, err
	}
	var out []namedImage
	for _, v := range library.Versions() {
		for _, name := range []string{"pilot", "proxyv2"} {
			reference := digests[[2]string{v.String(), name}]
			if reference == "" {
				return nil, fmt.Errorf("IMAGES: %s has no digest for %s of Istio %s: have it written by release images --resolve --format json", file, name, v)
			}
			out = append(out, namedImage{fmt.Sprintf("istio-%s-%s", v, name), reference})
		}
	}
	if len(out) == 0 {
		return nil, errors.New("this build holds no charts of Istio: run make bundles")
	}
	return out, nil
}
