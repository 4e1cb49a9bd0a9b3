// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package metrics holds the operator's own metrics. Each is described in docs/metrics.md; a test compares both.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
)

var (
	info = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "meshwright_mesh_info",
		Help: "1 for each mesh, with its Istio version and stable revision.",
	}, []string{"mesh", "version", "revision"})
	condition = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "meshwright_mesh_condition",
		Help: "1 while a condition of a mesh is True, 0 while it is not.",
	}, []string{"mesh", "condition"})
	corrections = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "meshwright_drift_corrections_total",
		Help: "Objects that somebody changed or removed and that were put back.",
	}, []string{"controller"})
)

func init() {
	metrics.Registry.MustRegister(Collectors()...)
}

// Collectors are all of them.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{info, condition, corrections}
}

// Corrected counts objects that a controller put back.
func Corrected(controller string, objects int) {
	corrections.WithLabelValues(controller).Add(float64(objects))
}

// Mesh sets the gauges of a mesh; conditions says which are True.
func Mesh(mesh, version, revision string, conditions map[string]bool) {
	info.DeletePartialMatch(prometheus.Labels{"mesh": mesh})
	info.WithLabelValues(mesh, version, revision).Set(1)
	for name, holds := range conditions {
		value := 0.0
		if holds {
			value = 1
		}
		condition.WithLabelValues(mesh, name).Set(value)
	}
}

// Forget removes the gauges of a mesh that is gone.
func Forget(mesh string) {
	info.DeletePartialMatch(prometheus.Labels{"mesh": mesh})
	condition.DeletePartialMatch(prometheus.Labels{"mesh": mesh})
}
