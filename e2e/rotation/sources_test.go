// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package rotation

import (
	"testing"
	"time"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/pki"
)

// The CA of a mesh comes from istiod, then from Meshwright, then from a user's Secret, then from cert-manager, while two minors of istiod serve: the gateway holds its version.
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
	finish, compare := traffic(t, 40*time.Minute), witness(t)
	rotate(t, "default-1", v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceManaged})
	source(t, "mesh-ca", issued(t, "users"))
	rotate(t, "default-2", v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceSecret, Secret: &v1alpha1.SecretCA{Name: "mesh-ca"}})
	env.InstallCertManager(t)
	root, signer := rootOf(t, "issuer")
	key, err := pki.EncodeKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := env.CAIssuer(t.Context(), "istio-system", "mesh", pki.EncodeCertificates(root), key); err != nil {
		t.Fatal(err)
	}
	rotate(t, "default-3", v1alpha1.CertificateAuthority{Type: v1alpha1.CASourceCertManager, CertManager: &v1alpha1.CertManagerCA{
		IssuerRef: v1alpha1.IssuerRef{Name: "mesh"},
	}})
	compare()
	errors, handshakes := tlsErrors(t)
	t.Logf("proxies counted %d handshakes, of which failed: %v", handshakes, errors)
	if len(errors) > 0 || handshakes == 0 {
		t.Errorf("of %d handshakes failed: %s", handshakes, show(errors))
	}
	finish()
}
