// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/meshwright/meshwright/operator/pki"
	"github.com/meshwright/meshwright/operator/rollout"
)

// handshakeTimeout bounds a probe: a proxy answers within milliseconds.
const handshakeTimeout = 3 * time.Second

// meshProtocols are those of ALPN by which a proxy tells its peers in the mesh from others. The first one leads to an HTTP connection manager, where
// the port has one, that waits for a request: behind the second a proxy connects to the application at once, where it does not know the protocol.
//
// Source: istio pilot/pkg/networking/core/filterchain_options.go, pilot/pkg/networking/core/listener.go (mtlsHTTPALPNs, allIstioMtlsALPNs).
var meshProtocols = []string{"istio-http/1.1", "istio"}

// Credential is a root and a leaf of it, with its chain, that can be presented to proxies.
type Credential struct {
	Root *x509.Certificate
	Leaf *tls.Certificate
}

// Peer is a proxy that is asked.
type Peer struct {
	// Name is namespace/pod.
	Name string
	// Namespace of the pod, that its leaf must be of; Address is its IP.
	Namespace, Address string
	// Port that is redirected to its sidecar.
	Port int
}

func (p Peer) String() string { return fmt.Sprintf("%s at %s", p.Name, p.endpoint()) }

func (p Peer) endpoint() string { return net.JoinHostPort(p.Address, strconv.Itoa(p.Port)) }

// Seen is what a handshake showed.
type Seen struct {
	// Accepts says by the fingerprint of each root whether a leaf of it is accepted: Yes or No. One that is missing is unknown.
	Accepts map[pki.Fingerprint]rollout.Answer
	// Leaf is the root of the credentials to which the presented leaf leads, expired or not; empty: to none of them.
	Leaf pki.Fingerprint
	// Issued and Expires are NotBefore and NotAfter of the presented leaf. Istiod dates leaves back by two minutes.
	Issued, Expires time.Time
}

// SilentError says that nothing is known of a proxy, good or bad: there was no connection, or no answer.
type SilentError struct {
	Peer Peer
	// Port that was dialled.
	Port int
	// Remedy is what people can do about it.
	Remedy string
	// Err is the cause.
	Err error
}

// Error is the same for each try that fails for the same cause.
func (e *SilentError) Error() string {
	return fmt.Sprintf("%s gives no answer: %s; %s", e.Peer, reason(e.Err), e.Remedy)
}

// Unwrap is the cause.
func (e *SilentError) Unwrap() error { return e.Err }

// Refused says that the pod is there and nobody listens on the port: another port may answer.
func (e *SilentError) Refused() bool { return errors.Is(e.Err, syscall.ECONNREFUSED) }

// Handshake asks a sidecar by one TLS handshake which roots it accepts and what leaf it presents. The credentials are in the order of preference. A proxy
// names the subjects of the roots that it accepts: the leaf of the first credential is presented whose root is among them, so that no handshake fails
// there, and a completed handshake proves that root by its key, not by its name alone. Of other roots the name has to do, unless it is also that of the
// one that was presented. A proxy that names other roots only gets no leaf.
//
// It takes three seconds at most. The error is a *[SilentError] when there was no connection or no answer, wraps [context.Canceled] when the caller gave
// up, and otherwise says what was met instead of the proxy. What was seen until then comes with it.
//
// TLS 1.2 is tried first, for in it the handshake completes only after the proxy has verified the leaf; a proxy that wants TLS 1.3 is asked again, and then
// what comes after the handshake tells.
func (p *Prober) Handshake(ctx context.Context, peer Peer, credentials []Credential) (Seen, error) {
	return newHand(credentials).shake(ctx, peer, p.now())
}

// hand is credentials made ready for many handshakes.
type hand struct {
	credentials []Credential
	prints      []pki.Fingerprint
	roots       []*x509.CertPool
	// modern says that a proxy wanted TLS 1.3: the least version is one for a whole mesh, and each try of another is an error to a proxy.
	modern atomic.Bool
}

func newHand(credentials []Credential) *hand {
	h := &hand{credentials: credentials}
	for _, c := range credentials {
		pool := x509.NewCertPool()
		pool.AddCert(c.Root)
		h.roots, h.prints = append(h.roots, pool), append(h.prints, pki.FingerprintOf(c.Root))
	}
	return h
}

var (
	// errNoneAccepted ends a handshake in which nothing that we have would be accepted.
	errNoneAccepted = errors.New("it accepts none of the roots")
	errHungUp       = errors.New("the connection was closed")
	errNoWord       = errors.New("no word after the handshake")
)

