// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
)

// surveyConnections are enough to keep a core busy with handshakes.
const surveyConnections = 64

// Target is a proxy to ask.
type Target struct {
	Peer

	// Key of the pod: another one of the same name has another key.
	Key string
	// Leaf is how long leaves live, where no port speaks mTLS, as at a gateway: the agent's expiry minus this is when its leaf was issued. Zero
	// for those that are asked by a handshake.
	Leaf time.Duration
}

// Finding is the last thing that was seen of a target.
type Finding struct {
	Target Target
	Seen   Seen
	// Handshook says that Seen is what a whole handshake showed.
	Handshook bool
	Err       error
	// At is when it was asked; zero where it was not, or not to the end.
	At time.Time
}

// Survey asks all proxies of a mesh, and again only those that have not shown yet what is waited for. One round runs at a time.
type Survey struct {
	Prober *Prober
	Clock  clock.PassiveClock
	// Connections at a time; zero: 64.
	Connections int

	about    string
	findings map[Target]Finding
}

// Round asks every target that is new, or whose last finding is not settled; a change of about, which says what is looked for, forgets everything. A
// target with another key, address or port is a new one, and one that is no longer among them is forgotten. It returns the findings of all targets, in
// their order. Those that were not asked before the context ended have an error, and are asked in the next round.
func (s *Survey) Round(ctx context.Context, about string, targets []Target, credentials []Credential, settled func(Finding) bool) []Finding {
	if s.about != about {
		s.about, s.findings = about, nil
	}
	out := make([]Finding, len(targets))
	var due []int
	for i, t := range targets {
		last, known := s.findings[t]
		if known && settled(last) {
			out[i] = last
			continue
		}
		due = append(due, i)
	}
	limit := s.Connections
	if limit <= 0 {
		limit = surveyConnections
	}
	h := newHand(credentials)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(limit, len(due)) {
		workers.Go(func() { // for many targets: a handshake makes a stack grow
			for n := next.Add(1) - 1; n < int64(len(due)); n = next.Add(1) - 1 {
				i := due[n]
				out[i] = s.ask(ctx, h, targets[i])
			}
		})
	}
	workers.Wait()
	s.findings = make(map[Target]Finding, len(targets))
	for _, f := range out {
		if !f.At.IsZero() {
			s.findings[f.Target] = f
		}
	}
	return out
}

func (s *Survey) ask(ctx context.Context, h *hand, t Target) Finding {
	if err := ctx.Err(); err != nil {
		return Finding{Target: t, Err: fmt.Errorf("%s was not asked: %w", t.Name, err)}
	}
	f := Finding{Target: t, At: s.Clock.Now()}
	if t.Leaf > 0 {
		f.Seen.Expires, f.Err = s.Prober.AgentExpiry(ctx, t.Address)
		if f.Err == nil {
			f.Seen.Issued = f.Seen.Expires.Add(-t.Leaf)
		}
	} else {
		f.Seen, f.Err = h.shake(ctx, t.Peer, s.Clock.Now())
		f.Handshook = f.Err == nil
	}
	if f.Err != nil && ctx.Err() != nil {
		f.At = time.Time{} // that may have been us
	}
	return f
}
