// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Image is one image that a cluster with Meshwright needs.
type Image struct {
	// Component is meshwright or istio; Version is that of the component.
	Component string `json:"component"`
	Version   string `json:"version"`
	// Name within the component: meshwright or meshwright-bundle, pilot or proxyv2.
	Name string `json:"name"`
	// Repository is registry and path; Tag is what Version is called there.
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	// Digest is sha256: and 64 hexadecimal digits; empty when it was not asked for.
	Digest string `json:"digest,omitempty"`
}

// Reference names the image as an engine takes it, with its digest when that is known.
func (i Image) Reference() string {
	out := i.Repository + ":" + i.Tag
	if i.Digest != "" {
		out += "@" + i.Digest
	}
	return out
}

// purl is the package URL of the image.
func (i Image) purl() string {
	return fmt.Sprintf("pkg:oci/%s@%s?repository_url=%s&tag=%s", i.Name, url.QueryEscape(i.Digest), i.Repository, i.Tag)
}

// istioImages are the images of every Istio version in a library, by the names in its charts.
func istioImages(ctx context.Context, library *istio.Library) ([]Image, error) {
	var out []Image
	for _, v := range library.Versions() {
		bundle, err := library.Get(ctx, v.String())
		if err != nil {
			return nil, err
		}
		images, err := imagesOf(bundle)
		if err != nil {
			return nil, fmt.Errorf("images of Istio %s: %w", v, err)
		}
		out = append(out, images...)
	}
	if len(out) == 0 {
		return nil, errors.New("this build holds no charts of Istio: run make bundles")
	}
	return out, nil
}

// imagesOf reads the values of the chart istiod: it names the image of istiod itself, and that of the proxies and of their init containers.
func imagesOf(b *istio.Bundle) ([]Image, error) {
	files, err := b.Chart(istio.ChartIstiod)
	if err != nil {
		return nil, err
	}
	var values struct {
		Defaults struct {
			Image  string `json:"image"`
			Global struct {
				Hub   string `json:"hub"`
				Tag   string `json:"tag"`
				Proxy struct {
					Image string `json:"image"`
				} `json:"proxy"`
				ProxyInit struct {
					Image string `json:"image"`
				} `json:"proxy_init"`
			} `json:"global"`
		} `json:"_internal_defaults_do_not_set"`
	}
	for _, f := range files {
		if f.Name != "values.yaml" {
			continue
		}
		if err := yaml.Unmarshal(f.Data, &values); err != nil {
			return nil, err
		}
	}
	d := values.Defaults
	if d.Image != "pilot" || d.Global.Proxy.Image != "proxyv2" || d.Global.ProxyInit.Image != "proxyv2" || d.Global.Hub == "" || d.Global.Tag == "" {
		return nil, fmt.Errorf("the chart %s names other images than pilot and proxyv2, or no registry: %+v", istio.ChartIstiod, d)
	}
	image := func(of string) Image {
		return Image{Component: "istio", Version: b.Version(), Name: of, Repository: d.Global.Hub + "/" + of, Tag: d.Global.Tag}
	}
	return []Image{image(d.Image), image(d.Global.Proxy.Image)}, nil
}

// Rehome names where Istio's images are in a mirror: hub is registry and path, as spec.images.hub takes it. What is known of digests stays: a copy has the
// digest of what it was copied from.
func Rehome(images []Image, hub string) []Image {
	out := make([]Image, len(images))
	for n, i := range images {
		if i.Component == "istio" {
			i.Repository = strings.TrimSuffix(hub, "/") + "/" + i.Name
		}
		out[n] = i
	}
	return out
}

// Resolve asks registries for the digests that are not known. Credentials come in options; a tag that a registry does not have is an error.
func Resolve(ctx context.Context, images []Image, options ...remote.Option) ([]Image, error) {
	out := make([]Image, len(images))
	var failed []error
	for n, i := range images {
		out[n] = i
		if i.Digest != "" {
			continue
		}
		reference, err := name.ParseReference(i.Repository + ":" + i.Tag)
		if err != nil {
			return nil, err
		}
		// The manifest is fetched, not only asked for: its digest is then computed here.
		found, err := remote.Get(reference, append([]remote.Option{remote.WithContext(ctx)}, options...)...)
		if err != nil {
			failed = append(failed, fmt.Errorf("digest of %s: %w", reference, err))
			continue
		}
		out[n].Digest = found.Digest.String()
	}
	return out, errors.Join(failed...)
}

// Names of the two forms of the list of images.
const (
	imagesText = "images.txt"
	imagesJSON = "images.json"
)

// writeImages writes the list in both forms.
func writeImages(dir string, images []Image) error {
	text, err := FormatImages(images, "text")
	if err != nil {
		return err
	}
	list, err := FormatImages(images, "json")
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, imagesText), text, 0o644), os.WriteFile(filepath.Join(dir, imagesJSON), list, 0o644))
}

// ReadImages reads the list of a release.
func ReadImages(dir string) ([]Image, error) {
	text, err := os.ReadFile(filepath.Join(dir, imagesJSON))
	if err != nil {
		return nil, err
	}
	var list imageList
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", imagesJSON, err)
	}
	return list.Images, nil
}

// imageList is an object, so that it can get more fields.
type imageList struct {
	Images []Image `json:"images"`
}

// FormatImages writes a list as text (a reference a line), json, or spec: what spec.images of a MeshInstallation needs, for each version of Istio.
func FormatImages(images []Image, format string) ([]byte, error) {
	var out bytes.Buffer
	switch format {
	case "text":
		for _, i := range images {
			fmt.Fprintln(&out, i.Reference())
		}
		return out.Bytes(), nil
	case "json":
		encoder := json.NewEncoder(&out)
		encoder.SetIndent("", "  ")
		err := encoder.Encode(imageList{images})
		return out.Bytes(), err
	case "spec":
		return specs(images)
	}
	return nil, fmt.Errorf("format %q: want text, json or spec", format)
}

// specs are YAML documents, one for each version of Istio, oldest first.
func specs(images []Image) ([]byte, error) {
	var out bytes.Buffer
	var versions []string
	byVersion := map[string]*v1alpha1.Images{}
	for _, i := range images {
		if i.Component != "istio" {
			continue
		}
		if i.Digest == "" {
			return nil, fmt.Errorf("the digest of %s is not known: resolve it", i.Reference())
		}
		spec := byVersion[i.Version]
		if spec == nil {
			spec = &v1alpha1.Images{Hub: strings.TrimSuffix(i.Repository, "/"+i.Name), Digests: map[string]v1alpha1.ImageDigest{}}
			byVersion[i.Version] = spec
			versions = append(versions, i.Version)
		}
		spec.Digests[i.Name] = v1alpha1.ImageDigest(i.Digest)
	}
	for _, v := range versions {
		text, err := yaml.Marshal(map[string]any{"spec": map[string]any{"version": v, "images": byVersion[v]}})
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&out, "---\n%s", text)
	}
	return out.Bytes(), nil
}
