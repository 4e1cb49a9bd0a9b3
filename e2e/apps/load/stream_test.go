// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// flow answers with lines until the client goes or until is closed.
func flow(w http.ResponseWriter, r *http.Request, until <-chan struct{}) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		_, _ = io.WriteString(w, "line\n")
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-until: // one that has ended already sends one line
			return
		default:
		}
		select {
		case <-r.Context().Done():
			return
		case <-until:
			return
		case <-tick.C:
		}
	}
}

// TestStream holds one request open beside the others, over the same protocol, for as long as these take.
func TestStream(t *testing.T) {
	for protocol, h2 := range map[int]bool{1: false, 2: true} {
		var streams atomic.Int64
		out := send(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/stream" {
				return
			}
			streams.Add(1)
			if r.ProtoMajor != protocol {
				t.Errorf("the stream came over %s, want HTTP/%d", r.Proto, protocol)
			}
			flow(w, r, nil)
		}, func(o *options) { o.h2, o.stream, o.qps = h2, o.url+"/stream", 100 })
		if out.Failed != 0 || out.Requests != 20 {
			t.Errorf("HTTP/%d: a stream is none of the requests: got %+v", protocol, out)
		}
		if s := out.Stream; streams.Load() != 1 || s == nil || s.Opened != 1 || s.Lines < 2 || len(s.Broken) != 0 {
			t.Errorf("HTTP/%d: one stream flowed for the whole run, and its end is not counted as broken: got %+v", protocol, s)
		}
	}
}

// TestBrokenStream counts each end before the time of the run, says why, and begins anew.
func TestBrokenStream(t *testing.T) {
	aborted := func(w http.ResponseWriter, r *http.Request) {
		ended := make(chan struct{})
		close(ended)
		flow(w, r, ended)
		panic(http.ErrAbortHandler)
	}
	for name, tc := range map[string]struct {
		reason  string
		h2      bool
		timeout time.Duration
		handler http.HandlerFunc
		want    cause
		lines   int64
	}{
		"refused": {
			reason:  "an error is no answer that flows",
			handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
			want:    "status 503",
		},
		"ended": {
			reason:  "a server that leaves may end the answer as is proper: it is broken all the same",
			handler: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "one\ntwo\n") },
			want:    causeEnded, lines: 2,
		},
		"closed": {
			reason: "the connection is closed in the middle", handler: aborted, want: causeClosed, lines: 1,
		},
		"reset": {
			reason: "HTTP/2 ends one stream of a connection", h2: true, handler: aborted, want: causeStream, lines: 1,
		},
		"silent": {
			reason: "an open connection on which nothing comes is of no use", timeout: 500 * time.Millisecond,
			handler: func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "line\n")
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			},
			want: causeSilence, lines: 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var streams atomic.Int64
			stop := make(chan os.Signal, 1)
			began := time.Now()
			out := sendUntil(t, stop, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path != "/stream":
				case streams.Add(1) == 1:
					tc.handler(w, r)
				default: // it has been begun anew
					_, _ = io.WriteString(w, "line\n")
					_ = http.NewResponseController(w).Flush()
					stop <- os.Interrupt
					<-r.Context().Done()
				}
			}, func(o *options) {
				o.h2, o.stream, o.qps, o.requests, o.timeout = tc.h2, o.url+"/stream", 20, 100000, cmp.Or(tc.timeout, o.timeout)
			})
			s := out.Stream
			if s.Opened != 2 || len(s.Broken) != 1 || s.Broken[0].Cause != tc.want {
				t.Fatalf("%s: got %+v, want one breach: %s", tc.reason, s, tc.want)
			}
			if s.Lines < tc.lines || s.Lines > tc.lines+1 {
				t.Errorf("%s: %d lines, want %d and at most one of the second stream", tc.reason, s.Lines, tc.lines)
			}
			if b := s.Broken[0]; b.At.Before(began) || b.Seconds <= 0 || b.Seconds > time.Since(began).Seconds() {
				t.Errorf("when it broke: got %+v in a run from %v", b, began)
			}
		})
	}
}

func TestStreamWithoutServer(t *testing.T) {
	out := send(t, func(http.ResponseWriter, *http.Request) {}, func(o *options) {
		o.stream = strings.Replace(o.url, "127.0.0.1", "127.0.0.2", 1) + "/stream"
	})
	if s := out.Stream; s.Opened != 1 || len(s.Broken) != 1 || s.Broken[0].Cause != causeRefused {
		t.Errorf("a server that is not there breaks a stream before it begins: got %+v", s)
	}
}
