// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import "strings"

// peer reads the identity of the nearest peer from the values of x-forwarded-client-cert: the URI of the last element,
// since every proxy on the way appends one. The format is Envoy's: elements separated by commas, each of key=value
// pairs separated by semicolons, values quoted where they hold one of these.
func peer(values []string) string {
	if len(values) == 0 {
		return ""
	}
	elements := split(values[len(values)-1], ',')
	for _, pair := range split(elements[len(elements)-1], ';') {
		if key, value, _ := strings.Cut(strings.TrimSpace(pair), "="); strings.EqualFold(key, "URI") {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// split splits at a separator outside of quotes.
func split(text string, separator byte) []string {
	var parts []string
	quoted, start := false, 0
	for i := 0; i < len(text); i++ {
		switch {
		case quoted && text[i] == '\\':
			i++ // whatever it is, it is part of the value
		case text[i] == '"':
			quoted = !quoted
		case !quoted && text[i] == separator:
			parts = append(parts, text[start:i])
			start = i + 1
		}
	}
	return append(parts, text[start:])
}
