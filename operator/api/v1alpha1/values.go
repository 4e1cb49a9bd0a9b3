// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"encoding/json"
	"fmt"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// DecodeMap reads a free-form object of the API: Helm values or a MeshConfig. An absent one is an empty map.
func DecodeMap(j *apiextensionsv1.JSON) (map[string]any, error) {
	if j == nil || len(j.Raw) == 0 || string(j.Raw) == "null" {
		return map[string]any{}, nil
	}
	var out map[string]any
	if err := json.Unmarshal(j.Raw, &out); err != nil {
		return nil, fmt.Errorf("not a map: %w", err)
	}
	return out, nil
}
