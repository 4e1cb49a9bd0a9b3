// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// What Istio's gateway chart says where the user's values say nothing.
const (
	chartReplicas    = 1
	chartMaxReplicas = 5
)

// ReplicasOf is how many pods a gateway begins with by the values of its chart, and the bound of its autoscaler; 0 when it has none.
// Istio's chart autoscales unless it is told otherwise.
func ReplicasOf(values map[string]any) (base, bound int32) {
	scaler, _ := values["autoscaling"].(map[string]any)
	if enabled, set := scaler["enabled"].(bool); set && !enabled {
		return max(1, number(values["replicaCount"], chartReplicas)), 0
	}
	base = max(1, number(scaler["minReplicas"], chartReplicas))
	return base, max(base, number(scaler["maxReplicas"], chartMaxReplicas))
}

// number reads a number as JSON or YAML has it.
func number(v any, otherwise int32) int32 {
	switch n := v.(type) {
	case int64:
		return int32(min(n, maxPods)) //nolint:gosec // bounded
	case float64:
		return int32(min(n, maxPods))
	case int:
		return int32(min(n, maxPods)) //nolint:gosec // bounded
	}
	return otherwise
}

// maxPods is more than any gateway has.
const maxPods = 100000

// PreStop is for how many seconds a pod sleeps by its Helm values before it is told to end; not known when it does something else.
func PreStop(values map[string]any) (seconds int64, known bool) {
	lifecycle, _ := values["lifecycle"].(map[string]any)
	hook := lifecycle["preStop"]
	if hook == nil {
		return 0, true
	}
	handler, _ := hook.(map[string]any)
	if sleep, _ := handler["sleep"].(map[string]any); sleep != nil {
		return secondsOf(fmt.Sprint(sleep["seconds"]))
	}
	exec, _ := handler["exec"].(map[string]any)
	command, _ := exec["command"].([]any)
	words := make([]string, len(command))
	for i := range command {
		words[i] = fmt.Sprint(command[i])
	}
	if found := sleeps.FindStringSubmatch(strings.Join(words, " ")); found != nil {
		return secondsOf(found[1])
	}
	return 0, false
}

// sleeps is a command that does nothing but sleep, with or without a shell around it.
var sleeps = regexp.MustCompile(`^(?:(?:\S*/)?(?:ba)?sh -c )?(?:\S*/)?sleep (\d+)s?$`)

func secondsOf(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 32)
	return n, err == nil
}
