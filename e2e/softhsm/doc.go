// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package softhsm proves that a root key which can't leave a PKCS#11 token signs through operator/pki, by Go's crypto.Signer, and that a MeshRotation's
// request is answered with it. SoftHSM is the token. The package holds tests only, sign is the program that answers, and prepare installs what both need.
//
// It is a module of its own: PKCS#11 needs cgo, and the operator is built without.
package softhsm
