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

func TestOptionsThatCanNotBePackaged(t *testing.T) {
	const image = "registry.example.com/meshwright:v1"
	for _, tc := range []struct {
		reason  string
		options Options
		says    string
	}{
		{"a v", Options{Version: "v0.1.0", Image: image}, `version "v0.1.0"`},
		{"half a version", Options{Version: "0.1", Image: image}, `version "0.1"`},
		{"an image of no version", Options{Version: "0.1.0", Image: "registry.example.com:5000/meshwright"}, "want a repository with a tag or a digest"},
		{"it replaces itself", Options{Version: "0.1.0", Previous: "0.1.0", Image: image}, "can't replace 0.1.0"},
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
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
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
		if err := Write(t.Context(), dir, Options{Root: root, Version: "1.2.3", Image: "registry.example.com/meshwright:v1.2.3"}); err != nil {
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
	err := Write(ctx, t.TempDir(), Options{Root: root, Version: "1.2.3", Image: "registry.example.com/meshwright:v1.2.3"})
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

// What a version is decides on channels and what it replaces, in bundle and catalogue alike.
func TestChannels(t *testing.T) {
	for _, tc := range []struct {
		reason, version, previous string
		channels, byDefault       string
		entry                     string
	}{
		{"the first one", "0.1.0", "", "candidate,stable", "stable", "name: meshwright.v0.1.0\n  skipRange: '>=0.0.0-0 <0.1.0'"},
		{
			"its successor", "0.2.0", "0.1.0", "candidate,stable", "stable",
			"name: meshwright.v0.2.0\n  replaces: meshwright.v0.1.0\n  skipRange: '>=0.0.0-0 <0.2.0'",
		},
		{
			"a candidate", "0.3.0-rc.1", "0.2.0", "candidate", "candidate",
			"name: meshwright.v0.3.0-rc.1\n  replaces: meshwright.v0.2.0\n  skipRange: '>=0.0.0-0 <0.3.0-rc.1'",
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			dir := t.TempDir()
			const image = "registry.example.com/meshwright@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
			if err := Write(t.Context(), dir, Options{Root: root, Version: tc.version, Previous: tc.previous, Image: image}); err != nil {
				t.Fatal(err)
			}
			var metadata struct{ Annotations map[string]string }
			decode(t, filepath.Join(dir, "olm", "bundle", "metadata", "annotations.yaml"), &metadata)
			for name, want := range map[string]string{"channels": tc.channels, "channel.default": tc.byDefault} {
				if got := metadata.Annotations["operators.operatorframework.io.bundle."+name+".v1"]; got != want {
					t.Errorf("%s %q, want %q", name, got, want)
				}
			}
			var version csv
			decode(t, filepath.Join(dir, "olm", "bundle", "manifests", "meshwright.clusterserviceversion.yaml"), &version)
			replaces := ""
			if tc.previous != "" {
				replaces = "meshwright.v" + tc.previous
			}
			if version.Spec.Replaces != replaces || version.Spec.RelatedImages[0].Image != image || version.Metadata.Annotations["containerImage"] != image {
				t.Errorf("the CSV replaces %q and has images %v", version.Spec.Replaces, version.Spec.RelatedImages)
			}
			raw, err := os.ReadFile(filepath.Join(dir, "olm", "catalogue", "meshwright", "catalog.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			catalogue := string(raw)
			if n := strings.Count(catalogue, "entries:\n- "+tc.entry+"\n"); n != len(strings.Split(tc.channels, ",")) {
				t.Errorf("%d channels have the entry\n%s", n, tc.entry)
			}
			if !strings.Contains(catalogue, "image: registry.example.com/meshwright-bundle:v"+tc.version+"\n") {
				t.Error("the catalogue names another image of the bundle")
			}
		})
	}
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
