// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

type stream = discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer

// discovery answers each stream with the same script.
type discovery struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	script func(stream) error
}

func (d discovery) StreamAggregatedResources(s stream) error { return d.script(s) }

// serve runs a discovery server until the test ends. The end is a graceful one, that waits for connections to close: it hangs
// when the probe leaves one behind.
func serve(t *testing.T, script func(stream) error) (port int) {
	t.Helper()
	listener, port := listen(t)
	server := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, discovery{script: script})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.GracefulStop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return port
}

// response with clusters of these names, which the probe counts and does not read.
func response(names ...string) *discoveryv3.DiscoveryResponse {
	out := &discoveryv3.DiscoveryResponse{TypeUrl: clusterType, VersionInfo: "v", Nonce: "n"}
	for _, name := range names {
		out.Resources = append(out.Resources, &anypb.Any{TypeUrl: clusterType, Value: []byte(name)})
	}
	return out
}

func TestConfiguration(t *testing.T) {
	for _, tc := range []struct {
		reason string
		// script is what istiod does with a stream; pass lets the deadline of the caller pass.
		script func(s stream, pass func()) error
		// want is the error without the port, empty for none.
		want        string
		unreachable bool
		is          error
		code        codes.Code
	}{
		{
			reason: "clusters in answer to the first request",
			script: func(s stream, _ func()) error {
				if _, err := s.Recv(); err != nil {
					return err
				}
				return s.Send(response("BlackHoleCluster", "PassthroughCluster"))
			},
		},
		{
			reason: "clusters after other things and after an empty answer, which are acknowledged",
			script: func(s stream, _ func()) error {
				listeners := response("virtualInbound")
				listeners.TypeUrl = "type.googleapis.com/envoy.config.listener.v3.Listener"
				for _, r := range []*discoveryv3.DiscoveryResponse{nil, listeners, response()} {
					if r != nil {
						if err := s.Send(r); err != nil {
							return err
						}
					}
					request, err := s.Recv()
					if err != nil {
						return err
					}
					if request.GetTypeUrl() != typeOf(r) || request.GetResponseNonce() != r.GetNonce() {
						return status.Errorf(codes.InvalidArgument, "got %v after %v", request, r)
					}
				}
				return s.Send(response("BlackHoleCluster"))
			},
		},
		{
			reason: "clusters that gRPC would not take by itself",
			script: func(s stream, _ func()) error {
				return s.Send(response(string(make([]byte, 5<<20))))
			},
		},
		{
			reason: "no answer until the deadline",
			script: func(s stream, pass func()) error {
				_, err := s.Recv()
				pass()
				<-s.Context().Done()
				return err
			},
			want: "istiod of revision 1-29-1 at 127.0.0.1:PORT can't be reached: no answer in time; " +
				"a NetworkPolicy must let the operator reach TCP port PORT in namespace istio-system, " +
				"and istiod must listen there, which its argument --grpcAddr can turn off",
			unreachable: true,
			is:          context.DeadlineExceeded,
			code:        codes.Unknown,
		},
		{
			reason: "an empty answer and no other until the deadline",
			script: func(s stream, pass func()) error {
				if _, err := s.Recv(); err != nil {
					return err
				}
				if err := s.Send(response()); err != nil {
					return err
				}
				_, err := s.Recv() // the acknowledgement: the answer was read
				pass()
				<-s.Context().Done()
				return err
			},
			want: "istiod of revision 1-29-1 at 127.0.0.1:PORT sends no clusters: its answer was empty: " +
				"rpc error: code = DeadlineExceeded desc = context deadline exceeded",
			code: codes.DeadlineExceeded,
		},
		{
			reason: "an empty answer, and the end",
			script: func(s stream, _ func()) error { return s.Send(response()) },
			want:   "istiod of revision 1-29-1 at 127.0.0.1:PORT sends no clusters: it ended the stream",
			code:   codes.Unknown,
		},
		{
			reason: "istiod that has not filled its caches",
			script: func(stream, func()) error {
				return status.Error(codes.Unavailable, "server is not ready to serve discovery information")
			},
			want: "istiod of revision 1-29-1 at 127.0.0.1:PORT sends no clusters: " +
				"rpc error: code = Unavailable desc = server is not ready to serve discovery information",
			code: codes.Unavailable,
		},
		{
			reason: "istiod that wants credentials",
			script: func(stream, func()) error { return status.Error(codes.Unauthenticated, "authentication failure") },
			want: "istiod of revision 1-29-1 at 127.0.0.1:PORT sends no clusters: " +
				"rpc error: code = Unauthenticated desc = authentication failure",
			code: codes.Unauthenticated,
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			ctx := newDeadline(t)
			port := serve(t, func(s stream) error { return tc.script(s, ctx.pass) })
			err := (&Prober{XDSPort: port}).Configuration(ctx, target)
			checkError(t, err, port, tc.want, tc.unreachable)
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%v is not %v", err, tc.is)
			}
			if code := status.Code(err); code != tc.code {
				t.Errorf("code %v, want %v", code, tc.code)
			}
		})
	}
}