func (h *hand) shake(ctx context.Context, peer Peer, now time.Time) (Seen, error) {
	if _, err := netip.ParseAddr(peer.Address); err != nil {
		return Seen{}, fmt.Errorf("address of %s: %w", peer.Name, err)
	}
	bounded, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	t := &try{hand: h, version: tls.VersionTLS12}
	if h.modern.Load() {
		t.version = tls.VersionTLS13
	}
	err := t.run(bounded, peer)
	if alert, is := alertOf(err); is && alert == alertProtocolVersion {
		h.modern.Store(t.version == tls.VersionTLS12)
		t = &try{hand: h, version: tls.VersionTLS12 + tls.VersionTLS13 - t.version} // the other one
		err = t.run(bounded, peer)
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return Seen{}, fmt.Errorf("%s was not asked to the end: %w", peer, context.Canceled)
	}
	out := t.seen(now)
	if wrong := t.stranger(peer); wrong != nil {
		return Seen{}, wrong
	}
	return out, t.outcome(peer, err)
}

// try is one connection.
type try struct {
	*hand

	version uint16
	// asked says that the proxy wants to see a leaf; subjects are those that it accepts, presented the credential that it got: -1 for none.
	asked     bool
	subjects  [][]byte
	presented int
	// verdict on what was presented.
	verdict rollout.Answer
	// theirs is the leaf of the proxy, with its chain.
	theirs []*x509.Certificate
}

// run fills the try. It ends the connection in any case.
func (t *try) run(ctx context.Context, peer Peer) error {
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", peer.endpoint())
	if err != nil {
		return err
	}
	counted := &counter{Conn: raw}
	conn := tls.Client(counted, &tls.Config{
		MinVersion: t.version, MaxVersion: t.version, NextProtos: meshProtocols,
		InsecureSkipVerify:   true, //nolint:gosec // the leaf is what is asked for: it is verified against each root apart, see leads
		GetClientCertificate: t.choose,
		VerifyConnection: func(s tls.ConnectionState) error {
			t.theirs = s.PeerCertificates
			return nil
		},
	})
	defer func() { _ = conn.Close() }() // it says so to the proxy first
	err = conn.HandshakeContext(ctx)
	if err == nil && t.version == tls.VersionTLS13 {
		err = t.after(ctx, conn, counted)
	} else if err == nil && t.asked {
		t.verdict = rollout.Yes
	}
	if alert, is := alertOf(err); is && t.presented >= 0 && t.asked && refusals[alert] {
		t.verdict = rollout.No
	}
	return err
}

// choose is called once the proxy has proven that its leaf is its own.
func (t *try) choose(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	t.asked, t.subjects, t.presented = true, request.AcceptableCAs, -1
	for i, c := range t.credentials {
		if len(t.subjects) == 0 || t.names(c.Root) {
			t.presented = i
			return c.Leaf, nil
		}
	}
	return nil, errNoneAccepted
}

// names says whether the proxy names the subject of a root.
func (t *try) names(root *x509.Certificate) bool {
	return slices.ContainsFunc(t.subjects, func(s []byte) bool { return bytes.Equal(s, root.RawSubject) })
}

// after finds out what the proxy made of the leaf: in TLS 1.3 our side is done before the proxy has seen it. We end our direction, which ends the other one
// of a proxy that waits for a request. An alert, that is the error then, comes from one that does not accept the leaf; a session ticket, or the
// end with a word of goodbye, from one that does.
func (t *try) after(ctx context.Context, conn *tls.Conn, counted *counter) error {
	before := counted.read
	_ = conn.CloseWrite() // a proxy that has hung up may have said why
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err := io.Copy(io.Discard, io.LimitReader(conn, maxAnswer))
	if _, alert := alertOf(err); alert {
		return err
	}
	if counted.read > before {
		t.verdict = rollout.Yes
	}
	return nil
}

// counter counts what was read of a connection, encrypted.
type counter struct {
	net.Conn

	read int
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read += n
	return n, err
}

// seen is what a try has shown.
func (t *try) seen(now time.Time) Seen {
	out := Seen{Accepts: map[pki.Fingerprint]rollout.Answer{}}
	for i, c := range t.credentials {
		if answer := t.accepts(i, c.Root); answer != rollout.Unknown {
			out.Accepts[t.prints[i]] = answer
		}
	}
	if len(t.theirs) > 0 {
		leaf := t.theirs[0]
		out.Leaf, out.Issued, out.Expires = t.leads(now), leaf.NotBefore, leaf.NotAfter
	}
	return out
}

