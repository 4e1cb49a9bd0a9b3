// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package olm checks OLM's bundle and catalogue with OLM's own code, whose dependencies are kept out of the module that users get.
package olm

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/operator-framework/api/pkg/manifests"
	"github.com/operator-framework/api/pkg/operators/v1alpha1"
	"github.com/operator-framework/api/pkg/validation"
	interfaces "github.com/operator-framework/api/pkg/validation/interfaces"
	"github.com/operator-framework/operator-registry/alpha/declcfg"
	"github.com/operator-framework/operator-registry/alpha/model"
	"github.com/operator-framework/operator-registry/alpha/property"
	registrybundle "github.com/operator-framework/operator-registry/pkg/lib/bundle"
	"github.com/sirupsen/logrus"
	"sigs.k8s.io/yaml"
)

const root = "../../.."

// bundleDir is the committed bundle.
var bundleDir = filepath.Join(root, "bundles", "olm", "bundle")

// known are warnings that are meant.
var known = []struct{ says, reason string }{
	{"CSV contains permissions to create CRD", "Istio's CRDs are installed with the mesh, by its version"},
	{"should have an example annotation", "MeshRevision, MeshRollout and MeshRotation are made by the operator"},
}

// validators are those of operator-sdk bundle validate, with the optional suites, but for the one that pulls the image.
var validators = interfaces.Validators{
	validation.BundleValidator, validation.ClusterServiceVersionValidator, validation.CustomResourceDefinitionValidator, validation.ObjectValidator,
	validation.OperatorHubV2Validator, validation.StandardCapabilitiesValidator, validation.StandardCategoriesValidator,
	validation.GoodPracticesValidator, validation.AlphaDeprecatedAPIsValidator,
}

func bundle(t *testing.T, dir string) *manifests.Bundle {
	t.Helper()
	b, err := manifests.GetBundleFromDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The validators find no error, and no warning but those that are meant.
func TestValidators(t *testing.T) {
	b := bundle(t, bundleDir)
	if len(b.V1CRDs) == 0 || len(b.Objects) < 10 {
		t.Fatalf("the bundle holds %d CRDs of %d objects", len(b.V1CRDs), len(b.Objects))
	}
	said := map[string]bool{}
	for _, result := range validators.Validate(b, b.CSV, map[string]string{"k8s-version": "1.36"}) {
		for _, err := range result.Errors {
			t.Error(err)
		}
		for _, warning := range result.Warnings {
			i := slices.IndexFunc(known, func(k struct{ says, reason string }) bool { return strings.Contains(warning.Error(), k.says) })
			if i < 0 {
				t.Error(warning)
				continue
			}
			said[known[i].says] = true
		}
	}
	for _, k := range known {
		if !said[k.says] {
			t.Errorf("no validator warns of %q any more: take it from the list", k.says)
		}
	}
}

// Layout, annotations and kinds are those of registry+v1, as opm checks them before it makes an image.
func TestFormat(t *testing.T) {
	logger := logrus.NewEntry(logrus.New())
	validator := registrybundle.NewImageValidator(nil, logger)
	if err := validator.ValidateBundleFormat(bundleDir); err != nil {
		t.Error(err)
	}
	if err := validator.ValidateBundleContent(filepath.Join(bundleDir, "manifests")); err != nil {
		t.Error(err)
	}
}

// Each field of the CSV is one that OLM knows.
func TestNoUnknownField(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(bundleDir, "manifests", "meshwright.clusterserviceversion.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(raw, &v1alpha1.ClusterServiceVersion{}); err != nil {
		t.Error(err)
	}
}

// The catalogue is one that opm serves, and what it says of the newest bundle is what opm would read from it: the committed one, and those of
// versions that come after it, whose catalogues hold all that were there before.
func TestCatalogue(t *testing.T) {
	committed := filepath.Join(root, "bundles", "olm")
	second := write(t, "0.2.0", "0.1.0", committed)
	candidate := write(t, "0.3.0-rc.1", "0.2.0", second)
	third := write(t, "0.3.0", "0.3.0-rc.1", candidate)
	for _, tc := range []struct {
		reason, dir string
		channels    []string          // that the newest bundle is in
		heads       map[string]string // and what they replace
		all         []string          // bundles
	}{
		{"what is committed, the first one", committed, []string{"candidate", "stable"}, map[string]string{"candidate": "v0.1.0", "stable": "v0.1.0"}, []string{"v0.1.0"}},
		{
			"its successor", second, []string{"candidate", "stable"},
			map[string]string{"candidate": "v0.2.0 for v0.1.0", "stable": "v0.2.0 for v0.1.0"}, []string{"v0.1.0", "v0.2.0"},
		},
		{
			"a candidate, of which stable hears nothing", candidate, []string{"candidate"},
			map[string]string{"candidate": "v0.3.0-rc.1 for v0.2.0", "stable": "v0.2.0 for v0.1.0"}, []string{"v0.1.0", "v0.2.0", "v0.3.0-rc.1"},
		},
		{
			"what was a candidate", third, []string{"candidate", "stable"},
			map[string]string{"candidate": "v0.3.0 for v0.3.0-rc.1", "stable": "v0.3.0 for v0.2.0"}, []string{"v0.1.0", "v0.2.0", "v0.3.0-rc.1", "v0.3.0"},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			catalogue, err := declcfg.LoadFS(t.Context(), os.DirFS(filepath.Join(tc.dir, "catalogue")))
			if err != nil {
				t.Fatal(err)
			}
			packages, err := declcfg.ConvertToModel(*catalogue)
			if err != nil {
				t.Fatal(err)
			}
			if err := packages.Validate(); err != nil {
				t.Error(err)
			}
			b := bundle(t, filepath.Join(tc.dir, "bundle"))
			if diff := cmp.Diff(tc.channels, b.Channels); diff != "" || b.DefaultChannel != "stable" || packages["meshwright"].DefaultChannel.Name != "stable" {
				t.Errorf("%s by default, channels of the bundle (-want +got):\n%s", b.DefaultChannel, diff)
			}
			if diff := cmp.Diff(tc.heads, heads(t, packages["meshwright"])); diff != "" {
				t.Errorf("where channels lead to (-want +got):\n%s", diff)
			}
			var all []string
			for _, there := range catalogue.Bundles {
				all = append(all, short(there.Name))
			}
			if diff := cmp.Diff(tc.all, all); diff != "" {
				t.Errorf("bundles (-want +got):\n%s", diff)
			}
			newest := catalogue.Bundles[len(catalogue.Bundles)-1]
			if newest.Name != b.CSV.Name {
				t.Fatalf("the newest bundle is %s, and its CSV %s", newest.Name, b.CSV.Name)
			}
			want := property.MustBuildCSVMetadata(*b.CSV)
			i := slices.IndexFunc(newest.Properties, func(p property.Property) bool { return p.Type == want.Type })
			if i < 0 {
				t.Fatalf("the bundle has no property %s", want.Type)
			}
			if diff := cmp.Diff(decode(t, want.Value), decode(t, newest.Properties[i].Value)); diff != "" {
				t.Errorf("%s (-bundle +catalogue):\n%s", want.Type, diff)
			}
		})
	}
}

