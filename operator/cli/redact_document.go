// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

// namesVariables is a text that has variables of proxies somewhere.
var namesVariables = regexp.MustCompile(`(?i)proxy_?metadata`)

// document takes secrets out of a text that is an object or a list in JSON, or an object in lines of YAML: the ConfigMap of a mesh, the variable PROXY_CONFIG,
// the annotation proxy.istio.io/config. It is false for a text that is none. Where there is nothing to take out, the text stays as it is written.
func (r *redactor) document(key, in string) (string, bool) {
	content, ok := parsed(in)
	if !ok {
		return "", false
	}
	inner := &redactor{}
	content = inner.value(key, content)
	if inner.count == 0 && !namesVariables.MatchString(in) {
		return "", false
	}
	out, err := written(content, in)
	if err != nil {
		return "", false
	}
	r.count += inner.count
	return r.prose(out, hides), true // what only lines tell, such as a flag and its value
}

// parsed is what is in a document. One that names a field twice is none: what the first one has would be lost from sight, and not from the text.
func parsed(in string) (content any, ok bool) {
	if !bracketed(in) && (!strings.Contains(in, "\n") || !strings.Contains(in, ":")) {
		return nil, false
	}
	if err := yaml.UnmarshalStrict([]byte(in), &content); err != nil {
		return nil, false
	}
	return content, holds(content)
}

func bracketed(in string) bool { return strings.HasPrefix(in, "{") || strings.HasPrefix(in, "[") }

// written is a document as the other one is written: in JSON or YAML.
func written(content any, as string) (string, error) {
	if !bracketed(as) {
		out, err := yaml.Marshal(content)
		return string(out), err
	}
	var out bytes.Buffer
	to := json.NewEncoder(&out)
	to.SetEscapeHTML(false)
	err := to.Encode(content)
	return strings.TrimSuffix(out.String(), "\n"), err
}
