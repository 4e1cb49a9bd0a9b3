// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Unrevisioned stands for the version of a gateway that was adopted and has no revision of its own yet: the Deployment that bears the
// plain name of the gateway. No revision can be called so.
const Unrevisioned = "(adopted)"

// RevisionOf is the revision of a gateway's Deployment.
func RevisionOf(deployment *unstructured.Unstructured, gateway string) string {
	if deployment.GetName() == gateway {
		return Unrevisioned
	}
	revision, _, _ := unstructured.NestedString(deployment.Object, "spec", "selector", "matchLabels", revisionLabel)
	return revision
}
