// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	docsDir = "docs"
	// sources is where files of the repository are read that are no pages.
	sources = "https://github.com/meshwright/meshwright"
)

// outside are pages that are not in docs/, with where the site has them.
var outside = map[string]string{"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}

// pagesOf are the files of the site: their paths in the repository, with their paths in the site.
func pagesOf(root string) (map[string]string, error) {
	out := maps.Clone(outside)
	err := filepath.WalkDir(filepath.Join(root, docsDir), func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		from, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		from = filepath.ToSlash(from)
		out[from] = strings.TrimPrefix(from, docsDir+"/")
		return nil
	})
	return out, err
}

// link is a link in a page, in the order of which they are there.
type link struct {
	// target as it is written, and where it stands in the text.
	target     string
	begin, end int
}

// targets finds what links and pictures of Markdown lead to. There are no links by reference in these pages.
var targets = regexp.MustCompile(`\]\(([^()\s]+)\)`)

// linksOf are the links of a page. Code is none of them.
func linksOf(text string) []link {
	var out []link
	for _, at := range targets.FindAllStringSubmatchIndex(prose(text), -1) {
		out = append(out, link{target: text[at[2]:at[3]], begin: at[2], end: at[3]})
	}
	return out
}

var inline = regexp.MustCompile("`+[^`\n]+`+")

// prose is a page whose code is blanked, so that what is left stands where it stood.
func prose(text string) string {
	var out strings.Builder
	fence := ""
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		mark := trimmed[:len(trimmed)-len(strings.TrimLeft(trimmed, "`~"))]
		fences := len(mark) >= len("```")
		switch {
		case fence == "" && fences:
			fence = mark
		case fence != "" && fences && mark == fence && trimmed == mark:
			fence = ""
		case fence == "":
			line = inline.ReplaceAllStringFunc(line, blank)
			out.WriteString(line)
			continue
		}
		out.WriteString(blank(strings.TrimSuffix(line, "\n")) + strings.Repeat("\n", strings.Count(line, "\n")))
	}
	return out.String()
}

// apart puts an empty line between a paragraph and a list below it. GitHub's Markdown needs none, mkdocs' does, and the reference of the API is
// written without.
func apart(text string) string {
	var out strings.Builder
	last := ""
	lines := strings.SplitAfter(prose(text), "\n")
	for i, line := range strings.SplitAfter(text, "\n") {
		paragraph := strings.TrimSpace(last) != "" && !strings.HasPrefix(last, " ") && !strings.HasPrefix(last, "- ")
		if paragraph && strings.HasPrefix(lines[i], "- ") {
			out.WriteString("\n")
		}
		out.WriteString(line)
		last = lines[i]
	}
	return out.String()
}

func blank(text string) string { return strings.Repeat(" ", len(text)) }

// external says whether a target is not a file of the repository.
func external(target string) bool {
	return strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:")
}

// rewrite makes the links of a page those of the site: to its pages, or to the repository where it is read.
func rewrite(root, from, text string, pages map[string]string) (string, error) {
	var out strings.Builder
	last := 0
	for _, l := range linksOf(text) {
		next, err := rewritten(root, from, l.target, pages)
		if err != nil {
			return "", err
		}
		out.WriteString(text[last:l.begin] + next)
		last = l.end
	}
	out.WriteString(text[last:])
	return out.String(), nil
}

func rewritten(root, from, target string, pages map[string]string) (string, error) {
	if external(target) || strings.HasPrefix(target, "#") {
		return target, nil
	}
	file, fragment, hasFragment := strings.Cut(target, "#")
	if hasFragment {
		fragment = "#" + fragment
	}
	file = path.Join(path.Dir(from), file)
	if to, is := pages[file]; is {
		relative, err := filepath.Rel(path.Dir(pages[from]), to)
		return filepath.ToSlash(relative) + fragment, err
	}
	info, err := os.Stat(filepath.Join(root, filepath.FromSlash(file)))
	switch {
	case err != nil || strings.HasPrefix(file, ".."):
		return "", fmt.Errorf("%s links to %s, which is not there", from, target)
	case info.IsDir():
		return sources + "/tree/main/" + file + fragment, nil
	}
	return sources + "/blob/main/" + file + fragment, nil
}
