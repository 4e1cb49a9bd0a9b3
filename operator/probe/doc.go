// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package probe dials out: istiods, for configuration as a proxy would, for who is connected and for what they sign with; proxies, for what they have counted,
// which roots they accept and what leaf they present; Prometheus and web hooks, for what they say of a version. All connections of the operator to
// something else than the API server start here, and each ends before the call that made it returns.
//
// It decides nothing: what an answer means, and when to ask again, is the caller's. A [Meter] remembers what it read before, to tell what was counted since,
// and a [Survey] what it was shown, not to ask for it again.
package probe
