// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"k8s.io/utils/clock"
)

// Ports on which istiod listens unless its arguments --grpcAddr, --secureGRPCAddr and --monitoringAddr say otherwise.
//
// Source: istio pilot/cmd/pilot-discovery/app/cmd.go, 1.26 to 1.31.
const (
	defaultXDSPort     = 15010
	defaultCAPort      = 15012
	defaultMetricsPort = 15014
)

// Istiod is one pod of a control plane.
type Istiod struct {
	// Address is the pod's IP, without a port.
	Address string
	// Revision of the control plane, for messages; it may be empty.
	Revision,
	// Version of Istio without a "v", like "1.29.1".
	Version,
	// Namespace of the pod.
	Namespace string
}

// Prober dials istiods. It keeps no state, so that one can be shared.
type Prober struct {
	// XDSPort of istiod speaks plaintext gRPC, MetricsPort plaintext HTTP, as does GatewayPort of a gateway's pod.
	XDSPort, MetricsPort, GatewayPort int
	// CAPort of istiod speaks gRPC over TLS, AgentPort of a proxy's pod plaintext HTTP.
	CAPort, AgentPort int
	// Clock tells what time it is; nil is the real one.
	Clock clock.PassiveClock
}

// New is a prober with the ports of Istio's charts, 15010, 15012 and 15014, of its gateways, 15090, and of its agents, 15020.
func New() *Prober {
	return &Prober{
		XDSPort: defaultXDSPort, MetricsPort: defaultMetricsPort, GatewayPort: gatewayStatsPort,
		CAPort: defaultCAPort, AgentPort: agentPort, Clock: clock.RealClock{},
	}
}

func (p *Prober) now() time.Time {
	if p.Clock == nil {
		return time.Now()
	}
	return p.Clock.Now()
}

// UnreachableError says that nothing is known of an istiod, good or bad: there was no connection, or no answer in time.
type UnreachableError struct {
	Istiod Istiod
	// Port that was dialled.
	Port int
	// Remedy is what people can do about it.
	Remedy string
	// Err is the cause.
	Err error
}

// Error is the same for each try that fails for the same cause.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("%s can't be reached: %v; %s", endpoint{e.Istiod, e.Port}, reason(e.Err), e.Remedy)
}

// Unwrap is the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// endpoint is one port of an istiod.
type endpoint struct {
	istiod Istiod
	port   int
}

// String names it in messages.
func (e endpoint) String() string {
	if e.istiod.Revision == "" {
		return "istiod at " + e.address()
	}
	return fmt.Sprintf("istiod of revision %s at %s", e.istiod.Revision, e.address())
}

func (e endpoint) address() string {
	return net.JoinHostPort(e.istiod.Address, strconv.Itoa(e.port))
}

// validate keeps names out of the address: a probe is of one pod, not of a service.
func (e endpoint) validate() (netip.Addr, error) {
	ip, err := netip.ParseAddr(e.istiod.Address)
	if err != nil {
		return ip, fmt.Errorf("address of an istiod: %w", err)
	}
	return ip, nil
}

// unreachable is the error of a caller that gave up itself, or that of an istiod that did not answer.
func (e endpoint) unreachable(ctx context.Context, remedy string, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("%s was not asked to the end: %w", e, context.Canceled)
	}
	return &UnreachableError{Istiod: e.istiod, Port: e.port, Remedy: remedy, Err: err}
}

// reason says why a connection failed. It leaves out addresses: the port of our side is another at each try.
func reason(err error) string {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return "no answer in time"
	}
	return withoutAddresses(err).Error()
}

func withoutAddresses(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
