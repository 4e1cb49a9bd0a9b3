// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/meshwright/meshwright/operator/version"
)

// wasmPlugins judges code that runs in the proxy. What it was built against can't be seen, except where its image or annotations
// tell.
func wasmPlugins(f *Facts) (out []Finding) {
	m := f.Move
	for _, w := range f.WasmPlugins {
		object := Object{"WasmPlugin", w.Namespace, w.Name}
		test := "test it with Istio " + m.To.String()
		switch where := m.boundTo(w); {
		case where != "" && m.acrossMinors():
			out = append(out, found(WasmPluginVersion, object, where+" names proxy version "+version.LineOf(m.From)+", which the move leaves",
				"give it a module for "+m.To.String()+"; "+test))
		case where != "":
			out = append(out, found(WasmPluginVersion, object, where+" names proxy version "+m.From.String()+", which the move leaves", test).as(SeverityWarning))
		case m.acrossMinors():
			out = append(out, found(WasmPluginABI, object, "its module was built against the ABI of a proxy, and Envoy is another one in "+m.To.String(), test))
		}
	}
	return out
}

// boundTo is where a WasmPlugin names the version that is left and not the new one, empty for nowhere. Across minors the line is
// enough: 1.28.
func (m Move) boundTo(w Extension) string {
	before, after := m.From.String(), m.To.String()
	if m.acrossMinors() {
		before, after = version.LineOf(m.From), version.LineOf(m.To)
	}
	if url := text(w.Spec, "url"); names(url, before) && !names(url, after) {
		return "spec.url"
	}
	for _, key := range slices.Sorted(maps.Keys(w.Annotations)) {
		if key == corev1.LastAppliedConfigAnnotation { // that is the object once more, with configuration that may say anything
			continue
		}
		if value := w.Annotations[key]; names(value, before) && !names(value, after) {
			return "annotation " + clip(key, 320)
		}
	}
	return ""
}

// names says whether a text has a version in it, and not as a part of another number: 1.28 is in proxy:v1.28.3, but neither in
// 11.28 and 1.280 nor in 0.1.28.
func names(text, written string) bool {
	digit := func(i int) bool { return i >= 0 && i < len(text) && text[i] >= '0' && text[i] <= '9' }
	for from := 0; ; {
		i := strings.Index(text[from:], written)
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(written)
		inNumber := digit(start-1) || start > 0 && text[start-1] == '.' && digit(start-2)
		if !inNumber && !digit(end) {
			return true
		}
		from = start + 1
	}
}
