// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// streamSummary says how the request went whose answer was to flow for the whole run.
type streamSummary struct {
	// Opened counts how often it was begun: once, and once more after each time it broke off.
	Opened int64 `json:"opened"`
	// Lines that came over all.
	Lines int64 `json:"lines"`
	// Broken are the answers that ended before the run did.
	Broken []breach `json:"broken"`
}

// breach is one end before its time.
type breach struct {
	// At is when, Seconds how long the answer had flowed, Cause what was seen.
	At      time.Time `json:"at"`
	Seconds float64   `json:"seconds"`
	Cause   cause     `json:"cause"`
}

// What ends an answer that no error of the connection has broken off.
const (
	causeEnded   cause = "the answer ended"
	causeSilence cause = "no line came in time"
)

// afterBreach is how long one waits before the request is sent anew, so that a server that refuses it is not asked all the time.
const afterBreach = time.Second

// stream is one request that is held open.
type stream struct {
	o         options
	transport *http.Transport
	summary   streamSummary
}

// hold sends the request of -stream, if there is one. The returned function ends it and says how it went.
func hold(o options) func() *streamSummary {
	if o.stream == "" {
		return func() *streamSummary { return nil }
	}
	s := &stream{
		o: o, summary: streamSummary{Broken: []breach{}},
		transport: &http.Transport{Protocols: new(http.Protocols)},
	}
	s.transport.Protocols.SetHTTP1(!o.h2)
	s.transport.Protocols.SetUnencryptedHTTP2(o.h2)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.run(ctx)
	}()
	return func() *streamSummary {
		cancel()
		<-ended
		return &s.summary
	}
}

// run keeps the answer flowing until the context ends.
func (s *stream) run(ctx context.Context) {
	for ctx.Err() == nil {
		s.summary.Opened++
		began := time.Now()
		why := s.once(ctx)
		if ctx.Err() != nil {
			return
		}
		s.summary.Broken = append(s.summary.Broken, breach{time.Now(), time.Since(began).Seconds(), why})
		s.transport.CloseIdleConnections()
		select {
		case <-ctx.Done():
		case <-time.After(afterBreach):
		}
	}
}

// once sends the request and reads its answer until it ends, for whatever cause.
func (s *stream) once(ctx context.Context) cause {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(s.o.timeout, func() { cancel(errSilence) })
	defer silence.Stop()
	why := func(err error) cause {
		if errors.Is(context.Cause(ctx), errSilence) {
			return causeSilence
		}
		return causeOf(err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.o.stream, nil)
	if err != nil {
		return causeOther
	}
	if s.o.host != "" {
		request.Host = s.o.host
	}
	response, err := s.transport.RoundTrip(request)
	if err != nil {
		return why(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return cause(fmt.Sprintf("status %d", response.StatusCode))
	}
	for lines := bufio.NewReader(response.Body); ; {
		_, err := lines.ReadSlice('\n')
		switch err {
		case nil:
			s.summary.Lines++
			silence.Reset(s.o.timeout)
		case io.EOF:
			return causeEnded
		default:
			return why(err)
		}
	}
}

var errSilence = errors.New("silence")
