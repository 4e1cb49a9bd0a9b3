// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build cgo

package softhsm

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ThalesGroup/crypto11"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/pki"
)

const (
	module = "/usr/lib/softhsm/libsofthsm2.so" // where Debian has it
	label  = "offline"
	pin    = "4711"
	year   = 365 * 24 * time.Hour
)

// algorithms are what roots are made with, each with how a token makes a key of it.
var algorithms = []struct {
	name string
	make func(token *crypto11.Context) (crypto.Signer, error)
}{
	{"ECDSA-P256", func(token *crypto11.Context) (crypto.Signer, error) {
		return token.GenerateECDSAKeyPairWithLabel([]byte{1}, []byte("ECDSA-P256"), elliptic.P256())
	}},
	{"RSA-3072", func(token *crypto11.Context) (crypto.Signer, error) {
		return token.GenerateRSAKeyPairWithLabel([]byte{2}, []byte("RSA-3072"), 3072)
	}},
}

// A root whose key is in a token signs what a mesh needs, and the key stays where it is.
func TestRootInAToken(t *testing.T) {
	token := newToken(t)
	for _, a := range algorithms {
		t.Run(a.name, func(t *testing.T) {
			key, err := a.make(token)
			if err != nil {
				t.Fatal(err)
			}
			staysInside(t, token, key)

			// The token's key signs its own root.
			now := time.Now()
			root, err := pki.NewRoot(rand.Reader, key, pki.AuthorityRequest{CommonName: "offline root", Now: now, Life: 10 * year, PathLength: 1})
			if err != nil {
				t.Fatal(err)
			}

			// The operator has a key of its own in memory, and asks.
			istiod, asked := ask(t)

			// The token's key answers. It sees the public key only.
			intermediate, err := pki.NewIntermediate(rand.Reader, root, key, publicKey(t, asked), pki.AuthorityRequest{CommonName: "istiod of mesh default", Now: now, Life: year})
			if err != nil {
				t.Fatal(err)
			}

			works(t, &pki.Bundle{Signing: intermediate, Signer: istiod, Roots: []*x509.Certificate{root}}, now)
		})
	}
}