// heads says of each channel which version it leads to, and for which one that comes.
func heads(t *testing.T, pkg *model.Package) map[string]string {
	t.Helper()
	out := map[string]string{}
	for name, channel := range pkg.Channels {
		head, err := channel.Head()
		if err != nil {
			t.Fatal(err)
		}
		out[name] = short(head.Name)
		if head.Replaces != "" {
			out[name] += " for " + short(head.Replaces)
		}
		if version := head.Name[len("meshwright.v"):]; head.SkipRange != ">=0.0.0-0 <"+version {
			t.Errorf("%s of channel %s skips %q", head.Name, name, head.SkipRange)
		}
	}
	return out
}

func short(name string) string { return strings.TrimPrefix(name, "meshwright.") }

// A bundle whose meshes' images are known passes the validators as the committed one does.
func TestRelatedImages(t *testing.T) {
	modules, err := filepath.Glob(filepath.Join(root, "bundles", "istio", "modules", "istio-*"))
	if err != nil || len(modules) == 0 {
		t.Fatalf("%d versions of Istio (%v)", len(modules), err)
	}
	var images []map[string]string
	for _, module := range modules {
		for _, name := range []string{"pilot", "proxyv2"} {
			version := strings.TrimPrefix(filepath.Base(module), "istio-")
			images = append(images, map[string]string{
				"component": "istio", "version": version, "name": name, "repository": "registry.example.com/istio/" + name, "tag": version, "digest": digest,
			})
		}
	}
	raw, err := json.Marshal(map[string]any{"images": images})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "images.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	b := bundle(t, filepath.Join(run(t, "-version", "0.1.0", "-images", file), "bundle"))
	if got, want := len(b.CSV.Spec.RelatedImages), 1+2*len(modules); got != want {
		t.Errorf("%d images are related, want %d", got, want)
	}
	for _, i := range b.CSV.Spec.RelatedImages {
		if !strings.HasSuffix(i.Image, "@"+digest) {
			t.Errorf("%s is not named by digest: %s", i.Name, i.Image)
		}
	}
	for _, result := range validators.Validate(b, b.CSV, map[string]string{"k8s-version": "1.36"}) {
		for _, err := range result.Errors {
			t.Error(err)
		}
	}
}

const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// write has bundle and catalogue written of a version that comes after the one in a folder, and returns their folder.
func write(t *testing.T, version, previous, before string) string {
	t.Helper()
	file, err := filepath.Abs(filepath.Join(before, "catalogue", "meshwright", "catalog.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return run(t, "-version", version, "-previous", previous, "-catalogue", file)
}

// run has bundle and catalogue written, and returns their folder.
func run(t *testing.T, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	all := append([]string{"run", "./hack/packaging/cmd/packaging", "-dir", dir, "-image", "registry.example.com/meshwright@" + digest}, args...)
	cmd := exec.CommandContext(t.Context(), "go", all...) //nolint:gosec // arguments of this file
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return filepath.Join(dir, "olm")
}

func decode(t *testing.T, raw []byte) any {
	t.Helper()
	var out any
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
