// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	meshv1alpha1 "istio.io/api/mesh/v1alpha1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// meshConfig checks a MeshConfig against Istio's own definition of it. Unknown fields are named with the nearest known one;
// what else does not parse, protobuf says.
func meshConfig(path *field.Path, raw *apiextensionsv1.JSON) field.ErrorList {
	decoded, err := v1alpha1.DecodeMap(raw)
	if err != nil {
		return field.ErrorList{field.Invalid(path, string(raw.Raw), "has to be a map: Istio's MeshConfig")}
	}
	if len(decoded) == 0 {
		return nil
	}
	config := &meshv1alpha1.MeshConfig{}
	if errs := unknownFields(path, decoded, config.ProtoReflect().Descriptor()); len(errs) > 0 {
		return errs
	}
	if err := protojson.Unmarshal(raw.Raw, config); err != nil {
		return field.ErrorList{field.Invalid(path, summary(decoded), fmt.Sprintf("does not parse as Istio's MeshConfig: %v", err))}
	}
	return nil
}

func unknownFields(path *field.Path, values map[string]any, message protoreflect.MessageDescriptor) (errs field.ErrorList) {
	names := map[string]protoreflect.FieldDescriptor{}
	for i := range message.Fields().Len() {
		f := message.Fields().Get(i)
		names[f.JSONName()], names[string(f.Name())] = f, f
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		f, known := names[key]
		if !known {
			detail := "Istio's MeshConfig has no such field"
			if near := nearest(key, slices.Sorted(maps.Keys(names))); near != "" {
				detail += fmt.Sprintf("; did you mean %q?", near)
			}
			errs = append(errs, field.Invalid(path.Child(key), summary(values[key]), detail))
			continue
		}
		if f.Message() == nil || f.IsMap() || wellKnown(f.Message()) {
			continue
		}
		switch value := values[key].(type) {
		case map[string]any:
			errs = append(errs, unknownFields(path.Child(key), value, f.Message())...)
		case []any:
			for i, item := range value {
				if inner, ok := item.(map[string]any); ok {
					errs = append(errs, unknownFields(path.Child(key).Index(i), inner, f.Message())...)
				}
			}
		}
	}
	return errs
}

// wellKnown says whether JSON writes a message in a form of its own, such as a duration as "10s".
func wellKnown(m protoreflect.MessageDescriptor) bool {
	return m.FullName().Parent() == "google.protobuf"
}
