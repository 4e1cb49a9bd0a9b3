// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package preflight judges what an upgrade of a mesh would meet in a cluster: objects, values and settings that the next version, the
// move to it, or the restarts that it takes would break or be broken by.
//
// It is pure. [Facts] are gathered elsewhere, by one gatherer for the operator and for kubectl mesh preflight; [Check] judges them and
// returns findings. Each has a code of a closed catalogue, [Codes], which never changes its meaning.
package preflight
