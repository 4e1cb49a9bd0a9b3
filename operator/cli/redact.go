// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/base64"
	"encoding/pem"
	"path"
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
	// secretKey is a name of a field, variable, flag, header or annotation whose value is a secret.
	secretKey = regexp.MustCompile(`(?i)(passw(or)?d|passphrase|pwd|secret|token|api[-_.]?key|access[-_.]?key|private[-_.]?key|signing[-_.]?key|encryption[-_.]?key|` +
		`credential|authorization|bearer|cookie|session[-_.]?id|hmac|client[-_.]?key|ssh[-_.]?key|dockerconfig|connection[-_.]?string|` +
		`(dsn|pass|auth|creds?|keys?)$|(^|[-_./])(pw|pat|otp|pin|salt|seed|jwt)$)`)
	// openKey is such a name whose value only says where a secret is, or how long it lives.
	openKey = regexp.MustCompile(`(?i)((secret|token|credential)s?[-_.]?(name|ref|names|refs|namespace|path|type|class|kind|request|projection|audiences?)$|` +
		`(seconds|ttl|duration|timeout|expiration|expiry|enabled|policy)$|(topology|public|label|annotation)[-_.]?keys?$|(by|com)pass$|` +
		`^(image)?pullsecrets$|^casecret$|^serviceaccounttoken$|^automountserviceaccounttoken$|^awaiting|^answer$)`)
	// openVariable is the name of an environment variable of Istio, Kubernetes, Go or ours, whose value is configuration. All others are taken out.
	openVariable = regexp.MustCompile(`^(PILOT|ISTIO|ISTIOD|ISTIO_META|ENABLE|DISABLE|PROXY|ENVOY|XDS|CA|CITADEL|INJECTION|VALIDATION|EXTERNAL|TRUST|CLUSTER|POD|SERVICE|INSTANCE|NODE|` +
		`KUBERNETES|GO|HOST|JWT_POLICY|REVISION|ROOT|LOCAL|UNSAFE|PLATFORM|SHARED|TERMINATION|SECRET_TTL|SECRET_GRACE|WORKLOAD|OUTPUT|MESHWRIGHT)(_[A-Z0-9_]+)?$|^GO[A-Z]+$`)
	// proxyVariables is a name below which are environment variables of proxies, as MeshConfig and ProxyConfig have it, in JSON and in protobuf's text.
	proxyVariables = regexp.MustCompile(`(?i)^proxy_?metadata$`)
	// naming are the fields below a secret's name that only say which one is meant.
	naming = []string{"name", "namespace", "kind", "group", "path", "type", "optional", "mode", "audience"}
	// reference is a field in which a key is the name of something.
	reference = regexp.MustCompile(`(Refs?|References?|[sS]electors?|matchExpressions|matchFields|tolerations|taints)$`)
	// wholeAddress is a value, or that of a flag, that is nothing but a URL.
	wholeAddress = regexp.MustCompile(`^\s*((?:-{0,2}[\w.-]+=)?["']?)([a-zA-Z][a-zA-Z0-9+.-]*://\S+)\s*$`)
	// variable is a value that only names the variable which has it.
	variable = regexp.MustCompile(`^\$(\w+|\(\w+\)|\{\w+\})$`)
)

// hides says whether a name is that of a secret.
func hides(key string) bool { return secretKey.MatchString(key) && !openKey.MatchString(key) }

// harmless says whether a value is no secret whatever its name is.
func harmless(v string) bool {
	return slices.Contains([]string{"", "true", "false", "null", "nil", redacted}, strings.ToLower(v)) || variable.MatchString(v)
}

// hide takes out a whole value.
func (r *redactor) hide(v string) string {
	if harmless(v) {
		return v
	}
	r.count++
	return redacted
}

// object takes out of an object of the API server what is a secret, and what nobody needs.
func (r *redactor) object(o map[string]any) map[string]any {
	out, _ := r.value("", o).(map[string]any)
	return out
}

