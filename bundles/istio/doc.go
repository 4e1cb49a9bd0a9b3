// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package istio is the catalogue of Istio's releases and the loader of their charts.
//
// A [Bundle] holds the charts of one exact version, stamped as Istio's release stamps them. A [Library] finds bundles:
// those that this build embeds, and those of a folder or an OCI registry that a user names, so that a version can be
// added without a new build. The [Catalogue] is data about release lines: dates, Kubernetes ranges, known-bad versions.
//
// Nothing here renders a chart or talks to Kubernetes.
package istio

//go:generate go run ./cmd/bundle
