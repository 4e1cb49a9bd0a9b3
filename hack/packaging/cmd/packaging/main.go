// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command packaging writes the ways in which the operator is installed into a folder: the plain file, the Helm chart, OLM's bundle and catalogue.
package main

import (
	"context"
	"flag"
	"log"

	"github.com/meshwright/meshwright/hack/packaging"
)

func main() {
	log.SetFlags(0)
	var o packaging.Options
	flag.StringVar(&o.Root, "root", ".", "the checkout")
	flag.StringVar(&o.Version, "version", packaging.Version(), "version of Meshwright, without v")
	flag.StringVar(&o.Image, "image", "", "image of the operator, with its digest")
	flag.StringVar(&o.Previous, "previous", "", "version that this one replaces in OLM's channels; none for the first")
	flag.StringVar(&o.Catalogue, "catalogue", "", "catalog.yaml that holds the version which is replaced: what is in it stays")
	flag.StringVar(&o.Images, "images", "", "list of images with the digests of Istio's, as release images --resolve --format json prints it")
	dir := flag.String("dir", "dist", "folder to write into")
	flag.Parse()
	if err := packaging.Write(context.Background(), *dir, o); err != nil {
		log.Fatal(err)
	}
}
