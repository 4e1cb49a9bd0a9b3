// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/testkit"
)

const (
	service = "meshwright-webhook"
	webhook = "meshwright-validating-webhook"
)

var secretKey = client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: "webhook-cert"}

// One certificate serves all replicas, is trusted before it is served, and is replaced in time without a gap.
func TestCertificate(t *testing.T) {
	t.Parallel()
	cl, err := client.New(testkit.StartAPIServer(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	clock := clocktesting.NewFakeClock(time.Now().Truncate(time.Second))
	replica := func() *Keeper {
		return &Keeper{Client: cl, Configurations: cl, Secret: secretKey, Service: service, Webhook: webhook, Clock: clock}
	}
	one, two := replica(), replica()

	if _, err := one.GetCertificate(nil); err == nil {
		t.Error("a certificate before one was issued")
	}
	ensure(t, one) // no webhook configuration yet: it is served all the same, and trusted when that comes
	createWebhook(t, cl)
	ensure(t, one)
	ensure(t, two)
	first := leaf(t, one)
	if !first.Equal(leaf(t, two)) {
		t.Error("two replicas serve two certificates")
	}
	handshake(t, cl, one, clock.Now())

	before := secret(t, cl).ResourceVersion
	clock.Step(renewAt - 2*time.Minute)
	ensure(t, one)
	if after := secret(t, cl).ResourceVersion; after != before {
		t.Error("it was replaced before its time")
	}

	clock.Step(2 * time.Minute)
	ensure(t, one)
	if leaf(t, one).Equal(first) {
		t.Fatal("it was not replaced in time")
	}
	if !leaf(t, two).Equal(first) {
		t.Fatal("the other replica has read it already, so that this test says nothing")
	}
	handshake(t, cl, one, clock.Now())
	handshake(t, cl, two, clock.Now()) // the one before is believed still
	ensure(t, two)
	if !leaf(t, two).Equal(leaf(t, one)) {
		t.Error("the other replica did not take the new certificate")
	}
}

// Whatever is wrong with the Secret, a new certificate mends it.
func TestSecretIsMended(t *testing.T) {
	t.Parallel()
	cl, err := client.New(testkit.StartAPIServer(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	createWebhook(t, cl)
	clock := clocktesting.NewFakeClock(time.Now().Truncate(time.Second))
	k := &Keeper{Client: cl, Configurations: cl, Secret: secretKey, Service: service, Webhook: webhook, Clock: clock}
	ensure(t, k)
	for reason, change := range map[string]func(*corev1.Secret){
		"no certificate":        func(s *corev1.Secret) { s.Data[corev1.TLSCertKey] = []byte("nonsense") },
		"a key of another":      func(s *corev1.Secret) { s.Data[corev1.TLSPrivateKeyKey] = otherKey(t) },
		"for another host":      func(s *corev1.Secret) { forHost(t, s, "elsewhere.default.svc", clock.Now()) },
		"expired":               func(s *corev1.Secret) { forHost(t, s, k.hostname(), clock.Now().Add(-Lifetime)) },
		"the bundle of another": func(s *corev1.Secret) { s.Data[bundleKey] = []byte("") },
	} {
		s := secret(t, cl)
		change(s)
		if err := cl.Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		ensure(t, k)
		t.Log(reason)
		handshake(t, cl, k, clock.Now())
	}
	// What somebody else writes into the configuration is put back.
	var there admissionregistrationv1.ValidatingWebhookConfiguration
	if err := cl.Get(t.Context(), client.ObjectKey{Name: webhook}, &there); err != nil {
		t.Fatal(err)
	}
	there.Webhooks[0].ClientConfig.CABundle = nil
	if err := cl.Update(t.Context(), &there); err != nil {
		t.Fatal(err)
	}
	ensure(t, k)
	handshake(t, cl, k, clock.Now())
}

// Of two replicas that issue at the same time one writes, and the other reads its at the next try.
func TestTwoReplicasIssueAtOnce(t *testing.T) {
	t.Parallel()
	cl, err := client.New(testkit.StartAPIServer(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	k := &Keeper{
		Client: cl, Configurations: cl, Secret: secretKey, Service: service, Webhook: webhook, Clock: clocktesting.NewFakeClock(time.Now()),
	}
	if _, err := k.issue(t.Context(), &corev1.Secret{}, false); err != nil {
		t.Fatal(err)
	}
	if _, err := k.issue(t.Context(), &corev1.Secret{}, false); !apierrors.IsAlreadyExists(errors.Unwrap(err)) {
		t.Errorf("the second one: %v", err)
	}
	stale := secret(t, cl)
	if _, err := k.issue(t.Context(), secret(t, cl), true); err != nil {
		t.Fatal(err)
	}
	if _, err := k.issue(t.Context(), stale, true); !apierrors.IsConflict(errors.Unwrap(err)) {
		t.Errorf("over a Secret that was written since: %v", err)
	}
}

func ensure(t *testing.T, k *Keeper) {
	t.Helper()
	if err := k.ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func leaf(t *testing.T, k *Keeper) *x509.Certificate {
	t.Helper()
	c, err := k.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.Leaf
}

func secret(t *testing.T, cl client.Client) *corev1.Secret {
	t.Helper()
	out := &corev1.Secret{}
	if err := cl.Get(t.Context(), secretKey, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// handshake connects as the API server would, with what the webhook configuration trusts.
func handshake(t *testing.T, cl client.Client, k *Keeper, now time.Time) {
	t.Helper()
	var there admissionregistrationv1.ValidatingWebhookConfiguration
	if err := cl.Get(t.Context(), client.ObjectKey{Name: webhook}, &there); err != nil {
		t.Fatal(err)
	}
	for _, w := range there.Webhooks {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(w.ClientConfig.CABundle) {
			t.Fatalf("webhook %s trusts nobody: %q", w.Name, w.ClientConfig.CABundle)
		}
		client, server := net.Pipe()
		ended := make(chan error, 1)
		go func() {
			ended <- tls.Server(server, &tls.Config{GetCertificate: k.GetCertificate, MinVersion: tls.VersionTLS13}).HandshakeContext(t.Context())
		}()
		tlsClient := tls.Client(client, &tls.Config{
			RootCAs: roots, ServerName: k.hostname(), Time: func() time.Time { return now }, MinVersion: tls.VersionTLS13,
		})
		if err := tlsClient.HandshakeContext(t.Context()); err != nil {
			t.Errorf("webhook %s: %v", w.Name, err)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("webhook %s: the server: %v", w.Name, err)
		}
	}
}

func createWebhook(t *testing.T, cl client.Client) {
	t.Helper()
	none := admissionregistrationv1.SideEffectClassNone
	ignore := admissionregistrationv1.Ignore
	configuration := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: webhook}}
	for _, name := range []string{"one.meshwright.io", "two.meshwright.io"} {
		configuration.Webhooks = append(configuration.Webhooks, admissionregistrationv1.ValidatingWebhook{
			Name: name, SideEffects: &none, FailurePolicy: &ignore, AdmissionReviewVersions: []string{"v1"},
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				Service: &admissionregistrationv1.ServiceReference{Namespace: secretKey.Namespace, Name: service},
			},
		})
	}
	if err := cl.Create(t.Context(), configuration); err != nil {
		t.Fatal(err)
	}
}

func otherKey(t *testing.T) []byte {
	t.Helper()
	_, key, err := selfSigned("x", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func forHost(t *testing.T, s *corev1.Secret, host string, now time.Time) {
	t.Helper()
	certificate, key, err := selfSigned(host, now)
	if err != nil {
		t.Fatal(err)
	}
	s.Data = map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key, bundleKey: bytes.Clone(certificate)}
}