// labels takes out of labels what is a secret.
func (r *redactor) labels(all map[string]string) any {
	members := map[string]any{}
	for k, v := range all {
		members[k] = v
	}
	return r.members("labels", members)
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

func (r *redactor) word(key, v string) string {
	switch {
	case hides(key), proxyVariables.MatchString(key):
		return r.hide(v)
	case key == "caBundle":
		return r.public(v)
	case strings.EqualFold(key, "url") && strings.Contains(v, "://"):
		return r.endpoint(v)
	case key == "image", key == "imageID":
		return r.forms(v) // a name with a tag looks like a name with a value
	}
	if parts := wholeAddress.FindStringSubmatch(v); parts != nil && !hides(strings.Trim(parts[1], "-=")) {
		if out := r.whole(parts[2]); out != parts[2] {
			return parts[1] + out
		}
	}
	if out, is := r.document(key, v); is {
		return out
	}
	return r.text(v)
}

func (r *redactor) members(key string, v map[string]any) any {
	out := map[string]any{}
	if strings.HasSuffix(strings.ToLower(key), "annotations") {
		r.annotations(v)
	}
	for k, member := range v {
		out[r.forms(k)] = r.member(key, k, member, v)
	}
	delete(out, "managedFields")
	return out
}

// member takes secrets out of a field k of an object that is called key, which has all these fields.
func (r *redactor) member(key, k string, member any, all map[string]any) any {
	name, _ := all["name"].(string)
	told, _ := all["key"].(string)
	_, mounted := all["path"]
	switch {
	case k == "managedFields":
		return nil
	case k == "key" && !hides(key) && (reference.MatchString(key) || key == "items" && mounted):
		return r.value("", member)
	case hiddenVariable(key, k, name):
		return r.everything(member)
	case k == "value" && name == "ISTIO_METAJSON_ANNOTATIONS":
		return r.value("annotations", member) // those of the pod, as JSON
	case k == "value" && (hides(name) || hides(told)), strings.HasSuffix(strings.ToLower(key), "headers") && k != "name":
		return r.everything(member)
	case k == "objects" && packed(member):
		r.count++
		return redacted // the rendered objects of a revision, compressed
	case hides(key) && !openKey.MatchString(k) && (!slices.Contains(naming, k) || holds(member)):
		return r.everything(member)
	}
	return r.value(k, member)
}

// hiddenVariable says whether a field k of what is called key is the value of an environment variable that nobody knows. Key names a map of variables by their
// names, or a list of variables, of which the one with this field has a name.
func hiddenVariable(key, k, name string) bool {
	switch {
	case proxyVariables.MatchString(key):
		return !openVariable.MatchString(k)
	case !strings.EqualFold(key, "env"):
		return false
	}
	return k == "value" && !openVariable.MatchString(name) || k == strings.ToUpper(k) && !openVariable.MatchString(k)
}

// holds says whether a value has others in it.
func holds(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

// packed says whether a value is bytes, which JSON has as text.
func packed(v any) bool {
	_, is := v.(string)
	return is
}

// list takes secrets out of a list: what follows a flag that names one, and a private key of which each line is a member.
func (r *redactor) list(key string, v []any) any {
	out := make([]any, 0, len(v))
	next, command, within := false, "", false
	for i, member := range v {
		word, isWord := member.(string)
		if i == 0 {
			command = path.Base(word)
		}
		begins := strings.LastIndex(word, "-----BEGIN ") > strings.LastIndex(word, "-----END ") && strings.Contains(word, "PRIVATE KEY")
		switch {
		case isWord && (next || hides(key)), within, begins,
			isWord && (key == "args" || key == "command") && strings.ContainsAny(word, " \n\t"): // a command line in one word
			member = r.everything(member)
		case isWord && slices.Contains(passwordPrograms, command) && shortPassword.MatchString(word):
			r.count++
			member = word[:2] + redacted
		case isWord && flagValue(word) > 0:
			member = word[:flagValue(word)] + r.hide(word[flagValue(word):])
		default:
			member = r.value(key, member)
		}
		within = begins || within && !strings.Contains(word, "-----END ")
		next = isWord && announces(key, command, word)
		out = append(out, member)
	}
	return out
}

var (
	// passwordPrograms take a password by a flag of one letter.
	passwordPrograms = []string{"mysql", "mysqldump", "mysqladmin", "mariadb", "mariadb-dump", "sshpass", "redis-cli"}
	shortPassword    = regexp.MustCompile(`^-[pa].`)
	oneName          = regexp.MustCompile(`^[\w.-]+$`)
)

// flagValue is where the value of a flag begins whose name is that of a secret, and that is one word.
func flagValue(word string) int {
	name, value, found := strings.Cut(word, "=")
	if !found || strings.ContainsAny(name, " \t\n\"'") || strings.ContainsAny(value, " \t\n") || !hides(strings.TrimLeft(name, "-")) {
		return 0
	}
	return len(name) + 1
}

// announces says whether what follows a word of a command is a secret.
func announces(key, command, word string) bool {
	switch {
	case word == "-u" || word == "--user" || word == "--proxy-user":
		return true // user:password
	case (word == "-p" || word == "-a") && slices.Contains(passwordPrograms, command):
		return true
	case strings.HasPrefix(word, "-"):
		return !strings.Contains(word, "=") && hides(strings.TrimLeft(word, "-"))
	}
	return (key == "args" || key == "command") && oneName.MatchString(word) && hides(word)
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
	case string:
		return r.hide(v)
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
