// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"encoding/json"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/render"
)

// What is listed for a version of Istio is what its rendered objects ask for.
func TestIstioImagesAreThoseThatRun(t *testing.T) {
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range library.Versions() {
		t.Run(v.String(), func(t *testing.T) {
			bundle, err := library.Get(t.Context(), v.String())
			if err != nil {
				t.Fatal(err)
			}
			listed, err := imagesOf(bundle)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, i := range listed {
				got = append(got, i.Reference())
			}
			objects, _, err := render.ControlPlane(render.Request{Bundle: bundle, KubeVersion: "v1.34.4", Mesh: "default", Revision: "rev", Namespace: "istio-system"})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(asked(t, objects), got); diff != "" {
				t.Errorf("images (-rendered +listed):\n%s", diff)
			}
		})
	}
}

// asked are the images that rendered objects run, and that of the proxy by what istiod is told to inject.
func asked(t *testing.T, objects []*unstructured.Unstructured) (out []string) {
	t.Helper()
	var proxy string
	for _, o := range objects {
		switch {
		case o.GetKind() == "Deployment":
			containers, _, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range containers {
				out = append(out, c.(map[string]any)["image"].(string))
			}
		case o.GetKind() == "ConfigMap" && strings.HasPrefix(o.GetName(), "istio-sidecar-injector"):
			text, _, err := unstructured.NestedString(o.Object, "data", "values")
			if err != nil {
				t.Fatal(err)
			}
			var values struct {
				Global struct {
					Hub   string `json:"hub"`
					Tag   string `json:"tag"`
					Proxy struct {
						Image string `json:"image"`
					} `json:"proxy"`
				} `json:"global"`
			}
			if err := json.Unmarshal([]byte(text), &values); err != nil {
				t.Fatal(err)
			}
			proxy = values.Global.Hub + "/" + values.Global.Proxy.Image + ":" + values.Global.Tag
		}
	}
	return append(out, proxy)
}

// someRegistry is a registry on this machine: the host to name it by.
func someRegistry(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func TestResolve(t *testing.T) {
	host := someRegistry(t)
	index, _ := someImage(t, someDate)
	digest := digestOf(t, index)
	pilot, err := name.ParseReference(host + "/istio/pilot:1.29.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(pilot, index); err != nil {
		t.Fatal(err)
	}
	image := func(of, digest string) Image {
		return Image{Component: "istio", Version: "1.29.1", Name: of, Repository: "registry.istio.io/release/" + of, Tag: "1.29.1", Digest: digest}
	}
	known := "sha256:" + strings.Repeat("0", 64)
	for _, tc := range []struct {
		reason string
		images []Image
		want   []string
		fails  string
	}{
		{"a digest is asked for where the mirror is", []Image{image("pilot", "")}, []string{host + "/istio/pilot:1.29.1@" + digest}, ""},
		{"one that is known is not", []Image{image("proxyv2", known)}, []string{host + "/istio/proxyv2:1.29.1@" + known}, ""},
		{
			"what the mirror lacks is named, and the rest is there",
			[]Image{image("proxyv2", ""), image("pilot", "")},
			[]string{host + "/istio/proxyv2:1.29.1", host + "/istio/pilot:1.29.1@" + digest},
			"digest of " + host + "/istio/proxyv2:1.29.1",
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			got, err := Resolve(t.Context(), Rehome(tc.images, host+"/istio"))
			if !says(err, tc.fails) {
				t.Fatalf("got %v, want an error with %q", err, tc.fails)
			}
			var references []string
			for _, i := range got {
				references = append(references, i.Reference())
			}
			if diff := cmp.Diff(tc.want, references); diff != "" {
				t.Errorf("references (-want +got):\n%s", diff)
			}
		})
	}
}

func TestImagePurl(t *testing.T) {
	i := Image{Name: "meshwright", Repository: "r.example.com/meshwright", Tag: "v0.1.0", Digest: "sha256:1"}
	want := "pkg:oci/meshwright@sha256%3A1?repository_url=r.example.com/meshwright&tag=v0.1.0"
	if diff := cmp.Diff(want, i.purl()); diff != "" {
		t.Errorf("the colon of a digest would end a scheme (-want +got):\n%s", diff)
	}
}

