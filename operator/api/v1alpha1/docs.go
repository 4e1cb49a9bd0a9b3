// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// DocsURL is where the documentation is read.
const DocsURL = "https://meshwright.io/docs/"

// Runbook is the page that says what a condition reason, an alert or a code of a finding means, and what to do.
func Runbook(name string) string { return DocsURL + "runbook/" + name + "/" }
