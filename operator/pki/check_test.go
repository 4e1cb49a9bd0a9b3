// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"testing"
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func rules() Rules {
	return Rules{
		Random: rand.Reader, Now: noon, Use: noon, Skew: 5 * time.Minute, TrustDomain: "cluster.local", Host: "istiod.istio-system.svc", LongestLeaf: 24 * time.Hour,
	}
}

// altered is a root made by hand, for what NewRoot does not make.
func altered(t *testing.T, change func(*x509.Certificate)) authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "by hand"}, NotBefore: noon.Add(-year), NotAfter: noon.Add(year),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	change(template)
	key := newKey(t, v1alpha1.ECDSAP256)
	c, err := create(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return authority{c, key}
}

// Each thing that is wrong with a bundle is found before anything is written, with the file that it is in.
func TestCheck(t *testing.T) {
	top := root(t, request("top"))
	signing := top.issue(t, request("signing", func(r *AuthorityRequest) { r.PathLength = 0 }))
	other := root(t, request("other"))
	bundle := func(signing authority, between []*x509.Certificate, roots ...authority) *Bundle {
		return &Bundle{Signing: signing.certificate, Signer: signing.key, Between: between, Roots: certificates(roots...)}
	}
	own := func(change func(*x509.Certificate)) *Bundle {
		a := altered(t, change)
		return bundle(a, nil, a)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edwardsRoot, err := NewRoot(rand.Reader, edwards, request("edwards"))
	if err != nil {
		t.Fatal(err)
	}
	middle := top.issue(t, request("middle", func(r *AuthorityRequest) { r.PathLength = 0 }))
	tooDeep := middle.issue(t, request("too deep", func(r *AuthorityRequest) { r.PathLength = 0 }))
	elsewhere := top.issue(t, request("elsewhere", func(r *AuthorityRequest) { r.PathLength, r.TrustDomains = 0, []string{"example.com"} }))
	for _, tc := range []struct {
		reason string
		bundle *Bundle
		rules  func(*Rules)
		want   []string
	}{
		{"an intermediate under its root", bundle(signing, nil, top), nil, nil},
		{"a root that signs itself, beside another one", bundle(top, nil, top, other), nil, nil},
		{"CA:FALSE", own(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature }), nil, []string{
			"root-cert.pem is not the certificate of a CA (CA:FALSE)", "root-cert.pem may not sign certificates", "root-cert.pem is not signed by itself",
		}},
		{"expired", own(func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Hour) }), nil, []string{"root-cert.pem expired at 2026-03-01T11:00:00Z"}},
		{
			"expired for clocks that are ahead", own(func(c *x509.Certificate) { c.NotAfter = noon.Add(4 * time.Minute) }), nil,
			[]string{"root-cert.pem expired at", "ca-cert.pem expires in 4m0s, and leaves live for 24h0m0s"},
		},
		{"not valid yet for clocks that are behind", own(func(c *x509.Certificate) { c.NotBefore = noon.Add(-4 * time.Minute) }), nil, []string{
			"root-cert.pem is not valid before 2026-03-01T11:56:00Z, and clocks may be 5m0s apart",
		}},
		{"ends before its leaves", own(func(c *x509.Certificate) { c.NotAfter = noon.Add(23 * time.Hour) }), nil, []string{
			"ca-cert.pem expires in 23h0m0s, and leaves live for 24h0m0s: give one that lives longer",
		}},
		{"a key of another certificate", bundle(authority{signing.certificate, top.key}, nil, top), nil, []string{"ca-key.pem is not the key of ca-cert.pem"}},
		{"a root of something else", bundle(signing, nil, other), nil, []string{"cert-chain.pem does not lead from ca-cert.pem to a certificate of root-cert.pem"}},
		{"the chain is missing", bundle(tooDeep, nil, top), nil, []string{"cert-chain.pem does not lead"}},
		{"an intermediate as a root", bundle(signing, nil, signing), nil, []string{"root-cert.pem is not signed by itself"}},
		{"the path is too short", bundle(tooDeep, certificates(middle), top), nil, []string{"cert-chain.pem is longer than a certificate in it allows (pathlen)"}},
		{"names of another trust domain", bundle(elsewhere, nil, top), nil, []string{"ca-cert.pem may not sign what istiod signs"}},
		{"names of the trust domain", bundle(elsewhere, nil, top), func(r *Rules) { r.TrustDomain = "example.com" }, nil},
		{
			"a key that istiod does not sign with", bundle(authority{edwardsRoot, edwards}, nil, authority{edwardsRoot, edwards}), nil,
			[]string{"root-cert.pem has a key of type Ed25519: use ECDSA with P-256 or P-384"},
		},
		{
			"a root that is named like one that is trusted", own(func(*x509.Certificate) {}),
			func(r *Rules) { r.Trusted = certificates(altered(t, func(*x509.Certificate) {})) },
			[]string{"root-cert.pem has the subject of another root with another key (CN=by hand): give each root a subject of its own"},
		},
		{
			"only for mail", own(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection} }), nil,
			[]string{"ca-cert.pem may not sign for servers and clients"},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			r := rules()
			if tc.rules != nil {
				tc.rules(&r)
			}
			expect(t, tc.bundle.Check(r), tc.want)
		})
	}
}

// A leaf is verified by a proxy that trusts its root, and by no other.
func TestLeaf(t *testing.T) {
	top, other := root(t, request("top")), root(t, request("other"))
	signing := top.issue(t, request("signing", func(r *AuthorityRequest) { r.PathLength = 0 }))
	b := &Bundle{Signing: signing.certificate, Signer: signing.key, Roots: certificates(top)}
	leaf, err := b.Leaf(rand.Reader, LeafRequest{
		URI: &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/a/sa/b"}, NotBefore: noon.Add(-time.Minute), NotAfter: noon.Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		trusts authority
		want   bool
	}{{top, true}, {other, false}} {
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(tc.trusts.certificate)
		between.AddCert(signing.certificate)
		_, err := leaf.Leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: between, CurrentTime: noon, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		if (err == nil) != tc.want {
			t.Errorf("verified by %s: %v", tc.trusts.certificate.Subject.CommonName, err)
		}
	}
}
