// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build !cgo

package softhsm

import "testing"

// Go builds without cgo where it finds no C compiler, and then nothing here would be tested.
func TestNothingWithoutCgo(t *testing.T) {
	t.Fatal("a PKCS#11 token is reached by cgo, which is off or has no C compiler: apt-get install gcc libc6-dev, and unset CGO_ENABLED; or run make test-hsm")
}
