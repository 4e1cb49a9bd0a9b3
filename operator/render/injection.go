// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// unstamped stands for the digest of what a revision injects, until it is known.
var unstamped = strings.Repeat("0", 64)

// stampValues makes the injector put the annotation [v1alpha1.AnnotationInjection] on pods.
func stampValues() map[string]any {
	return map[string]any{"sidecarInjectorWebhook": map[string]any{
		"injectedAnnotations": map[string]any{v1alpha1.AnnotationInjection: unstamped},
	}}
}

// Where Istio's charts keep what the injector reads: its templates and values, and the mesh configuration.
const (
	injectorConfigMap = "istio-sidecar-injector"
	meshConfigMap     = "istio"
)

// stamp puts the digest of what a revision injects, which it returns, into the configuration of its injector: of everything that
// the injector reads, and of the defaults for proxies in the mesh configuration.
func stamp(objects []*unstructured.Unstructured, revision string) (string, error) {
	var injector *unstructured.Unstructured
	inputs := map[string]any{}
	for _, o := range objects {
		if o.GetKind() != "ConfigMap" {
			continue
		}
		data, _, err := unstructured.NestedStringMap(o.Object, "data")
		if err != nil {
			return "", err
		}
		switch strings.TrimSuffix(o.GetName(), "-"+revision) {
		case injectorConfigMap:
			injector, inputs["injector"] = o, data
		case meshConfigMap:
			var mesh map[string]any
			if err := yaml.Unmarshal([]byte(data["mesh"]), &mesh); err != nil {
				return "", fmt.Errorf("ConfigMap %s: %w", o.GetName(), err)
			}
			inputs["proxies"] = mesh["defaultConfig"]
		}
	}
	if injector == nil {
		return "", nil // users can turn the injector off
	}
	sum, err := digest(inputs)
	if err != nil {
		return "", err
	}
	data, _, err := unstructured.NestedStringMap(injector.Object, "data")
	if err != nil {
		return "", err
	}
	for key, text := range data {
		data[key] = strings.ReplaceAll(text, unstamped, sum)
	}
	return sum, unstructured.SetNestedStringMap(injector.Object, data, "data")
}
