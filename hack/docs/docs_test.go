// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshwright/meshwright/hack/docs/runbook"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/preflight"
)

var root = filepath.Join("..", "..")

// paged is what has to have a page in the runbook, with what each is.
func paged(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	reasons, err := runbook.Reasons(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reasons {
		out[r.Name] = "reason"
	}
	alerts, err := runbook.Alerts(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range alerts {
		out[a.Name] = "alert"
	}
	for _, c := range preflight.Codes() {
		out[string(c.Code)] = "code"
	}
	return out
}

func TestRunbookHasAPageForEachThing(t *testing.T) {
	pages, err := runbook.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	wanted := paged(t)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(wanted)), slices.Sorted(maps.Keys(pages))); diff != "" {
		t.Errorf("pages of %s (-what exists +pages):\n%s", runbook.Dir, diff)
	}
	index, err := os.ReadFile(filepath.Join(root, runbook.Dir, runbook.Index))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range pages {
		if !strings.HasPrefix(text, "# "+name) {
			t.Errorf("%s/%s.md does not begin with its name", runbook.Dir, name)
		}
		if lead := runbook.Lead(text); len(lead) < len("It does.") {
			t.Errorf("%s/%s.md: the first paragraph says nothing: %q", runbook.Dir, name, lead)
		}
		if !strings.Contains(string(index), "("+name+".md)") {
			t.Errorf("%s/%s.md is not in the index: make generate", runbook.Dir, name)
		}
	}
}

// TestPagesThatNeedSomebodySayWhatToDo says that a person who was called finds more than what it means.
func TestPagesThatNeedSomebodySayWhatToDo(t *testing.T) {
	pages, err := runbook.Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, what := range paged(t) {
		if what == "reason" && v1alpha1.Unattended(name) {
			continue
		}
		if !regexp.MustCompile(`\*\*(Do|A Mesh|Remedy)|\| do \|`).MatchString(pages[name]) {
			t.Errorf("%s/%s.md does not say what to do", runbook.Dir, name)
		}
	}
}

func TestAlertsNameTheirPage(t *testing.T) {
	alerts, err := runbook.Alerts(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(alerts) == 0 {
		t.Fatal("no alert was found")
	}
	for _, a := range alerts {
		if diff := cmp.Diff(v1alpha1.Runbook(a.Name), a.URL); diff != "" {
			t.Errorf("runbook_url of %s (-want +got):\n%s", a.Name, diff)
		}
	}
}

func TestEachPageIsInTheNav(t *testing.T) {
	s, err := readSettings(root)
	if err != nil {
		t.Fatal(err)
	}
	pages, err := pagesOf(root)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for from := range pages {
		index := from == runbook.Dir+"/"+runbook.Index
		if path.Ext(from) == ".md" && (index || path.Dir(from) != runbook.Dir) { // the runbook's are put there as they are
			want = append(want, from)
		}
	}
	slices.Sort(want)
	got := listed(s.Nav)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("nav of %s (-pages +nav):\n%s", settingsFile, diff)
	}
	if s.SiteURL != v1alpha1.DocsURL {
		t.Errorf("site_url is %s, and messages name %s", s.SiteURL, v1alpha1.DocsURL)
	}
}

func TestNavHoldsTheRunbook(t *testing.T) {
	below, err := runbookNav(root)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, file := range listed(entries(below)) {
		got = append(got, strings.TrimSuffix(path.Base(file), ".md"))
	}
	slices.Sort(got)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(paged(t))), got); diff != "" {
		t.Errorf("pages of the runbook in the nav (-want +got):\n%s", diff)
	}
}

// TestLinksLeadSomewhere says so of the text as it is read in the repository; the built site is checked when it is built.
func TestLinksLeadSomewhere(t *testing.T) {
	pages, err := pagesOf(root)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for from := range pages {
		if path.Ext(from) != ".md" {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(root, from))
		if err != nil {
			t.Fatal(err)
		}
		texts[from] = string(raw)
	}
	for from, text := range texts {
		for _, l := range linksOf(text) {
			if external(l.target) {
				continue
			}
			file, place, _ := strings.Cut(l.target, "#")
			to := from
			if file != "" {
				to = path.Join(path.Dir(from), file)
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil || strings.HasPrefix(to, "..") {
				t.Errorf("%s links to %s, which is not there", from, l.target)
				continue
			}
			if place != "" && !slices.Contains(anchors(texts[to]), place) {
				t.Errorf("%s links to %s: %s has no such place; it has %q", from, l.target, to, anchors(texts[to]))
			}
		}
	}
}

var (
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	named   = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)
	marks   = regexp.MustCompile(`[^\w\s-]`)
	gaps    = regexp.MustCompile(`[-\s]+`)
)

// anchors are the places of a page that a link may lead to, as mkdocs names them.
func anchors(text string) (out []string) {
	for _, m := range named.FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	blanked := prose(text)
	for _, at := range heading.FindAllStringSubmatchIndex(blanked, -1) {
		title := marks.ReplaceAllString(strings.ToLower(text[at[2]:at[3]]), "")
		out = append(out, gaps.ReplaceAllString(strings.TrimSpace(title), "-"))
	}
	return out
}
