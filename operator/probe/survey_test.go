// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/meshwright/meshwright/operator/pki"
	"github.com/meshwright/meshwright/operator/rollout"
)

// crowd is proxies behind one port, on addresses of their own, that count who asks them.
type crowd struct {
	mu             sync.Mutex
	handshakes     int
	open, mostOpen int
	// full is closed once as many are connected as fill says, and only then is anybody answered.
	full   chan struct{}
	fill   int
	filled sync.Once
}

func crowdOn(t *testing.T, fill int, config *tls.Config) (c *crowd, port int) {
	t.Helper()
	c = &crowd{full: make(chan struct{}), fill: fill}
	config = config.Clone()
	config.VerifyConnection = func(tls.ConnectionState) error {
		c.left()
		return nil
	}
	listener, port := listen(t)
	go func() {
		for {
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				c.came()
				<-c.full
				conn := tls.Server(raw, config)
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			}()
		}
	}()
	return c, port
}

func (c *crowd) came() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.handshakes++
	c.open++
	c.mostOpen = max(c.mostOpen, c.open)
	if c.open == c.fill {
		c.filled.Do(func() { close(c.full) })
	}
}

// left is counted while the other side waits for the end of the handshake: never are more counted than are connected.
func (c *crowd) left() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
}

// asked is how many have been since the last time.
func (c *crowd) asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.handshakes
	c.handshakes = 0
	return n
}

func targetsOn(port, n int) []Target {
	out := make([]Target, n)
	for i := range out {
		name := fmt.Sprintf("shop/cart-%d", i)
		out[i] = Target{Peer: Peer{Name: name, Namespace: "shop", Address: target.Address, Port: port}, Key: name + "/1"}
	}
	return out
}

// A survey asks all, then those that are not settled, those that are new, and all again when it is about something else.
func TestSurvey(t *testing.T) {
	const n, connections = 30, 4
	a, b := bundleOf(t, "a"), bundleOf(t, "b")
	servers, port := crowdOn(t, connections, &tls.Config{
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: poolOf(a), Certificates: []tls.Certificate{leafOf(t, a, "shop", time.Hour)},
		MinVersion: tls.VersionTLS12,
	})
	clock := clocktesting.NewFakePassiveClock(time.Now())
	s := &Survey{Prober: New(), Clock: clock, Connections: connections}
	credentials := []Credential{credentialOf(t, b), credentialOf(t, a)}
	targets := targetsOn(port, n)
	none, every := func(Finding) bool { return false }, func(f Finding) bool { return f.Err == nil }
	round := func(reason, about string, targets []Target, settled func(Finding) bool, asked int) {
		t.Helper()
		found := s.Round(t.Context(), about, targets, credentials, settled)
		if got := servers.asked(); got != asked {
			t.Errorf("%s: %d were asked, want %d", reason, got, asked)
		}
		for i, f := range found {
			if f.Err != nil || !f.Handshook || f.Target != targets[i] || f.Seen.Accepts[pki.FingerprintOf(a.Roots[0])] != rollout.Yes ||
				f.Seen.Accepts[pki.FingerprintOf(b.Roots[0])] != rollout.No || f.At.IsZero() {
				t.Errorf("%s: %+v", reason, f)
			}
		}
		if len(found) != len(targets) {
			t.Errorf("%s: %d findings", reason, len(found))
		}
	}
	round("all are new", "trust", targets, none, n)
	round("all are settled", "trust", targets, every, 0)
	round("some are not", "trust", targets, func(f Finding) bool { return f.Target != targets[3] && f.Target != targets[7] }, 2)
	replaced := append([]Target(nil), targets...)
	replaced[5].Key = "shop/cart-5/2"
	round("a pod was replaced", "trust", replaced, every, 1)
	round("one has gone", "trust", replaced[1:], every, 0)
	round("and has come back", "trust", replaced, every, 1)
	round("it is about something else", "drop", replaced, every, n)
	if servers.mostOpen != connections {
		t.Errorf("%d at a time, want %d", servers.mostOpen, connections)
	}
}

// Who was not asked before the end has an error, and is asked in the next round, whatever counts as settled.
func TestSurveyThatIsGivenUp(t *testing.T) {
	const n = 8
	a := bundleOf(t, "a")
	servers, port := crowdOn(t, 1, &tls.Config{
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: poolOf(a), Certificates: []tls.Certificate{leafOf(t, a, "shop", time.Hour)},
		MinVersion: tls.VersionTLS12,
	})
	s := &Survey{Prober: New(), Clock: clocktesting.NewFakePassiveClock(time.Now()), Connections: 1}
	credentials := []Credential{credentialOf(t, a)}
	ctx, cancel := context.WithCancel(t.Context())
	first := targetsOn(port, n)
	s.Round(ctx, "trust", first[:3], credentials, func(Finding) bool { return false })
	cancel()
	for i, f := range s.Round(ctx, "trust", first, credentials, func(Finding) bool { return true }) {
		if known := i < 3; (f.Err == nil) != known || !known && !strings.Contains(f.Err.Error(), "was not asked yet") {
			t.Errorf("%d: %v", i, f.Err)
		}
	}
	servers.asked()
	for _, f := range s.Round(t.Context(), "trust", first, credentials, func(Finding) bool { return true }) {
		if f.Err != nil {
			t.Error(f.Err)
		}
	}
	if got := servers.asked(); got != n-3 {
		t.Errorf("%d were asked, want %d", got, n-3)
	}
}

// A proxy without a port for the mesh is asked for the expiry of its leaf.
func TestSurveyOfGateways(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	prober := agentOn(t, now, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, expiryFamily+`{resource_name="default"} 3600`+"\n")
	})
	s := &Survey{Prober: prober, Clock: prober.Clock}
	gateway := Target{Peer: Peer{Name: "istio-ingress/ingress-1", Address: target.Address}, Key: "1", Leaf: 24 * time.Hour}
	gone := Target{Peer: Peer{Name: "istio-ingress/ingress-2", Address: "no address"}, Key: "2", Leaf: 24 * time.Hour}
	found := s.Round(t.Context(), "trust", []Target{gateway, gone}, nil, func(Finding) bool { return false })
	f := found[0]
	if f.Err != nil || f.Handshook || !f.Seen.Expires.Equal(now.Add(time.Hour)) || !f.Seen.Issued.Equal(now.Add(-23*time.Hour)) || !f.At.Equal(now) {
		t.Errorf("got %+v", f)
	}
	if f := found[1]; f.Err == nil || f.Handshook || !f.Seen.Issued.IsZero() {
		t.Errorf("got %+v", f)
	}
}
