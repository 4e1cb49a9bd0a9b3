// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// signatureName is the file with the signature of the sums: one line of base64. It is ASN.1 over the SHA-256 for ECDSA, as cosign and openssl write
// it, and over the file itself for Ed25519.
const signatureName = sumsName + ".sig"

// readSigner reads a private key, PKCS#8 or SEC 1, without a passphrase.
func readSigner(file string) (crypto.Signer, error) {
	block, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	var key any
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("%s holds %q: want a private key without a passphrase; with others sign %s by the tool that they belong to",
			file, block.Type, sumsName)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		return key, nil
	case ed25519.PrivateKey:
		return key, nil
	}
	return nil, fmt.Errorf("%s: a key of type %T: want ECDSA or Ed25519", file, key)
}

func readPEM(file string) (*pem.Block, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is no PEM file", file)
	}
	return block, nil
}

// sign signs the sums of a release.
func sign(dir string, key crypto.Signer) error {
	text, err := os.ReadFile(filepath.Join(dir, sumsName))
	if err != nil {
		return err
	}
	message, options := text, crypto.SignerOpts(crypto.Hash(0))
	if _, ok := key.(*ecdsa.PrivateKey); ok {
		sum := sha256.Sum256(text)
		message, options = sum[:], crypto.SHA256
	}
	signature, err := key.Sign(rand.Reader, message, options)
	if err != nil {
		return err
	}
	line := base64.StdEncoding.EncodeToString(signature) + "\n"
	return os.WriteFile(filepath.Join(dir, signatureName), []byte(line), 0o644) //nolint:gosec // the folder is the caller's
}

// verifySignature checks the signature in a file with the public key in another.
func verifySignature(file, key string, text []byte) error {
	encoded, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the release is not signed: there is no %s", signatureName)
	}
	if err != nil {
		return err
	}
	signature, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(encoded)))
	if err != nil {
		return fmt.Errorf("%s: %w", signatureName, err)
	}
	block, err := readPEM(key)
	if err != nil {
		return err
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("%s: want a public key: %w", key, err)
	}
	var good bool
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		sum := sha256.Sum256(text)
		good = ecdsa.VerifyASN1(public, sum[:], signature)
	case ed25519.PublicKey:
		good = ed25519.Verify(public, text, signature)
	default:
		return fmt.Errorf("%s: a key of type %T: want ECDSA or Ed25519", key, public)
	}
	if !good {
		return fmt.Errorf("%s was not signed with the key in %s, or was changed since", sumsName, key)
	}
	return nil
}
