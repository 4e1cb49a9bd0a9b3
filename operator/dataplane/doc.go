// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dataplane knows the proxies of the cluster and the namespaces that belong to a mesh: one compact index of all
// pods, fed by a watch on their metadata, and the rule by which a namespace is enrolled.
//
// It writes nothing. controllers/dataplane makes the enrollment true, controllers/installation reports the counts.
package dataplane
