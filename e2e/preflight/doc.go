// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package preflight tests on a real cluster that kubectl mesh preflight finds one case of each of its codes and nothing else, and that it
// finds whatever the real istioctl finds about an upgrade, at the same object.
package preflight