// typeOf is the type that the probe asks for after a response.
func typeOf(r *discoveryv3.DiscoveryResponse) string {
	if r == nil {
		return clusterType
	}
	return r.GetTypeUrl()
}

func TestConfigurationWithoutConnection(t *testing.T) {
	const remedy = "; a NetworkPolicy must let the operator reach TCP port PORT in namespace istio-system, " +
		"and istiod must listen there, which its argument --grpcAddr can turn off"
	for _, tc := range []struct {
		reason string
		port   func(t *testing.T, pass func()) int
		want   string
	}{
		{
			reason: "nobody listens",
			port:   func(t *testing.T, _ func()) int { return closedPort(t) },
			want:   "istiod of revision 1-29-1 at 127.0.0.1:PORT can't be reached: connect: connection refused" + remedy,
		},
		{
			reason: "somebody takes the connection and says nothing",
			port: func(t *testing.T, pass func()) int {
				return accept(t, func(net.Conn) { pass() })
			},
			want: "istiod of revision 1-29-1 at 127.0.0.1:PORT can't be reached: no answer in time" + remedy,
		},
		{
			reason: "something on the way takes the connection and closes it",
			port: func(t *testing.T, _ func()) int {
				return accept(t, func(c net.Conn) { _ = c.Close() })
			},
			want: "istiod of revision 1-29-1 at 127.0.0.1:PORT can't be reached: " +
				"the connection was closed before istiod spoke HTTP/2" + remedy,
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			ctx := newDeadline(t)
			port := tc.port(t, ctx.pass)
			checkError(t, (&Prober{XDSPort: port}).Configuration(ctx, target), port, tc.want, true)
		})
	}
}

// accept does something with each connection, that stays open until the other side closes it; the test waits for that.
func accept(t *testing.T, with func(net.Conn)) (port int) {
	t.Helper()
	listener, port := listen(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			with(c)
			for buffer := make([]byte, 1024); err == nil; {
				_, err = c.Read(buffer)
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return port
}

func TestConfigurationOfCallerThatGivesUp(t *testing.T) {
	for _, answer := range []bool{false, true} {
		t.Run(fmt.Sprintf("after an answer: %v", answer), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			port := serve(t, func(s stream) error {
				if _, err := s.Recv(); err != nil {
					return err
				}
				if answer {
					if err := s.Send(response()); err != nil {
						return err
					}
					_, _ = s.Recv()
				}
				cancel()
				<-s.Context().Done()
				return nil
			})
			err := (&Prober{XDSPort: port}).Configuration(ctx, target)
			checkError(t, err, port, "istiod of revision 1-29-1 at 127.0.0.1:PORT was not asked to the end: context canceled", false)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v is not %v", err, context.Canceled)
			}
		})
	}
}

func TestConfigurationOfAName(t *testing.T) {
	err := New().Configuration(t.Context(), Istiod{Address: "istiod.istio-system.svc"})
	if _, ok := errors.AsType[*UnreachableError](err); ok || err == nil {
		t.Errorf("got %v, want an error about the address", err)
	}
}

func TestNode(t *testing.T) {
	metadata := &structpb.Struct{Fields: map[string]*structpb.Value{
		"NAMESPACE":     structpb.NewStringValue("istio-system"),
		"ISTIO_VERSION": structpb.NewStringValue("1.29.1"),
		"CLUSTER_ID":    structpb.NewStringValue("Kubernetes"),
	}}
	for _, tc := range []struct{ reason, address, want string }{
		{
			"an istiod with IPv4", "10.1.2.3",
			"sidecar~192.0.2.1~meshwright-probe.istio-system~istio-system.svc.cluster.local",
		},
		{
			"an istiod with IPv6", "fd00::3",
			"sidecar~2001:db8::1~meshwright-probe.istio-system~istio-system.svc.cluster.local",
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			want := &corev3.Node{Id: tc.want, Metadata: metadata}
			if diff := cmp.Diff(want, nodeOf(target, netip.MustParseAddr(tc.address)), protocmp.Transform()); diff != "" {
				t.Errorf("node (-want +got):\n%s", diff)
			}
		})
	}
}
