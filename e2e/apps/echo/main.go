// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command echo is a well-behaved application for test clusters. It answers every request, over HTTP/1.1 or HTTP/2
// without TLS, with one JSON object: what it is told about itself and what its sidecar tells about the peer. /healthz
// is its readiness. /stream answers with that object again and again, a line each ?interval, until the client goes or ?for has
// passed, which is an hour at most.
//
// On SIGTERM it says that it is not ready, goes on serving for -drain while endpoints and proxies learn of it, and only
// then stops accepting connections. An application that leaves at once loses the requests that are on their way to it,
// whatever the mesh does.
//
// What it knows of itself comes from the environment, as the downward API sets it: VERSION, REVISION (the annotation
// istio.io/rev of its pod) and POD_NAME. With CRASH_ON it ends at once when that is its REVISION: an application that does not
// bear a new sidecar.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// answer is the body of every response.
type answer struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Pod      string `json:"pod"`
	// Peer is the identity in the peer's certificate, such as spiffe://cluster.local/ns/shop/sa/cart; empty when the
	// request came without mTLS.
	Peer string `json:"peer"`
	// Protocol is that of the last hop, such as HTTP/1.1.
	Protocol string `json:"protocol"`
}

// echo is the handler.
type echo struct {
	self     answer
	draining atomic.Bool
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	draining := e.draining.Load()
	if draining && r.ProtoMajor == 1 {
		// A kept connection would meet its end in the middle of a request.
		w.Header().Set("Connection", "close")
	}
	if r.URL.Path == "/healthz" {
		if draining {
			http.Error(w, "draining", http.StatusServiceUnavailable)
		}
		return
	}
	out := e.self
	out.Peer = peer(r.Header.Values("X-Forwarded-Client-Cert"))
	out.Protocol = r.Proto
	if r.URL.Path == "/stream" {
		stream(w, r, out)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(out); err != nil {
		log.Print(err) // the client has gone
	}
}

func main() {
	listen := flag.String("listen", ":8080", "address to serve on")
	drain := flag.Duration("drain", 5*time.Second, "how long to go on serving after SIGTERM")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if bad := os.Getenv("CRASH_ON"); bad != "" && bad == os.Getenv("REVISION") {
		log.Fatalf("does not run with revision %s", bad)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	e := &echo{self: answer{Version: os.Getenv("VERSION"), Revision: os.Getenv("REVISION"), Pod: os.Getenv("POD_NAME")}}
	if err := serve(ctx, listener, e, *drain); err != nil {
		log.Fatal(err)
	}
}

// serve serves until ctx ends, and then leaves gracefully.
func serve(ctx context.Context, listener net.Listener, e *echo, drain time.Duration) error {
	server := &http.Server{Handler: e, ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	requests, leave := context.WithCancel(context.Background())
	defer leave()
	server.BaseContext = func(net.Listener) context.Context { return requests }
	server.RegisterOnShutdown(leave) // streams would never end by themselves
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	e.draining.Store(true)
	select {
	case err := <-failed:
		return err
	case <-time.After(drain):
	}
	last, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		return fmt.Errorf("requests that did not end: %w", err)
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
