// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package architecture holds the tests of what no compiler checks: in which direction packages import each other, and
// that the pure ones are pure.
package architecture
