// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const year = 365 * 24 * time.Hour

// authority is a certificate with its key.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func newKey(t *testing.T, a v1alpha1.KeyAlgorithm) crypto.Signer {
	t.Helper()
	key, err := NewKey(rand.Reader, a)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func request(name string, changes ...func(*AuthorityRequest)) AuthorityRequest {
	r := AuthorityRequest{CommonName: name, Organization: "Bank", Now: noon, Life: 10 * year, PathLength: 1}
	for _, change := range changes {
		change(&r)
	}
	return r
}

func root(t *testing.T, r AuthorityRequest) authority {
	t.Helper()
	key := newKey(t, v1alpha1.ECDSAP256)
	c, err := NewRoot(rand.Reader, key, r)
	if err != nil {
		t.Fatal(err)
	}
	return authority{c, key}
}

func (a authority) issue(t *testing.T, r AuthorityRequest) authority {
	t.Helper()
	key := newKey(t, v1alpha1.ECDSAP384)
	c, err := NewIntermediate(rand.Reader, a.certificate, a.key, key.Public(), r)
	if err != nil {
		t.Fatal(err)
	}
	return authority{c, key}
}

func key(t *testing.T, a authority) []byte {
	t.Helper()
	out, err := EncodeKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// istiods is a Secret in the layout of istiod.
func istiods(t *testing.T, signing authority, chain, roots []*x509.Certificate) map[string][]byte {
	t.Helper()
	return map[string][]byte{
		"ca-cert.pem": EncodeCertificates(signing.certificate), "ca-key.pem": key(t, signing),
		"cert-chain.pem": EncodeCertificates(chain...), "root-cert.pem": EncodeCertificates(roots...),
	}
}

func certificates(all ...authority) []*x509.Certificate {
	var out []*x509.Certificate
	for _, a := range all {
		out = append(out, a.certificate)
	}
	return out
}

// Both layouts say the same, and the chain may repeat what is known.
func TestParseBundle(t *testing.T) {
	top := root(t, request("top", func(r *AuthorityRequest) { r.PathLength = 2 }))
	middle := top.issue(t, request("middle"))
	signing := middle.issue(t, request("signing", func(r *AuthorityRequest) { r.PathLength = 0 }))
	other := root(t, request("other"))
	for _, tc := range []struct {
		reason string
		data   map[string][]byte
		roots  []authority
	}{
		{
			"istiod's layout", istiods(t, signing, certificates(middle), certificates(top, other)),
			[]authority{top, other},
		},
		{
			"a chain that begins with the certificate itself and ends with the root", istiods(t, signing, certificates(signing, middle, top), certificates(top)),
			[]authority{top},
		},
		{
			"that of kubernetes.io/tls, as cert-manager writes it",
			map[string][]byte{
				"tls.crt": EncodeCertificates(certificates(signing, middle)...), "tls.key": key(t, signing), "ca.crt": EncodeCertificates(top.certificate),
			},
			[]authority{top},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			got, problems := ParseBundle(tc.data)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			if !got.Signing.Equal(signing.certificate) || !slices.EqualFunc(got.Between, certificates(middle), (*x509.Certificate).Equal) ||
				!slices.EqualFunc(got.Roots, certificates(tc.roots...), (*x509.Certificate).Equal) {
				t.Errorf("got %s under %d between, %d roots", got.Signing.Subject, len(got.Between), len(got.Roots))
			}
			if problems := got.Check(rules()); len(problems) > 0 {
				t.Error(problems)
			}
		})
	}
}

