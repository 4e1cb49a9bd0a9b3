// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"regexp"
	"strings"
)

var (
	// assigned is a name in a text, with what stands between it and its value: key=value, "key": "value", <key>value; or a flag: --key value, "--key", "value".
	assigned = regexp.MustCompile(`(?:\\+[nrt])*(?:([A-Za-z0-9_][A-Za-z0-9_.-]*)(\\*["']?[ \t]*(?:[:=]+>?|>|%3[AaDd])[ \t]*)|\B--?([A-Za-z][A-Za-z0-9_.-]*)\\*["']?(?:[ \t]*,[ \t]*|[ \t]+))`)
	// wholeLine is a header whose value may have spaces.
	wholeLine = regexp.MustCompile(`(?i)(authorization|cookie)$`)
	hook      = regexp.MustCompile(`(?i)hook`)
	// lineBegin is what may stand before a name in a line of YAML, with the time that logs have.
	lineBegin = regexp.MustCompile(`^(\d{4}-\d\d-\d\dT\S+ )?([\s"'-]*)$`)
	// nextName is another name after a separator, before which a value ends.
	nextName = regexp.MustCompile(`^[,;&]\s*\\*["']?(?:[A-Za-z_][A-Za-z0-9_.-]*\\*["']?\s*[:=]|$|\s)`)
)

// assignments takes out the values of names that are those of secrets.
func (r *redactor) assignments(in string, isSecret func(name string) bool) string {
	var out strings.Builder
	done, told := 0, false
	for _, m := range assigned.FindAllStringSubmatchIndex(in, -1) {
		if m[0] < done {
			continue
		}
		begin, at, flag := m[2], m[1], m[2] < 0
		after := m[3]
		if flag {
			begin, after = m[6], m[7]
		}
		name := in[begin:after]
		if flag && strings.HasPrefix(in[at:], "--") {
			continue // it has no value
		}
		if strings.EqualFold(name, "name") {
			told = hides(unquoted(in[at : at+word(in[at:])]))
		}
		secret := isSecret(name) || told && strings.EqualFold(name, "value")
		if !secret && !hook.MatchString(name) {
			continue
		}
		end := at + extent(in, name, begin, at)
		value := in[at:end]
		switch {
		case secret && !harmless(unquoted(value)):
			r.count++
			value = redacted
		case !secret && address.MatchString(unquoted(value)):
			value = r.replace(address, value, r.whole)
		default:
			continue
		}
		out.WriteString(in[done:at])
		out.WriteString(value)
		done = end
	}
	out.WriteString(in[done:])
	return out.String()
}

func unquoted(v string) string { return strings.Trim(v, `\"' `) }

// extent is how long the value is that begins at a place of a text, and whose name begins at another.
func extent(in, name string, begin, at int) int {
	rest := in[at:]
	start := strings.LastIndex(in[:begin], "\n") + 1
	if escaped := strings.LastIndex(in[start:begin], `\n`); escaped >= 0 {
		start += escaped + 2
	}
	before := lineBegin.FindStringSubmatch(in[start:begin])
	line := strings.IndexAny(rest, "\n")
	if line < 0 {
		line = len(rest)
	}
	switch {
	case rest == "":
		return 0
	case strings.HasPrefix(strings.TrimLeft(rest, `|>+-0123456789 `), "\n"):
		return block(rest, "\n", before)
	case strings.HasPrefix(strings.TrimLeft(rest, `|>+- `), `\n`):
		return block(rest, `\n`, before)
	case strings.ContainsAny(rest[:1], "{[&") || strings.HasPrefix(rest, "map["):
		return balanced(rest, line)
	case strings.ContainsAny(strings.TrimLeft(rest, `\`)[:min(1, len(strings.TrimLeft(rest, `\`)))], `"'`):
		return word(rest)
	case wholeLine.MatchString(name), before != nil && strings.HasSuffix(in[begin:at], ": "):
		if end := strings.IndexAny(rest[:line], `"'`); end > 0 {
			line = end
		}
		if end := strings.Index(rest[:line], `\n`); end > 0 {
			line = end
		}
		return line
	}
	return word(rest)
}

// word is how long a value is that is quoted, or ends at a space.
func word(rest string) int {
	slashes := len(rest) - len(strings.TrimLeft(rest, `\`))
	if slashes < len(rest) && strings.ContainsAny(rest[slashes:slashes+1], `"'`) {
		return quoted(rest, slashes)
	}
	end := 0
	for ; end < len(rest); end++ {
		c := rest[end]
		if strings.IndexByte(" \t\r\n\"'<", c) >= 0 || strings.IndexByte(",;&", c) >= 0 && nextName.MatchString(rest[end:min(len(rest), end+80)]) {
			break
		}
		if c == '\\' && end+1 < len(rest) && strings.IndexByte(`nrt"\`, rest[end+1]) >= 0 {
			break
		}
	}
	if trimmed := strings.TrimRight(rest[:end], ",;)}]."); trimmed != "" && !variable.MatchString(rest[:end]) {
		return len(trimmed)
	}
	return end
}

// longest is how far the end of a value in quotes or brackets is looked for; one that has none is taken to be its line.
const longest = 16 << 10

// quoted is how long a value in quotes is, which are escaped by so many slashes.
func quoted(rest string, slashes int) int {
	quote := rest[slashes]
	escapes := 0
	for i := slashes + 1; i < min(len(rest), longest); i++ {
		switch {
		case rest[i] == '\\':
			escapes++
			continue
		case rest[i] == quote && (slashes > 0 && escapes <= slashes || slashes == 0 && escapes%2 == 0):
			return i + 1
		}
		escapes = 0
	}
	if line := strings.Index(rest, "\n"); line >= 0 {
		return line
	}
	return len(rest)
}

// balanced is how long a value in brackets is: a bracket in quotes may be a letter of a text or not, so it is the longer of both.
func balanced(rest string, line int) int {
	bare := closing(rest, false)
	if bare == 0 {
		bare = line
	}
	return max(bare, closing(rest, true))
}

// closing is where the bracket is closed that a text begins with, with or without a look at double quotes; 0 for nowhere. Quotes are all escaped as the first
// one is; others are letters.
func closing(rest string, quotes bool) int {
	depth, slashes, first, within := 0, 0, -1, false
	for i := range min(len(rest), longest) {
		escapes := slashes
		slashes = 0
		switch c := rest[i]; {
		case c == '\\':
			slashes = escapes + 1
		case c == '"' && quotes:
			if first < 0 {
				first = escapes
			}
			within = within != (escapes == first)
		case within:
		case c == '{', c == '[':
			depth++
		case c == '}', c == ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}

// block is how long a value in YAML is that has the lines below its name: those that are further in, or members of a list.
func block(rest, newline string, before []string) int {
	indent := 0
	if before != nil {
		indent = len(strings.TrimRight(before[2], `"'`))
	}
	end := strings.Index(rest, newline)
	for end < len(rest) {
		line, _, _ := strings.Cut(rest[end+len(newline):], newline)
		content := line
		if newline == "\n" {
			content = stamp.ReplaceAllString(line, "")
		}
		inner := strings.TrimLeft(content, " \t")
		deep := len(content) - len(inner)
		if inner != "" && deep <= indent && (deep < indent || !strings.HasPrefix(inner, "- ")) {
			break
		}
		end += len(newline) + len(line)
	}
	return end
}

// stamp is the time at the beginning of a line of a log.
var stamp = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\S+ `)
