// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// report is what was found in a site.
type report struct {
	Pages, Links int
	// Wrong are sentences, in order.
	Wrong []string
	// Elsewhere are the addresses that links lead to outside of the site, each with a page that has it.
	Elsewhere map[string]string
}

func (r *report) print(out io.Writer) {
	fmt.Fprintf(out, "%d pages with %d links to one another\n", r.Pages, r.Links)
	for _, address := range slices.Sorted(maps.Keys(r.Elsewhere)) {
		fmt.Fprintf(out, "not followed: %s (%s)\n", address, r.Elsewhere[address])
	}
	for _, wrong := range r.Wrong {
		fmt.Fprintf(out, "wrong: %s\n", wrong)
	}
}

// page is a page of a site.
type page struct {
	// path from the root of the site: first-hour/index.html
	path string
	// anchors are those that links may lead to.
	anchors map[string]bool
	// links are addresses as written; loads are those of what a browser fetches for the page.
	links, loads []string
	// raw are paragraphs that look like tables or lists which were not taken for any.
	raw []string
}

// checkSite reads all pages below a folder, which are served at base.
func checkSite(dir, base string) (*report, error) {
	at, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	out := &report{Elsewhere: map[string]string{}}
	pages, files := map[string]*page{}, map[string]bool{}
	site := os.DirFS(dir)
	err = fs.WalkDir(site, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files[name] = true
		raw, err := fs.ReadFile(site, name)
		if err != nil {
			return err
		}
		switch path.Ext(name) {
		case ".html":
			pages[name], err = pageOf(name, raw)
		case ".css":
			for _, found := range fetched.FindAll(raw, -1) {
				out.Wrong = append(out.Wrong, fmt.Sprintf("%s loads %s from elsewhere", name, found))
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(pages) == 0 {
		return nil, fmt.Errorf("there is no page in %s", dir)
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		out.check(pages[name], at, pages, files)
	}
	slices.Sort(out.Wrong)
	return out, nil
}

// fetched is what a style sheet has a browser fetch from another server.
var fetched = regexp.MustCompile(`(url\(\s*|@import\s+)["']?(https?:)?//[^"')\s]+`)

func pageOf(name string, raw []byte) (*page, error) {
	root, err := html.Parse(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p := &page{path: name, anchors: map[string]bool{"": true}}
	for node := range root.Descendants() {
		if node.Type == html.ElementNode {
			p.read(node)
		}
	}
	return p, nil
}

func (p *page) read(node *html.Node) {
	values := map[string]string{}
	for _, a := range node.Attr {
		values[a.Key] = a.Val
	}
	if id := values["id"]; id != "" {
		p.anchors[id] = true
	}
	switch node.Data {
	case "a":
		if name := values["name"]; name != "" {
			p.anchors[name] = true
		}
		if href, has := values["href"]; has {
			p.links = append(p.links, href)
		}
	case "link":
		if values["rel"] != "canonical" { // where the page itself is read
			p.loads = append(p.loads, values["href"])
		}
	case "script", "img", "iframe", "source", "object":
		if address := values["src"] + values["data"]; address != "" {
			p.loads = append(p.loads, address)
		}
	case "p":
		if text := strings.TrimSpace(textOf(node)); unrecognized.MatchString(text) {
			p.raw = append(p.raw, text)
		}
	}
}

// unrecognized is a paragraph with lines that begin like those of tables and lists.
var unrecognized = regexp.MustCompile(`(?m)^(\||- |\* |[0-9]+\. )`)

func textOf(node *html.Node) string {
	var out strings.Builder
	for inner := range node.Descendants() {
		if inner.Type == html.TextNode {
			out.WriteString(inner.Data)
		}
	}
	return out.String()
}

func (r *report) check(p *page, base *url.URL, pages map[string]*page, files map[string]bool) {
	r.Pages++
	for _, text := range p.raw {
		r.Wrong = append(r.Wrong, fmt.Sprintf("%s: a table or list was taken for text: %.60q", p.path, text))
	}
	here := base.ResolveReference(&url.URL{Path: strings.TrimSuffix(p.path, "index.html")})
	for _, address := range p.loads {
		if to, err := here.Parse(address); err != nil || !under(to, base) {
			r.Wrong = append(r.Wrong, fmt.Sprintf("%s loads %s from elsewhere", p.path, address))
		} else if _, file := locate(to, base); !files[file] {
			r.Wrong = append(r.Wrong, fmt.Sprintf("%s loads %s, which is not there", p.path, address))
		}
	}
	for _, address := range p.links {
		to, err := here.Parse(address)
		if err != nil {
			r.Wrong = append(r.Wrong, fmt.Sprintf("%s: %s is no address: %v", p.path, address, err))
			continue
		}
		if !under(to, base) {
			if r.Elsewhere[address] == "" {
				r.Elsewhere[address] = p.path
			}
			continue
		}
		r.Links++
		fragment, file := locate(to, base)
		target, is := pages[file]
		switch {
		case !is && !files[file]:
			r.Wrong = append(r.Wrong, fmt.Sprintf("%s: %s leads to no page", p.path, address))
		case is && !target.anchors[fragment]:
			r.Wrong = append(r.Wrong, fmt.Sprintf("%s: %s leads to no place of its page", p.path, address))
		}
	}
}

// under says whether an address is one of the site.
func under(to, base *url.URL) bool {
	return to.Scheme == base.Scheme && to.Host == base.Host && (strings.HasPrefix(to.Path, base.Path) || to.Path == strings.TrimSuffix(base.Path, "/"))
}

// locate is the file of an address of the site, and the place in it.
func locate(to, base *url.URL) (fragment, file string) {
	file = strings.TrimPrefix(strings.TrimPrefix(to.Path, strings.TrimSuffix(base.Path, "/")), "/")
	if file == "" || strings.HasSuffix(file, "/") {
		file += "index.html"
	}
	return to.Fragment, file
}
