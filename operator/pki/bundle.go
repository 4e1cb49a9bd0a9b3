// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// Fingerprint is the SHA-256 of a certificate's DER, as 64 digits of lower-case hex. It tells certificates apart; subjects do not.
type Fingerprint string

// FingerprintOf is that of a certificate.
func FingerprintOf(c *x509.Certificate) Fingerprint {
	sum := sha256.Sum256(c.Raw)
	return Fingerprint(hex.EncodeToString(sum[:]))
}

// Keys of the Secret cacerts as istiod reads it, and of a Secret of type kubernetes.io/tls.
const (
	KeySigningCertificate = "ca-cert.pem"
	KeySigningKey         = "ca-key.pem"
	KeyChain              = "cert-chain.pem"
	KeyRoots              = "root-cert.pem"
	keyTLSCertificate     = "tls.crt"
	keyTLSKey             = "tls.key"
	keyTLSRoots           = "ca.crt"
)

// KnownKey says whether a CA is made of what a Secret has under a key.
func KnownKey(key string) bool {
	switch key {
	case KeySigningCertificate, KeySigningKey, KeyChain, KeyRoots, keyTLSCertificate, keyTLSKey, keyTLSRoots:
		return true
	}
	return false
}

// Bundle is what istiod signs with, and what it makes proxies trust.
type Bundle struct {
	// Signing is the certificate that leaves are issued with.
	Signing *x509.Certificate
	// Between are the certificates from it to the root, without both; empty where the root issued it, or it is the root.
	Between []*x509.Certificate
	// Signer is the key of Signing; nil where only certificates were read.
	Signer crypto.Signer
	// Roots that proxies are made to trust, in the order of their bytes.
	Roots []*x509.Certificate
	// Anchors are the roots as they were read, to the byte; nil where they were made.
	Anchors []byte
}

// Issuer is the fingerprint of what leaves are issued with.
func (b *Bundle) Issuer() Fingerprint { return FingerprintOf(b.Signing) }

// RootPrints are the fingerprints of the roots, in their order.
func (b *Bundle) RootPrints() []Fingerprint {
	out := make([]Fingerprint, len(b.Roots))
	for i, c := range b.Roots {
		out[i] = FingerprintOf(c)
	}
	return out
}

// ParseBundle reads a Secret as istiod does, which prefers the second layout where there are both: istiod's own layout (ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem), or that of kubernetes.io/tls (tls.crt,
// tls.key, ca.crt), in which tls.crt holds the whole chain. What can't be read is told by the key of the Secret; the bytes are in no message.
func ParseBundle(data map[string][]byte) (*Bundle, []Problem) {
	if TLSLayout(data) {
		return parse(data, keyTLSCertificate, keyTLSKey, "", keyTLSRoots)
	}
	if _, plain := data[KeySigningCertificate]; plain {
		return parse(data, KeySigningCertificate, KeySigningKey, KeyChain, KeyRoots)
	}
	return nil, []Problem{{
		Field: KeySigningCertificate, Why: "is missing",
		Remedy: "give ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem, or tls.crt, tls.key and ca.crt",
	}}
}

func parse(data map[string][]byte, signing, key, chain, roots string) (*Bundle, []Problem) {
	var problems []Problem
	certificates := func(name string) []*x509.Certificate {
		out, err := ParseCertificates(data[name])
		if err == nil && len(out) == 0 {
			err = errors.New("is missing, or holds no certificate")
		}
		if err != nil {
			problems = append(problems, Problem{Field: name, Why: err.Error(), Remedy: "give PEM blocks of type CERTIFICATE"})
		}
		return out
	}
	out := &Bundle{Roots: certificates(roots), Anchors: data[roots]}
	own := certificates(signing)
	if chain != "" && len(bytes.TrimSpace(data[chain])) > 0 {
		own = append(own, certificates(chain)...)
	}
	signer, err := ParseKey(data[key])
	if err != nil {
		problems = append(problems, Problem{Field: key, Why: err.Error(), Remedy: "give the key of " + signing + " as PEM, not encrypted"})
	}
	if len(problems) > 0 {
		return nil, problems
	}
	out.Signing, out.Signer = own[0], signer
	seen := map[Fingerprint]bool{out.Issuer(): true}
	for _, f := range out.RootPrints() {
		seen[f] = true
	}
	for _, c := range own[1:] { // a chain often repeats the certificate itself, and the root
		if f := FingerprintOf(c); !seen[f] {
			seen[f], out.Between = true, append(out.Between, c)
		}
	}
	return out, nil
}

// ParseCertificates reads all certificates of a PEM file. Other blocks are an error.
func ParseCertificates(raw []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for rest := raw; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			if len(bytes.TrimSpace(rest)) > 0 {
				return nil, errors.New("holds something that is no PEM")
			}
			return out, nil
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds a PEM block of type %s", strings.ToUpper(block.Type))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("holds a certificate that can't be read: %w", err)
		}
		out = append(out, c)
	}
}

// ParseKey reads a private key: PKCS#8, PKCS#1 or SEC 1, as PEM. No error tells anything of it.
func ParseKey(raw []byte) (crypto.Signer, error) {
	for rest := raw; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return nil, errors.New("is missing, or holds no private key")
		}
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		case "EC PARAMETERS": // what openssl writes before the key
			continue
		case "ENCRYPTED PRIVATE KEY":
			return nil, errors.New("is encrypted")
		default:
			return nil, errors.New("holds no private key")
		}
		signer, signs := key.(crypto.Signer)
		if err != nil || !signs {
			return nil, errors.New("holds a private key that can't be read")
		}
		return signer, nil
	}
}

// EncodeCertificates writes certificates as PEM, one after the other.
func EncodeCertificates(all ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range all {
		_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}) // a buffer takes everything
	}
	return out.Bytes()
}

// EncodeKey writes a private key as PEM of PKCS#8.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, errors.New("a key that does not leave its device can't be given to istiod")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), nil
}
