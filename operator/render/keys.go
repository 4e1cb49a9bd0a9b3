// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"github.com/meshwright/meshwright/bundles/istio"
)

// KnownValues are the values that a chart of a bundle knows, as the tree of its defaults. An empty map or nil stands
// for free content.
func KnownValues(b *istio.Bundle, chartName string) (map[string]any, error) {
	loaded, err := load(b, chartName)
	if err != nil {
		return nil, err
	}
	if inner, ok := loaded.Values[internalDefaults].(map[string]any); ok {
		return inner, nil
	}
	return loaded.Values, nil
}
