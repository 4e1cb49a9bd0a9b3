// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package runbook reads what has a page in docs/runbook from the code: each reason of a condition and each alert. The generators, the site and the
// tests of both read it from here; codes of findings have a catalogue of their own in operator/preflight.
package runbook

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// Where things are, below the root of the checkout.
const (
	Dir   = "docs/runbook"
	Index = "index.md"

	conditionsFile = "operator/api/v1alpha1/conditions.go"
	rulesFile      = "config/prometheus/rules.yaml"
)

// Reason is a reason of a condition.
type Reason struct {
	Name string
	// Meaning is a sentence.
	Meaning string
}

// Reasons are the constants Reason... of the API, each with a comment "ReasonX: what it means.", in their order.
func Reasons(root string) ([]Reason, error) {
	file := filepath.Join(root, conditionsFile)
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var out []Reason
	for _, decl := range parsed.Decls {
		group, ok := decl.(*ast.GenDecl)
		if !ok || group.Tok != token.CONST {
			continue
		}
		for _, spec := range group.Specs {
			constant, ok := spec.(*ast.ValueSpec)
			if !ok || !strings.HasPrefix(constant.Names[0].Name, "Reason") {
				continue
			}
			reason, err := reasonOf(constant)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			out = append(out, reason)
		}
	}
	return out, nil
}

func reasonOf(constant *ast.ValueSpec) (Reason, error) {
	name := constant.Names[0].Name
	literal, ok := constant.Values[0].(*ast.BasicLit)
	if !ok {
		return Reason{}, fmt.Errorf("%s is no literal", name)
	}
	value, err := strconv.Unquote(literal.Value)
	if err != nil {
		return Reason{}, fmt.Errorf("%s: %w", name, err)
	}
	meaning, ok := strings.CutPrefix(strings.Join(strings.Fields(constant.Doc.Text()), " "), name+": ")
	if !ok {
		return Reason{}, fmt.Errorf("the comment of %s has to begin with its name and a colon", name)
	}
	return Reason{Name: value, Meaning: meaning}, nil
}

// Alert is a rule that alerts.
type Alert struct {
	Name string
	// URL is what the rule gives as its runbook.
	URL string
}

// Alerts are those of the rules that Meshwright brings.
func Alerts(root string) ([]Alert, error) {
	raw, err := os.ReadFile(filepath.Join(root, rulesFile))
	if err != nil {
		return nil, err
	}
	var rules struct {
		Spec struct {
			Groups []struct {
				Rules []struct {
					Alert       string            `json:"alert"`
					Annotations map[string]string `json:"annotations"`
				} `json:"rules"`
			} `json:"groups"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal(raw, &rules); err != nil {
		return nil, fmt.Errorf("%s: %w", rulesFile, err)
	}
	var out []Alert
	for _, group := range rules.Spec.Groups {
		for _, rule := range group.Rules {
			if rule.Alert != "" {
				out = append(out, Alert{Name: rule.Alert, URL: rule.Annotations["runbook_url"]})
			}
		}
	}
	return out, nil
}

// Pages are the pages that there are by name, without the index, each with its text.
func Pages(root string) (map[string]string, error) {
	paths, err := filepath.Glob(filepath.Join(root, Dir, "*.md"))
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, path := range paths {
		if filepath.Base(path) == Index {
			continue
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		out[strings.TrimSuffix(filepath.Base(path), ".md")] = string(raw)
	}
	return out, nil
}

// Lead is the first sentence below the title of a page.
func Lead(page string) string {
	_, body, _ := strings.Cut(strings.TrimSpace(page), "\n")
	paragraph, _, _ := strings.Cut(strings.TrimSpace(body), "\n\n")
	text := strings.Join(strings.Fields(paragraph), " ")
	sentence, _, more := strings.Cut(text, ". ")
	if more {
		sentence += "."
	}
	return sentence
}
