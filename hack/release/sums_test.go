// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

// someRelease is a folder with files and their sums.
func someRelease(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "image"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"a.txt": "a\n", "image/index.json": "{}\n"} {
		write(t, dir, name, content)
	}
	if err := writeSums(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestVerifySums(t *testing.T) {
	for _, tc := range []struct {
		reason string
		tamper func(dir string) error
		want   string
	}{
		{"as it was released", func(string) error { return nil }, ""},
		{"signatures come after the sums", func(dir string) error { return os.WriteFile(filepath.Join(dir, "SHA256SUMS.asc"), nil, 0o600) }, ""},
		{"a changed file", func(dir string) error { return os.WriteFile(filepath.Join(dir, "a.txt"), []byte("b\n"), 0o600) }, "a.txt is not what was released"},
		{"a file that went", func(dir string) error { return os.Remove(filepath.Join(dir, "image", "index.json")) }, "image/index.json is missing"},
		{"a file that came", func(dir string) error { return os.WriteFile(filepath.Join(dir, "image", "b"), nil, 0o600) }, "image/b was not released"},
		{"a link is no file", func(dir string) error { return os.Symlink("a.txt", filepath.Join(dir, "l")) }, "l is no regular file"},
		{"no sums", func(dir string) error { return os.Remove(filepath.Join(dir, sumsName)) }, "no such file"},
		{"sums of nothing", func(dir string) error { return os.WriteFile(filepath.Join(dir, sumsName), nil, 0o600) }, "is empty"},
		{"sums that are none", func(dir string) error { return os.WriteFile(filepath.Join(dir, sumsName), []byte("x\n"), 0o600) }, "is no sum"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			dir := someRelease(t)
			if err := tc.tamper(dir); err != nil {
				t.Fatal(err)
			}
			if err := Verify(dir, ""); !says(err, tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}

// keyPair writes both halves of a key.
func keyPair(t *testing.T, private, public any, sec1 bool) (privateFile, publicFile string) {
	t.Helper()
	dir := t.TempDir()
	kind := "PRIVATE KEY"
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if sec1 {
		kind = "EC PRIVATE KEY"
		der, err = x509.MarshalECPrivateKey(private.(*ecdsa.PrivateKey))
	}
	if err != nil {
		t.Fatal(err)
	}
	publicDER, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "private.pem", string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	write(t, dir, "public.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER})))
	return filepath.Join(dir, "private.pem"), filepath.Join(dir, "public.pem")
}

func ecdsaPair(t *testing.T, sec1 bool) (privateFile, publicFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return keyPair(t, key, &key.PublicKey, sec1)
}

func ed25519Pair(t *testing.T) (privateFile, publicFile string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return keyPair(t, private, public, false)
}

func TestSignature(t *testing.T) {
	for _, kind := range []struct {
		name string
		pair func(*testing.T) (string, string)
	}{
		{"ECDSA, PKCS#8", func(t *testing.T) (string, string) { return ecdsaPair(t, false) }},
		{"ECDSA, SEC 1", func(t *testing.T) (string, string) { return ecdsaPair(t, true) }},
		{"Ed25519", ed25519Pair},
	} {
		t.Run(kind.name, func(t *testing.T) {
			private, public := kind.pair(t)
			_, other := kind.pair(t)
			for _, tc := range []struct {
				reason, key string
				tamper      func(t *testing.T, dir string)
				want        string
			}{
				{"signed", public, func(*testing.T, string) {}, ""},
				{"another key", other, func(*testing.T, string) {}, "was not signed with the key"},
				{
					"a changed file with a changed sum", public, func(t *testing.T, dir string) {
						write(t, dir, "a.txt", "b\n")
						if err := writeSums(dir); err != nil {
							t.Fatal(err)
						}
					}, "was not signed with the key",
				},
				{"a changed file", public, func(t *testing.T, dir string) { write(t, dir, "a.txt", "b\n") }, "a.txt is not what was released"},
				{"no signature", public, func(t *testing.T, dir string) {
					if err := os.Remove(filepath.Join(dir, signatureName)); err != nil {
						t.Fatal(err)
					}
				}, "is not signed"},
				{"no base64", public, func(t *testing.T, dir string) { write(t, dir, signatureName, "?") }, "illegal base64"},
				{"the private key instead", private, func(*testing.T, string) {}, "want a public key"},
			} {
				t.Run(tc.reason, func(t *testing.T) {
					dir := someRelease(t)
					signer, err := readSigner(private)
					if err != nil {
						t.Fatal(err)
					}
					if err := sign(dir, signer); err != nil {
						t.Fatal(err)
					}
					tc.tamper(t, dir)
					if err := Verify(dir, tc.key); !says(err, tc.want) {
						t.Errorf("got %v, want an error with %q", err, tc.want)
					}
				})
			}
		})
	}
}

func TestSignerIsRefused(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaFile, rsaPublic := keyPair(t, key, &key.PublicKey, false)
	dir := t.TempDir()
	write(t, dir, "text", "no key")
	write(t, dir, "locked.pem", string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED SIGSTORE PRIVATE KEY", Bytes: []byte{1}})))
	write(t, dir, "broken.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})))
	for _, tc := range []struct{ reason, file, want string }{
		{"a key of another kind", rsaFile, "want ECDSA or Ed25519"},
		{"no PEM", filepath.Join(dir, "text"), "is no PEM file"},
		{"a passphrase belongs to another tool", filepath.Join(dir, "locked.pem"), "without a passphrase"},
		{"garbage", filepath.Join(dir, "broken.pem"), "asn1"},
		{"nothing", filepath.Join(dir, "none"), "no such file"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			if _, err := readSigner(tc.file); !says(err, tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
	private, _ := ed25519Pair(t)
	signed := someRelease(t)
	signer, err := readSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	if err := sign(signed, signer); err != nil {
		t.Fatal(err)
	}
	if err := Verify(signed, rsaPublic); !says(err, "want ECDSA or Ed25519") {
		t.Errorf("a public key of another kind: got %v", err)
	}
}