func TestFormatImages(t *testing.T) {
	ours := Image{Component: "meshwright", Version: "0.1.0", Name: "meshwright", Repository: "r.example.com/meshwright", Tag: "v0.1.0", Digest: "sha256:1"}
	pilot := Image{Component: "istio", Version: "1.29.1", Name: "pilot", Repository: "r.example.com/istio/pilot", Tag: "1.29.1"}
	proxy := Image{Component: "istio", Version: "1.29.1", Name: "proxyv2", Repository: "r.example.com/istio/proxyv2", Tag: "1.29.1", Digest: "sha256:3"}
	resolved := pilot
	resolved.Digest = "sha256:2"
	for _, tc := range []struct {
		reason, format string
		images         []Image
		want, fails    string
	}{
		{
			"engines take a line of it as it is", "text",
			[]Image{ours, pilot},
			"r.example.com/meshwright:v0.1.0@sha256:1\nr.example.com/istio/pilot:1.29.1\n", "",
		},
		{
			"what is not known is not there", "json",
			[]Image{pilot},
			`{
  "images": [
    {
      "component": "istio",
      "version": "1.29.1",
      "name": "pilot",
      "repository": "r.example.com/istio/pilot",
      "tag": "1.29.1"
    }
  ]
}
`, "",
		},
		{
			"what a MeshInstallation says of a version", "spec",
			[]Image{ours, resolved, proxy},
			`---
spec:
  images:
    digests:
      pilot: sha256:2
      proxyv2: sha256:3
    hub: r.example.com/istio
  version: 1.29.1
`, "",
		},
		{"half of the digests would pin half of the mesh", "spec", []Image{ours, pilot, proxy}, "", "the digest of r.example.com/istio/pilot:1.29.1 is not known"},
		{"a closed set of formats", "xml", nil, "", "want text, json or spec"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			got, err := FormatImages(tc.images, tc.format)
			if !says(err, tc.fails) {
				t.Fatalf("got %v, want an error with %q", err, tc.fails)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Errorf("list (-want +got):\n%s", diff)
			}
		})
	}
}

// Every version that is built in has what spec.images takes: a hub, and digests under the two keys that the API knows.
func TestSpecOfEveryVersion(t *testing.T) {
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	images, err := istioImages(t.Context(), library)
	if err != nil {
		t.Fatal(err)
	}
	for n := range images {
		images[n].Digest = "sha256:" + strings.Repeat("0", 64)
	}
	text, err := FormatImages(images, "spec")
	if err != nil {
		t.Fatal(err)
	}
	want := len(library.Versions())
	for _, key := range []string{"pilot: sha256", "proxyv2: sha256", "hub: "} {
		if got := strings.Count(string(text), key); got != want {
			t.Errorf("%q is there %d times, want once for each of %d versions", key, got, want)
		}
	}
}

func TestPush(t *testing.T) {
	host := someRegistry(t)
	dir := t.TempDir()
	index, _ := someImage(t, someDate)
	tag, err := imageTag(host+"/mesh", operatorName, "0.1.0")
	if err != nil {
		t.Fatal(err)
	}
	if err := writeLayout(layoutDir(dir, operatorName), index, tag); err != nil {
		t.Fatal(err)
	}
	ours := Image{
		Component: "meshwright", Version: "0.1.0", Name: "meshwright", Repository: "elsewhere.example.com/meshwright", Tag: "v0.1.0",
		Digest: digestOf(t, index),
	}
	if err := writeImages(dir, []Image{ours}); err != nil {
		t.Fatal(err)
	}
	for _, reason := range []string{"a first time", "again"} {
		got, err := Push(t.Context(), dir, host+"/mesh")
		if err != nil {
			t.Fatalf("%s: %v", reason, err)
		}
		if diff := cmp.Diff([]string{host + "/mesh/meshwright@" + ours.Digest}, got); diff != "" {
			t.Errorf("%s: pushed (-want +got):\n%s", reason, diff)
		}
	}
	there, err := remote.Index(tag)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(ours.Digest, digestOf(t, there)); diff != "" {
		t.Errorf("digest behind the tag (-want +got):\n%s", diff)
	}
	for _, on := range operator.platforms {
		img, err := remote.Image(tag, remote.WithPlatform(v1.Platform{OS: on.os, Architecture: on.arch}))
		if err != nil {
			t.Fatal(err)
		}
		config, err := img.ConfigFile()
		if err != nil || config.Architecture != on.arch {
			t.Errorf("the image for %s is for %s (%v)", on, config.Architecture, err)
		}
	}
	ours.Digest = "sha256:" + strings.Repeat("0", 64)
	if err := writeImages(dir, []Image{ours}); err != nil {
		t.Fatal(err)
	}
	if _, err := Push(t.Context(), dir, host+"/mesh"); !says(err, "lists sha256:000") {
		t.Errorf("an image that is not the listed one is not pushed: got %v", err)
	}
}
