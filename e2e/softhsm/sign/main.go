// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// Command sign answers the request of a MeshRotation with a root whose key is in a PKCS#11 token: an HSM, a smart card, or SoftHSM. It reads the request
// as status.request has it, and writes tls.crt and ca.crt, which the Secret of spec.certificates.ca.managed.answer is made of.
//
//	PKCS11_PIN=... sign -module /usr/lib/softhsm/libsofthsm2.so -token offline -key root -root root.pem istiod.csr
//
// It runs wherever the token is; nothing of it talks to a cluster.
package main

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ThalesGroup/crypto11"

	"github.com/meshwright/meshwright/operator/pki"
)

func main() {
	var token crypto11.Config
	flag.StringVar(&token.Path, "module", "", "the PKCS#11 library of the token")
	flag.StringVar(&token.TokenLabel, "token", "", "the label of the token; its PIN is in the variable PKCS11_PIN")
	key := flag.String("key", "", "the label of the root's key in the token")
	root := flag.String("root", "", "the file with the root's certificate, as PEM")
	newRoot := flag.String("new-root", "", "make that certificate first, for ten years and with this common name")
	days := flag.Int("days", 365, "how long the signed certificate lives, no longer than the root")
	out := flag.String("out", ".", "the folder to write tls.crt and ca.crt to")
	flag.Parse()
	token.Pin = os.Getenv("PKCS11_PIN")
	if err := run(&token, *key, *root, *newRoot, flag.Arg(0), *out, time.Duration(*days)*24*time.Hour); err != nil {
		fmt.Fprintln(os.Stderr, "sign:", err)
		os.Exit(1)
	}
}

func run(config *crypto11.Config, label, rootFile, newRoot, requestFile, out string, life time.Duration) error {
	request, err := readRequest(requestFile)
	if err != nil {
		return fmt.Errorf("the request %q: %w", requestFile, err)
	}
	token, err := crypto11.Configure(config)
	if err != nil {
		return fmt.Errorf("opening the token %q: %w", config.TokenLabel, err)
	}
	defer token.Close()
	key, err := token.FindKeyPair(nil, []byte(label))
	if err != nil {
		return fmt.Errorf("looking for the key %q: %w", label, err)
	}
	if newRoot != "" {
		if err := makeRoot(key, newRoot, rootFile); err != nil {
			return err
		}
	}
	raw, err := os.ReadFile(rootFile)
	if err != nil {
		return err
	}
	roots, err := pki.ParseCertificates(raw)
	if err != nil || len(roots) != 1 {
		return fmt.Errorf("%s does not hold one certificate as PEM, and nothing else", rootFile)
	}
	signed, err := pki.NewIntermediate(rand.Reader, roots[0], key, request.PublicKey, pki.AuthorityRequest{
		CommonName: request.Subject.CommonName, Organization: strings.Join(request.Subject.Organization, ", "), Now: time.Now(), Life: life,
	})
	if err != nil {
		return err
	}
	fmt.Printf("%s signed %s until %s\n", roots[0].Subject, signed.Subject, signed.NotAfter.Format(time.RFC3339))
	return errors.Join(
		os.WriteFile(filepath.Join(out, "tls.crt"), pki.EncodeCertificates(signed), 0o644),
		os.WriteFile(filepath.Join(out, "ca.crt"), pki.EncodeCertificates(roots[0]), 0o644),
	)
}

// readRequest reads a request, whose signature shows that who asks has the key.
func readRequest(file string) (*x509.CertificateRequest, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, errors.New("holds no certificate request as PEM")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	return request, request.CheckSignature()
}

// makeRoot signs the root's certificate with its own key, where there is none.
func makeRoot(key crypto.Signer, name, file string) error {
	root, err := pki.NewRoot(rand.Reader, key, pki.AuthorityRequest{CommonName: name, Now: time.Now(), Life: 3650 * 24 * time.Hour, PathLength: 1})
	if err != nil {
		return err
	}
	if _, err := os.Stat(file); err == nil {
		return fmt.Errorf("%s is there already: leave -new-root out", file)
	}
	return os.WriteFile(file, pki.EncodeCertificates(root), 0o644)
}
