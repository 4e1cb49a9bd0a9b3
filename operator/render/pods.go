// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/probe"
	"github.com/meshwright/meshwright/operator/traffic"
)

const (
	// proxyConfig is the annotation by which a pod configures its own proxy.
	proxyConfig = "proxy.istio.io/config"
	// podAnnotations is the value of the gateway chart that holds the annotations of pods.
	podAnnotations = "podAnnotations"
)

// withTimes lays over the user's values how pods end, and what their proxies count. A grace period or a time to be ready that the user
// sets is the user's; how long a proxy drains is not, as the agent's times hold together only.
func withTimes(values map[string]any, shift v1alpha1.GatewayShift) (map[string]any, error) {
	before, _ := traffic.PreStop(values) // what it does otherwise is the user's to count, as admission says
	times := traffic.TimesOf(max(1, shift.DrainSeconds), before)
	config, err := proxyConfigOf(values)
	if err != nil {
		return nil, err
	}
	statistics, err := statisticsOf(values, config)
	if err != nil {
		return nil, err
	}
	text, err := yaml.Marshal(merge(config, map[string]any{
		"terminationDrainDuration": fmt.Sprintf("%ds", times.DrainSeconds),
		"proxyMetadata": map[string]any{
			"EXIT_ON_ZERO_ACTIVE_CONNECTIONS": "true",
			"MINIMUM_DRAIN_DURATION":          fmt.Sprintf("%ds", times.MinimumSeconds),
		},
	}))
	if err != nil {
		return nil, err
	}
	out := merge(values, map[string]any{podAnnotations: map[string]any{proxyConfig: string(text), probe.StatsAnnotation: statistics}})
	for name, seconds := range map[string]int32{"terminationGracePeriodSeconds": times.GraceSeconds, "minReadySeconds": times.MinReadySeconds} {
		if out[name] == nil {
			out[name] = int64(seconds)
		}
	}
	return out, nil
}

// annotationOf is a pod's annotation by the user's values; empty when they have none.
func annotationOf(values map[string]any, name string) (string, error) {
	annotations, isMap := values[podAnnotations].(map[string]any)
	if !isMap && values[podAnnotations] != nil {
		return "", fmt.Errorf("values.%s has to be a map of annotations", podAnnotations)
	}
	text, isText := annotations[name].(string)
	if !isText && annotations[name] != nil {
		return "", fmt.Errorf("values.%s: %s has to be a text, such as a block that begins with |", podAnnotations, name)
	}
	return text, nil
}

// proxyConfigOf is how the user's values configure the proxies.
func proxyConfigOf(values map[string]any) (map[string]any, error) {
	text, err := annotationOf(values, proxyConfig)
	if err != nil {
		return nil, err
	}
	var config map[string]any
	if err := yaml.Unmarshal([]byte(text), &config); err != nil {
		return nil, fmt.Errorf("values.%s: %s has to be a map in YAML: %w", podAnnotations, proxyConfig, err)
	}
	return config, nil
}

// statisticsOf are the statistics that proxies make besides Istio's own: those that the user asks for, and those by which traffic is
// measured. Where the annotation is set, Istio leaves out what a proxy's configuration asks for, so that what is asked for there
// moves into it.
//
// Source: istio pkg/bootstrap/config.go (getStatsOptions), 1.26 to 1.31.
func statisticsOf(values, config map[string]any) (string, error) {
	asked, err := annotationOf(values, probe.StatsAnnotation)
	if err != nil {
		return "", err
	}
	var all []string
	if asked != "" {
		all = append(all, asked)
	} else {
		matcher, _ := config["proxyStatsMatcher"].(map[string]any)
		expressions, _ := matcher["inclusionRegexps"].([]any)
		for _, e := range expressions {
			all = append(all, fmt.Sprint(e))
		}
	}
	return strings.Join(append(all, probe.StatsRegexps...), ","), nil
}
