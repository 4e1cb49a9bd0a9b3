// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
)

const (
	clusterType = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	// configurationTimeout bounds a probe: an istiod with a full queue of pushes needs some seconds.
	configurationTimeout = 10 * time.Second
	// maxResponse in bytes. Clusters of large meshes exceed gRPC's 4 MiB.
	//
	// Source: istio pilot/pkg/xds/monitoring.go, where pilot_xds_config_size_bytes calls 40 MB a likely upper bound.
	maxResponse = 64 << 20
)

var errClosed = errors.New("the connection was closed before istiod spoke HTTP/2")

// Configuration asks an istiod for the clusters of a sidecar in istiod's own namespace, and is nil when it got some within ten
// seconds or the context's deadline, whichever is sooner. The error is an *[UnreachableError] when nothing is known, wraps
// [context.Canceled] when the caller gave up, and otherwise says what istiod answered instead.
//
// A ready istiod has clusters for every sidecar, also in an empty cluster: BlackHoleCluster and PassthroughCluster. It asks for
// no credentials on this port, unless XDS_AUTH_PLAINTEXT is set in its environment: the error is one of gRPC's with the code
// Unauthenticated then. Before its caches are filled istiod answers with the code Unavailable.
//
// While the call runs istiod counts the probe among its proxies, see [Prober.Connected].
//
// Source: istio pkg/security/authentication.go (Authenticate), pilot/pkg/xds/ads.go (Stream) and
// pilot/pkg/networking/core/cluster.go (buildClusters); the same in 1.26 to 1.29 and 1.31.
func (p *Prober) Configuration(ctx context.Context, istiod Istiod) error {
	e := endpoint{istiod, p.XDSPort}
	ip, err := e.validate()
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, configurationTimeout)
	defer cancel()
	conn, err := connect(bounded, e.address())
	if err != nil {
		return e.unreachable(ctx, e.xdsRemedy(), err)
	}
	defer conn.close()
	answered, err := clusters(bounded, conn.grpc, nodeOf(istiod, ip))
	switch {
	case err == nil:
		return nil
	case !answered && (bounded.Err() != nil || status.Code(err) == codes.DeadlineExceeded):
		return e.unreachable(ctx, e.xdsRemedy(), context.DeadlineExceeded)
	case errors.Is(ctx.Err(), context.Canceled):
		return e.unreachable(ctx, "", err)
	default:
		return fmt.Errorf("%s sends no clusters: %w", e, err)
	}
}

func (e endpoint) xdsRemedy() string {
	return fmt.Sprintf("a NetworkPolicy must let the operator reach TCP port %d in namespace %s, "+
		"and istiod must listen there, which its argument --grpcAddr can turn off", e.port, e.istiod.Namespace)
}

// connection is gRPC over one TCP connection, that is never made anew.
type connection struct {
	tcp  net.Conn
	grpc *grpc.ClientConn
}

func (c *connection) close() {
	_ = c.grpc.Close()
	_ = c.tcp.Close() // gRPC may not have got as far as to own it
}

// connect returns once the other side speaks HTTP/2. Only after that an error of gRPC can be istiod's: it gives its own
// failures and those of the network the same code.
func connect(ctx context.Context, address string) (*connection, error) {
	var dialer net.Dialer
	tcp, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return over(ctx, address, tcp)
}

// over speaks gRPC over a connection that is there, with TLS or without, and owns it from then on.
func over(ctx context.Context, address string, conn net.Conn) (*connection, error) {
	once := make(chan net.Conn, 1)
	once <- quiet{conn}
	client, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // what there is of TLS is the connection's
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)),
		// A dialler of our own also keeps proxies out, which the environment may name for the way out of the cluster.
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			default:
				return nil, errClosed
			}
		}))
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	c := &connection{conn, client}
	if err := c.ready(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// ready waits until the other side speaks HTTP/2.
func (c *connection) ready(ctx context.Context) error {
	for {
		state := c.grpc.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.TransientFailure, connectivity.Shutdown:
			return errClosed
		case connectivity.Idle:
			c.grpc.Connect()
		case connectivity.Connecting:
		}
		if !c.grpc.WaitForStateChange(ctx, state) {
			return ctx.Err()
		}
	}
}

// quiet is a connection whose errors name no addresses, for gRPC makes messages of them.
type quiet struct{ net.Conn }

func (q quiet) Read(b []byte) (int, error) {
	n, err := q.Conn.Read(b)
	return n, withoutAddresses(err)
}

func (q quiet) Write(b []byte) (int, error) {
	n, err := q.Conn.Write(b)
	return n, withoutAddresses(err)
}

// clusters subscribes to clusters until there are some. answered says that there was a response, empty or not.
func clusters(ctx context.Context, conn grpc.ClientConnInterface, node *corev3.Node) (answered bool, err error) {
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return false, err
	}
	// An error of Send is io.EOF, whatever has happened; Recv has the cause.
	_ = stream.Send(&discoveryv3.DiscoveryRequest{Node: node, TypeUrl: clusterType})
	for {
		response, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return answered, errors.New("it ended the stream")
		case err != nil && answered && ctx.Err() != nil:
			return true, fmt.Errorf("its answer was empty: %w", err)
		case err != nil:
			return answered, err
		case response.GetTypeUrl() == clusterType && len(response.GetResources()) > 0:
			return true, nil
		}
		answered = true
		_ = stream.Send(&discoveryv3.DiscoveryRequest{
			TypeUrl: response.GetTypeUrl(), VersionInfo: response.GetVersionInfo(), ResponseNonce: response.GetNonce(),
		})
	}
}

// nodeOf is who the probe says it is: a sidecar whose pod does not exist. Its IP is one of those that are reserved for
// documentation (RFC 5737, RFC 3849), for Istio 1.26 takes a proxy for the pod that has its IP, and any version for a
// WorkloadEntry with it; it has the family of istiod's, for the clusters depend on that.
//
// Source: istio pilot/pkg/model/context.go (ParseServiceNodeWithMetadata),
// pilot/pkg/serviceregistry/kube/controller (GetProxyServiceTargets, getPodByProxy).
func nodeOf(istiod Istiod, ip netip.Addr) *corev3.Node {
	own := "192.0.2.1"
	if ip.Unmap().Is6() {
		own = "2001:db8::1"
	}
	return &corev3.Node{
		Id: fmt.Sprintf("sidecar~%s~meshwright-probe.%s~%[2]s.svc.cluster.local", own, istiod.Namespace),
		Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"NAMESPACE":     structpb.NewStringValue(istiod.Namespace),
			"ISTIO_VERSION": structpb.NewStringValue(istiod.Version),
			"CLUSTER_ID":    structpb.NewStringValue("Kubernetes"),
		}},
	}
}
