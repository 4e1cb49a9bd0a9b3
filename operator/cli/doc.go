// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cli is kubectl mesh: what a person does with a mesh in a terminal.
//
// A command reads objects, says what they hold, and writes a verb or a spec; it never does what a controller does. What it judges
// itself it judges by the same pure packages as the operator. Each command is a file; what all share is here: how the cluster is
// reached, which mesh is meant, how results are printed, and what the exit code says.
package cli
