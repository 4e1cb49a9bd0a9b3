// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package preflight

import (
	"testing"

	"github.com/meshwright/meshwright/e2e/framework"
)

var env *framework.Env

func TestMain(m *testing.M) {
	framework.Main(m, func(e *framework.Env) { env = e })
}
