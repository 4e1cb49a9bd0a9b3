// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command standin is what tests release instead of the operator and the plugin: it has a version and one dependency, and is linked in
// seconds.
package main

import (
	"os"

	"github.com/Masterminds/semver/v3"
)

var version = "dev"

func main() {
	_, _ = os.Stdout.WriteString(semver.MustParse(version).String() + "\n")
}
