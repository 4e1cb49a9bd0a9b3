// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/hack/packaging"
)

// Options of a release.
type Options struct {
	// Root of the checkout.
	Root string
	// Out is the folder that gets a folder named by the version.
	Out string
	// Version, such as 0.1.0; Previous is the version that this one replaces, and Catalogue the catalog.yaml that holds it: both are empty for the first.
	Version, Previous, Catalogue string
	// Registry is what comes before /meshwright in the name of the operator's image.
	Registry string
	// Downloads is the address below which the archives of the plugin will be.
	Downloads string
	// Epoch is the date of everything, in seconds since 1970; empty for that of the commit.
	Epoch string
	// SignKey is the file with the private key that signs the sums; empty for no signature.
	SignKey string
	// Resolve asks registries for the digests of Istio's images, which OLM's bundle then names.
	Resolve bool
}

// Progress is told what happens: see [github.com/meshwright/meshwright/e2e/cluster/artifact.Progress].
type Progress interface {
	Say(line string)
	Begin(what string, expect time.Duration) (end func(error))
}

// Build makes a release and returns its folder. When it fails there is no such folder, or the one that was there before.
func Build(ctx context.Context, o Options, progress Progress) (string, error) {
	b := builder{Options: o, progress: progress, operator: operator, plugin: plugin, manifests: packaging.Write}
	return b.build(ctx)
}

// builder makes one release of two programs.
type builder struct {
	Options

	progress         Progress
	operator, plugin program
	manifests        func(context.Context, string, packaging.Options) error

	source source
	signer crypto.Signer
	// dir is the release before it has its name; work holds what does not belong to it.
	dir, work string
	// ours are the images that were made, istio those that the charts name.
	ours, istio []Image
}

func (b *builder) build(ctx context.Context) (final string, err error) {
	if err := b.prepare(ctx); err != nil {
		return "", err
	}
	if err := os.MkdirAll(b.Out, 0o755); err != nil { //nolint:gosec // a release is for everybody to read
		return "", err
	}
	final = filepath.Join(b.Out, b.Version)
	if err := replaceable(final); err != nil {
		return "", err
	}
	// Beside its last place, for a rename to be one step.
	if b.dir, err = os.MkdirTemp(b.Out, "."+b.Version+"-"); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.work, err = os.MkdirTemp("", "meshwright-release"); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()
	if err := os.Chmod(b.dir, 0o755); err != nil { //nolint:gosec // the same
		return "", err
	}
	if err := b.fill(ctx); err != nil {
		return "", err
	}
	return final, b.publish(final)
}

// prepare refuses what can't end well before minutes are spent on it.
func (b *builder) prepare(ctx context.Context) error {
	v, err := parseVersion(b.Version)
	if err != nil {
		return err
	}
	if b.Previous != "" {
		before, err := parseVersion(b.Previous)
		if err != nil {
			return err
		}
		if !before.LessThan(v) {
			return fmt.Errorf("version %s does not come after %s", v, before)
		}
	}
	if err := packaging.CheckCatalogue(b.Version, b.Previous, b.Catalogue); err != nil {
		return err
	}
	if _, err := imageTag(b.Registry, operatorName, b.Version); err != nil {
		return err
	}
	if b.SignKey != "" {
		if b.signer, err = readSigner(b.SignKey); err != nil {
			return err
		}
	}
	if b.source, err = readSource(ctx, b.Root, b.Epoch); err != nil {
		return err
	}
	return b.source.check(v)
}

