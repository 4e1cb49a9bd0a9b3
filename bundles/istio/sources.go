// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package istio

import (
	"context"
	"embed"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Source is where bundles come from. The kinds are [Builtin], [Folder] and [OCI].
type Source interface {
	// index says for each version that the source holds how it is loaded.
	index(context.Context) (map[string]load, error)
}

type load func(context.Context) (*Bundle, error)

// Sources are the bundles of this build, then those of folders and of registries, where the credentials of the user's configuration are used: a user's own of the
// same version win.
func Sources(folders, registries []string) []Source {
	out := []Source{Builtin()}
	for _, folder := range folders {
		out = append(out, Folder(folder))
	}
	for _, registry := range registries {
		out = append(out, OCI(registry, remote.WithAuthFromKeychain(authn.DefaultKeychain)))
	}
	return out
}

//go:embed all:builtin
var embedded embed.FS

// Builtin is the source of the bundles that this build embeds.
func Builtin() Source { return builtin{} }

type builtin struct{}

func (builtin) index(context.Context) (map[string]load, error) {
	entries, err := embedded.ReadDir("builtin")
	if err != nil {
		return nil, err
	}
	out := map[string]load{}
	for _, e := range entries {
		m := bundleFile.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		out[m[1]] = func(context.Context) (*Bundle, error) {
			archive, err := embedded.ReadFile(path.Join("builtin", e.Name()))
			if err != nil {
				return nil, err
			}
			return newBundle(m[1], archive)
		}
	}
	return out, nil
}

var (
	bundleFile = regexp.MustCompile(`^istio-([0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.-]+)?)\.tgz$`)
	chartFile  = regexp.MustCompile(`^(base|istiod|gateway|default|cni|ztunnel)-([0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.-]+)?)\.tgz$`)
)

// published are the charts of one version that a mesh needs at least.
var published = []string{ChartBase, ChartIstiod, ChartGateway}

// Folder is the source of the bundles in a folder: archives istio-<version>.tgz whose top folders are charts, or charts
// as Istio publishes them: base-<version>.tgz, istiod-<version>.tgz, gateway-<version>.tgz and more.
func Folder(dir string) Source { return folder(dir) }

type folder string

func (f folder) index(context.Context) (map[string]load, error) {
	entries, err := os.ReadDir(string(f))
	if err != nil {
		return nil, fmt.Errorf("folder of bundles: %w", err)
	}
	files := map[string][]string{}
	charts := map[string]map[string]bool{}
	for _, e := range entries {
		full := filepath.Join(string(f), e.Name())
		if m := bundleFile.FindStringSubmatch(e.Name()); m != nil {
			files[m[1]] = []string{full}
			charts[m[1]] = map[string]bool{ChartBase: true, ChartIstiod: true, ChartGateway: true}
		} else if m := chartFile.FindStringSubmatch(e.Name()); m != nil {
			if charts[m[2]] == nil {
				charts[m[2]] = map[string]bool{}
			}
			files[m[2]] = append(files[m[2]], full)
			charts[m[2]][m[1]] = true
		}
	}
	out := map[string]load{}
	for version, paths := range files {
		for _, chart := range published {
			if !charts[version][chart] {
				return nil, fmt.Errorf("folder of bundles %s: Istio %s lacks %s-%s.tgz", string(f), version, chart, version)
			}
		}
		out[version] = func(context.Context) (*Bundle, error) {
			archives := make([][]byte, len(paths))
			for i, p := range paths {
				if archives[i], err = readLimited(p); err != nil {
					return nil, err
				}
			}
			return newBundle(version, archives...)
		}
	}
	return out, nil
}

func readLimited(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return limited(f, file)
}

func limited(r io.Reader, what string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxArchive+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	if len(data) > maxArchive {
		return nil, fmt.Errorf("%s is larger than %d MiB", what, maxArchive>>20)
	}
	return data, nil
}

// OCI is the source of the charts of a registry: repository/base, repository/istiod, repository/gateway, each tagged
// with Istio's version. The repository is written with or without oci:// before it.
func OCI(repository string, options ...remote.Option) Source {
	return oci{repository: strings.TrimSuffix(strings.TrimPrefix(repository, "oci://"), "/"), options: options}
}

type oci struct {
	repository string
	options    []remote.Option
}

var tagged = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)

func (o oci) index(ctx context.Context) (map[string]load, error) {
	base, err := name.NewRepository(o.repository + "/" + ChartBase)
	if err != nil {
		return nil, fmt.Errorf("OCI repository of bundles %q: %w", o.repository, err)
	}
	tags, err := remote.List(base, append(o.options, remote.WithContext(ctx))...)
	if err != nil {
		return nil, fmt.Errorf("listing the versions in %s: %w", base, err)
	}
	out := map[string]load{}
	for _, version := range tags {
		if !tagged.MatchString(version) {
			continue
		}
		out[version] = func(ctx context.Context) (*Bundle, error) {
			var archives [][]byte
			for _, chart := range published {
				archive, err := o.pull(ctx, chart, version)
				if err != nil {
					return nil, err
				}
				archives = append(archives, archive)
			}
			return newBundle(version, archives...)
		}
	}
	return out, nil
}

// chartLayer is the media type of a chart's archive in a registry, as Helm defines it.
const chartLayer types.MediaType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

func (o oci) pull(ctx context.Context, chart, version string) ([]byte, error) {
	reference, err := name.ParseReference(o.repository + "/" + chart + ":" + version)
	if err != nil {
		return nil, err
	}
	image, err := remote.Image(reference, append(o.options, remote.WithContext(ctx))...)
	if err != nil {
		return nil, fmt.Errorf("pulling chart %s: %w", reference, err)
	}
	layers, err := image.Layers()
	if err != nil {
		return nil, fmt.Errorf("pulling chart %s: %w", reference, err)
	}
	for _, layer := range layers {
		mediaType, err := layer.MediaType()
		if err != nil || mediaType != chartLayer {
			continue
		}
		blob, err := layer.Compressed() // verified against the digest in the manifest while it is read
		if err != nil {
			return nil, fmt.Errorf("pulling chart %s: %w", reference, err)
		}
		defer blob.Close()
		return limited(blob, reference.String())
	}
	return nil, fmt.Errorf("%s is no Helm chart: it has no layer of type %s", reference, chartLayer)
}
