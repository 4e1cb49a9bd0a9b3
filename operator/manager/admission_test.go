// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshwright/meshwright/webhooks/certs"
)

// The certificate of an installer is served from its files, and a folder without one is said at the start.
func TestCertificateOfAnInstaller(t *testing.T) {
	full := t.TempDir()
	issue(t, full)
	for _, tc := range []struct {
		reason, dir, says string
		own               bool
	}{
		{reason: "none is named, so the operator issues its own", own: true},
		{reason: "files of an installer", dir: full},
		{reason: "a folder without them", dir: t.TempDir(), says: "the certificate of the webhook in --webhook-cert-dir"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			got, err := newCertificate(Options{Namespace: "operators", WebhookCertDir: tc.dir})
			if tc.says != "" {
				if err == nil || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%v, want an error that says %q", err, tc.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, own := got.(*certs.Keeper); own != tc.own {
				t.Errorf("%T, issued by the operator is %v", got, tc.own)
			}
			if tc.own {
				return
			}
			served, err := got.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			if name := served.Leaf.Subject.SerialNumber; name != "installer" {
				t.Errorf("it serves %q", name)
			}
		})
	}
}

// issue writes a certificate and its key into a folder.
func issue(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	template.Subject.SerialNumber = "installer"
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
