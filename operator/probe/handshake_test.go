// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/pki"
	"github.com/meshwright/meshwright/operator/rollout"
)

// must is for what can't fail but by a mistake of the test's.
func must[T any](t testing.TB, value T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// bundleOf is an intermediate under a root of its own.
func bundleOf(t testing.TB, name string) *pki.Bundle {
	t.Helper()
	request := pki.AuthorityRequest{CommonName: name, Now: time.Now(), Life: 24 * time.Hour, PathLength: 1}
	rootKey, err := pki.NewKey(rand.Reader, v1alpha1.ECDSAP256)
	must(t, rootKey, err)
	root, err := pki.NewRoot(rand.Reader, rootKey, request)
	must(t, root, err)
	key, err := pki.NewKey(rand.Reader, v1alpha1.ECDSAP256)
	must(t, key, err)
	signing, err := pki.NewIntermediate(rand.Reader, root, rootKey, key.Public(), request)
	must(t, signing, err)
	return &pki.Bundle{Signing: signing, Signer: key, Roots: []*x509.Certificate{root}}
}

// namesakeOf is a root that signs itself and leaves, and has the same subject as each other one that this makes.
func namesakeOf(t testing.TB) *pki.Bundle {
	t.Helper()
	key, err := pki.NewKey(rand.Reader, v1alpha1.ECDSAP256)
	must(t, key, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{Organization: []string{"cluster.local"}}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, raw, err)
	root, err := x509.ParseCertificate(raw)
	must(t, root, err)
	return &pki.Bundle{Signing: root, Signer: key, Roots: []*x509.Certificate{root}}
}

// leafOf is a leaf of a bundle, of an identity in a namespace, that has expired where it lives for less than nothing.
func leafOf(t testing.TB, b *pki.Bundle, namespace string, lives time.Duration) tls.Certificate {
	t.Helper()
	leaf, err := b.Leaf(rand.Reader, pki.LeafRequest{
		URI:       &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/" + namespace + "/sa/default"},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(lives),
	})
	return must(t, leaf, err)
}

// credentialOf is what the probe has of a bundle.
func credentialOf(t testing.TB, b *pki.Bundle) Credential {
	t.Helper()
	leaf := leafOf(t, b, "istio-system", time.Hour)
	return Credential{Root: b.Roots[0], Leaf: &leaf}
}

func poolOf(bundles ...*pki.Bundle) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, b := range bundles {
		pool.AddCert(b.Roots[0])
	}
	return pool
}

// sidecar is a server that speaks TLS as a proxy does: it waits for a request that never comes, and hangs up when its client does. How
// handshakes end is told in the order of their connections.
func sidecar(t *testing.T, config *tls.Config) (port int, handshakes <-chan error) {
	t.Helper()
	listener, port := listen(t)
	results := make(chan error, 8)
	told := make(chan struct{}) // of the connection before
	close(told)
	go func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			before, mine := told, make(chan struct{})
			told = mine
			go func() {
				conn := tls.Server(raw, config)
				err := conn.HandshakeContext(context.Background())
				<-before
				results <- err
				close(mine)
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		}
	}()
	return port, results
}

func peerOn(port int) Peer {
	return Peer{Name: "shop/cart-1", Namespace: "shop", Address: target.Address, Port: port}
}

// says compares an error with parts of it, in which PORT stands for the port; none: no error.
func says(t *testing.T, err error, port int, parts ...string) {
	t.Helper()
	if len(parts) == 0 && err != nil {
		t.Errorf("error %v", err)
	}
	for _, part := range parts {
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), strconv.Itoa(port), "PORT"), part) {
			t.Errorf("error %v, want %q in it", err, part)
		}
	}
}

