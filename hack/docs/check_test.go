// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// write writes files below a folder.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckSite(t *testing.T) {
	there := `<h1 id="here">Here</h1><a name="old"></a>`
	for _, c := range []struct {
		name, reason, index string
		css                 string
		wrong               []string
		elsewhere           map[string]string
	}{
		{
			name: "sound", reason: "every way of writing an address that is there",
			index: `<link rel="canonical" href="https://example.com/docs/"><img src="a.svg">` +
				`<a href="other/">x</a><a href="other/#here">x</a><a href="/docs/other/#old">x</a><a href="#top">x</a><a href=".">x</a><p id="top">1. x</p>`,
			wrong: []string{"index.html: a table or list was taken for text: \"1. x\""},
		},
		{
			name: "elsewhere", reason: "other servers are named, not asked", index: `<a href="https://example.org/x">x</a><a href="https://example.com/other">x</a>`,
			elsewhere: map[string]string{"https://example.org/x": "index.html", "https://example.com/other": "index.html"},
		},
		{
			name: "no page", reason: "what is not there can't be read", index: `<a href="gone/">x</a><a href="https://example.com/docs/gone/">x</a>`,
			wrong: []string{"index.html: gone/ leads to no page", "index.html: https://example.com/docs/gone/ leads to no page"},
		},
		{
			name: "no place", reason: "a page without the place begins at its top", index: `<a href="other/#gone">x</a>`,
			wrong: []string{"index.html: other/#gone leads to no place of its page"},
		},
		{
			name: "loads", reason: "where there is no internet, all has to be there", css: `@import "//fonts.example.org/x.css"; a { background: url(a.svg) }`,
			index: `<script src="https://example.org/x.js"></script><link rel="stylesheet" href="gone.css">`,
			wrong: []string{
				"a.css loads @import \"//fonts.example.org/x.css from elsewhere",
				"index.html loads gone.css, which is not there",
				"index.html loads https://example.org/x.js from elsewhere",
			},
		},
		{
			name: "table", reason: "a table without an empty line before it is text", index: "<p>x\n| a | b |</p>",
			wrong: []string{"index.html: a table or list was taken for text: \"x\\n| a | b |\""},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"index.html": c.index, "other/index.html": there, "a.svg": "", "a.css": c.css})
			got, err := checkSite(dir, "https://example.com/docs/")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.wrong, got.Wrong); diff != "" {
				t.Errorf("%s: wrong (-want +got):\n%s", c.reason, diff)
			}
			if c.elsewhere == nil {
				c.elsewhere = map[string]string{}
			}
			if diff := cmp.Diff(c.elsewhere, got.Elsewhere); diff != "" {
				t.Errorf("%s: elsewhere (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestAnEmptySiteIsNoSite(t *testing.T) {
	if _, err := checkSite(t.TempDir(), "https://example.com/docs/"); err == nil {
		t.Error("a folder without a page passed for a site")
	}
}
