// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package apply makes rendered objects true in the cluster by server-side apply, sees drift without a request, says
// what is not ready and why, and removes what is not wanted any more.
//
// Drift is seen through field ownership: after an apply, the digest of the set of fields that our manager owns is
// recorded in an inventory. When somebody changes or removes one of these fields, the API server takes it out of our
// set; how values are written or defaulted never matters. An object needs an apply when it is not there, when what is
// wanted changed, or when our set of fields did.
//
// It knows no kind of Meshwright's API but the inventory, and decides nothing: callers say what is wanted.
package apply