func TestHandshake(t *testing.T) {
	a, b, other := bundleOf(t, "a"), bundleOf(t, "b"), bundleOf(t, "other")
	twin, evil := namesakeOf(t), namesakeOf(t)
	const yes, no = rollout.Yes, rollout.No
	type accepts map[*pki.Bundle]rollout.Answer
	// mutual demands a leaf of one of the bundles, and names their roots.
	mutual := func(bundles ...*pki.Bundle) *tls.Config {
		return &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: poolOf(bundles...)}
	}
	// secretive does the same and names no root.
	secretive := func(bundles ...*pki.Bundle) *tls.Config {
		return &tls.Config{ClientAuth: tls.RequireAnyClientCert, VerifyConnection: func(s tls.ConnectionState) error {
			between := x509.NewCertPool()
			for _, c := range s.PeerCertificates[1:] {
				between.AddCert(c)
			}
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{
				Roots: poolOf(bundles...), Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			})
			return err
		}}
	}
	for _, tc := range []struct {
		reason string
		server *tls.Config
		leaf   tls.Certificate
		ours   []*pki.Bundle
		want   accepts
		root   *pki.Bundle
		// fails says that the handshake fails at the proxy.
		fails bool
	}{
		{
			reason: "both roots are accepted, and the leaf is of the old one",
			server: mutual(a, b), leaf: leafOf(t, a, "shop", time.Hour), ours: []*pki.Bundle{b, a}, want: accepts{a: yes, b: yes}, root: a,
		},
		{
			reason: "the new root is not accepted: what is presented is of the other one, and nothing fails",
			server: mutual(a), leaf: leafOf(t, a, "shop", time.Hour), ours: []*pki.Bundle{b, a}, want: accepts{a: yes, b: no}, root: a,
		},
		{
			reason: "the leaf has moved on before the old root is dropped",
			server: mutual(a, b), leaf: leafOf(t, b, "shop", time.Hour), ours: []*pki.Bundle{b, a}, want: accepts{a: yes, b: yes}, root: b,
		},
		{
			reason: "a leaf that has expired leads to its root still",
			server: mutual(a), leaf: leafOf(t, a, "shop", -time.Minute), ours: []*pki.Bundle{a, b}, want: accepts{a: yes, b: no}, root: a,
		},
		{
			reason: "a leaf of neither",
			server: mutual(a, other), leaf: leafOf(t, other, "shop", time.Hour), ours: []*pki.Bundle{a, b}, want: accepts{a: yes, b: no},
		},
		{
			reason: "neither root is accepted, and nothing is presented",
			server: mutual(other), leaf: leafOf(t, a, "shop", time.Hour), ours: []*pki.Bundle{a, b}, want: accepts{a: no, b: no}, root: a, fails: true,
		},
		{
			reason: "no roots are named: only the one is known that was presented",
			server: secretive(a, b), leaf: leafOf(t, a, "shop", time.Hour), ours: []*pki.Bundle{b, a}, want: accepts{b: yes}, root: a,
		},
		{
			reason: "no roots are named, and the one that was presented is refused",
			server: secretive(a), leaf: leafOf(t, a, "shop", time.Hour), ours: []*pki.Bundle{b, a}, want: accepts{b: no}, root: a, fails: true,
		},
		{
			reason: "of two roots of one name, the handshake proves one",
			server: mutual(twin), leaf: leafOf(t, twin, "shop", time.Hour), ours: []*pki.Bundle{twin, evil}, want: accepts{twin: yes}, root: twin,
		},
		{
			reason: "of two roots of one name, the handshake refutes one",
			server: mutual(evil), leaf: leafOf(t, twin, "shop", time.Hour), ours: []*pki.Bundle{twin, evil}, want: accepts{twin: no}, root: twin, fails: true,
		},
		{
			reason: "two roots of one name that is not named",
			server: mutual(a), leaf: leafOf(t, a, "shop", time.Hour), ours: []*pki.Bundle{twin, evil, a}, want: accepts{twin: no, evil: no, a: yes}, root: a,
		},
	} {
		for _, versions := range []struct {
			name     string
			min, max uint16
		}{{"1.2", tls.VersionTLS12, tls.VersionTLS13}, {"1.3", tls.VersionTLS13, tls.VersionTLS13}} {
			t.Run(tc.reason+", TLS "+versions.name, func(t *testing.T) {
				tc.server.Certificates = []tls.Certificate{tc.leaf}
				tc.server.MinVersion, tc.server.MaxVersion = versions.min, versions.max
				port, handshakes := sidecar(t, tc.server.Clone())
				var ours []Credential
				for _, b := range tc.ours {
					ours = append(ours, credentialOf(t, b))
				}
				got, err := New().Handshake(t.Context(), peerOn(port), ours)
				says(t, err, port)
				want := Seen{Accepts: map[pki.Fingerprint]rollout.Answer{}, Issued: tc.leaf.Leaf.NotBefore, Expires: tc.leaf.Leaf.NotAfter}
				for b, answer := range tc.want {
					want.Accepts[pki.FingerprintOf(b.Roots[0])] = answer
				}
				if tc.root != nil {
					want.Leaf = pki.FingerprintOf(tc.root.Roots[0])
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				failed := <-handshakes
				if versions.min == tls.VersionTLS13 {
					failed = <-handshakes // the first was of 1.2
				}
				if (failed != nil) != tc.fails {
					t.Errorf("at the proxy: %v", failed)
				}
			})
		}
	}
}

