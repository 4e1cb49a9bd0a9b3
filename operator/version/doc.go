// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package version answers which Istio version is meant, whether a cluster and a move may have it, and what its
// revision is called.
//
// It is pure: no client, no clock, no logger. What exists, what is installed and what time it is, callers say.
package version
