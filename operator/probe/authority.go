// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	cav1alpha1 "istio.io/api/security/v1alpha1"

	"github.com/meshwright/meshwright/operator/pki"
)

const (
	// issuingTimeout bounds a probe: istiod asks the API server about the token.
	issuingTimeout = 10 * time.Second
	// issuedSeconds is how long the leaf lives that nobody keeps.
	issuedSeconds = 600
)

// Issuing is what an istiod shows of its CA when it issues a leaf.
type Issuing struct {
	// Issuer is the certificate that has signed the leaf.
	Issuer pki.Fingerprint
	// Roots that istiod makes proxies trust, in the order of their bytes.
	Roots []*x509.Certificate
	// Clock is what time it was for istiod.
	Clock time.Time
}

// Applicant is who asks an istiod for a leaf.
type Applicant struct {
	// Token of a service account, for the audience istio-ca. It is in no error.
	Token string
	// Roots by which istiod is known.
	Roots []*x509.Certificate
	// Host is istiod's DNS name in its certificate, like istiod-1-29-1.istio-system.svc.
	Host string
}

// Issuing asks an istiod for a leaf, and drops it: what comes with it is what this replica signs with now, and what it makes proxies trust. It takes
// ten seconds at most. The error is an *[UnreachableError] when there was no connection or no answer, wraps [context.Canceled] when the caller gave up,
// and otherwise says why istiod was not believed, or what it said.
//
// Istiod puts the identity of the token into the leaf, whatever the request says. The metadata clusterid stays away: istiod takes a caller without one
// for one of its own cluster, and that has another name than Kubernetes where global.multiCluster.clusterName is set.
//
// Source: istio security/pkg/server/ca/server.go (CreateCertificate), security/pkg/server/ca/authenticate/kubeauth/kube_jwt.go (getKubeClient) and
// security/pkg/pki/ca/ca.go (sign); the same in 1.26 to 1.29 and 1.31.
func (p *Prober) Issuing(ctx context.Context, istiod Istiod, by Applicant) (Issuing, error) {
	e := endpoint{istiod, p.CAPort}
	if _, err := e.validate(); err != nil {
		return Issuing{}, err
	}
	if by.Token == "" {
		return Issuing{}, fmt.Errorf("%s issues nothing without a token: request one for the audience istio-ca", e)
	}
	request, err := leafRequest()
	if err != nil {
		return Issuing{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, issuingTimeout)
	defer cancel()
	conn, err := known(bounded, e.address(), by)
	if err != nil {
		return Issuing{}, e.unknown(ctx, by, err)
	}
	defer conn.close()
	answer, err := cav1alpha1.NewIstioCertificateServiceClient(conn.grpc).CreateCertificate(
		metadata.AppendToOutgoingContext(bounded, "authorization", "Bearer "+by.Token), request)
	if err != nil {
		return Issuing{}, e.refused(ctx, by, err)
	}
	out, err := issuingOf(answer.GetCertChain())
	if err != nil {
		return Issuing{}, fmt.Errorf("%s issues a leaf that %w", e, err)
	}
	return out, nil
}

func (e endpoint) caRemedy() string {
	return fmt.Sprintf("a NetworkPolicy must let the operator reach TCP port %d in namespace %s, "+
		"and istiod must listen there, which its argument --secureGRPCAddr can turn off", e.port, e.istiod.Namespace)
}

// unknown is the error of an istiod with which no connection came about.
func (e endpoint) unknown(ctx context.Context, by Applicant, err error) error {
	if invalid, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("%s is not %s by %s: %w; it reads the Secret cacerts some minutes after that has changed, and at once when it is restarted",
			e, by.Host, namesOf(by.Roots), invalid.Err)
	}
	return e.unreachable(ctx, e.caRemedy(), err)
}

// refused is the error of an istiod that issues no leaf. It wraps none of gRPC's, for istiod may repeat what it was sent.
func (e endpoint) refused(ctx context.Context, by Applicant, err error) error {
	said := errors.New(strings.ReplaceAll(status.Convert(err).Message(), by.Token, "(the token)"))
	switch code := status.Code(err); code {
	case codes.DeadlineExceeded:
		return e.unreachable(ctx, e.caRemedy(), context.DeadlineExceeded)
	case codes.Canceled, codes.Unavailable:
		return e.unreachable(ctx, e.caRemedy(), said)
	case codes.Unauthenticated, codes.PermissionDenied:
		return fmt.Errorf("%s refuses the token: %w; it must be one for the audience istio-ca, of a service account of istiod's cluster that exists, "+
			"and istiod must be allowed to create TokenReviews", e, said)
	default:
		return fmt.Errorf("%s issues no leaf: %w (%s)", e, said, code)
	}
}

// namesOf says which certificates are meant.
func namesOf(roots []*x509.Certificate) string {
	if len(roots) == 0 {
		return "no root at all"
	}
	names := make([]string, len(roots))
	for i, c := range roots {
		names[i] = fmt.Sprintf("%s (%.8s)", c.Subject, pki.FingerprintOf(c))
	}
	return "the roots " + strings.Join(names, ", ")
}

// leafRequest is for a leaf of a key that nobody keeps.
func leafRequest() (*cav1alpha1.IstioCertificateRequest, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	raw, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate signing request: %w", err)
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: raw})
	return &cav1alpha1.IstioCertificateRequest{Csr: string(csr), ValidityDuration: issuedSeconds}, nil
}

// known is a connection to an istiod that has shown who it is: before that it is sent nothing of the token.
func known(ctx context.Context, address string, by Applicant) (*connection, error) {
	roots := x509.NewCertPool()
	for _, c := range by.Roots {
		roots.AddCert(c)
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: by.Host, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return over(ctx, address, conn)
}

// backdated is how far before its own time istiod lets a leaf begin.
//
// Source: istio security/pkg/pki/util/generate_cert.go (ClockSkewGracePeriod), 1.26 to 1.31.
const backdated = 2 * time.Minute

// issuingOf reads the answer: the leaf, the certificates of cert-chain.pem one by one, and last the whole of root-cert.pem. A self-signed istiod has
// nothing in between.
func issuingOf(chain []string) (Issuing, error) {
	last := len(chain) - 1
	if last < 1 {
		return Issuing{}, errors.New("comes without roots")
	}
	between, err := pki.ParseCertificates([]byte(strings.Join(chain[:last], "\n")))
	if err == nil && len(between) == 0 {
		err = errors.New("holds no certificate")
	}
	if err != nil {
		return Issuing{}, fmt.Errorf("can't be read: its chain %w", err)
	}
	roots, err := pki.ParseCertificates([]byte(chain[last]))
	if err == nil && len(roots) == 0 {
		err = errors.New("holds no certificate")
	}
	if err != nil {
		return Issuing{}, fmt.Errorf("can't be read: its root %w", err)
	}
	leaf := between[0]
	for _, candidates := range [][]*x509.Certificate{between[1:], roots} {
		for _, c := range candidates {
			if leaf.CheckSignatureFrom(c) == nil {
				return Issuing{Issuer: pki.FingerprintOf(c), Roots: roots, Clock: leaf.NotBefore.Add(backdated)}, nil
			}
		}
	}
	return Issuing{}, fmt.Errorf("was signed by none of the certificates that come with it, nor by %s: cert-chain.pem of the Secret cacerts must "+
		"begin with the certificate of ca-cert.pem", namesOf(roots))
}
