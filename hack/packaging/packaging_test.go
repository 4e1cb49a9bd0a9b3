// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const root = "../.."

const (
	digest      = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	pinnedImage = "registry.example.com/meshwright@" + digest
)

func TestOptionsThatCanNotBePackaged(t *testing.T) {
	const image = pinnedImage
	for _, tc := range []struct {
		reason  string
		options Options
		says    string
	}{
		{"a v", Options{Version: "v0.1.0", Image: image}, `version "v0.1.0"`},
		{"half a version", Options{Version: "0.1", Image: image}, `version "0.1"`},
		{"a version that no label can hold", Options{Version: "0.1.0+x", Image: image}, "neither a label"},
		{"no image", Options{Version: "0.1.0"}, `IMAGE "": want the operator's image by digest`},
		{"an image of no version", Options{Version: "0.1.0", Image: "registry.example.com:5000/meshwright"}, "want the operator's image by digest"},
		{
			"a tag, which may be pushed again",
			Options{Version: "0.1.0", Image: "registry.example.com/meshwright:v1"},
			`IMAGE "registry.example.com/meshwright:v1": want the operator's image by digest, such as registry.example.com/mesh/meshwright@sha256:…`,
		},
		{"half a digest", Options{Version: "0.1.0", Image: "registry.example.com/meshwright@sha256:12"}, "want the operator's image by digest"},
		{"it replaces itself", Options{Version: "0.1.0", Previous: "0.1.0", Image: image}, "can't replace 0.1.0"},
		{"it replaces one whose catalogue is not given", Options{Version: "0.2.0", Previous: "0.1.0", Image: image}, "say CATALOGUE="},
		{"a catalogue of which nothing is replaced", Options{Version: "0.2.0", Catalogue: "catalog.yaml", Image: image}, "say PREVIOUS"},
		{"no such catalogue", Options{Version: "0.2.0", Previous: "0.1.0", Catalogue: "nowhere.yaml", Image: image}, "nowhere.yaml"},
		{"no such list of images", Options{Version: "0.1.0", Images: "nowhere.json", Image: image}, "nowhere.json"},
		{"it replaces a newer one", Options{Version: "0.1.0", Previous: "0.2.0", Image: image}, "can't replace 0.2.0"},
		{"no checkout", Options{Version: "0.1.0", Image: image, Root: "nowhere"}, "config"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			if tc.options.Root == "" {
				tc.options.Root = root
			}
			if err := Write(t.Context(), t.TempDir(), tc.options); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want an error that says %q", err, tc.says)
			}
		})
	}
}

func TestParseImage(t *testing.T) {
	for reference, want := range map[string]image{
		"registry.example.com/meshwright:v1":             {"registry.example.com/meshwright", "v1", ""},
		"registry.example.com:5000/meshwright:v1":        {"registry.example.com:5000/meshwright", "v1", ""},
		"registry.example.com:5000/meshwright@" + digest: {"registry.example.com:5000/meshwright", "", digest},
		"registry.example.com/meshwright:v1@" + digest:   {"registry.example.com/meshwright", "v1", digest},
	} {
		got, err := parseImage(reference)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(image{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", reference, diff)
		}
	}
}

// The same options make the same bytes, and what another version wrote does not stay behind.
func TestWriteIsReproducible(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	stale := filepath.Join(second, "olm", "bundle", "manifests", "stale.yaml")
	if err := os.MkdirAll(filepath.Dir(stale), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stale, []byte("stale"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{first, second} {
		if err := Write(t.Context(), dir, Options{Root: root, Version: "1.2.3", Image: pinnedImage}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(files(t, first), files(t, second)); diff != "" {
		t.Errorf("two runs differ:\n%s", diff)
	}
}

func TestWriteEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Write(ctx, t.TempDir(), Options{Root: root, Version: "1.2.3", Image: pinnedImage})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		out[strings.TrimPrefix(path, dir)] = string(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func decode(t *testing.T, path string, into any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

// A descriptor of a field that the CRD does not have is an error, not a line that a console leaves empty.
func TestDescriptorsFollowTheSchema(t *testing.T) {
	p, err := newPack(Options{Root: root, Version: "1.2.3", Image: DevelopmentImage}, nil)
	if err != nil {
		t.Fatal(err)
	}
	crd, err := p.owned("MeshInstallation")
	if err != nil {
		t.Fatal(err)
	}
	got, err := describe(crd.schema, "spec", []csvDescriptor{{Path: "upgrade.type"}, {Path: "paused"}})
	if err != nil {
		t.Fatal(err)
	}
	const ui = "urn:alm:descriptor:com.tectonic.ui:"
	for i, want := range [][]string{{ui + "select:Canary", ui + "select:InPlace"}, {ui + "booleanSwitch"}} {
		if diff := cmp.Diff(want, got[i].XDescriptors); diff != "" || got[i].Description == "" {
			t.Errorf("%s: %q, shown (-want +got):\n%s", got[i].Path, got[i].Description, diff)
		}
	}
	if _, err := describe(crd.schema, "spec", []csvDescriptor{{Path: "upgrade.kind"}}); err == nil || !strings.Contains(err.Error(), "the schema has no kind") {
		t.Errorf("a field that is not there: %v", err)
	}
}
