// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pki decides how the CA of a mesh changes, and makes what it changes to. It is pure: it reads certificates, keys and facts that others
// gathered, and knows no client, clock or logger.
//
//   - bundle.go reads what istiod signs with, in the layouts that istiod and users have, and writes it as istiod takes it.
//   - check.go says what is wrong with a bundle, before anything is written.
//   - issue.go makes roots, intermediates, requests and leaves.
//   - plan.go says which phases lead from one authority to another, and what the Secret of istiod holds in each.
//   - decide.go walks through the phases, each of which begins when what the one before was for is proven at every proxy.
//   - tally.go counts proxies by the roots that they accept and by the root of the leaf that they present.
//
// A leaf is accepted where its root is trusted. So a root is trusted everywhere before anybody presents a leaf of it, and is dropped when nobody
// presents one any more: at no time may a proxy lack the root of a peer's leaf.
package pki
