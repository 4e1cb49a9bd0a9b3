// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// This command writes the chart files of Istio 1.26.1, as its Go module embeds them, into the folder that it is given.
package main

import (
	"log"
	"os"

	"istio.io/istio/manifests"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: istio-1.26.1 FOLDER")
	}
	if err := os.CopyFS(os.Args[1], manifests.FS); err != nil {
		log.Fatal(err)
	}
}
