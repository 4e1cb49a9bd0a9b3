// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster starts real Kubernetes clusters for tests, the demonstration and everybody who wants one: kind, as a
// library. Where an engine answers and images can be pulled it is used as any user of kind would; where not, what is
// missing is made: a private engine of the distribution's packages, and the images of e2e/cluster/artifact.
//
// What it starts is bound to loopback and closed to the outside, is found again by name, and leaves nothing when it goes
// down. It knows nothing of Meshwright.
package cluster
