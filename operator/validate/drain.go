// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"fmt"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"
)

// What tells Istio's agent how a proxy drains. All of it follows from one number, and none of it holds without the others.
const (
	proxyConfigAnnotation = "proxy.istio.io/config"
	terminationDrain      = "terminationDrainDuration"
	proxyMetadata         = "proxyMetadata"
)

// drainMetadata are the variables of the agent that do the same.
var drainMetadata = []string{"EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "MINIMUM_DRAIN_DURATION"}

// drainOwned refuses values that tell a proxy how to drain past shift.drainSeconds.
func drainOwned(g shifted) (errs field.ErrorList) {
	refuse := func(path *field.Path, what string) {
		errs = append(errs, field.Forbidden(path, fmt.Sprintf("%s is set by Meshwright: set %s", what, g.shift.Child("drainSeconds"))))
	}
	metadata := func(path *field.Path, variables map[string]any) {
		for _, key := range slices.Sorted(maps.Keys(variables)) {
			if slices.Contains(drainMetadata, key) {
				refuse(path, key)
			}
		}
	}
	if env, ok := g.Values["env"].(map[string]any); ok {
		metadata(g.values.Child("env"), env)
	}
	value, set := lookup(g.Values, []string{"podAnnotations", proxyConfigAnnotation})
	if !set {
		return errs
	}
	path := g.values.Child("podAnnotations").Key(proxyConfigAnnotation)
	config, err := proxyConfig(value)
	if err != nil {
		return append(errs, field.Invalid(path, summary(value), "has to be a text with Istio's ProxyConfig in YAML: "+err.Error()))
	}
	if _, set := config[terminationDrain]; set {
		refuse(path, terminationDrain)
	}
	if inner, ok := config[proxyMetadata].(map[string]any); ok {
		metadata(path, inner)
	}
	return errs
}

func proxyConfig(annotation any) (out map[string]any, err error) {
	text, ok := annotation.(string)
	if !ok {
		return nil, fmt.Errorf("it is no text but %T", annotation)
	}
	err = yaml.Unmarshal([]byte(text), &out)
	return out, err
}
