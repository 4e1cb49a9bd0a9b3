// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package removal tests on a real cluster that a mesh in use is not removed, and that nothing is left of one that is.
package removal

import (
	"testing"

	"github.com/meshwright/meshwright/e2e/framework"
)

var env *framework.Env

func TestMain(m *testing.M) {
	framework.Main(m, func(e *framework.Env) { env = e })
}