// Once a proxy has wanted TLS 1.3, the next ones are asked in it first; one that has only 1.2 is asked in that.
func TestHandshakeVersions(t *testing.T) {
	a := bundleOf(t, "a")
	server := func(version uint16) (int, <-chan error) {
		return sidecar(t, &tls.Config{
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: poolOf(a), Certificates: []tls.Certificate{leafOf(t, a, "shop", time.Hour)},
			MinVersion: version, MaxVersion: version,
		})
	}
	modern, ofModern := server(tls.VersionTLS13)
	old, ofOld := server(tls.VersionTLS12)
	h := newHand([]Credential{credentialOf(t, a)})
	for _, step := range []struct {
		port       int
		handshakes <-chan error
		tries      int
	}{{old, ofOld, 1}, {modern, ofModern, 2}, {modern, ofModern, 1}, {old, ofOld, 2}, {old, ofOld, 1}} {
		seen, err := h.shake(t.Context(), peerOn(step.port), time.Now())
		if err != nil || seen.Accepts[h.prints[0]] != rollout.Yes {
			t.Errorf("got %+v, %v", seen, err)
		}
		for try := range step.tries {
			if err := <-step.handshakes; (err == nil) != (try == step.tries-1) {
				t.Errorf("try %d of %d: %v", try+1, step.tries, err)
			}
		}
	}
	if len(ofOld)+len(ofModern) > 0 {
		t.Error("there were more tries")
	}
}

