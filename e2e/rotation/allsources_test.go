// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && long

package rotation

import (
	"testing"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/pki"
)

// The CA of a mesh comes from istiod, from Meshwright, from a user's Secret and from cert-manager, one after the other.
func TestSources(t *testing.T) {
	sources(t, func() {
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
	})
}
