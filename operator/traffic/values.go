// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package traffic

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
