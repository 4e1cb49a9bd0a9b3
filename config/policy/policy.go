// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package policy holds the admission policies as they are applied from this folder, for those who apply them without it: the operator
// itself, where an installer can't, and the generators of packages.
package policy

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Namespace is that of the operator in the files: the policies know the operator by its service account.
const Namespace = "meshwright-system"

//go:embed *.yaml
var files embed.FS

// Objects are the policies and their bindings for an operator that runs in a namespace.
func Objects(namespace string) ([]*unstructured.Unstructured, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, entry := range entries {
		if entry.Name() == "kustomization.yaml" {
			continue
		}
		raw, err := files.ReadFile(entry.Name())
		if err != nil {
			return nil, err
		}
		text := strings.ReplaceAll(string(raw), Namespace, namespace)
		for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewBufferString(text), len(text)); ; {
			o := &unstructured.Unstructured{}
			if err := decoder.Decode(o); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("%s: %w", entry.Name(), err)
			}
			out = append(out, o)
		}
	}
	return out, nil
}
