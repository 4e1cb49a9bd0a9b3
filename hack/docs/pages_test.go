// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLinksOf(t *testing.T) {
	for _, c := range []struct {
		name, reason, text string
		want               []string
	}{
		{"prose", "links and pictures", "[a](b.md) and ![c](d.svg)[e](f.md#g)\n", []string{"b.md", "d.svg", "f.md#g"}},
		{"code in the words", "what a link is called may be code", "[`a`](b.md)", []string{"b.md"}},
		{"inline", "an expression is no link", "`[a-z](b.md)` and ``[a](`c`)``", nil},
		{"fence", "a listing is no text", "```sh\n[a](b.md)\n```\n[c](d.md)", []string{"d.md"}},
		{"longer fence", "a shorter fence inside of a longer one is of the listing", "````\n```\n[a](b.md)\n````\n[c](d.md)", []string{"d.md"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, l := range linksOf(c.text) {
				got = append(got, l.target)
				if c.text[l.begin:l.end] != l.target {
					t.Errorf("%q stands at another place than %d to %d", l.target, l.begin, l.end)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestApart(t *testing.T) {
	for _, c := range []struct{ name, reason, text, want string }{
		{"paragraph", "a list begins below a line of text", "a\n- b\n- c\n", "a\n\n- b\n- c\n"},
		{"list", "items go on", "- a\n  b\n- c\n\nd\n", "- a\n  b\n- c\n\nd\n"},
		{"apart", "nothing is missing", "a\n\n- b\n", "a\n\n- b\n"},
		{"code", "a listing is left as it is", "```yaml\na:\n- b\n```\n", "```yaml\na:\n- b\n```\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, apart(c.text)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
}

func TestRewrite(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"README.md": "", "docs/a.md": "", "docs/b/c.md": "", "config/d.yaml": ""})
	pages, err := pagesOf(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, reason, from, text, want string }{
		{"up", "README is the first page", "docs/b/c.md", "[x](../../README.md#y)", "[x](../index.md#y)"},
		{"down", "a page in docs is beside README", "README.md", "[x](docs/b/c.md)", "[x](b/c.md)"},
		{"beside", "nothing changes", "docs/a.md", "[x](b/c.md#y) [z](#y)", "[x](b/c.md#y) [z](#y)"},
		{"file", "what is no page is read in the repository", "docs/a.md", "[x](../config/d.yaml)", "[x](" + sources + "/blob/main/config/d.yaml)"},
		{"folder", "so are folders", "docs/a.md", "[x](../config)", "[x](" + sources + "/tree/main/config)"},
		{"elsewhere", "addresses stay", "docs/a.md", "[x](https://example.org/y)", "[x](https://example.org/y)"},
		{"code", "code stays", "docs/b/c.md", "`[x](../../README.md)`", "`[x](../../README.md)`"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := rewrite(root, c.from, c.text, pages)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.reason, diff)
			}
		})
	}
	for _, gone := range []string{"[x](gone.md)", "[x](../../etc/passwd)"} {
		if _, err := rewrite(root, "docs/a.md", gone, pages); err == nil {
			t.Errorf("%s was taken for a file of the repository", gone)
		}
	}
}
