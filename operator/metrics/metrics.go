// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package metrics holds the operator's own metrics. Each is described in docs/metrics.md; a test compares both.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
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

var (
	rolloutInfo = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "meshwright_rollout_info",
		Help: "1 for each rollout under way, with what it does now and why.",
	}, []string{"rollout", "mesh", "act", "reason"})
	rolloutStep = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "meshwright_rollout_step",
		Help: "Index of the current step of each rollout under way; -1 when all are undone.",
	}, []string{"rollout", "mesh"})
	decisions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "meshwright_rollout_decisions_total",
		Help: "Decisions of rollouts that differed from the one before.",
	}, []string{"act"})
	stepSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "meshwright_rollout_step_duration_seconds",
		Help:    "How long steps of rollouts took, in seconds, waits for people included.",
		Buckets: []float64{1, 5, 15, 60, 300, 900, 3600, 14400, 86400},
	}, []string{"type"})
	windowSeconds = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "meshwright_rollout_next_window_seconds",
		Help: "Time until the next window of a rollout that waits for one, in seconds, as of its last decision.",
	}, []string{"rollout", "mesh"})
	proxies = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "meshwright_proxies",
		Help: "Pods of a mesh by revision of their sidecar and state: current, or outdated (another revision, a stale sidecar or none).",
	}, []string{"mesh", "revision", "state"})
	restarts = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "meshwright_restarts_total",
		Help: "Workloads that were restarted (Rollout) and pods that were evicted (Evict).",
	}, []string{"mesh", "type"})
	notifications = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "meshwright_notifications_total",
		Help: "CloudEvents of decisions of rollouts by what became of them: sent, failed or dropped.",
	}, []string{"result"})
	weight = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "meshwright_gateway_weight_percent",
		Help: "Percent of what is newly opened that a version of a gateway is to have, while two versions serve.",
	}, []string{"namespace", "gateway", "revision"})
	share = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "meshwright_gateway_measured_percent",
		Help: "Percent of what was newly opened that a version of a gateway had since its present weight was wanted.",
	}, []string{"namespace", "gateway", "revision"})
	cut = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "meshwright_gateway_streams_cut_total",
		Help: "Requests that were under way when a pod of a gateway ended, which had drained for as long as it may, while two versions served.",
	}, []string{"namespace", "gateway"})
	gates = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "meshwright_rollout_gate",
		Help: "1 for each gate of a rollout under way, with its state.",
	}, []string{"rollout", "mesh", "gate", "state"})
	caExpiry = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "meshwright_ca_expiry_timestamp_seconds",
		Help: "When each certificate of a mesh's CA expires, in seconds since 1970; role is root or intermediate.",
	}, []string{"mesh", "role", "fingerprint"})
	rotationInfo = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "meshwright_rotation_info",
		Help: "1 for each rotation of a CA under way, with its phase and what it does or waits for.",
	}, []string{"rotation", "mesh", "phase", "reason"})
	rotationProxies = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "meshwright_rotation_proxies",
		Help: "Proxies that are counted for the phase of a rotation under way: all of them, and those for which it waits (holding).",
	}, []string{"rotation", "mesh", "state"})
	refusals = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "meshwright_evictions_refused_total",
		Help: "Evictions that a PodDisruptionBudget refused.",
	}, []string{"mesh"})
)

func init() {
	metrics.Registry.MustRegister(Collectors()...)
}

// Collectors are all of them.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{
		info, condition, corrections, rolloutInfo, rolloutStep, decisions, stepSeconds, windowSeconds, proxies, restarts, refusals,
		notifications, weight, share, cut, gates, caExpiry, rotationInfo, rotationProxies,
	}
}

// Notified counts what became of a notification.
func Notified(result string) { notifications.WithLabelValues(result).Inc() }

// Cut counts requests that were under way when a pod of a gateway ended.
func Cut(gateway types.NamespacedName, requests int64) {
	cut.WithLabelValues(gateway.Namespace, gateway.Name).Add(float64(requests))
}

// Shares are those of the versions of a gateway, in percent; measured ones may be missing.
func Shares(namespace, gateway string, wanted map[string]int32, measured map[string]float64) {
	ForgetGateway(namespace, gateway)
	for revision, percent := range wanted {
		weight.WithLabelValues(namespace, gateway, revision).Set(float64(percent))
	}
	for revision, percent := range measured {
		share.WithLabelValues(namespace, gateway, revision).Set(percent)
	}
}

