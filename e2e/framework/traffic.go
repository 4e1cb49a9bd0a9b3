// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TrafficQPS is how many requests a second a [Traffic] sends in all.
const TrafficQPS = 300

// ways are how clients reach a gateway, each with a third of the requests. The stream goes with the last one, over HTTP/2.
var ways = []Load{
	{Name: "fresh", Fresh: true},
	{Name: "kept"},
	{Name: "http2", HTTP2: true},
}

// Traffic is what clients without sidecars send through a gateway: requests over a new connection each, over kept ones and over HTTP/2, and
// one request whose answer flows all the time.
type Traffic struct {
	env   *Env
	loads []Load
}

// TrafficResult is what a [Traffic] came to, by the way in which clients reached the gateway: fresh, kept and http2.
type TrafficResult map[string]LoadResult

// StartTraffic sends requests from pods of a namespace to a Service, and to /stream there for the stream, until it is stopped or for as long
// as the bound. It returns when requests are sent.
func (e *Env) StartTraffic(ctx context.Context, namespace string, service client.ObjectKey, bound time.Duration) (*Traffic, error) {
	var s corev1.Service
	if err := e.Client.Get(ctx, service, &s); err != nil {
		return nil, err
	}
	// By its address: looking up the name would cost more than the connection.
	url := "http://" + s.Spec.ClusterIP + "/"
	out := &Traffic{env: e}
	for i, load := range ways {
		load.Namespace, load.Name, load.URL = namespace, "load-"+load.Name, url
		load.QPS = TrafficQPS / len(ways)
		load.Requests = load.QPS * int(bound.Seconds())
		load.Connections = 16 // enough for the rate when each answer takes a while
		if i == len(ways)-1 {
			load.Stream = url + "stream"
		}
		if err := e.StartLoad(ctx, load); err != nil {
			return nil, err
		}
		out.loads = append(out.loads, load)
	}
	for _, load := range out.loads {
		if err := e.WaitLoading(ctx, load); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Stop has all clients end and says what they saw.
func (t *Traffic) Stop(ctx context.Context) (TrafficResult, error) {
	for _, load := range t.loads {
		if err := t.env.StopLoad(ctx, load); err != nil {
			return nil, err
		}
	}
	out := TrafficResult{}
	for _, load := range t.loads {
		result, err := t.env.FinishLoad(ctx, load)
		if err != nil {
			return nil, err
		}
		out[strings.TrimPrefix(load.Name, "load-")] = *result
	}
	return out, nil
}

// Requests that were sent, and how many of them failed.
func (r TrafficResult) Requests() (sent, failed int64) {
	for _, way := range r {
		sent, failed = sent+way.Requests, failed+way.Failed
	}
	return sent, failed
}

// LastFailure is when the last request was seen to fail; the zero time when none was.
func (r TrafficResult) LastFailure() (last time.Time) {
	for _, way := range r {
		if way.LastFailure != nil && way.LastFailure.After(last) {
			last = *way.LastFailure
		}
	}
	return last
}

// Stream is the request whose answer flowed all the time.
func (r TrafficResult) Stream() StreamResult {
	for _, way := range r {
		if way.Stream != nil {
			return *way.Stream
		}
	}
	return StreamResult{}
}

// String says in a line what was sent and what failed.
func (r TrafficResult) String() string {
	sent, failed := r.Requests()
	var out strings.Builder
	fmt.Fprintf(&out, "%d failed of %d requests", failed, sent)
	for _, name := range slices.Sorted(maps.Keys(r)) {
		way := r[name]
		fmt.Fprintf(&out, "; %s: %d over %d connections", name, way.Requests, way.Connections)
		if way.Failed > 0 {
			fmt.Fprintf(&out, ", %d failed %v %v", way.Failed, way.Codes, way.Errors)
		}
	}
	stream := r.Stream()
	fmt.Fprintf(&out, "; stream: %d lines, broken %d times", stream.Lines, len(stream.Broken))
	for _, b := range stream.Broken {
		fmt.Fprintf(&out, ", after %.1f s (%s)", b.Seconds, b.Cause)
	}
	return out.String()
}
