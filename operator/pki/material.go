// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Read reads what cacerts holds; nil for a Secret that is not there. All lines after the roots count as padding: see [Material.Beyond].
func Read(data map[string][]byte) (Material, *Bundle, []Problem) {
	if data == nil {
		return Material{None: true}, nil, nil
	}
	b, problems := ParseBundle(data)
	if len(problems) > 0 {
		return Material{}, nil, problems
	}
	return Material{Issuer: b.Issuer(), Roots: b.RootPrints(), Padding: lines(b.Anchors)}, b, nil
}

// lines counts the line ends after the last character.
func lines(raw []byte) int32 {
	return int32(len(raw) - len(bytes.TrimRight(raw, "\n"))) //nolint:gosec // a Secret has a megabyte at most
}

// Beyond is a material that was read, with no more padding than goes beyond what the last root had before.
func (m Material) Beyond(sides ...*Bundle) Material {
	if n := len(m.Roots); n > 0 {
		m.Padding -= lines(anchorOf(m.Roots[n-1], sides))
	}
	return m
}

// anchorOf is a root as the first side that has it has it, to the byte.
func anchorOf(f Fingerprint, sides []*Bundle) []byte {
	for _, b := range sides {
		for _, c := range b.Roots {
			switch {
			case FingerprintOf(c) != f:
			case len(b.Roots) == 1 && b.Anchors != nil:
				return b.Anchors
			default:
				return EncodeCertificates(c)
			}
		}
	}
	return nil
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

// Files are what cacerts holds for a material, made of the bundles of both sides, the one that was there before first, in istiod's own layout or that of
// kubernetes.io/tls.
func (m Material) Files(tls bool, sides ...*Bundle) (map[string][]byte, error) {
	var signing *Bundle
	for _, b := range sides {
		if b.Issuer() == m.Issuer {
			signing = b
		}
	}
	if signing == nil || signing.Signer == nil {
		return nil, fmt.Errorf("there is no key for issuer %s", short(m.Issuer))
	}
	var anchors []byte
	for _, f := range m.Roots {
		anchor := anchorOf(f, sides)
		if anchor == nil {
			return nil, fmt.Errorf("there is no root %s", short(f))
		}
		anchors = append(anchors, anchor...)
	}
	anchors = append(anchors, bytes.Repeat([]byte("\n"), int(m.Padding))...)
	key, err := EncodeKey(signing.Signer)
	if err != nil {
		return nil, err
	}
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
	pool, since := x509.NewCertPool(), b.Signing.NotBefore
	for _, c := range b.Between {
		pool.AddCert(c)
		since = slices.MaxFunc([]time.Time{since, c.NotBefore}, time.Time.Compare)
	}
	for _, c := range b.Roots {
		one := x509.NewCertPool()
		one.AddCert(c)
		_, err := b.Signing.Verify(x509.VerifyOptions{
			Roots: one, Intermediates: pool, CurrentTime: slices.MaxFunc([]time.Time{since, c.NotBefore}, time.Time.Compare), // which is when all are valid, if they ever are
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
	if root := b.RootOf(); root != nil && len(b.Roots) > 1 {
		out.Roots, out.Anchors = []*x509.Certificate{root}, nil
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
