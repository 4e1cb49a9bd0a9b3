// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	cav1alpha1 "istio.io/api/security/v1alpha1"

	"github.com/meshwright/meshwright/operator/pki"
)

const (
	istiodHost = "istiod-1-29-1.istio-system.svc"
	saToken    = "token-of-a-service-account"
)

// authority answers as an istiod does.
type authority struct {
	cav1alpha1.UnimplementedIstioCertificateServiceServer

	answer func(*x509.CertificateRequest) ([]string, error)
}

func (a authority) CreateCertificate(ctx context.Context, r *cav1alpha1.IstioCertificateRequest) (*cav1alpha1.IstioCertificateResponse, error) {
	sent, _ := metadata.FromIncomingContext(ctx)
	if !slices.Equal(sent.Get("authorization"), []string{"Bearer " + saToken}) || len(sent.Get("clusterid")) > 0 || r.GetValidityDuration() != 600 {
		return nil, status.Errorf(codes.InvalidArgument, "sent %v, for %d s", sent, r.GetValidityDuration())
	}
	block, _ := pem.Decode([]byte(r.GetCsr()))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		return nil, status.Errorf(codes.InvalidArgument, "request %v", err)
	}
	chain, err := a.answer(csr)
	return &cav1alpha1.IstioCertificateResponse{CertChain: chain}, err
}

// authorityOn serves with a leaf of a bundle until the test ends. The end is a graceful one: it hangs when the probe leaves a connection behind.
func authorityOn(t *testing.T, serving *pki.Bundle, answer func(*x509.CertificateRequest) ([]string, error)) (port int) {
	t.Helper()
	leaf, err := serving.Leaf(rand.Reader, pki.LeafRequest{
		URI: &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/istio-system/sa/istiod"}, DNSNames: []string{istiodHost},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
	})
	must(t, leaf, err)
	listener, port := listen(t)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{leaf}, MinVersion: tls.VersionTLS12})))
	cav1alpha1.RegisterIstioCertificateServiceServer(server, authority{answer: answer})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.GracefulStop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return port
}

// issue is a leaf for a request, as PEM.
func issue(t *testing.T, b *pki.Bundle, csr *x509.CertificateRequest) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, template, b.Signing, csr.PublicKey, b.Signer)
	must(t, raw, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}

func pemOf(certificates ...*x509.Certificate) string {
	return string(pki.EncodeCertificates(certificates...))
}

