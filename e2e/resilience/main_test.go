// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && long

// Package resilience tests on a real cluster that an installation ends the same when the operator or the API server dies on
// the way.
package resilience

import (
	"testing"

	"github.com/meshwright/meshwright/e2e/framework"
)

var env *framework.Env

func TestMain(m *testing.M) {
	framework.Main(m, func(e *framework.Env) { env = e })
}
