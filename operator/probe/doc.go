// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package probe dials a running istiod: it asks for configuration as a proxy would, and how many proxies are connected. All
// connections of the operator to a control plane start here, and each ends before the call that made it returns.
//
// It decides nothing and remembers nothing: what an answer means for a rollout, and when to ask again, is the caller's.
package probe
