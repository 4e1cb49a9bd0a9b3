// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"
)

// Problem is something that is wrong with a bundle.
type Problem struct {
	// Field is the key of the Secret, with an index where it holds several certificates: root-cert.pem[1].
	Field string
	// Why is what is wrong, without a subject; Remedy says what to do.
	Why, Remedy string
	// At is when time alone has mended it; zero for never.
	At time.Time
}

func (p Problem) String() string { return p.Field + " " + p.Why + ": " + p.Remedy }

// Rules are what a bundle has to do in a mesh.
type Rules struct {
	// Random is what the key of a leaf is made of that is issued to try.
	Random io.Reader
	// Now is the time, Use when something is first issued with the bundle, and Skew how far clocks of the mesh may be apart.
	Now, Use time.Time
	Skew     time.Duration
	// TrustDomain of the mesh and Host of istiod, as its leaves name them.
	TrustDomain, Host string
	// LongestLeaf is the longest life of a leaf that istiod issues: what issues it lives longer.
	LongestLeaf time.Duration
	// Trusted are the roots that proxies trust now.
	Trusted []*x509.Certificate
}

// Check says what is wrong with a bundle, in the order of its files; nothing where istiod would take it and every proxy of the mesh could verify its
// leaves.
func (b *Bundle) Check(r Rules) []Problem {
	var out []Problem
	for i, c := range b.Roots {
		field := at(KeyRoots, i, len(b.Roots))
		out = append(out, r.authority(field, c)...)
		if c.CheckSignatureFrom(c) != nil {
			out = append(out, Problem{Field: field, Why: "is not signed by itself", Remedy: "give the root, and what it has signed in " + KeyChain})
		}
		out = append(out, namesake(field, c, slices.Concat(b.Roots[:i], r.Trusted))...)
	}
	if !slices.ContainsFunc(b.Roots, b.Signing.Equal) {
		out = append(out, r.authority(KeySigningCertificate, b.Signing)...)
	}
	for i, c := range b.Between {
		out = append(out, r.authority(at(KeyChain, i, len(b.Between)), c)...)
	}
	if left := b.Signing.NotAfter.Sub(r.Now); left > 0 && left < r.LongestLeaf {
		out = append(out, Problem{
			Field: KeySigningCertificate, Why: fmt.Sprintf("expires in %s, and leaves live for %s", left.Round(time.Second), r.LongestLeaf),
			Remedy: "give one that lives longer",
		})
	}
	if !matches(b.Signer, b.Signing) {
		out = append(out, Problem{Field: KeySigningKey, Why: "is not the key of " + KeySigningCertificate, Remedy: "give the two that belong together"})
	}
	if len(out) > 0 {
		return out // what follows would say the same in other words
	}
	return b.tryLeaf(r)
}

func at(key string, i, n int) string {
	if n == 1 {
		return key
	}
	return fmt.Sprintf("%s[%d]", key, i)
}

// authority says what is wrong with a certificate that others are to be issued with.
func (r Rules) authority(field string, c *x509.Certificate) []Problem {
	var out []Problem
	problem := func(why, remedy string) { out = append(out, Problem{Field: field, Why: why, Remedy: remedy}) }
	if !c.BasicConstraintsValid || !c.IsCA {
		problem("is not the certificate of a CA (CA:FALSE)", "issue it with basicConstraints CA:TRUE")
	}
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0 {
		problem("may not sign certificates", "issue it with the key usage keyCertSign")
	}
	switch {
	case c.NotAfter.Before(r.Now.Add(r.Skew)):
		problem("expired at "+stamp(c.NotAfter), "issue it anew")
	case c.NotBefore.After(r.Use.Add(-r.Skew)):
		out = append(out, Problem{
			Field: field, Why: fmt.Sprintf("is not valid before %s, and clocks may be %s apart", stamp(c.NotBefore), r.Skew),
			Remedy: "wait, or issue it with an earlier notBefore; look at the clocks of your nodes", At: c.NotBefore.Add(r.Skew),
		})
	}
	if why := unverifiable(c); why != "" {
		problem(why, "use ECDSA with P-256 or P-384, or RSA with 2048 bits or more, and SHA-256 or better")
	}
	return out
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// smallestRSA is the least that proxies accept, in bits.
const smallestRSA = 2048

// unverifiable says why istiod could not sign with a certificate, or some proxy could not verify it.
func unverifiable(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
			return "has an ECDSA key on the curve " + key.Params().Name
		}
	case *rsa.PublicKey:
		if key.N.BitLen() < smallestRSA {
			return fmt.Sprintf("has an RSA key of %d bits", key.N.BitLen())
		}
	default:
		return "has a key of type " + c.PublicKeyAlgorithm.String()
	}
	switch c.SignatureAlgorithm {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS:
		return ""
	default:
		return "is signed with " + c.SignatureAlgorithm.String()
	}
}

