// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package release makes a whole release out of a checkout, and checks one: the operator's image for several platforms, archives of the
// plugin, manifests, lists of what is inside, sums and a signature.
//
// The same commit, version and Go make the same bytes, but for a signature. A release is made in a folder of its own and gets its name when it is
// complete. Nothing here needs a container engine, and nothing but a push, and resolving digests, speaks to a registry.
package release
