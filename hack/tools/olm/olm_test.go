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

// The catalogue is one that opm serves, and what it says of the bundle is what opm would read from it: the committed one, and those of versions that
// replace another.
func TestCatalogue(t *testing.T) {
	for _, tc := range []struct {
		reason, dir string
		channels    []string
		byDefault   string
	}{
		{"what is committed", filepath.Join(root, "bundles", "olm"), []string{"candidate", "stable"}, "stable"},
		{"a version that replaces one which the catalogue does not hold", write(t, "0.2.0", "0.1.0"), []string{"candidate", "stable"}, "stable"},
		{"a candidate", write(t, "0.3.0-rc.1", "0.2.0"), []string{"candidate"}, "candidate"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			catalogue, err := declcfg.LoadFS(t.Context(), os.DirFS(filepath.Join(tc.dir, "catalogue")))
			if err != nil {
				t.Fatal(err)
			}
			model, err := declcfg.ConvertToModel(*catalogue)
			if err != nil {
				t.Fatal(err)
			}
			if err := model.Validate(); err != nil {
				t.Error(err)
			}
			b := bundle(t, filepath.Join(tc.dir, "bundle"))
			if diff := cmp.Diff(tc.channels, b.Channels); diff != "" || b.DefaultChannel != tc.byDefault || model["meshwright"].DefaultChannel.Name != tc.byDefault {
				t.Errorf("%s by default, channels of the bundle (-want +got):\n%s", b.DefaultChannel, diff)
			}
			for _, channel := range tc.channels {
				head, err := model["meshwright"].Channels[channel].Head()
				if err != nil {
					t.Fatal(err)
				}
				if head.Name != b.CSV.Name || head.SkipRange != b.CSV.Annotations["olm.skipRange"] || head.Replaces != b.CSV.Spec.Replaces {
					t.Errorf("channel %s leads to %s, replaces %q, skips %q", channel, head.Name, head.Replaces, head.SkipRange)
				}
			}
			want := property.MustBuildCSVMetadata(*b.CSV)
			i := slices.IndexFunc(catalogue.Bundles[0].Properties, func(p property.Property) bool { return p.Type == want.Type })
			if i < 0 {
				t.Fatalf("the bundle has no property %s", want.Type)
			}
			if diff := cmp.Diff(decode(t, want.Value), decode(t, catalogue.Bundles[0].Properties[i].Value)); diff != "" {
				t.Errorf("%s (-bundle +catalogue):\n%s", want.Type, diff)
			}
		})
	}
}

// write has bundle and catalogue of a version written, and returns their folder.
func write(t *testing.T, version, previous string) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "run", "./hack/packaging/cmd/packaging", "-version", version, "-previous", previous,
		"-image", "registry.example.com/meshwright:v"+version, "-dir", dir)
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