// What can't be read is told by the key of the Secret, and no byte of a private key is in the words.
func TestParseBundleProblems(t *testing.T) {
	signing := root(t, request("top"))
	good := istiods(t, signing, nil, certificates(signing))
	with := func(key, value string) map[string][]byte {
		out := maps.Clone(good)
		out[key] = []byte(value)
		return out
	}
	block := func(kind string, raw []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}))
	}
	for _, tc := range []struct {
		reason string
		data   map[string][]byte
		want   []string
	}{
		{"nothing", nil, []string{"ca-cert.pem is missing"}},
		{"no roots", with("root-cert.pem", " \n"), []string{"root-cert.pem is missing, or holds no certificate"}},
		{"text", with("root-cert.pem", "hello"), []string{"root-cert.pem holds something that is no PEM"}},
		{"a key among certificates", with("ca-cert.pem", string(good["ca-key.pem"])), []string{"ca-cert.pem holds a PEM block of type PRIVATE KEY"}},
		{"broken DER", with("ca-cert.pem", block("CERTIFICATE", []byte{1})), []string{"ca-cert.pem holds a certificate that can't be read"}},
		{"a broken chain", with("cert-chain.pem", "x"), []string{"cert-chain.pem holds something that is no PEM"}},
		{"no key", with("ca-key.pem", ""), []string{"ca-key.pem is missing, or holds no private key"}},
		{"an encrypted key", with("ca-key.pem", block("ENCRYPTED PRIVATE KEY", []byte{1})), []string{"ca-key.pem is encrypted"}},
		{"a broken key", with("ca-key.pem", block("EC PRIVATE KEY", []byte{1})), []string{"ca-key.pem holds a private key that can't be read"}},
		{"a certificate instead of a key", with("ca-key.pem", string(good["ca-cert.pem"])), []string{"ca-key.pem holds no private key"}},
		{
			"two at once",
			map[string][]byte{"ca-cert.pem": good["ca-cert.pem"]},
			[]string{"root-cert.pem is missing", "ca-key.pem is missing"},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			_, problems := ParseBundle(tc.data)
			expect(t, problems, tc.want)
		})
	}
}

// expect compares problems with how each begins.
func expect(t *testing.T, problems []Problem, begin []string) {
	t.Helper()
	if len(problems) != len(begin) {
		t.Fatalf("problems %v, want %v", problems, begin)
	}
	for i, want := range begin {
		if !strings.HasPrefix(problems[i].String(), want) {
			t.Errorf("problem %q, want %q", problems[i], want)
		}
	}
}

// Keys are read in each of the ways in which they are written.
func TestParseKey(t *testing.T) {
	ec := newKey(t, v1alpha1.ECDSAP256).(*ecdsa.PrivateKey)
	sec1, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := EncodeKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42}})
	for name, raw := range map[string][]byte{
		"PKCS#8": pkcs8,
		"SEC 1 after its parameters, as openssl writes it": append(parameters, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})...),
	} {
		got, err := ParseKey(raw)
		if err != nil || !ec.PublicKey.Equal(got.Public()) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// What a CA is made for holds: it ends with its issuer, and names what it may sign.
func TestIssue(t *testing.T) {
	top := root(t, request("top", func(r *AuthorityRequest) { r.Life = year }))
	below := top.issue(t, request("below", func(r *AuthorityRequest) { r.PathLength, r.TrustDomains = 0, []string{"cluster.local"} }))
	if !below.certificate.NotAfter.Equal(top.certificate.NotAfter) {
		t.Errorf("it ends at %s, its issuer at %s", below.certificate.NotAfter, top.certificate.NotAfter)
	}
	if !below.certificate.MaxPathLenZero || !cmp.Equal(below.certificate.PermittedURIDomains, []string{"cluster.local"}) {
		t.Errorf("path length %d, domains %v", below.certificate.MaxPathLen, below.certificate.PermittedURIDomains)
	}
	again := root(t, request("top"))
	if bytes.Equal(top.certificate.RawSubject, again.certificate.RawSubject) {
		t.Error("two roots have one subject")
	}
	raw, err := NewRequest(rand.Reader, below.key, request("below"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil || csr.Subject.CommonName != "below" {
		t.Errorf("request %+v, %v", csr, err)
	}
}