// ForgetGateway forgets the shares of a gateway.
func ForgetGateway(namespace, gateway string) {
	for _, m := range []*prometheus.GaugeVec{weight, share} {
		m.DeletePartialMatch(prometheus.Labels{"namespace": namespace, "gateway": gateway})
	}
}

// Gates are the states of the gates of a rollout under way, by name.
func Gates(rollout, mesh string, states map[string]string) {
	gates.DeletePartialMatch(prometheus.Labels{"rollout": rollout})
	for gate, state := range states {
		gates.WithLabelValues(rollout, mesh, gate, state).Set(1)
	}
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
	proxies.DeletePartialMatch(prometheus.Labels{"mesh": mesh})
	caExpiry.DeletePartialMatch(prometheus.Labels{"mesh": mesh})
}

// Rollout sets the gauges of a rollout under way.
func Rollout(name, mesh, act, reason string, step int32, window time.Duration) {
	rolloutInfo.DeletePartialMatch(prometheus.Labels{"rollout": name})
	rolloutInfo.WithLabelValues(name, mesh, act, reason).Set(1)
	rolloutStep.WithLabelValues(name, mesh).Set(float64(step))
	windowSeconds.WithLabelValues(name, mesh).Set(window.Seconds())
}

// ForgetRollout removes the gauges of a rollout that has ended or is gone.
func ForgetRollout(name string) {
	for _, gauge := range []*prometheus.GaugeVec{rolloutInfo, rolloutStep, windowSeconds, gates} {
		gauge.DeletePartialMatch(prometheus.Labels{"rollout": name})
	}
}

// Decided counts a decision that differs from the one before.
func Decided(act string) { decisions.WithLabelValues(act).Inc() }

// StepEnded observes how long a step took.
func StepEnded(kind string, took time.Duration) {
	stepSeconds.WithLabelValues(kind).Observe(took.Seconds())
}

// Proxies sets the counts of the pods of a mesh.
func Proxies(mesh, stable string, current, outdated int32, byRevision map[string]int32) {
	proxies.DeletePartialMatch(prometheus.Labels{"mesh": mesh})
	for revision, count := range byRevision {
		if revision != stable {
			proxies.WithLabelValues(mesh, revision, "outdated").Set(float64(count))
			outdated -= count
		}
	}
	proxies.WithLabelValues(mesh, stable, "current").Set(float64(current))
	proxies.WithLabelValues(mesh, "", "outdated").Set(float64(max(0, outdated)))
}

// Restarted counts a workload that was restarted, or a pod that was evicted.
func Restarted(mesh, kind string) { restarts.WithLabelValues(mesh, kind).Inc() }

// EvictionRefused counts an eviction that a PodDisruptionBudget refused.
func EvictionRefused(mesh string) { refusals.WithLabelValues(mesh).Inc() }

// CA is when the certificates of a mesh's CA expire, by their fingerprints.
func CA(mesh string, roots, intermediates map[string]time.Time) {
	caExpiry.DeletePartialMatch(prometheus.Labels{"mesh": mesh})
	for role, all := range map[string]map[string]time.Time{"root": roots, "intermediate": intermediates} {
		for fingerprint, at := range all {
			caExpiry.WithLabelValues(mesh, role, fingerprint).Set(float64(at.Unix()))
		}
	}
}

// Rotation is what a rotation under way does, and for how many proxies it waits.
func Rotation(rotation, mesh, phase, reason string, total, holding int32) {
	ForgetRotation(rotation)
	rotationInfo.WithLabelValues(rotation, mesh, phase, reason).Set(1)
	rotationProxies.WithLabelValues(rotation, mesh, "all").Set(float64(total))
	rotationProxies.WithLabelValues(rotation, mesh, "holding").Set(float64(holding))
}

// ForgetRotation forgets a rotation.
func ForgetRotation(rotation string) {
	for _, m := range []*prometheus.GaugeVec{rotationInfo, rotationProxies} {
		m.DeletePartialMatch(prometheus.Labels{"rotation": rotation})
	}
}
