// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshwright/meshwright/bundles/istio"
)

// listed is an image as hack/release lists it.
type listed struct {
	Component  string `json:"component"`
	Version    string `json:"version"`
	Name       string `json:"name"`
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	Digest     string `json:"digest,omitempty"`
}

// imagesOf are a release's images, those of Istio by digest, and what OLM is to be told of them.
func imagesOf(t *testing.T) (list []listed, related []namedImage) {
	t.Helper()
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	list = []listed{{"meshwright", "0.1.0", "meshwright-bundle", "registry.example.com/meshwright-bundle", "v0.1.0", digest}}
	related = []namedImage{{"meshwright", pinnedImage}}
	for _, v := range library.Versions() {
		for _, name := range []string{"pilot", "proxyv2"} {
			list = append(list, listed{"istio", v.String(), name, "registry.example.com/istio/" + name, v.String(), digest})
			related = append(related, namedImage{"istio-" + v.String() + "-" + name, "registry.example.com/istio/" + name + "@" + digest})
		}
	}
	if len(related) < 3 {
		t.Fatal("this build holds no charts of Istio")
	}
	return list, related
}

// What a mesh pulls is in the CSV and in the catalogue by digest, where the digests are known, and nothing by tag.
func TestRelatedImages(t *testing.T) {
	all, related := imagesOf(t)
	unknown := append([]listed{}, all...)
	unknown[len(unknown)-1].Digest = ""
	for _, tc := range []struct {
		reason string
		list   []listed
		want   []namedImage
		says   string
	}{
		{reason: "no list: only the operator's own", want: related[:1]},
		{reason: "each is known", list: all, want: related},
		{reason: "one is not resolved", list: unknown, says: "has no digest for proxyv2 of Istio"},
		{reason: "a version is missing", list: all[:len(all)-2], says: "has no digest for pilot of Istio"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			dir := t.TempDir()
			o := Options{Root: root, Version: "0.1.0", Image: pinnedImage}
			if tc.list != nil {
				raw, err := json.Marshal(map[string]any{"images": tc.list})
				if err != nil {
					t.Fatal(err)
				}
				o.Images = filepath.Join(dir, "images.json")
				if err := os.WriteFile(o.Images, raw, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			err := Write(t.Context(), dir, o)
			if tc.says != "" {
				if err == nil || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%v, want an error that says %q", err, tc.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var version csv
			decode(t, filepath.Join(dir, "olm", "bundle", "manifests", "meshwright.clusterserviceversion.yaml"), &version)
			if diff := cmp.Diff(tc.want, version.Spec.RelatedImages); diff != "" {
				t.Errorf("images of the CSV (-want +got):\n%s", diff)
			}
			raw, err := os.ReadFile(filepath.Join(dir, "olm", "catalogue", "meshwright", "catalog.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range tc.want {
				if !strings.Contains(string(raw), "- image: "+i.Image+"\n  name: "+i.Name+"\n") {
					t.Errorf("the catalogue does not list %s", i.Name)
				}
			}
		})
	}
}
