// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/meshwright/meshwright/bundles/istio"
)

// charts are the flags that name further charts of Istio, as the operator has them.
type charts struct{ folders, registries []string }

func (c *charts) bind(flags *pflag.FlagSet) {
	flags.StringSliceVar(&c.folders, "bundle-folder", nil, "folder with charts of further Istio versions")
	flags.StringSliceVar(&c.registries, "bundle-registry", nil, "OCI repository with charts of further Istio versions")
}

// open gives the charts that are built in and those of the flags, and what is known of Istio's lines.
func (c *charts) open(ctx context.Context) (*istio.Library, istio.Catalogue, error) {
	library, err := istio.Open(ctx, istio.Sources(c.folders, c.registries)...)
	if err != nil {
		return nil, nil, err
	}
	catalogue, err := istio.BuiltinCatalogue()
	return library, catalogue, err
}
