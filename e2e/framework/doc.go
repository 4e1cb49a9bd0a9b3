// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package framework is what the suites, the demonstration and the benchmark share: a cluster with the operator
// installed from its own manifests, the mesh values that the test images need, applications with and without a
// sidecar, counted load, and the real kubectl and istioctl.
//
// It knows nothing of a single suite, and nothing here is used by the operator.
package framework