func TestHandshakeWithOthers(t *testing.T) {
	a := bundleOf(t, "a")
	nobody, err := a.Leaf(rand.Reader, pki.LeafRequest{URI: &url.URL{Scheme: "https", Host: "shop.example.com"}, NotAfter: time.Now().Add(time.Hour)})
	must(t, nobody, err)
	expired := leafOf(t, a, "istio-system", -time.Hour)
	shop, cart := leafOf(t, a, "shop", time.Hour), leafOf(t, a, "cart", time.Hour)
	mutual := &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: poolOf(a), MinVersion: tls.VersionTLS12}
	serves := func(config *tls.Config, leaf tls.Certificate) func(*testing.T, func()) int {
		return func(t *testing.T, _ func()) int {
			config := config.Clone()
			config.Certificates = []tls.Certificate{leaf}
			port, _ := sidecar(t, config)
			return port
		}
	}
	for _, tc := range []struct {
		reason string
		// port to ask at; pass lets the deadline of the caller pass.
		port    func(t *testing.T, pass func()) int
		present *tls.Certificate
		want    string
		silent  bool
		refused bool
	}{
		{
			reason: "another pod has the address", port: serves(mutual, cart),
			want: "presents a leaf of spiffe://cluster.local/ns/cart/sa/default: its address belongs to another pod by now",
		},
		{
			reason: "the application has certificates of its own", port: serves(mutual, nobody),
			want: "presents a certificate without an identity of the mesh: port PORT must be one that is redirected to the sidecar",
		},
		{reason: "it wants no leaf", port: serves(&tls.Config{MinVersion: tls.VersionTLS12}, shop), want: "asks for no certificate: port PORT"},
		{
			reason: "our leaf has expired, which says nothing of the root", port: serves(mutual, shop), present: &expired,
			want: "takes what is presented to it for expired: compare its clock with the operator's",
		},
		{
			reason: "no TLS",
			port: func(t *testing.T, _ func()) int {
				return accept(t, func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
			},
			want: "does not speak TLS on port PORT",
		},
		{
			reason: "an alert that is not about certificates",
			port: func(t *testing.T, _ func()) int {
				return accept(t, func(c net.Conn) { _, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 80}) })
			},
			want: "ends the handshake: tls: internal error",
		},
		{
			reason: "nobody listens", port: func(t *testing.T, _ func()) int { return closedPort(t) }, silent: true, refused: true,
			want: "shop/cart-1 at 127.0.0.1:PORT gives no answer: connect: connection refused; " +
				"a NetworkPolicy must let the operator reach TCP port PORT in namespace shop, and it must be one that is redirected to the sidecar",
		},
		{
			reason: "the connection is closed, as on port 15006",
			port:   func(t *testing.T, _ func()) int { return accept(t, func(c net.Conn) { _ = c.Close() }) },
			silent: true, want: "gives no answer: ",
		},
		{
			reason: "no answer until the deadline",
			port:   func(t *testing.T, pass func()) int { return accept(t, func(net.Conn) { pass() }) },
			silent: true, want: "gives no answer: no answer in time",
		},
		{
			reason: "no word after a handshake of TLS 1.3, which tells nothing of the leaf",
			port: func(t *testing.T, pass func()) int {
				config := mutual.Clone()
				config.MinVersion, config.SessionTicketsDisabled, config.Certificates = tls.VersionTLS13, true, []tls.Certificate{shop}
				listener, port := listen(t)
				go func() {
					for {
						raw, err := listener.Accept()
						if err != nil {
							return
						}
						conn := tls.Server(raw, config)
						if conn.HandshakeContext(context.Background()) == nil {
							_, _ = io.Copy(io.Discard, conn) // until the probe has ended its direction
							pass()
						}
						t.Cleanup(func() { _ = raw.Close() })
					}
				}()
				return port
			},
			silent: true, want: "gives no answer: no word after the handshake",
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			ctx := newDeadline(t)
			port := tc.port(t, ctx.pass)
			ours := credentialOf(t, a)
			if tc.present != nil {
				ours.Leaf = tc.present
			}
			_, err := New().Handshake(ctx, peerOn(port), []Credential{ours})
			says(t, err, port, tc.want)
			silent, is := errors.AsType[*SilentError](err)
			if is != tc.silent || is && silent.Refused() != tc.refused {
				t.Errorf("%v: silent %v, want %v", err, is, tc.silent)
			}
		})
	}
}

func TestHandshakeThatIsGivenUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	port := accept(t, func(net.Conn) { cancel() })
	_, err := New().Handshake(ctx, peerOn(port), []Credential{credentialOf(t, bundleOf(t, "a"))})
	says(t, err, port, "was not asked to the end")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not of the caller", err)
	}
	if _, err := New().Handshake(t.Context(), Peer{Name: "shop/cart-1", Address: "cart.shop"}, nil); err == nil {
		t.Error("a name is no address of a pod")
	}
}