func (t *try) accepts(i int, root *x509.Certificate) rollout.Answer {
	switch {
	case !t.asked:
		return rollout.Unknown
	case i == t.presented:
		return t.verdict
	case len(t.subjects) == 0:
		return rollout.Unknown
	case !t.names(root):
		return rollout.No
	case t.presented >= 0 && bytes.Equal(root.RawSubject, t.credentials[t.presented].Root.RawSubject):
		return rollout.Unknown // the name may be that of the other one
	default:
		return rollout.Yes
	}
}

// leads is the root to which the proxy's leaf leads, with what it presents in between. Times are those of the leaf where now is not: whether it
// has expired is another question.
func (t *try) leads(now time.Time) pki.Fingerprint {
	between := x509.NewCertPool()
	for _, c := range t.theirs[1:] {
		between.AddCert(c)
	}
	leaf := t.theirs[0]
	switch {
	case now.Before(leaf.NotBefore):
		now = leaf.NotBefore
	case now.After(leaf.NotAfter):
		now = leaf.NotAfter
	}
	for i, roots := range t.roots {
		_, err := leaf.Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err == nil {
			return t.prints[i]
		}
	}
	return ""
}

// stranger says who answered where it was not the proxy.
func (t *try) stranger(peer Peer) error {
	if len(t.theirs) == 0 {
		return nil
	}
	for _, u := range t.theirs[0].URIs {
		if u.Scheme != "spiffe" {
			continue
		}
		if strings.HasPrefix(u.Path, "/ns/"+peer.Namespace+"/") {
			return nil
		}
		return fmt.Errorf("%s presents a leaf of %s: its address belongs to another pod by now, and it is asked again at the one that it has then", peer, u)
	}
	return fmt.Errorf("%s presents a certificate without an identity of the mesh: port %d must be one that is redirected to the sidecar, "+
		"and the mode of its PeerAuthentication not DISABLE", peer, peer.Port)
}

// outcome is what keeps a try from being whole; nil where everything is known that a handshake can show.
func (t *try) outcome(peer Peer, err error) error {
	alert, alerted := alertOf(err)
	switch {
	case errors.Is(err, errNoneAccepted), t.verdict == rollout.No:
		return nil
	case err == nil && !t.asked:
		return fmt.Errorf("%s asks for no certificate: port %d must be one that is redirected to the sidecar", peer, peer.Port)
	case err == nil && t.verdict == rollout.Unknown:
		return t.silent(peer, errNoWord)
	case err == nil:
		return nil
	case alerted && alert == alertExpired:
		return fmt.Errorf("%s takes what is presented to it for expired: compare its clock with the operator's, "+
			"and look at when the CA's certificates expire", peer)
	case alerted:
		return fmt.Errorf("%s ends the handshake: %w", peer, withoutAddresses(err))
	}
	if garbled, is := errors.AsType[tls.RecordHeaderError](err); is {
		return fmt.Errorf("%s does not speak TLS on port %d: %s; it must be one that is redirected to the sidecar, and the mode of its "+
			"PeerAuthentication not DISABLE", peer, peer.Port, garbled.Msg)
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return t.silent(peer, errHungUp)
	case noAnswer(err):
		return t.silent(peer, err)
	}
	return fmt.Errorf("%s: %w", peer, err)
}

func (t *try) silent(peer Peer, err error) error {
	return &SilentError{Peer: peer, Port: peer.Port, Err: err, Remedy: fmt.Sprintf(
		"a NetworkPolicy must let the operator reach TCP port %d in namespace %s, and it must be one that is redirected to the sidecar", peer.Port, peer.Namespace)}
}

// Alerts of TLS.
//
// Source: RFC 8446, section 6.
const (
	alertExpired         = 45
	alertProtocolVersion = 70
	maxAlert             = 127
)

// refusals are alerts that say that a certificate is not accepted: bad_certificate, unsupported_certificate, certificate_revoked, certificate_unknown,
// unknown_ca, access_denied.
var refusals = map[uint8]bool{42: true, 43: true, 44: true, 46: true, 48: true, 49: true}

// alertOf is the alert that the other side has sent. Package tls has a type of its own for it, that only its text tells.
func alertOf(err error) (alert uint8, is bool) {
	op, is := errors.AsType[*net.OpError](err)
	if !is || op.Op != "remote error" {
		return 0, false
	}
	for alert := range uint8(maxAlert) {
		if tls.AlertError(alert).Error() == op.Err.Error() {
			return alert, true
		}
	}
	return 0, false
}
