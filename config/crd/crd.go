// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crd holds the CustomResourceDefinitions of Meshwright's own kinds, for programs that need them without a cluster.
package crd

import "embed"

// Files are the definitions, one a file, named meshwright.io_<plural>.yaml.
//
//go:embed meshwright.io_*.yaml
var Files embed.FS
