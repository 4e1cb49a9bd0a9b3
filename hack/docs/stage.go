// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/hack/docs/runbook"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/preflight"
)

const settingsFile = "hack/docs/mkdocs.yml"

// settings are those of mkdocs, as far as they are read here.
type settings struct {
	SiteURL string `json:"site_url"`
	// Nav is a list of {title: page} and {title: [...]}; pages are paths in the repository.
	Nav []map[string]any `json:"nav"`
	// all of them, as they are written
	all map[string]any
}

func readSettings(root string) (*settings, error) {
	raw, err := os.ReadFile(filepath.Join(root, settingsFile))
	if err != nil {
		return nil, err
	}
	out := &settings{}
	if err := yaml.UnmarshalStrict(raw, &out.all); err != nil {
		return nil, fmt.Errorf("%s: %w", settingsFile, err)
	}
	if err := yaml.Unmarshal(raw, out); err != nil {
		return nil, fmt.Errorf("%s: %w", settingsFile, err)
	}
	return out, nil
}

// listed are the pages of a nav.
func listed(nav []map[string]any) (out []string) {
	for _, entry := range nav {
		for _, value := range entry {
			switch value := value.(type) {
			case string:
				out = append(out, value)
			case []any:
				out = append(out, listed(entries(value))...)
			}
		}
	}
	return out
}

func entries(values []any) (out []map[string]any) {
	for _, v := range values {
		if entry, is := v.(map[string]any); is {
			out = append(out, entry)
		}
	}
	return out
}

// stage writes the pages as mkdocs wants them into a folder, and its settings beside them. It returns the file of these.
func stage(root, into, to string, s *settings) (string, error) {
	pages, err := pagesOf(root)
	if err != nil {
		return "", err
	}
	content := filepath.Join(into, "pages")
	for _, from := range slices.Sorted(maps.Keys(pages)) {
		raw, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(from)))
		if err != nil {
			return "", err
		}
		text := string(raw)
		if filepath.Ext(from) == ".md" {
			if text, err = rewrite(root, from, apart(text), pages); err != nil {
				return "", err
			}
		}
		file := filepath.Join(content, filepath.FromSlash(pages[from]))
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			return "", err
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil { //nolint:gosec // below a folder of our own
			return "", err
		}
	}
	entries, err := runbookNav(root)
	if err != nil {
		return "", err
	}
	s.all["nav"], s.all["docs_dir"], s.all["site_dir"] = navOf(s.Nav, pages, entries), content, to
	raw, err := yaml.Marshal(s.all)
	if err != nil {
		return "", err
	}
	config := filepath.Join(into, "mkdocs.yml")
	return config, os.WriteFile(config, raw, 0o644)
}

// navOf is the nav of the site: with its paths, and the pages of the runbook below its index.
func navOf(nav []map[string]any, pages map[string]string, runbookPages []any) (out []any) {
	for _, entry := range nav {
		for title, value := range entry {
			switch value := value.(type) {
			case string:
				if value == runbook.Dir+"/"+runbook.Index {
					out = append(out, map[string]any{title: append([]any{pages[value]}, runbookPages...)})
					continue
				}
				out = append(out, map[string]any{title: pages[value]})
			case []any:
				out = append(out, map[string]any{title: navOf(entries(value), pages, runbookPages)})
			}
		}
	}
	return out
}

// runbookNav are the pages of the runbook, grouped as in its index.
func runbookNav(root string) ([]any, error) {
	alerts, err := runbook.Alerts(root)
	if err != nil {
		return nil, err
	}
	reasons, err := runbook.Reasons(root)
	if err != nil {
		return nil, err
	}
	var alerting, seen, unattended, codes []string
	for _, a := range alerts {
		alerting = append(alerting, a.Name)
	}
	for _, r := range reasons {
		if v1alpha1.Unattended(r.Name) {
			unattended = append(unattended, r.Name)
		} else {
			seen = append(seen, r.Name)
		}
	}
	for _, c := range preflight.Codes() {
		codes = append(codes, string(c.Code))
	}
	slices.Sort(seen)
	slices.Sort(unattended)
	var out []any
	for _, group := range []struct {
		title string
		names []string
	}{{"Alerts", alerting}, {"To be seen by somebody", seen}, {"Needs nobody", unattended}, {"Codes of findings", codes}} {
		var below []any
		for _, name := range group.names {
			below = append(below, map[string]any{name: strings.TrimPrefix(runbook.Dir, docsDir+"/") + "/" + name + ".md"})
		}
		out = append(out, map[string]any{group.title: below})
	}
	return out, nil
}