// fill makes everything that a release is.
func (b *builder) fill(ctx context.Context) error {
	b.progress.Say(fmt.Sprintf("Meshwright %s from commit %s, dated %s", b.Version, b.source.revision(), b.source.date.Format(time.RFC3339)))
	library, err := istio.Open(ctx, istio.Builtin())
	if err != nil {
		return err
	}
	if err := b.findIstio(ctx, library); err != nil {
		return err
	}
	operators, err := b.link(ctx, b.operator)
	if err != nil {
		return err
	}
	plugins, err := b.link(ctx, b.plugin)
	if err != nil {
		return err
	}
	var reference string
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"image of " + b.operator.name, func() (err error) { reference, err = b.operatorImage(operators); return err }},
		{"archives of " + b.plugin.name, func() error { return b.archives(plugins) }},
		{"lists of what is inside", func() error { return b.inventories(ctx, library, operators, plugins) }},
		{"manifests, chart and bundle", func() error { return b.packages(ctx, reference) }},
		{"image of the bundle", b.bundleImage},
		{"list of images", func() error { return writeImages(b.dir, slices.Concat(b.ours, b.istio)) }},
		{"sums", b.seal},
	} {
		end := b.progress.Begin(step.what, 0)
		err := step.do()
		end(err)
		if err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// findIstio lists the images of Istio, with their digests when they are asked for.
func (b *builder) findIstio(ctx context.Context, library *istio.Library) (err error) {
	if b.istio, err = istioImages(ctx, library); err != nil || !b.Resolve {
		return err
	}
	end := b.progress.Begin("digests of Istio's images", 0)
	b.istio, err = Resolve(ctx, b.istio, Credentials()...)
	end(err)
	return err
}

// packages writes all ways of installing the operator's image.
func (b *builder) packages(ctx context.Context, reference string) error {
	o := packaging.Options{Root: b.Root, Version: b.Version, Image: reference, Previous: b.Previous, Catalogue: b.Catalogue}
	if b.Resolve {
		if err := writeImages(b.work, b.istio); err != nil {
			return err
		}
		o.Images = filepath.Join(b.work, imagesJSON)
	}
	return b.manifests(ctx, b.dir, o)
}

// link makes a program for all its platforms.
func (b *builder) link(ctx context.Context, p program) ([]binary, error) {
	var out []binary
	for _, on := range p.platforms {
		end := b.progress.Begin(fmt.Sprintf("%s for %s", p.name, on), 0)
		made := binary{p, on, binaryPath(b.work, p, on)}
		err := p.link(ctx, b.Root, on, b.Version, made.path)
		end(err)
		if err != nil {
			return nil, err
		}
		out = append(out, made)
	}
	return out, nil
}

func (b *builder) license() string { return filepath.Join(b.Root, "LICENSE") }

// operatorImage puts the operator into images and returns the reference of all of them together, by digest.
func (b *builder) operatorImage(operators []binary) (string, error) {
	labels := imageLabels(operatorName, b.Version, b.source)
	images := map[platform]v1.Image{}
	for _, o := range operators {
		var err error
		if images[o.platform], err = operatorImage(o, b.license(), labels, b.source.date); err != nil {
			return "", err
		}
	}
	index := indexOf(images, labels)
	tag, digest, err := b.keepImage(operatorName, index)
	if err != nil {
		return "", err
	}
	for on, img := range images {
		if err := writeArchive(imageArchive(b.dir, b.Version, on), index, img, tag, b.source.date); err != nil {
			return "", err
		}
	}
	return tag.Context().Digest(digest).String(), nil
}

// bundleImage puts OLM's bundle into an image.
func (b *builder) bundleImage() error {
	labels := imageLabels(bundleName, b.Version, b.source)
	images := map[platform]v1.Image{}
	for _, on := range b.operator.platforms {
		var err error
		if images[on], err = bundleImage(on, filepath.Join(b.dir, "olm", "bundle"), labels, b.source.date); err != nil {
			return err
		}
	}
	_, _, err := b.keepImage(bundleName, indexOf(images, labels))
	return err
}

// keepImage writes an image into the release, and remembers it for the list.
func (b *builder) keepImage(image string, index v1.ImageIndex) (tag name.Tag, digest string, err error) {
	if tag, err = imageTag(b.Registry, image, b.Version); err != nil {
		return tag, "", err
	}
	if err := writeLayout(layoutDir(b.dir, image), index, tag); err != nil {
		return tag, "", err
	}
	h, err := index.Digest()
	if err != nil {
		return tag, "", err
	}
	b.ours = append(b.ours, Image{
		Component: operatorName, Version: b.Version, Name: image, Repository: tag.Context().Name(), Tag: tag.TagStr(), Digest: h.String(),
	})
	return tag, h.String(), nil
}

// archives packs the plugin, and writes the manifest by which krew installs it.
func (b *builder) archives(plugins []binary) error {
	var all []archive
	for _, p := range plugins {
		a, err := pack(b.dir, b.Version, p, b.license(), b.source.date)
		if err != nil {
			return err
		}
		all = append(all, a)
	}
	return writeKrew(filepath.Join(b.dir, "mesh.yaml"), b.Version, strings.TrimSuffix(b.Downloads, "/")+"/v"+b.Version, all)
}

// inventories writes the SBOMs of the operator's image and of the plugin.
func (b *builder) inventories(ctx context.Context, library *istio.Library, operators, plugins []binary) error {
	charts, err := readCharts(b.Root, library)
	if err != nil {
		return err
	}
	roots, err := readRootsModule(ctx, b.Root)
	if err != nil {
		return err
	}
	ours := b.ours[0]
	for _, in := range []inventory{
		{
			product: b.operator.name, purl: ours.purl(),
			binaries: operators, roots: roots,
		},
		{product: b.plugin.name, binaries: plugins},
	} {
		in.version, in.source = b.Version, b.source
		embeds, err := in.binaries[0].program.imports(ctx, b.Root, module+"/bundles/istio")
		if err != nil {
			return err
		}
		if embeds {
			in.charts = charts
		}
		if err := writeSBOM(filepath.Join(b.dir, in.product+"-"+b.Version+".spdx.json"), in); err != nil {
			return err
		}
	}
	return nil
}

var istioRequired = regexp.MustCompile(`(?m)^(?:require )?\s*istio\.io/istio (v\S+)`)

// readCharts finds, for each version in the library, the archive that programs embed and the module that it was made from.
func readCharts(root string, library *istio.Library) ([]chart, error) {
	var out []chart
	for _, v := range library.Versions() {
		gomod, err := os.ReadFile(filepath.Join(root, "bundles", "istio", "modules", "istio-"+v.String(), "go.mod"))
		if err != nil {
			return nil, err
		}
		m := istioRequired.FindSubmatch(gomod)
		if m == nil {
			return nil, fmt.Errorf("the module of Istio %s does not require istio.io/istio", v)
		}
		out = append(out, chart{
			version: v.String(), module: string(m[1]), archive: filepath.Join(root, "bundles", "istio", "builtin", "istio-"+v.String()+".tgz"),
		})
	}
	return out, nil
}

// seal writes the sums of all files, and signs them where there is a key.
func (b *builder) seal() error {
	if err := writeSums(b.dir); err != nil {
		return err
	}
	if b.signer == nil {
		return nil
	}
	return sign(b.dir, b.signer)
}

// replaceable refuses to replace a folder that no release made.
func replaceable(final string) error {
	if _, err := os.Lstat(final); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(filepath.Join(final, sumsName)); err != nil {
		return fmt.Errorf("%s is there, and is no release: remove it", final)
	}
	return nil
}

// publish gives the release its name. One of the same version that was there goes, and comes back if the new one can't take its place.
func (b *builder) publish(final string) error {
	old := b.dir + "-old"
	err := os.Rename(final, old)
	if errors.Is(err, os.ErrNotExist) {
		return os.Rename(b.dir, final)
	}
	if err != nil {
		return err
	}
	if err := os.Rename(b.dir, final); err != nil {
		return errors.Join(err, os.Rename(old, final))
	}
	return os.RemoveAll(old)
}

// Credentials lets requests use what docker login has stored.
func Credentials() []remote.Option {
	return []remote.Option{remote.WithAuthFromKeychain(authn.DefaultKeychain)}
}