// Another key of the token is not taken for the root's.
func TestAnotherKeyOfTheToken(t *testing.T) {
	token := newToken(t)
	var keys []crypto.Signer
	for _, a := range algorithms {
		key, err := a.make(token)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	root, err := pki.NewRoot(rand.Reader, keys[0], pki.AuthorityRequest{CommonName: "offline root", Now: time.Now(), Life: year, PathLength: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, asked := ask(t)
	if c, err := pki.NewIntermediate(rand.Reader, root, keys[1], publicKey(t, asked), pki.AuthorityRequest{CommonName: "istiod", Now: time.Now(), Life: year}); err == nil {
		t.Errorf("signed by %s: %s", c.SignatureAlgorithm, c.Subject)
	}
}

// The program sign answers a request as docs/certificates.md says, and the operator can use what it has written.
func TestSign(t *testing.T) {
	token := newToken(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "sign")
	run(t, "go", "build", "-o", program, "./sign")
	t.Setenv("PKCS11_PIN", pin)
	for _, a := range algorithms {
		t.Run(a.name, func(t *testing.T) {
			if _, err := a.make(token); err != nil {
				t.Fatal(err)
			}
			istiod, asked := ask(t)
			dir := t.TempDir()
			root, request := filepath.Join(dir, "root.pem"), filepath.Join(dir, "istiod.csr")
			write(t, request, asked)
			args := []string{"-module", module, "-token", label, "-key", a.name, "-root", root, "-out", dir}

			t.Log(run(t, program, append(args, "-new-root", "offline root of "+a.name, request)...))

			signed, roots := certificates(t, filepath.Join(dir, "tls.crt")), certificates(t, filepath.Join(dir, "ca.crt"))
			works(t, &pki.Bundle{Signing: signed[0], Between: signed[1:], Signer: istiod, Roots: roots}, time.Now())
			if got, want := signed[0].Subject.String(), "CN=istiod of mesh default,O=default"; got != want {
				t.Errorf("it signed %s, and was asked for %s", got, want)
			}

			// The same root answers the next request.
			istiod, asked = ask(t)
			write(t, request, asked)
			run(t, program, append(args, request)...)
			works(t, &pki.Bundle{Signing: certificates(t, filepath.Join(dir, "tls.crt"))[0], Signer: istiod, Roots: roots}, time.Now())
			if again := certificates(t, filepath.Join(dir, "ca.crt")); len(again) != 1 || !again[0].Equal(roots[0]) {
				t.Errorf("another root than %s: %v", roots[0].Subject, again)
			}
		})
	}
}

// The program says what stands in its way, and writes nothing.
func TestSignRefuses(t *testing.T) {
	token := newToken(t)
	if _, err := algorithms[0].make(token); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program, root := filepath.Join(dir, "sign"), filepath.Join(dir, "root.pem")
	run(t, "go", "build", "-o", program, "./sign")
	_, asked := ask(t)
	t.Setenv("PKCS11_PIN", pin)
	write(t, filepath.Join(dir, "good.csr"), asked)
	run(t, program, "-module", module, "-token", label, "-key", "ECDSA-P256", "-root", root, "-out", dir, "-new-root", "offline root", filepath.Join(dir, "good.csr"))

	altered, _ := pem.Decode(asked)
	altered.Bytes[len(altered.Bytes)-1] ^= 1 // in the signature
	for _, tc := range []struct {
		reason, pin, key string
		request          []byte
		more             []string
		want             string
	}{
		{"the token is locked", "0000", "ECDSA-P256", asked, nil, "CKR_PIN_INCORRECT"},
		{"there is no such key", pin, "other", asked, nil, `looking for the key "other"`},
		{"who asks does not have the key", pin, "ECDSA-P256", pem.EncodeToMemory(altered), nil, "verification failure"},
		{"it is a certificate, and no request", pin, "ECDSA-P256", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), nil, "holds no certificate request"},
		{"the root is there, and would be lost", pin, "ECDSA-P256", asked, []string{"-new-root", "again"}, "is there already"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			t.Setenv("PKCS11_PIN", tc.pin)
			out := t.TempDir()
			request := filepath.Join(t.TempDir(), "istiod.csr")
			write(t, request, tc.request)
			args := append([]string{"-module", module, "-token", label, "-key", tc.key, "-root", root, "-out", out}, tc.more...)
			said, err := exec.CommandContext(t.Context(), program, append(args, request)...).CombinedOutput()
			if err == nil || !strings.Contains(string(said), tc.want) {
				t.Errorf("it said %q (%v), not %q", said, err, tc.want)
			}
			if files, err := os.ReadDir(out); err != nil || len(files) > 0 {
				t.Errorf("it wrote %v (%v)", files, err)
			}
		})
	}
}

// newToken makes a token that lives as long as the test, and opens it.
func newToken(t *testing.T) *crypto11.Context {
	t.Helper()
	for _, file := range []string{module, "/usr/bin/softhsm2-util"} {
		if _, err := os.Stat(file); err != nil {
			t.Fatalf("%s is missing: apt-get install softhsm2, or run make test-hsm", file)
		}
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "softhsm2.conf")
	write(t, config, fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", dir))
	t.Setenv("SOFTHSM2_CONF", config)
	run(t, "/usr/bin/softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", pin, "--pin", pin)
	token, err := crypto11.Configure(&crypto11.Config{Path: module, TokenLabel: label, Pin: pin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	})
	return token
}

// staysInside holds a key to be one that its token does not give away: neither by itself, nor to istiod.
func staysInside(t *testing.T, token *crypto11.Context, key crypto.Signer) {
	t.Helper()
	for attribute, want := range map[crypto11.AttributeType]byte{crypto11.CkaExtractable: 0, crypto11.CkaNeverExtractable: 1, crypto11.CkaSensitive: 1} {
		got, err := token.GetAttribute(key, attribute)
		if err != nil || len(got.Value) != 1 || got.Value[0] != want {
			t.Errorf("attribute %#x is %v (%v), not %d", attribute, got, err, want)
		}
	}
	const want = "a key that does not leave its device can't be given to istiod"
	if raw, err := pki.EncodeKey(key); err == nil || err.Error() != want {
		t.Errorf("EncodeKey gave %d bytes and %q, not %q", len(raw), err, want)
	}
}

// ask makes a key in memory and a request for it, as the operator does for a root that is kept offline.
func ask(t *testing.T) (crypto.Signer, []byte) {
	t.Helper()
	key, err := pki.NewKey(rand.Reader, v1alpha1.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	asked, err := pki.NewRequest(rand.Reader, key, pki.AuthorityRequest{CommonName: "istiod of mesh default", Organization: "default"})
	if err != nil {
		t.Fatal(err)
	}
	return key, asked
}

func publicKey(t *testing.T, asked []byte) crypto.PublicKey {
	t.Helper()
	block, _ := pem.Decode(asked)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return request.PublicKey
}

// works holds a bundle to what the operator asks of it before it goes on, to what istiod does with it, and to what proxies think of that.
func works(t *testing.T, b *pki.Bundle, now time.Time) {
	t.Helper()
	const host = "istiod.istio-system.svc"
	earlierKey, err := pki.NewKey(rand.Reader, v1alpha1.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	earlier, err := pki.NewRoot(rand.Reader, earlierKey, pki.AuthorityRequest{CommonName: "offline root", Now: now, Life: year, PathLength: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range b.Check(pki.Rules{
		Random: rand.Reader, Now: now, Use: now, Skew: 5 * time.Minute, TrustDomain: "cluster.local", Host: host, LongestLeaf: 24 * time.Hour,
		Trusted: []*x509.Certificate{earlier},
	}) {
		t.Error(problem)
	}
	if _, err := pki.EncodeKey(b.Signer); err != nil {
		t.Error(err)
	}
	leaf, err := b.Leaf(rand.Reader, pki.LeafRequest{
		URI: &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/cart"}, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
	})
	if err != nil {
		t.Fatal(err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(b.Roots[0])
	for _, raw := range leaf.Certificate[1:] { // as a peer presents them
		c, err := x509.ParseCertificate(raw)
		if err != nil {
			t.Fatal(err)
		}
		between.AddCert(c)
	}
	if _, err := leaf.Leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil {
		t.Errorf("a leaf does not verify: %v", err)
	}
}

func certificates(t *testing.T, file string) []*x509.Certificate {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pki.ParseCertificates(raw)
	if err != nil || len(out) == 0 {
		t.Fatalf("%s holds %d certificates: %v", file, len(out), err)
	}
	return out
}

func write(t *testing.T, file string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}
