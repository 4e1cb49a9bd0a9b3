// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

// DefaultKubernetes is inside the support range of Istio 1.28, 1.29 and 1.31.
const DefaultKubernetes = "1.34.4"

// KubeVersions lists the Kubernetes versions that can be made, oldest first.
func KubeVersions() []string { return []string{"1.33.13", "1.34.4", "1.36.3"} }

// IstioVersions lists the Istio versions whose images can be made, oldest first.
func IstioVersions() []string { return []string{"1.26.1", "1.28.2", "1.29.1", "1.31.0"} }

// IstioctlVersions lists the Istio versions whose istioctl can be made.
func IstioctlVersions() []string { return []string{"1.29.1"} }
