// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fortio.org/log"
)

func TestMain(m *testing.M) {
	log.SetLogLevelQuiet(log.Critical)
	os.Exit(m.Run())
}

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, args string
		requests     int64
		duration     time.Duration
		err          string
	}{
		"by number":      {reason: "the time is bounded too", args: "-url u -requests 300 -qps 100", requests: 300, duration: 9 * time.Second},
		"by time":        {reason: "the number is bounded too", args: "-url u -duration 2s -qps 50", requests: 100, duration: 2 * time.Second},
		"both":           {reason: "whichever comes first", args: "-url u -duration 2s -requests 7", requests: 7, duration: 2 * time.Second},
		"short":          {reason: "at least one request is sent", args: "-url u -duration 1ms -qps 1", requests: 1, duration: time.Millisecond},
		"endless":        {reason: "a run without an end is refused", args: "-url u", err: "-requests or -duration"},
		"no target":      {reason: "there is no default target", args: "-requests 1", err: "-url is missing"},
		"as fast as can": {reason: "fortio's special rate would leave the number unbounded", args: "-url u -qps -1 -requests 1", err: "must be positive"},
		"fresh HTTP/2":   {reason: "HTTP/2 is about keeping connections", args: "-url u -requests 1 -fresh -h2", err: "exclude each other"},
		"forgotten dash": {reason: "a stray word must not be ignored", args: "-url u requests 1", err: `unexpected argument "requests"`},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := parse(strings.Fields(tc.args), io.Discard)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("%s: got error %v, want %q", tc.reason, err, tc.err)
				}
				return
			}
			if err != nil || o.requests != tc.requests || o.duration != tc.duration {
				t.Errorf("%s: got %d requests in %s (%v), want %d in %s", tc.reason, o.requests, o.duration, err, tc.requests, tc.duration)
			}
		})
	}
}

// send runs requests against a handler and returns the summary.
func send(t *testing.T, handler http.HandlerFunc, change func(*options)) *summary {
	t.Helper()
	return sendUntil(t, nil, handler, change)
}

// sendUntil runs requests until all are sent or it is told to stop.
func sendUntil(t *testing.T, stop <-chan os.Signal, handler http.HandlerFunc, change func(*options)) *summary {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	o := options{url: server.URL, qps: 1000, connections: 2, requests: 20, duration: time.Minute, timeout: 10 * time.Second}
	if change != nil {
		change(&o)
	}
	out, err := run(o, stop)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEveryRequestIsCounted(t *testing.T) {
	var seen atomic.Int64
	out := send(t, func(_ http.ResponseWriter, r *http.Request) {
		seen.Add(1)
		if r.Host != "shop.example.com" {
			t.Errorf("Host header: got %q", r.Host)
		}
	}, func(o *options) { o.host = "shop.example.com" })
	if seen.Load() != 20 || out.Requests != 20 || out.Failed != 0 || out.Codes[200] != 20 {
		t.Errorf("20 requests, no warm-up beside them: the server saw %d, the summary says %+v", seen.Load(), out)
	}
	if out.Connections != 2 {
		t.Errorf("connections are kept: got %d for 2 senders", out.Connections)
	}
	if out.FirstFailure != nil || out.LastFailure != nil {
		t.Errorf("no request failed, at no time: got %v, %v", out.FirstFailure, out.LastFailure)
	}
	if out.P99 <= 0 || out.P50 > out.P99 {
		t.Errorf("percentiles: got p50 %v, p99 %v", out.P50, out.P99)
	}
}

// TestByTime sends as many requests as the time holds at the rate, the last one included.
func TestByTime(t *testing.T) {
	out := send(t, func(http.ResponseWriter, *http.Request) {}, func(o *options) {
		parsed, err := parse([]string{"-url", o.url, "-qps", "500", "-duration", "100ms"}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		*o = parsed
	})
	if out.Wanted != 50 || out.Requests != 50 {
		t.Errorf("50 requests fit into 100 ms at 500 a second: got %+v", out)
	}
}

func TestHTTP2(t *testing.T) {
	out := send(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			http.Error(w, r.Proto, http.StatusHTTPVersionNotSupported)
		}
	}, func(o *options) { o.h2 = true })
	if out.Failed != 0 || out.Requests != 20 {
		t.Errorf("all over HTTP/2: got %+v", out)
	}
}

// TestFresh opens a connection for each request, so that new connections can be counted.
func TestFresh(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]bool{}
	out := send(t, func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen[r.RemoteAddr] = true
	}, func(o *options) { o.fresh = true })
	if out.Requests != 20 || out.Failed != 0 || out.Connections != 20 || len(seen) != 20 {
		t.Errorf("20 requests over as many connections: the server saw %d, the summary says %+v", len(seen), out)
	}
}

func TestFailuresByCode(t *testing.T) {
	var n atomic.Int64
	began := time.Now()
	out := send(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%4 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}, nil)
	if want := map[int]int64{200: 15, 503: 5}; !maps.Equal(out.Codes, want) || out.Failed != 5 {
		t.Errorf("every fourth request failed: got %+v", out)
	}
	if out.FirstFailure == nil || out.LastFailure == nil || out.FirstFailure.Before(began) || !out.FirstFailure.Before(*out.LastFailure) {
		t.Errorf("it is known when requests failed: got %v to %v after %v", out.FirstFailure, out.LastFailure, began)
	}
}

func TestClosedConnections(t *testing.T) {
	var n atomic.Int64
	out := send(t, func(w http.ResponseWriter, _ *http.Request) {
		switch n.Add(1) {
		case 3: // instead of an answer
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n")
			_ = conn.Close()
		case 7: // in the middle of an answer
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "half")
		}
	}, func(o *options) { o.connections = 1 })
	if out.Failed != 2 || out.Errors[causeClosed] != 2 || out.Codes[200] != 18 {
		t.Errorf("a missing and a broken answer: got %+v", out)
	}
	if out.Connections != 3 {
		t.Errorf("each broken connection is opened again: got %d", out.Connections)
	}
}

func TestNobodyListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	out, err := run(options{url: "http://" + address, qps: 1000, connections: 2, requests: 6, duration: time.Minute, timeout: time.Second}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if out.Failed != 6 || out.Codes[-1] != 6 || out.Errors[causeRefused] != 6 {
		t.Errorf("a server that is not there fails every request and ends no run: got %+v", out)
	}
}

func TestStop(t *testing.T) {
	stop := make(chan os.Signal, 1)
	var n atomic.Int64
	out := sendUntil(t, stop, func(http.ResponseWriter, *http.Request) {
		if n.Add(1) == 3 {
			stop <- os.Interrupt
		}
	}, func(o *options) { o.qps, o.connections, o.requests, o.duration = 20, 1, 100000, time.Hour })
	if out.Requests >= out.Wanted || out.Requests < 3 || out.Failed != 0 {
		t.Errorf("a stopped run reports what it sent: got %+v", out)
	}
}
