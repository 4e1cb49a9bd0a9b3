// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	// Leaf is how long the leaves live that it asks for: where no port speaks mTLS, the agent's expiry minus this is when its leaf was issued.
	Leaf time.Duration
	// Edge says that no port does, as at a gateway. Of others it is found out when they refuse the connection.
	Edge bool
	// Elsewhere says that it is no pod of this cluster.
	Elsewhere bool
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
// their order. Those that were not asked before the context ended have their last finding, or an error; who was never asked comes first in the next round.
func (s *Survey) Round(ctx context.Context, about string, targets []Target, credentials []Credential, settled func(Finding) bool) []Finding {
	if s.about != about {
		s.about, s.findings = about, nil
	}
	out := make([]Finding, len(targets))
	var due, again []int
	for i, t := range targets {
		last, known := s.findings[t]
		switch {
		case known && settled(last):
			out[i] = last
		case known:
			out[i], again = last, append(again, i)
		default:
			out[i], due = Finding{Target: t, Err: fmt.Errorf("%s was not asked yet", t.Name)}, append(due, i)
		}
	}
	// A round may end before all were asked. Who has waited longest comes first: many that don't answer would keep the others from it.
	slices.SortStableFunc(again, func(a, b int) int { return out[a].At.Compare(out[b].At) })
	due = append(due, again...)
	limit := s.Connections
	if limit <= 0 {
		limit = surveyConnections
	}
	h := newHand(credentials)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(limit, len(due)) {
		workers.Go(func() { // for many targets: a handshake makes a stack grow
			for n := next.Add(1) - 1; n < int64(len(due)) && ctx.Err() == nil; n = next.Add(1) - 1 {
				if f := s.ask(ctx, h, targets[due[n]]); !f.At.IsZero() {
					out[due[n]] = f
				}
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
	f := Finding{Target: t, At: s.Clock.Now()}
	if !t.Edge {
		f.Seen, f.Err = h.shake(ctx, t.Peer, s.Clock.Now())
		f.Handshook = f.Err == nil
	}
	silent, refused := errors.AsType[*SilentError](f.Err)
	if t.Edge || refused && silent.Refused() { // the rules of its pod lead this port nowhere
		f.Seen = Seen{}
		if f.Seen.Expires, f.Err = s.Prober.AgentExpiry(ctx, t.Address); f.Err == nil {
			f.Seen.Issued = f.Seen.Expires.Add(-t.Leaf)
		}
	}
	if f.Err != nil && ctx.Err() != nil {
		f.At = time.Time{} // that may have been us
	}
	return f
}
