// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package certs issues and rotates the certificate of the operator's own webhook server, so that nothing else has to be
// installed for it.
//
// The certificate signs itself and lives in one Secret that all replicas share. The webhook configuration trusts the
// current one and the one before, so that a replica which has not read the new one yet is still believed.
package certs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applyadmissionv1 "k8s.io/client-go/applyconfigurations/admissionregistration/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/webhooks/keep"
)

// How long a certificate lives, when it is replaced, and how often a replica looks.
const (
	Lifetime = 90 * 24 * time.Hour
	renewAt  = Lifetime * 2 / 3
	interval = 10 * time.Minute
	retry    = 5 * time.Second
)

// bundleKey is the key in the Secret of all certificates that are trusted.
const bundleKey = "ca.crt"

// manager is the field manager of the caBundle.
const manager = "meshwright-webhook-certs"

// Keeper keeps the certificate.
type Keeper struct {
	// Client reads from the API server: no cache holds Secrets. Configurations reads webhook configurations from a cache.
	Client         client.Client
	Configurations client.Reader
	// Changed tells that the webhook configuration may have changed.
	Changed <-chan struct{}
	// Secret holds the certificate; Service is the name under which the API server calls the webhook.
	Secret  client.ObjectKey
	Service string
	// Webhook is the name of the ValidatingWebhookConfiguration.
	Webhook string
	Clock   clock.WithTicker

	current atomic.Pointer[tls.Certificate]
}

// NeedLeaderElection says that every replica serves and so needs the certificate.
func (k *Keeper) NeedLeaderElection() bool { return false }

// GetCertificate gives the TLS server what is current.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := k.current.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("the certificate of the webhook is not issued yet")
}

// Start keeps the certificate until the context ends.
func (k *Keeper) Start(ctx context.Context) error {
	return keep.Loop{
		Logger: "webhook-certificate", Thing: "the webhook's certificate", Interval: interval, Retry: retry, Changed: k.Changed, Clock: k.Clock, Ensure: k.ensure,
	}.Run(ctx)
}

// ensure reads the Secret, issues a certificate when there is none or it is due, and makes the webhook configuration trust it.
func (k *Keeper) ensure(ctx context.Context) error {
	secret := &corev1.Secret{}
	err := k.Client.Get(ctx, k.Secret, secret)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	exists := err == nil
	pair, parseErr := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	trusted := bytes.Contains(secret.Data[bundleKey], secret.Data[corev1.TLSCertKey])
	if parseErr != nil || !trusted || k.due(pair.Leaf) {
		if pair, err = k.issue(ctx, secret, exists); err != nil {
			return err
		}
	}
	err = k.trust(ctx, secret.Data[bundleKey]) // first, so that nothing is served that is not trusted yet
	k.current.Store(&pair)
	return err
}

func (k *Keeper) due(leaf *x509.Certificate) bool {
	return leaf == nil || !k.Clock.Now().Before(leaf.NotBefore.Add(renewAt)) || leaf.VerifyHostname(k.hostname()) != nil
}

func (k *Keeper) hostname() string { return k.Service + "." + k.Secret.Namespace + ".svc" }

// issue makes a certificate and writes it into the Secret. When another replica was faster, its one is read at the next try.
func (k *Keeper) issue(ctx context.Context, secret *corev1.Secret, exists bool) (tls.Certificate, error) {
	certificate, key, err := selfSigned(k.hostname(), k.Clock.Now())
	if err != nil {
		return tls.Certificate{}, err
	}
	previous := secret.Data[corev1.TLSCertKey]
	secret.Data = map[string][]byte{
		corev1.TLSCertKey:       certificate,
		corev1.TLSPrivateKeyKey: key,
		bundleKey:               bytes.Join([][]byte{certificate, previous}, nil),
	}
	if exists {
		err = k.Client.Update(ctx, secret) // refused when somebody wrote since it was read
	} else {
		secret.ObjectMeta = metav1.ObjectMeta{Namespace: k.Secret.Namespace, Name: k.Secret.Name}
		secret.Type = corev1.SecretTypeTLS
		err = k.Client.Create(ctx, secret)
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return tls.Certificate{}, fmt.Errorf("another replica issues the certificate at the same time: %w", err)
	}
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certificate, key)
}

// trust writes the caBundle where it differs. A configuration that is not there is not made: its manifests were not applied.
func (k *Keeper) trust(ctx context.Context, bundle []byte) error {
	var there admissionregistrationv1.ValidatingWebhookConfiguration
	if err := k.Configurations.Get(ctx, client.ObjectKey{Name: k.Webhook}, &there); err != nil {
		return client.IgnoreNotFound(err)
	}
	intent := applyadmissionv1.ValidatingWebhookConfiguration(k.Webhook)
	stale := false
	for _, webhook := range there.Webhooks {
		stale = stale || !bytes.Equal(webhook.ClientConfig.CABundle, bundle)
		intent = intent.WithWebhooks(applyadmissionv1.ValidatingWebhook().WithName(webhook.Name).
			WithClientConfig(applyadmissionv1.WebhookClientConfig().WithCABundle(bundle...)))
	}
	if !stale {
		return nil
	}
	return k.Client.Apply(ctx, intent, client.FieldOwner(manager), client.ForceOwnership)
}

func selfSigned(hostname string, now time.Time) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: hostname},
		DNSNames:              []string{hostname},
		NotBefore:             now.Add(-time.Minute), // clocks differ a little
		NotAfter:              now.Add(Lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}
