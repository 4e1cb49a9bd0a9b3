// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var (
	address = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*:(?:\\?/){2}(?:\\u00[0-9a-fA-F]{2}|\\/|[^\s"'<>\\` + "`" + `])+`)
	// userAt is a user and a password before a host, without a scheme.
	userAt = regexp.MustCompile(`[^\s:/@"'=,({\[]+:[^\s@/"']+@[\w(\[]+:?|[^\s:"'=]+:[^\s"']+@(?:tcp|udp|unix)\(`)
	digest = regexp.MustCompile(`@sha(256|384|512):?$`)
	// bareHook is the address of a hook without a scheme.
	bareHook = regexp.MustCompile(`(?i)\b((?:[\w-]+\.)+[a-z]{2,}(?::\d+)?/)(?:api/|v\d+/)*(?:services|webhooks?|webhookb2|hooks?)/[^\s"'<>\\]+`)
	// hookPath is a path that has its secret in it.
	hookPath = regexp.MustCompile(`(?i)/(services|webhooks?|webhookb2|hooks?|workflows|triggers|integrations)/.|/bot\d+:`)
	hookHost = regexp.MustCompile(`(?i)(^|\.)(web)?hooks?\.`)
	longName = regexp.MustCompile(`^[A-Za-z0-9_-]*\d[A-Za-z0-9_-]*$`)
	// safeHost is one whose paths are public, or in the cluster; safeScheme one whose paths are names.
	safeHost   = regexp.MustCompile(`(?i)(^|\.)(meshwright\.io|istio\.io|kubernetes\.io|k8s\.io|localhost|svc|svc\.cluster\.local)$|^127\.0\.0\.1$|^\[?::1\]?$`)
	safeScheme = []string{"spiffe", "unix", "file", "oci"}
)

// addresses takes user, query and fragment out of URLs in a text, and the path where it looks like a secret.
func (r *redactor) addresses(in string) string {
	out := r.replace(address, in, r.address)
	if !strings.Contains(out, "@") {
		return r.hooks(out)
	}
	out = r.replace(userAt, out, func(found string) string {
		if digest.MatchString(found) || strings.Contains(found, redacted) {
			return found // an image
		}
		return redacted + found[strings.LastIndex(found, "@"):]
	})
	return r.hooks(out)
}

func (r *redactor) hooks(in string) string {
	return r.replace(bareHook, in, func(found string) string { return bareHook.FindStringSubmatch(found)[1] + redacted })
}

// address is a URL in a text.
func (r *redactor) address(in string) string {
	in = strings.ReplaceAll(in, `\/`, "/")
	if before, found := strings.CutSuffix(in, redacted); found {
		in = before + "redacted" // what was found by its form in it
	}
	body := strings.TrimRight(in, ".,;:)]}")
	end := in[len(body):]
	parsed, err := url.Parse(body)
	if err != nil || strings.ContainsAny(parsed.Host, ";,") && parsed.User == nil || strings.Contains(parsed.Path, "@") && strings.Contains(parsed.Host, ":") {
		return redacted
	}
	if parsed.User == nil && parsed.RawQuery == "" && parsed.Fragment == "" && !tells(parsed) {
		return in
	}
	out := parsed.Scheme + "://"
	if parsed.User != nil {
		out += redacted + "@"
	}
	out += parsed.Host
	if tells(parsed) {
		return out + "/" + redacted + end
	}
	out += parsed.EscapedPath()
	if parsed.RawQuery != "" {
		out += "?" + redacted
	}
	return out + end
}

// tells says whether the path of a URL looks like a secret: that of a hook, or one with a part that nobody would write.
func tells(u *url.URL) bool {
	if slices.Contains(safeScheme, u.Scheme) {
		return false
	}
	if hookHost.MatchString(u.Host) && strings.Trim(u.Path, "/") != "" {
		return true
	}
	if hookPath.MatchString(u.Path) && !strings.Contains(u.Path, "/namespaces/") { // those are of the API server
		return true
	}
	return slices.ContainsFunc(strings.Split(u.Path, "/"), func(part string) bool {
		return len(part) >= segment && classify(part).mixed() && longName.MatchString(part)
	})
}

// whole is a URL that is all of a value: its path goes, too, unless it is known to be no secret.
func (r *redactor) whole(in string) string {
	parsed, err := url.Parse(in)
	if err == nil && (slices.Contains(safeScheme, parsed.Scheme) || safeHost.MatchString(parsed.Hostname())) {
		return r.address(in)
	}
	return r.endpoint(in)
}

// endpoint leaves of a URL where it leads to: those of chat hooks have their secret in the path.
func (r *redactor) endpoint(in string) string {
	parsed, err := url.Parse(in)
	if err != nil || parsed.Host == "" || strings.ContainsAny(parsed.Host, ";,") || strings.Contains(parsed.Path, "@") {
		r.count++
		return redacted
	}
	if parsed.User == nil && parsed.RawQuery == "" && parsed.Fragment == "" && strings.Trim(parsed.Path, "/") == "" {
		return in
	}
	r.count++
	return parsed.Scheme + "://" + parsed.Host + "/" + redacted
}
