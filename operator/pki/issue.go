// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// NewKey makes a private key. Random, here and below, is crypto/rand.Reader outside of tests: what decides has no chance of its own.
func NewKey(random io.Reader, a v1alpha1.KeyAlgorithm) (crypto.Signer, error) {
	bits := map[v1alpha1.KeyAlgorithm]int{v1alpha1.RSA2048: 2048, v1alpha1.RSA3072: 3072, v1alpha1.RSA4096: 4096} //nolint:mnd // they are what the names say
	switch a {
	case v1alpha1.ECDSAP256:
		return ecdsa.GenerateKey(elliptic.P256(), random)
	case v1alpha1.ECDSAP384:
		return ecdsa.GenerateKey(elliptic.P384(), random)
	case v1alpha1.RSA2048, v1alpha1.RSA3072, v1alpha1.RSA4096:
		return rsa.GenerateKey(random, bits[a])
	}
	return nil, fmt.Errorf("unknown algorithm %q", a)
}

// backdated is how far before now certificates begin, for clocks that are behind.
const backdated = 10 * time.Minute

// AuthorityRequest is what a CA certificate is to be.
type AuthorityRequest struct {
	// Subject of the certificate. A root is made unlike every other by the number that it gets.
	CommonName, Organization string
	// Now and Life bound it.
	Now  time.Time
	Life time.Duration
	// PathLength is how many CAs may be below it.
	PathLength int
	// TrustDomains that its leaves may be of; none: all.
	TrustDomains []string
}

// NewRoot makes a root that signs itself, with a key that its caller keeps.
func NewRoot(random io.Reader, key crypto.Signer, r AuthorityRequest) (*x509.Certificate, error) {
	template, err := r.template(random, key.Public())
	if err != nil {
		return nil, err
	}
	template.Subject.SerialNumber = template.SerialNumber.Text(16) //nolint:mnd // hex
	return create(random, template, template, key.Public(), key)
}

// NewIntermediate issues a CA certificate for a public key with an authority. It ends no later than that.
func NewIntermediate(random io.Reader, issuer *x509.Certificate, signer crypto.Signer, public crypto.PublicKey, r AuthorityRequest) (*x509.Certificate, error) {
	template, err := r.template(random, public)
	if err != nil {
		return nil, err
	}
	if template.NotAfter.After(issuer.NotAfter) {
		template.NotAfter = issuer.NotAfter
	}
	return create(random, template, issuer, public, signer)
}

// NewRequest is a certificate signing request, as PEM, for a CA under a root that is kept elsewhere.
func NewRequest(random io.Reader, key crypto.Signer, r AuthorityRequest) ([]byte, error) {
	raw, err := x509.CreateCertificateRequest(random, &x509.CertificateRequest{Subject: r.subject()}, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate signing request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: raw}), nil
}

func (r AuthorityRequest) subject() pkix.Name {
	out := pkix.Name{CommonName: r.CommonName}
	if r.Organization != "" {
		out.Organization = []string{r.Organization}
	}
	return out
}

func (r AuthorityRequest) template(random io.Reader, public crypto.PublicKey) (*x509.Certificate, error) {
	serial, err := serialNumber(random)
	if err != nil {
		return nil, err
	}
	out := &x509.Certificate{
		SerialNumber: serial, Subject: r.subject(), PublicKey: public,
		NotBefore: r.Now.Add(-backdated).UTC(), NotAfter: r.Now.Add(r.Life).UTC(),
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: r.PathLength, MaxPathLenZero: r.PathLength == 0,
		KeyUsage:            x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		PermittedURIDomains: r.TrustDomains, PermittedDNSDomainsCritical: len(r.TrustDomains) > 0,
	}
	return out, nil
}

// serialNumber is random, of 127 bits of which the first is set.
func serialNumber(random io.Reader) (*big.Int, error) {
	raw := make([]byte, 16) //nolint:mnd // 128 bits
	if _, err := io.ReadFull(random, raw); err != nil {
		return nil, fmt.Errorf("making a serial number: %w", err)
	}
	raw[0] = raw[0]&0x7f | 0x40 // positive, and never short
	return new(big.Int).SetBytes(raw), nil
}

func create(random io.Reader, template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	raw, err := x509.CreateCertificate(random, template, parent, public, signer)
	if err != nil {
		return nil, fmt.Errorf("issuing a certificate: %w", err)
	}
	out, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, fmt.Errorf("reading an issued certificate: %w", err)
	}
	return out, nil
}

// LeafRequest is what a leaf is to be.
type LeafRequest struct {
	// URI is the SPIFFE identity; DNSNames those of a server.
	URI      *url.URL
	DNSNames []string
	// NotBefore and NotAfter bound it.
	NotBefore, NotAfter time.Time
}

// Leaf issues a leaf with a new key, as istiod does: for servers and for clients.
func (b *Bundle) Leaf(random io.Reader, r LeafRequest) (tls.Certificate, error) {
	if b.Signer == nil {
		return tls.Certificate{}, errors.New("there is no key to issue a leaf with")
	}
	return b.leaf(random, r)
}

func (b *Bundle) leaf(random io.Reader, r LeafRequest) (tls.Certificate, error) {
	key, err := NewKey(random, v1alpha1.ECDSAP256)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := serialNumber(random)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: r.NotBefore.UTC(), NotAfter: r.NotAfter.UTC(), URIs: []*url.URL{r.URI}, DNSNames: r.DNSNames,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	leaf, err := create(random, template, b.Signing, key.Public(), b.Signer)
	if err != nil {
		return tls.Certificate{}, err
	}
	out := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	for _, c := range append([]*x509.Certificate{b.Signing}, b.Between...) {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}
