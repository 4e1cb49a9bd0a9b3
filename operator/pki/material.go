// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
)

// Read reads what cacerts holds; nil for a Secret that is not there.
func Read(data map[string][]byte) (Material, *Bundle, []Problem) {
	if data == nil {
		return Material{None: true}, nil, nil
	}
	b, problems := ParseBundle(data)
	if len(problems) > 0 {
		return Material{}, nil, problems
	}
	raw := data[KeyRoots]
	if TLSLayout(data) {
		raw = data[keyTLSRoots]
	}
	lines := int32(len(raw) - len(bytes.TrimRight(raw, "\n"))) //nolint:gosec // a Secret has a megabyte at most
	return Material{Issuer: b.Issuer(), Roots: b.RootPrints(), Padding: max(0, lines-1)}, b, nil
}

// ReadSelfSigned reads the root that istiod made for itself, from its Secret istio-ca-secret.
func ReadSelfSigned(data map[string][]byte) (*Bundle, []Problem) {
	return ParseBundle(map[string][]byte{
		KeySigningCertificate: data[KeySigningCertificate], KeySigningKey: data[KeySigningKey], KeyRoots: data[KeySigningCertificate],
	})
}

// TLSLayout says whether a Secret has the layout of kubernetes.io/tls. Istiod prefers it to its own.
func TLSLayout(data map[string][]byte) bool {
	_, is := data[keyTLSCertificate]
	return is
}

// Files are what cacerts holds for a material, made of the bundles of both sides, in istiod's own layout or that of kubernetes.io/tls.
func (m Material) Files(tls bool, sides ...*Bundle) (map[string][]byte, error) {
	roots := map[Fingerprint]*x509.Certificate{}
	var signing *Bundle
	for _, b := range sides {
		for _, c := range b.Roots {
			roots[FingerprintOf(c)] = c
		}
		if b.Issuer() == m.Issuer {
			signing = b
		}
	}
	if signing == nil || signing.Signer == nil {
		return nil, fmt.Errorf("there is no key for issuer %s", short(m.Issuer))
	}
	var trusted []*x509.Certificate
	for _, f := range m.Roots {
		if roots[f] == nil {
			return nil, fmt.Errorf("there is no root %s", short(f))
		}
		trusted = append(trusted, roots[f])
	}
	key, err := EncodeKey(signing.Signer)
	if err != nil {
		return nil, err
	}
	anchors := append(EncodeCertificates(trusted...), bytes.Repeat([]byte("\n"), int(m.Padding))...)
	chain := EncodeCertificates(append([]*x509.Certificate{signing.Signing}, signing.Between...)...)
	if tls {
		return map[string][]byte{keyTLSCertificate: chain, keyTLSKey: key, keyTLSRoots: anchors}, nil
	}
	return map[string][]byte{KeySigningCertificate: EncodeCertificates(signing.Signing), KeySigningKey: key, KeyChain: chain, KeyRoots: anchors}, nil
}

// RootOf is the root of a bundle that its issuer leads to. A bundle that passed its check has one.
func (b *Bundle) RootOf() *x509.Certificate {
	for _, c := range b.Roots {
		if c.Equal(b.Signing) {
			return c
		}
	}
	pool := x509.NewCertPool()
	for _, c := range b.Between {
		pool.AddCert(c)
	}
	for _, c := range b.Roots {
		one := x509.NewCertPool()
		one.AddCert(c)
		_, err := b.Signing.Verify(x509.VerifyOptions{
			Roots: one, Intermediates: pool, CurrentTime: b.Signing.NotBefore.Add(b.Signing.NotAfter.Sub(b.Signing.NotBefore) / 2), //nolint:mnd // half of its life
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		if err == nil {
			return c
		}
	}
	return nil
}

// Own is a bundle with no other root than its own.
func (b *Bundle) Own() *Bundle {
	out := *b
	if root := b.RootOf(); root != nil {
		out.Roots = []*x509.Certificate{root}
	}
	return &out
}

// Prefixed puts a prefix before each key of a Secret's data, so that one Secret can hold both sides of a rotation.
func Prefixed(prefix string, data map[string][]byte) map[string][]byte {
	out := map[string][]byte{}
	for key, value := range data {
		out[prefix+key] = value
	}
	return out
}

// Unprefixed are the entries of a Secret's data whose keys have a prefix, without it.
func Unprefixed(prefix string, data map[string][]byte) map[string][]byte {
	out := map[string][]byte{}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if rest, has := bytes.CutPrefix([]byte(key), []byte(prefix)); has {
			out[string(rest)] = data[key]
		}
	}
	return out
}
