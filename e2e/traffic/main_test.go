// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package traffic tests on a real cluster that requests reach sidecars through gateways over mTLS, and that namespaces are enrolled and
// counted as the mesh says.
package traffic

import (
	"testing"

	"github.com/meshwright/meshwright/e2e/framework"
)

var env *framework.Env

func TestMain(m *testing.M) {
	framework.Main(m, func(e *framework.Env) { env = e })
}
