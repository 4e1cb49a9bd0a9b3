// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package rotation

import (
	"testing"
	"time"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// The CA of a mesh comes from istiod, then from Meshwright, then from a user's Secret, while two minors of istiod serve: the gateway holds its version.
func TestSources(t *testing.T) {
	begin(t, framework.Istio128, nil)
	if err := env.SetVersion(t.Context(), "default", framework.Istio129); err != nil {
		t.Fatal(err)
	}
	_, err := env.WaitRollout(t.Context(), "default-1", "to have moved everything", func(o *v1alpha1.MeshRollout) bool {
		return int(o.Status.Progress.Step) >= len(o.Spec.Plan.Steps)
	})
	if err != nil {
		t.Fatal(err)
	}
	trace(t)
	finish := traffic(t, 40*time.Minute)
	rotate(t, "default-1", v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged})
	source(t, "mesh-ca", issued(t, "users"))
	rotate(t, "default-2", v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceSecret, Secret: &v1alpha1.SecretCA{Name: "mesh-ca"}})
	if errors := tlsErrors(t); len(errors) > 0 {
		t.Errorf("proxies counted TLS errors: %s", show(errors))
	}
	finish()
}
