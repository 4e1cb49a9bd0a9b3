// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

func TestPeer(t *testing.T) {
	for name, tc := range map[string]struct {
		reason string
		header []string
		want   string
	}{
		"plain": {
			reason: "without mTLS there is no header, and so no peer",
		},
		"sidecar": {
			reason: "the subject is quoted and may hold separators",
			header: []string{`By=spiffe://cluster.local/ns/shop/sa/cart;Hash=ab;Subject="O=a,OU=b;c \" d";URI=spiffe://cluster.local/ns/web/sa/default`},
			want:   "spiffe://cluster.local/ns/web/sa/default",
		},
		"two hops": {
			reason: "the last element is the nearest peer's; the first one came with the request and may be made up",
			header: []string{`URI=spiffe://cluster.local/ns/far/sa/away,By=x;URI=spiffe://cluster.local/ns/istio-ingress/sa/ingress`},
			want:   "spiffe://cluster.local/ns/istio-ingress/sa/ingress",
		},
		"no identity": {
			reason: "a certificate without a URI names nobody",
			header: []string{`Hash=ab;Subject=""`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := peer(tc.header); got != tc.want {
				t.Errorf("%s: got %q, want %q", tc.reason, got, tc.want)
			}
		})
	}
}

// TestServe follows one server from its first answer over both protocols to its end.
func TestServe(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{self: answer{Version: "v1", Revision: "1-29-1", Pod: "echo-0"}}
	ctx, terminate := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, listener, e, 0) }()
	url := "http://" + listener.Addr().String()

	for name, protocols := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2.0": func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		protocols(transport.Protocols)
		request, _ := http.NewRequest(http.MethodGet, url, nil)
		request.Header.Set("X-Forwarded-Client-Cert", "URI=spiffe://cluster.local/ns/web/sa/default")
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got answer
		if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		transport.CloseIdleConnections()
		want := answer{"v1", "1-29-1", "echo-0", "spiffe://cluster.local/ns/web/sa/default", name}
		if got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	if code, _ := get(t, url+"/healthz"); code != http.StatusOK {
		t.Errorf("before SIGTERM it is ready: got %d", code)
	}
	terminate()
	if err := <-ended; err != nil {
		t.Errorf("a graceful end is no error: got %v", err)
	}
	if conn, err := net.DialTimeout("tcp", listener.Addr().String(), time.Second); err == nil {
		_ = conn.Close()
		t.Error("after the end nobody listens")
	}
}

func TestDraining(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{}
	e.draining.Store(true)
	ctx, terminate := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, listener, e, 0) }()
	url := "http://" + listener.Addr().String()

	if code, _ := get(t, url+"/healthz"); code != http.StatusServiceUnavailable {
		t.Errorf("readiness turns false so that no new requests come: got %d", code)
	}
	if code, closed := get(t, url+"/"); code != http.StatusOK || !closed {
		t.Errorf("requests on their way are still answered, and the connection is given up: got %d, closed %v", code, closed)
	}
	terminate()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestStream reads lines for as long as the server lives: one that leaves ends them, though the client would go on.
func TestStream(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{self: answer{Pod: "echo-0"}}
	ctx, terminate := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, listener, e, 0) }()
	url := "http://" + listener.Addr().String() + "/stream"

	response, err := http.Get(url + "?interval=1ms")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := json.NewDecoder(response.Body)
	for range 3 {
		var got answer
		if err := lines.Decode(&got); err != nil || got.Pod != "echo-0" {
			t.Fatalf("got %+v (%v), want the answer of echo-0", got, err)
		}
	}
	bounded, err := http.Get(url + "?interval=1ms&for=5ms")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(bounded.Body)
	if err != nil || bytes.Count(body, []byte("\n")) < 2 {
		t.Errorf("a stream that is bounded ends by itself, as is proper: got %q (%v)", body, err)
	}
	_ = bounded.Body.Close()
	for query, reason := range map[string]string{
		"interval=0":            "as fast as can be is no rate",
		"interval=soon":         "it is no duration",
		"for=2h":                "nothing goes on for ever",
		"interval=5s&for=1s":    "no second line would ever come",
		"interval=1s&for=-3600": "it has no unit",
	} {
		if code, _ := get(t, url+"?"+query); code != http.StatusBadRequest {
			t.Errorf("%s: %s: got %d", query, reason, code)
		}
	}
	terminate()
	for err = error(nil); err == nil; {
		err = lines.Decode(new(answer))
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("the last line is whole: got %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("streams do not hold up a graceful end: got %v", err)
	}
}

func get(t *testing.T, url string) (code int, closed bool) {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode, response.Close
}
