// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "slices"

// DocsURL is where the documentation is read.
const DocsURL = "https://meshwright.io/docs/"

// Runbook is the page that says what a condition reason, an alert or a code of a finding means, and what to do.
func Runbook(name string) string { return DocsURL + "runbook/" + name + "/" }

// unattended are the reasons of what goes on by itself, or is well. Messages of all others name their page.
var unattended = []string{
	ReasonReady, ReasonProgressing, ReasonRollingOut, ReasonCreatingCanary, ReasonProving, ReasonReconnecting, ReasonMoving, ReasonBaking, ReasonShifting,
	ReasonAnalysing, ReasonPausing, ReasonOutsideWindow, ReasonPromoting, ReasonRetireAfter, ReasonRetiring, ReasonNotGranted, ReasonCompleted,
	ReasonUpgradeAvailable, ReasonNoUpgrade, ReasonNoGateways, ReasonRemoving, ReasonRotating, ReasonPreparing, ReasonBegins, ReasonWriting,
	ReasonRestarting, ReasonReloading, ReasonPropagating, ReasonSettling, ReasonUpToDate,
}

// Unattended says whether a reason is of what needs nobody.
func Unattended(reason string) bool { return slices.Contains(unattended, reason) }
