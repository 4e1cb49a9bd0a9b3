// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"
)

// cause of a request that ended without an answer.
type cause string

const (
	causeRefused   cause = "connection refused"
	causeReset     cause = "connection reset"
	causeClosed    cause = "connection closed before the answer was complete"
	causeStream    cause = "stream reset"
	causeTimeout   cause = "timeout"
	causeDNS       cause = "name not resolved"
	causeUnreached cause = "unreachable"
	causeOther     cause = "other"
)

// causeOf sorts an error of the transport or of reading a body.
func causeOf(err error) cause {
	var dns *net.DNSError
	var timeout net.Error
	var stream http2.StreamError
	switch {
	case errors.As(err, &dns):
		return causeDNS
	case errors.Is(err, syscall.ECONNREFUSED):
		return causeRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return causeReset
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return causeUnreached
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return causeClosed
	case errors.As(err, &stream):
		return causeStream
	case errors.As(err, &timeout) && timeout.Timeout():
		return causeTimeout
	default:
		return causeOther
	}
}

// observer counts the errors that fortio would only log, and sees when requests fail.
type observer struct {
	mu          sync.Mutex
	errors      map[cause]int64
	first, last *time.Time
}

func (o *observer) count(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.errors[causeOf(err)]++
	o.failed()
}

// failed is called with the lock held.
func (o *observer) failed() {
	now := time.Now()
	if o.first == nil {
		o.first = &now
	}
	o.last = &now
}

func (o *observer) around(base http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		response, err := base.RoundTrip(r)
		if err != nil {
			o.count(err)
			return nil, err
		}
		if response.StatusCode != http.StatusOK {
			o.mu.Lock()
			o.failed()
			o.mu.Unlock()
		}
		response.Body = &observedBody{response.Body, o}
		return response, nil
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type observedBody struct {
	io.ReadCloser
	observer *observer
}

func (b *observedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.observer.count(err)
	}
	return n, err
}
