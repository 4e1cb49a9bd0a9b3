// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && !long

package rotation

import "testing"

// The first of the sources; with the build tag long it is followed by the others.
func TestManaged(t *testing.T) { sources(t, func() {}) }