// namesake finds a root of the same subject and another key: by its name alone a peer could not choose the right one.
func namesake(field string, c *x509.Certificate, others []*x509.Certificate) []Problem {
	for _, other := range others {
		if string(other.RawSubject) == string(c.RawSubject) && string(other.RawSubjectPublicKeyInfo) != string(c.RawSubjectPublicKeyInfo) {
			return []Problem{{Field: field, Why: "has the subject of another root with another key (" + c.Subject.String() + ")", Remedy: "give each root a subject of its own"}}
		}
	}
	return nil
}

// matches says whether a key is that of a certificate.
func matches(key crypto.Signer, c *x509.Certificate) bool {
	public, ok := key.Public().(interface {
		Equal(other crypto.PublicKey) bool
	})
	return ok && public.Equal(c.PublicKey)
}

// tryLeaf issues a leaf as istiod would, and verifies it as a proxy does: that finds whatever is wrong with the chain, the length of its path and its
// name constraints.
func (b *Bundle) tryLeaf(r Rules) []Problem {
	leaf, err := b.leaf(r.Random, LeafRequest{
		URI: &url.URL{Scheme: "spiffe", Host: r.TrustDomain, Path: "/ns/default/sa/default"}, DNSNames: []string{r.Host},
		NotBefore: r.Now.Add(-time.Minute), NotAfter: r.Now.Add(r.LongestLeaf),
	})
	if err != nil {
		return []Problem{{Field: KeySigningKey, Why: "can't sign: " + err.Error(), Remedy: "give a key that can"}}
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range b.Roots {
		roots.AddCert(c)
	}
	for _, c := range append([]*x509.Certificate{b.Signing}, b.Between...) {
		between.AddCert(c)
	}
	_, err = leaf.Leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: r.Now, DNSName: r.Host,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err == nil {
		return nil
	}
	return []Problem{unverified(err)}
}

// unverified is why a leaf does not verify.
func unverified(err error) Problem {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.TooManyIntermediates:
		return Problem{Field: KeyChain, Why: "is longer than a certificate in it allows (pathlen)", Remedy: "issue the CA above with a greater path length, or shorten the chain"}
	case errors.As(err, &invalid) && invalid.Reason == x509.CANotAuthorizedForThisName:
		return Problem{Field: KeySigningCertificate, Why: "may not sign what istiod signs (" + invalid.Detail + ")", Remedy: "issue it with name constraints that permit the trust domain and the host of istiod"}
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		return Problem{Field: KeySigningCertificate, Why: "may not sign for servers and clients", Remedy: "issue it without extended key usages, or with serverAuth and clientAuth"}
	case errors.As(err, &unknown):
		return Problem{Field: KeyChain, Why: "does not lead from " + KeySigningCertificate + " to a certificate of " + KeyRoots, Remedy: "give the certificates between the two"}
	}
	return Problem{Field: KeySigningCertificate, Why: "issues leaves that don't verify (" + err.Error() + ")", Remedy: "look at its extensions"}
}
