// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// The bounds of the findings in a plan, as the schema has them.
const (
	maxFindings = 100
	maxMessage  = 1024
)

// Planned writes findings as a plan has them: one for each name, which bears the gravest code and all that was found, ordered by
// name and 100 at most. When there are more, the last one of the name More counts the rest, which are the less grave. Blocking are
// those among them that hold the rollout back, also those of which a plan has no room.
func Planned(all []Finding) (findings, blocking []v1alpha1.Finding) {
	about := map[string][]Finding{}
	var names []string
	for _, f := range all {
		name := f.Name()
		if about[name] == nil {
			names = append(names, name)
		}
		about[name] = append(about[name], f)
	}
	slices.Sort(names)
	var held []string
	for _, name := range names {
		Sort(about[name])
		slices.SortStableFunc(about[name], func(a, b Finding) int { return cmp.Compare(weight(a), weight(b)) })
		if about[name][0].Holds() {
			held = append(held, name)
		}
	}
	return bounded(names, about), bounded(held, about)
}

// bounded writes what was found, which is ordered by name; the gravest when it is too much.
func bounded(names []string, about map[string][]Finding) (out []v1alpha1.Finding) {
	kept := names
	if len(names) > maxFindings {
		kept = slices.Clone(names)
		slices.SortStableFunc(kept, func(a, b string) int { return cmp.Compare(weight(about[a][0]), weight(about[b][0])) })
		kept = kept[:maxFindings-1]
		slices.Sort(kept)
	}
	for _, name := range kept {
		out = append(out, merged(name, about[name]))
	}
	if more := len(names) - len(kept); more > 0 {
		out = append(out, v1alpha1.Finding{Name: "More", Message: fmt.Sprintf("%d more were found: see to these first", more)})
	}
	return out
}

// weight orders findings: what is acknowledged weighs less than what holds a rollout back, and more than all else.
func weight(f Finding) int {
	if f.Holds() {
		return -1
	}
	return f.Severity.rank()
}

// merged is all that was found under one name, the gravest first.
func merged(name string, all []Finding) v1alpha1.Finding {
	gravest := all[0]
	var reasons, remedies []string
	for _, f := range all {
		if !slices.Contains(reasons, f.Why) {
			reasons = append(reasons, f.Why)
		}
		if !slices.Contains(remedies, f.Remedy) {
			remedies = append(remedies, f.Remedy)
		}
	}
	hint := ""
	if gravest.Severity == SeverityError {
		hint = "; or add " + name + " to spec.upgrade.acknowledged"
	}
	const least = 100
	remedy := ": " + clip(strings.Join(remedies, "; "), max(maxMessage/2-len(hint), least)) + hint
	// However much was found, the remedies stay readable, and how to acknowledge it stays whole.
	return v1alpha1.Finding{
		Name: name, Code: string(gravest.Code), Severity: string(gravest.Severity), Acknowledged: gravest.Acknowledged,
		Message: clip(strings.Join(reasons, "; "), maxMessage-len(remedy)) + remedy,
	}
}

// clip cuts a text to a number of bytes, between two characters.
func clip(text string, limit int) string {
	const ellipsis = "..."
	if len(text) <= limit {
		return text
	}
	end := max(limit-len(ellipsis), 0)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}
