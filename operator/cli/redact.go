// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/base64"
	"encoding/pem"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// redacted stands for what was taken out.
const redacted = "[redacted]"

// redactor takes out of objects and logs what may be a secret. It rather takes out too much: whoever reads a support archive knows where to ask.
type redactor struct {
	// count is how much was taken out.
	count int
}

var (
	// secretKey is a name of a field, variable, header or annotation whose value is a secret.
	secretKey = regexp.MustCompile(`(?i)(passw(or)?d|passphrase|pwd|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|signing[-_.]?key|encryption[-_.]?key|` +
		`credential|authorization|bearer|cookie|session[-_.]?id|hmac|client[-_.]?key|ssh[-_.]?key|dockerconfig|connection[-_.]?string|dsn$)`)
	// shortKey is a name that ends in a short word for a secret: DB_PASS, redisAuth, signing.key.
	shortKey = regexp.MustCompile(`(?i:(^|[-_.])(pass|auth|pat)$|[-_.]key$)|[a-z0-9](Pass|Auth)$`)
	// openVariable is the name of an environment variable of Istio, Kubernetes, Go or ours, whose value is configuration. All others are taken out.
	openVariable = regexp.MustCompile(`^(PILOT|ISTIO|ISTIOD|ISTIO_META|ENABLE|DISABLE|PROXY|ENVOY|XDS|CA|CITADEL|INJECTION|VALIDATION|EXTERNAL|TRUST|CLUSTER|POD|SERVICE|INSTANCE|NODE|` +
		`KUBERNETES|GO|HOST|JWT_POLICY|REVISION|ROOT|LOCAL|UNSAFE|PLATFORM|SHARED|TERMINATION|SECRET_TTL|SECRET_GRACE|WORKLOAD|OUTPUT|MESHWRIGHT)(_[A-Z0-9_]+)?$|^GO[A-Z]+$`)
	// openKey is such a name whose value only says where a secret is, or how long it lives.
	openKey = regexp.MustCompile(`(?i)((secret|token|credential)s?[-_.]?(name|ref|names|refs|namespace|policy|ttl|path|seconds|type|class|kind|request|projection)$|` +
		`^(image)?pullsecrets$|^casecret$|^secret_ttl$|^serviceaccounttoken$|^automountserviceaccounttoken$|^awaiting|^answer$)`)
	// naming are the fields below a secret's name that only say which one is meant.
	naming = []string{"name", "namespace", "kind", "group", "path", "type", "optional", "mode", "audience"}
	// selecting are the fields beside one called key that make it a name: of a label, of an entry, of a taint.
	selecting = []string{"name", "operator", "path", "values", "effect", "topologyKey"}

	privateKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?-----END [A-Z0-9 ]*PRIVATE KEY-----`)
	// cutKey is one whose beginning or end was cut off.
	cutKey = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(\\n|[A-Za-z0-9+/=\s])*|(\\n|[A-Za-z0-9+/=\s])*-----END [A-Z0-9 ]*PRIVATE KEY-----`)
	jwt    = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)?`)
	scheme = regexp.MustCompile(`(?i)\b(bearer|basic|negotiate)\s+[A-Za-z0-9._~+/=-]{6,}`)
	known  = regexp.MustCompile(`\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{15,}|xox[abprs]-[A-Za-z0-9-]{10,}|` +
		`(AKIA|ASIA)[A-Z0-9]{16}|AIza[A-Za-z0-9_-]{30,}|sk-[A-Za-z0-9_-]{20,})\b`)
	// assigned is a secret by its name, in text: key=value, "key": "value", --key value, key: value.
	assigned = regexp.MustCompile(`(?i)((?:[a-z0-9]+[-_.])*(?:passw(?:or)?d|passphrase|pass|pwd|auth|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|credentials?|authorization|` +
		`cookie|client[-_.]?key)(?:[-_.][a-z0-9]+)*\\?["']?\s*[:=]\s*)(\\"[^"\\]*\\"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;&"'})\]]+)`)
	// flagged is the same behind a flag: --token value, -password value.
	flagged = regexp.MustCompile(`(?i)(--?(?:[a-z0-9]+[-_.])*(?:passw(?:or)?d|passphrase|pass|pwd|auth|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|credentials?)` +
		`(?:[-_.][a-z0-9]+)*["']?\s+)([^\s-][^\s"']*)`)
	// hook is the path of a hook or bot, which is its secret.
	hook    = regexp.MustCompile(`(?i)/(webhooks?|services|hooks?|incoming|trigger|bot[0-9]*)(/|:|$)`)
	address = regexp.MustCompile(`\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>\\` + "`" + `]+`)
	encoded = regexp.MustCompile(`[A-Za-z0-9+/]{40,}={0,2}`)
)

// text takes secrets out of a text: a log, or the value of a field.
func (r *redactor) text(in string) string {
	out := in
	for _, pattern := range []*regexp.Regexp{privateKey, cutKey, jwt, known} {
		out = r.replace(pattern, out, func(string) string { return redacted })
	}
	out = r.replace(address, out, r.address)
	out = r.replace(scheme, out, func(found string) string {
		word, _, _ := strings.Cut(found, " ")
		return word + " " + redacted
	})
	out = r.replace(assigned, out, func(found string) string {
		parts := assigned.FindStringSubmatch(found)
		if strings.Contains(parts[2], redacted) || openText(parts[1]) {
			return found
		}
		return parts[1] + redacted
	})
	out = r.replace(flagged, out, func(found string) string {
		parts := flagged.FindStringSubmatch(found)
		if openKey.MatchString(strings.Trim(parts[1], `-"' `)) || strings.Contains(parts[2], redacted) {
			return found
		}
		return parts[1] + redacted
	})
	return r.replace(encoded, out, func(found string) string {
		if !random(found) {
			return found
		}
		return redacted
	})
}

// openText says whether the name in front of an assignment only says where a secret is.
func openText(assignment string) bool {
	return openKey.MatchString(strings.TrimRight(strings.TrimSpace(assignment), `:="'\ `))
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

// segment is how long what is between two slashes has to be at least, to look encoded.
const segment = 12

// random says whether a run of letters, digits and slashes looks encoded: digests in hex and paths do not.
func random(run string) bool {
	for part := range strings.SplitSeq(run, "/") {
		upper, lower, digit, hex := false, false, false, true
		for _, c := range part {
			switch {
			case c >= 'A' && c <= 'Z':
				upper, hex = true, hex && c <= 'F'
			case c >= 'a' && c <= 'z':
				lower, hex = true, hex && c <= 'f'
			case c >= '0' && c <= '9':
				digit = true
			default:
				hex = false
			}
		}
		if len(part) >= segment && upper && lower && digit && !hex {
			return true
		}
	}
	return false
}

// address takes user, query and fragment out of a URL.
func (r *redactor) address(in string) string {
	parsed, err := url.Parse(in)
	if err != nil {
		return redacted
	}
	secretive := hook.MatchString(parsed.Path)
	if parsed.User == nil && parsed.RawQuery == "" && parsed.Fragment == "" && !secretive {
		return in
	}
	where, _, _ := strings.Cut(in, "://")
	out := where + "://"
	if parsed.User != nil {
		out += redacted + "@"
	}
	out += parsed.Host
	if secretive {
		return out + "/" + redacted
	}
	out += parsed.EscapedPath()
	if parsed.RawQuery != "" {
		out += "?" + redacted
	}
	return out
}

// endpoint leaves of a URL where it leads to: those of chat hooks have their secret in the path.
func (r *redactor) endpoint(in string) string {
	parsed, err := url.Parse(in)
	if err != nil || parsed.Host == "" {
		r.count++
		return redacted
	}
	if parsed.User == nil && parsed.RawQuery == "" && strings.Trim(parsed.Path, "/") == "" {
		return in
	}
	r.count++
	return parsed.Scheme + "://" + parsed.Host + "/" + redacted
}

// object takes out of an object of the API server what is a secret, and what nobody needs.
func (r *redactor) object(o map[string]any) map[string]any {
	out, _ := r.value("", o).(map[string]any)
	return out
}

// lastApplied are the annotations in which tools keep a whole manifest.
var lastApplied = []string{"kubectl.kubernetes.io/last-applied-configuration", "objectset.rio.cattle.io/applied", "banzaicloud.com/last-applied"}

// ours are the domains whose annotations hold no secrets.
var ours = []string{"meshwright.io", "istio.io", "kubernetes.io", "k8s.io"}

func (r *redactor) annotations(all map[string]any) {
	for key := range all {
		domain, _, _ := strings.Cut(key, "/")
		switch {
		case slices.Contains(lastApplied, key):
			delete(all, key)
		case !slices.ContainsFunc(ours, func(d string) bool { return domain == d || strings.HasSuffix(domain, "."+d) }):
			all[key] = redacted
			r.count++
		}
	}
}

// value takes secrets out of a value that has a name.
func (r *redactor) value(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		return r.members(key, v)
	case []any:
		return r.list(key, v)
	case string:
		return r.word(key, v)
	case bool, nil:
		return v
	}
	if hides(key) {
		r.count++
		return redacted // a number can be one, too
	}
	return v
}

// hides says whether a name is that of a secret.
func hides(key string) bool {
	return (secretKey.MatchString(key) || shortKey.MatchString(key)) && !openKey.MatchString(key)
}

func (r *redactor) word(key, v string) any {
	switch {
	case v == "":
		return v
	case hides(key):
		r.count++
		return redacted
	case key == "caBundle":
		return r.public(v)
	case strings.EqualFold(key, "url") && strings.Contains(v, "://"):
		return r.endpoint(v)
	}
	return r.text(v)
}

func (r *redactor) members(key string, v map[string]any) any {
	out := map[string]any{}
	if strings.HasSuffix(strings.ToLower(key), "annotations") {
		r.annotations(v)
	}
	name, _ := v["name"].(string)
	for k, member := range v {
		switch {
		case k == "managedFields":
			continue
		case k == "value" && (hides(name) || strings.EqualFold(key, "env") && !openVariable.MatchString(name)), strings.EqualFold(key, "headers"):
			r.count++
			out[k] = redacted
		case k == "objects" && packed(member):
			r.count++
			out[k] = redacted // the rendered objects of a revision, compressed
		case strings.EqualFold(key, "env") && k == strings.ToUpper(k) && !openVariable.MatchString(k),
			k == "key" && packed(member) && !slices.ContainsFunc(selecting, func(s string) bool { return v[s] != nil }):
			r.count++
			out[k] = redacted
		case hides(key) && k != "key" && !slices.Contains(naming, k) && !openKey.MatchString(k):
			out[k] = r.everything(member)
		default:
			out[k] = r.value(k, member)
		}
	}
	return out
}

// packed says whether a value is bytes, which JSON has as text.
func packed(v any) bool {
	_, is := v.(string)
	return is
}

// list takes secrets out of a list: what follows a flag that names one, and values of headers.
func (r *redactor) list(key string, v []any) any {
	out := make([]any, 0, len(v))
	next := false
	for _, member := range v {
		word, isWord := member.(string)
		object, isObject := member.(map[string]any)
		switch {
		case isWord && (next || hides(key)),
			isWord && (key == "args" || key == "command") && strings.ContainsAny(word, " \n\t"): // a command line in one word
			r.count++
			member = redacted
		case isObject && strings.EqualFold(key, "headers") && object["value"] != nil:
			object["value"] = redacted
			r.count++
			member = r.value("", object)
		default:
			member = r.value(key, member)
		}
		next = isWord && strings.HasPrefix(word, "-") && !strings.Contains(word, "=") && hides(strings.TrimLeft(word, "-"))
		out = append(out, member)
	}
	return out
}

// everything takes out all that is below a name of a secret.
func (r *redactor) everything(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, member := range v {
			out[k] = r.everything(member)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = r.everything(v[i])
		}
		return out
	case bool, nil:
		return v
	}
	r.count++
	return redacted
}

// public leaves certificates in base64 as they are, unless there is more among them.
func (r *redactor) public(v string) string {
	raw, err := base64.StdEncoding.DecodeString(v)
	if err != nil {
		r.count++
		return redacted
	}
	for rest := raw; len(strings.TrimSpace(string(rest))) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			r.count++
			return redacted
		}
	}
	return v
}