func TestIssuing(t *testing.T) {
	plugged, other, own := bundleOf(t, "plugged"), bundleOf(t, "other"), namesakeOf(t)
	root := plugged.Roots[0]
	const begin = "istiod of revision 1-29-1 at 127.0.0.1:PORT "
	for _, tc := range []struct {
		reason string
		answer func(*x509.CertificateRequest) ([]string, error)
		// known are the roots by which the probe knows istiod, which has a leaf of plugged.
		known  []*pki.Bundle
		issuer *pki.Bundle
		roots  []*x509.Certificate
		want   []string
	}{
		{
			reason: "plugged in: the chain is one by one, the roots are together",
			answer: func(csr *x509.CertificateRequest) ([]string, error) {
				return []string{issue(t, plugged, csr), pemOf(plugged.Signing) + "\n", pemOf(root) + "\n", pemOf(root, other.Roots[0])}, nil
			},
			known: []*pki.Bundle{other, plugged}, issuer: plugged, roots: []*x509.Certificate{root, other.Roots[0]},
		},
		{
			reason: "roots in another order",
			answer: func(csr *x509.CertificateRequest) ([]string, error) {
				return []string{issue(t, plugged, csr), pemOf(plugged.Signing), pemOf(other.Roots[0], root)}, nil
			},
			known: []*pki.Bundle{plugged}, issuer: plugged, roots: []*x509.Certificate{other.Roots[0], root},
		},
		{
			reason: "self-signed: nothing is in between",
			answer: func(csr *x509.CertificateRequest) ([]string, error) {
				return []string{issue(t, own, csr), pemOf(own.Signing)}, nil
			},
			known: []*pki.Bundle{plugged}, issuer: own, roots: own.Roots,
		},
		{
			reason: "the issuer is not in the chain",
			answer: func(csr *x509.CertificateRequest) ([]string, error) {
				return []string{issue(t, other, csr), pemOf(root)}, nil
			},
			known: []*pki.Bundle{plugged},
			want:  []string{begin + "issues a leaf that was signed by none of the certificates that come with it", "cert-chain.pem of the Secret cacerts must begin with"},
		},
		{
			reason: "no roots",
			answer: func(csr *x509.CertificateRequest) ([]string, error) { return []string{issue(t, own, csr)}, nil },
			known:  []*pki.Bundle{plugged}, want: []string{begin + "issues a leaf that comes without roots"},
		},
		{
			reason: "no certificates",
			answer: func(*x509.CertificateRequest) ([]string, error) { return []string{"", ""}, nil },
			known:  []*pki.Bundle{plugged}, want: []string{begin + "issues a leaf that can't be read: its chain holds no certificate"},
		},
		{
			reason: "roots that are none",
			answer: func(csr *x509.CertificateRequest) ([]string, error) { return []string{issue(t, own, csr), "root"}, nil },
			known:  []*pki.Bundle{plugged}, want: []string{begin + "issues a leaf that can't be read: its root holds something that is no PEM"},
		},
		{
			reason: "it has not the certificate that its roots make expected, and is not sent the token",
			answer: func(*x509.CertificateRequest) ([]string, error) { return nil, errors.New("it was asked nevertheless") },
			known:  []*pki.Bundle{other},
			want: []string{
				begin + "is not " + istiodHost + " by the roots SERIALNUMBER=", "CN=other", fmt.Sprintf("(%.8s)", pki.FingerprintOf(other.Roots[0])),
				"certificate signed by unknown authority", "at once when it is restarted",
			},
		},
		{
			reason: "nothing to know it by",
			answer: func(*x509.CertificateRequest) ([]string, error) { return nil, errors.New("it was asked nevertheless") },
			want:   []string{"by no root at all"},
		},
		{
			reason: "the token is refused",
			answer: func(*x509.CertificateRequest) ([]string, error) {
				return nil, status.Error(codes.Unauthenticated, "request authenticate failure")
			},
			known: []*pki.Bundle{plugged}, want: []string{begin + "refuses the token: request authenticate failure; it must be one for the audience istio-ca"},
		},
		{
			reason: "it can't sign, and says what it was sent",
			answer: func(*x509.CertificateRequest) ([]string, error) {
				return nil, status.Error(codes.Internal, "CSR signing error (no key for "+saToken+")")
			},
			known: []*pki.Bundle{plugged}, want: []string{begin + "issues no leaf: CSR signing error (no key for (the token)) (Internal)"},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			port := authorityOn(t, plugged, tc.answer)
			by := Applicant{Token: saToken, Host: istiodHost}
			for _, b := range tc.known {
				by.Roots = append(by.Roots, b.Roots...)
			}
			got, err := (&Prober{CAPort: port}).Issuing(t.Context(), target, by)
			says(t, err, port, tc.want...)
			if unreachable, is := errors.AsType[*UnreachableError](err); is || err != nil && strings.Contains(err.Error(), saToken) {
				t.Errorf("%v, %v", unreachable, err)
			}
			if tc.issuer != nil && got.Issuer != tc.issuer.Issuer() || !slices.EqualFunc(got.Roots, tc.roots, (*x509.Certificate).Equal) {
				t.Errorf("got %s and %d roots, want %s", got.Issuer, len(got.Roots), tc.issuer.Issuer())
			}
		})
	}
}

func TestIssuingWithoutConnection(t *testing.T) {
	const remedy = "; a NetworkPolicy must let the operator reach TCP port PORT in namespace istio-system, " +
		"and istiod must listen there, which its argument --secureGRPCAddr can turn off"
	plugged := bundleOf(t, "plugged")
	for _, tc := range []struct {
		reason string
		port   func(t *testing.T, pass func()) int
		want   string
	}{
		{"nobody listens", func(t *testing.T, _ func()) int { return closedPort(t) }, "connect: connection refused"},
		{
			"somebody takes the connection and says nothing",
			func(t *testing.T, pass func()) int { return accept(t, func(net.Conn) { pass() }) }, "no answer in time",
		},
		{
			"no answer until the deadline",
			func(t *testing.T, pass func()) int {
				return authorityOn(t, plugged, func(*x509.CertificateRequest) ([]string, error) {
					pass()
					return nil, status.Error(codes.DeadlineExceeded, "too late")
				})
			},
			"no answer in time",
		},
		{
			"it ends while it is asked",
			func(t *testing.T, _ func()) int {
				return authorityOn(t, plugged, func(*x509.CertificateRequest) ([]string, error) {
					return nil, status.Error(codes.Unavailable, "transport is closing")
				})
			},
			"transport is closing",
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			ctx := newDeadline(t)
			port := tc.port(t, ctx.pass)
			_, err := (&Prober{CAPort: port}).Issuing(ctx, target, Applicant{Token: saToken, Host: istiodHost, Roots: plugged.Roots})
			checkError(t, err, port, "istiod of revision 1-29-1 at 127.0.0.1:PORT can't be reached: "+tc.want+remedy, true)
		})
	}
}

func TestIssuingForNobody(t *testing.T) {
	_, err := New().Issuing(t.Context(), target, Applicant{})
	says(t, err, 0, "issues nothing without a token")
	_, err = New().Issuing(t.Context(), Istiod{Address: "istiod.istio-system"}, Applicant{Token: saToken})
	says(t, err, 0, "address of an istiod")
	ctx, cancel := context.WithCancel(t.Context())
	port := accept(t, func(net.Conn) { cancel() })
	_, err = (&Prober{CAPort: port}).Issuing(ctx, target, Applicant{Token: saToken, Host: istiodHost})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not of the caller", err)
	}
}
