// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
)

// Trim leaves of an EnvoyFilter or a WasmPlugin what is judged: they are many, and may hold programs. What it is made from is left as it
// is, and not held on to.
func Trim(e Extension) Extension {
	out := Extension{Kind: e.Kind, Namespace: e.Namespace, Name: e.Name, Annotations: maps.Clone(e.Annotations), Spec: map[string]any{}}
	delete(out.Annotations, corev1.LastAppliedConfigAnnotation) // that is the object once more
	for _, key := range []string{"url", "priority"} {
		if value, set := e.Spec[key]; set {
			out.Spec[key] = value
		}
	}
	var patches []any
	for _, patch := range patchesOf(e) {
		kept := map[string]any{"applyTo": patch["applyTo"], "match": patch["match"]}
		if operation, is := patch["patch"].(map[string]any); is {
			value, _ := typesIn(operation["value"]).(map[string]any)
			if name := text(operation, "value", "name"); name != "" {
				if value == nil {
					value = map[string]any{}
				}
				value["name"] = name
			}
			kept["patch"] = map[string]any{"operation": operation["operation"], "value": value}
		}
		patches = append(patches, kept)
	}
	if len(patches) > 0 {
		out.Spec["configPatches"] = patches
	}
	return out
}

// typesIn leaves of the value of a patch where it names types; nil where it names none.
func typesIn(value any) any {
	switch value := value.(type) {
	case map[string]any:
		out := map[string]any{}
		for key, inner := range value {
			if url, isText := inner.(string); isText {
				if isTypeKey(key) {
					out[key] = url
				}
				continue
			}
			if kept := typesIn(inner); kept != nil {
				out[key] = kept
			}
		}
		if len(out) > 0 {
			return out
		}
	case []any:
		var out []any
		for _, inner := range value {
			if kept := typesIn(inner); kept != nil {
				out = append(out, kept)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	return nil
}
