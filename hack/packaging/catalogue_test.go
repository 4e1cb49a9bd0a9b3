// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
)

func catalogueIn(dir string) string {
	return filepath.Join(dir, "olm", "catalogue", "meshwright", "catalog.yaml")
}

// One version after the other comes into the catalogue of the one before: nothing that was in it goes, and each channel leads to its newest.
func TestCatalogueGrows(t *testing.T) {
	keep, file := t.TempDir(), ""
	for _, tc := range []struct {
		reason, version, previous string
		channels                  string // of the bundle
		candidate, stable         string // each entry after what replaces it
	}{
		{"the first one", "0.1.0", "", "candidate,stable", "v0.1.0", "v0.1.0"},
		{"its successor", "0.2.0", "0.1.0", "candidate,stable", "v0.1.0<v0.2.0", "v0.1.0<v0.2.0"},
		{"a candidate, of which stable hears nothing", "0.3.0-rc.1", "0.2.0", "candidate", "v0.1.0<v0.2.0<v0.3.0-rc.1", "v0.1.0<v0.2.0"},
		{"a correction beside the candidate", "0.2.1", "0.2.0", "stable", "v0.1.0<v0.2.0<v0.3.0-rc.1", "v0.1.0<v0.2.0<v0.2.1"},
		{
			"what was a candidate", "0.3.0", "0.3.0-rc.1", "candidate,stable",
			"v0.1.0<v0.2.0<v0.3.0-rc.1<v0.3.0", "v0.1.0<v0.2.0<v0.2.1<v0.3.0",
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			dir := t.TempDir()
			o := Options{Root: root, Version: tc.version, Previous: tc.previous, Catalogue: file, Image: pinnedImage}
			if err := Write(t.Context(), dir, o); err != nil {
				t.Fatal(err)
			}
			before := file
			file = filepath.Join(keep, tc.version+".yaml")
			raw, err := os.ReadFile(catalogueIn(dir))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			expectBundle(t, dir, o, tc.channels)
			c, err := readCatalogue(file)
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]string{"default": c.defaultChannel}
			for _, channel := range c.channels {
				got[channel.Name] = chain(channel)
			}
			if diff := cmp.Diff(map[string]string{"default": "stable", "candidate": tc.candidate, "stable": tc.stable}, got); diff != "" {
				t.Errorf("channels (-want +got):\n%s", diff)
			}
			if before != "" {
				older, err := readCatalogue(before)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(older.rest, c.rest[:len(c.rest)-1]); diff != "" {
					t.Errorf("bundles that were there (-before +after):\n%s", diff)
				}
			}
			if last := string(c.rest[len(c.rest)-1]); !strings.Contains(last, `"registry.example.com/meshwright-bundle:v`+tc.version+`"`) {
				t.Errorf("the newest bundle has another image: %.300s", last)
			}
		})
	}
}

// chain writes the entries of a channel as they replace each other.
func chain(c channel) string {
	out, last := []string{}, ""
	for _, e := range c.Entries {
		if e.Replaces != last {
			return "broken at " + e.Name
		}
		last = e.Name
		out = append(out, strings.TrimPrefix(e.Name, "meshwright."))
	}
	return strings.Join(out, "<")
}

// expectBundle compares what a bundle says of its channels and of what it replaces.
func expectBundle(t *testing.T, dir string, o Options, channels string) {
	t.Helper()
	var metadata struct{ Annotations map[string]string }
	decode(t, filepath.Join(dir, "olm", "bundle", "metadata", "annotations.yaml"), &metadata)
	for name, want := range map[string]string{"channels": channels, "channel.default": "stable"} {
		if got := metadata.Annotations["operators.operatorframework.io.bundle."+name+".v1"]; got != want {
			t.Errorf("%s %q, want %q", name, got, want)
		}
	}
	var version csv
	decode(t, filepath.Join(dir, "olm", "bundle", "manifests", "meshwright.clusterserviceversion.yaml"), &version)
	replaces := ""
	if o.Previous != "" {
		replaces = "meshwright.v" + o.Previous
	}
	if version.Spec.Replaces != replaces || version.Spec.RelatedImages[0].Image != o.Image || version.Metadata.Annotations["containerImage"] != o.Image {
		t.Errorf("the CSV replaces %q and has images %v", version.Spec.Replaces, version.Spec.RelatedImages)
	}
}

// A catalogue that a version can't be put at the head of is refused, by what is wrong with it.
func TestCataloguesThatDoNotFit(t *testing.T) {
	const (
		about = "schema: olm.package\nname: meshwright\ndefaultChannel: stable\n"
		one   = "---\nschema: olm.channel\npackage: meshwright\nname: stable\nentries: [{name: meshwright.v0.1.0}]\n"
		two   = "---\nschema: olm.channel\npackage: meshwright\nname: stable\nentries: [{name: meshwright.v0.1.0}, {name: meshwright.v0.1.1}]\n"
	)
	for _, tc := range []struct{ reason, text, version, previous, says string }{
		{"empty", "", "0.2.0", "0.1.0", "holds no package meshwright with channels"},
		{"no YAML", "{", "0.2.0", "0.1.0", "CATALOGUE"},
		{"of another package", "schema: olm.package\nname: other\n", "0.2.0", "0.1.0", `olm.package "other" is of another package`},
		{"with a field that would be lost", about + one + "depth: 1\n", "0.2.0", "0.1.0", "depth"},
		{"without what is replaced", about + one, "0.3.0", "0.2.0", "version 0.3.0 can't replace 0.2.0"},
		{"which has the version", about + one, "0.1.0", "0.0.9", "has version 0.1.0 already"},
		{"which is newer", about + one, "0.0.9", "0.0.8", "version 0.0.9 can't replace 0.0.8"},
		{"with two heads", about + two, "0.2.0", "0.1.1", "channel stable leads to [meshwright.v0.1.0 meshwright.v0.1.1]"},
		{"with names of another kind", about + strings.Replace(one, "meshwright.v0", "istio-0", 1), "0.2.0", "0.1.0", "leads to istio-0.1.0, which is no version"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "catalog.yaml")
			if err := os.WriteFile(file, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			c, err := readCatalogue(file)
			if err == nil {
				_, err = c.place(semver.MustParse(tc.version), tc.previous)
			}
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want an error that says %q", err, tc.says)
			}
		})
	}
}
