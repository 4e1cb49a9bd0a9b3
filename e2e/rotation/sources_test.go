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

// The CA of a mesh comes from istiod, then from Meshwright, and then from where more says, while two minors of istiod serve: the gateway holds its version.
// No request fails, every phase is as an outsider sees it, and no proxy counts a handshake that failed.
func sources(t *testing.T, more func()) {
	t.Helper()
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
	finish, compare := traffic(t, 40*time.Minute), witness(t)
	rotate(t, "default-1", v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged})
	more()
	compare()
	errors, handshakes := tlsErrors(t)
	t.Logf("proxies counted %d handshakes, of which failed: %v", handshakes, errors)
	if len(errors) > 0 || handshakes == 0 {
		t.Errorf("of %d handshakes failed: %s", handshakes, show(errors))
	}
	finish()
}
