// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"slices"
	"strings"
)

var (
	privateKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----.*?-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----`)
	// cutKey is one whose beginning or end was cut off.
	cutKey = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----(\\+[nr]|[A-Za-z0-9+/=\s])*|(\\+[nr]|[A-Za-z0-9+/=\s])*-----END [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----`)
	// keyLine is one of the middle of a key, with the time that logs have.
	keyLine = regexp.MustCompile(`^(\d{4}-\d\d-\d\dT\S+[ \t]+)?[A-Za-z0-9+/=]+\s*$`)
	jwt     = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)*`)
	scheme  = regexp.MustCompile(`(?i)\b(bearer|basic|negotiate|apikey)\s+[A-Za-z0-9._~+/=-]{6,}`)
	known   = regexp.MustCompile(`(gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,}|gl(pat|dt|rt|cbt|ptt|ft|soat)-[A-Za-z0-9_-]{15,}|` +
		`xox[a-z](\.xox[a-z])?-[A-Za-z0-9-]{8,}|xapp-[A-Za-z0-9-]{10,}|\b(AKIA|ASIA|AROA|AIDA|ABIA|ACCA)[A-Z0-9]{16}\b|AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{10,}|` +
		`\b[srp]k_(live|test)_[A-Za-z0-9]{10,}|\bsk-[A-Za-z0-9_-]{20,}|\bwhsec_[A-Za-z0-9+/=]{16,}|\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|` +
		`\bhv[sbr]\.[A-Za-z0-9_-]{16,}|\bnpm_[A-Za-z0-9]{30,}|\bpypi-[A-Za-z0-9_-]{30,}|\bhf_[A-Za-z0-9]{30,}|\bdop_v1_[0-9a-f]{30,}|AGE-SECRET-KEY-[A-Z0-9]{20,})`)

	encoded = regexp.MustCompile(`[A-Za-z0-9+/_-]{12,}={0,2}`)
	// shortFlags are those of programs that take a password by one letter; its value follows.
	programs   = regexp.MustCompile(`\b(?:mysql\w*|mariadb[\w-]*|sshpass|redis-cli)\s[^\n;|&]*`)
	shortFlags = regexp.MustCompile(`(\s-[pa]\s*)("[^"]*"|'[^']*'|[^\s"']+)`)
	userFlag   = regexp.MustCompile(`((?:^|\s)(?:-u|--user|--proxy-user)[ =]*["']?)[^\s:"']+:[^\s"']+`)
	// said is a password in a sentence.
	said = regexp.MustCompile(`(?i)\b((?:passw(?:or)?d|passphrase)\s+(?:is\s+)?["']?)([^\s"',;]{4,})`)
)

// text takes secrets out of a text: a log, or the value of a field. Of the variables of proxies in it, none is left.
func (r *redactor) text(in string) string {
	return r.prose(in, func(name string) bool { return hides(name) || textVariables.MatchString(name) })
}

// textVariables is the name of variables of proxies in a text, also with what it is in and the one that is meant: meshConfig.defaultConfig.proxyMetadata.A.
var textVariables = regexp.MustCompile(`(?i)(^|\.)proxy_?metadata(\.|$)`)

// prose is text with the names whose values are secrets.
func (r *redactor) prose(in string, secret func(name string) bool) string {
	out := r.addresses(r.forms(in))
	out = r.replace(scheme, out, func(found string) string {
		return found[:strings.IndexAny(found, " \t\n")] + " " + redacted
	})
	out = r.assignments(out, secret)
	out = r.replace(userFlag, out, func(found string) string { return userFlag.FindStringSubmatch(found)[1] + redacted })
	out = r.replace(programs, out, func(found string) string { return shortFlags.ReplaceAllString(found, "${1}"+redacted) })
	out = r.replace(said, out, func(found string) string {
		parts := said.FindStringSubmatch(found)
		if !strings.ContainsAny(parts[2], "0123456789") || strings.Contains(parts[2], redacted) || strings.Trim(parts[2], "0123456789.:") == "" {
			return found
		}
		return parts[1] + redacted
	})
	return r.replace(encoded, out, func(found string) string {
		if !random(found) && !wrapped(found) {
			return found
		}
		return redacted
	})
}

// forms takes out what is a secret by its form, whatever stands around it.
func (r *redactor) forms(in string) string {
	out := r.replace(privateKey, in, func(string) string { return redacted })
	out = r.cutKeys(out)
	for _, pattern := range []*regexp.Regexp{cutKey, jwt, known} {
		out = r.replace(pattern, out, func(string) string { return redacted })
	}
	return out
}

// cutKeys takes out the lines of a private key that was cut off, of which each may begin with its time.
func (r *redactor) cutKeys(in string) string {
	if !strings.Contains(in, "PRIVATE KEY") {
		return in
	}
	lines := strings.Split(in, "\n")
	for i, line := range lines {
		switch {
		case !strings.Contains(line, "PRIVATE KEY"):
		case strings.Contains(line, "-----BEGIN "):
			for j := i + 1; j < len(lines) && keyLine.MatchString(lines[j]); j++ {
				lines[j] = redacted
			}
		case strings.Contains(line, "-----END "):
			for j := i - 1; j >= 0 && keyLine.MatchString(lines[j]); j-- {
				lines[j] = redacted
			}
		}
	}
	return strings.Join(lines, "\n")
}

func (r *redactor) replace(pattern *regexp.Regexp, in string, with func(string) string) string {
	return pattern.ReplaceAllStringFunc(in, func(found string) string {
		out := with(found)
		if out != found {
			r.count++
		}
		return out
	})
}

const (
	// shortest is how long a text has to be at least, to look encoded by the mixture of its letters.
	shortest = 40
	// segment is how long what is between two slashes has to be at least.
	segment = 12
)

// classes are the kinds of letters in a text.
type classes struct {
	upper, lower, digit, hex bool
	// changes are how often one kind follows another.
	changes int
}

func classify(in string) classes {
	out := classes{hex: true}
	last := ' '
	for _, c := range in {
		kind := last // of what is between them
		switch {
		case c >= 'A' && c <= 'Z':
			kind, out.upper, out.hex = 'A', true, out.hex && c <= 'F'
		case c >= 'a' && c <= 'z':
			kind, out.lower, out.hex = 'a', true, out.hex && c <= 'f'
		case c >= '0' && c <= '9':
			kind, out.digit = '0', true
		default:
			out.hex = false
		}
		if kind != last {
			out.changes++
		}
		last = kind
	}
	return out
}

func (c classes) mixed() bool { return c.upper && c.lower && c.digit && !c.hex }

// random says whether a run of letters, digits and slashes looks encoded: digests in hex and paths do not.
func random(in string) bool {
	if len(in) < shortest {
		return false
	}
	if c := classify(in); c.mixed() && 4*c.changes >= len(in) {
		return true
	}
	return slices.ContainsFunc(strings.Split(in, "/"), func(part string) bool { return len(part) >= segment && classify(part).mixed() })
}

// wrapped says whether a text is another in base64, one that has names and values or a user and a password.
func wrapped(in string) bool {
	raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(in, "="))
	if err != nil || !bytes.ContainsAny(raw, `:="{`) {
		return false
	}
	return !slices.ContainsFunc(raw, func(c byte) bool { return (c < ' ' || c > '~') && c != '\n' && c != '\t' && c != '\r' })
}
