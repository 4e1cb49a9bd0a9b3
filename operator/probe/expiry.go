// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const (
	// expiryFamily is a gauge with the label resource_name: how many seconds are left of what Envoy asks the agent for under that name.
	// The leaf of the mesh is called default.
	//
	// Source: istio security/pkg/nodeagent/cache/monitoring.go (certExpirySeconds), security/pkg/nodeagent/cache/secretcache.go (registerSecret),
	// pkg/security/security.go (WorkloadKeyCertResourceName) and, for the prefix, pilot/cmd/pilot-agent/status/server.go.
	expiryFamily  = "istio_agent_cert_expiry_seconds"
	resourceLabel = "resource_name"
	leafResource  = "default"

	// agentPort is the agent's, unless statusPort of its proxy's configuration or the annotation status.sidecar.istio.io/port says otherwise.
	//
	// Source: istio pilot/cmd/pilot-agent/config/config.go (applyAnnotations).
	agentPort    = 15020
	agentTimeout = 5 * time.Second
	// nothingOfEnvoy is a filter that none of Envoy's statistics passes: the agent hands the query on to it, and a gateway has megabytes of them.
	//
	// Source: istio pilot/cmd/pilot-agent/status/server.go (handleStats).
	nothingOfEnvoy = "?filter=^$"
)

// AgentExpiry is when the leaf expires that the agent beside a proxy has given it last, to the second. It takes five seconds at most. The agent
// remembers the latest leaf only: it is of the time of the last certificate signing, with which the roots came as well.
//
// Source: istio security/pkg/nodeagent/cache/secretcache.go (registerSecret), where the gauge is the time until ExpireTime, which is NotAfter of the
// first certificate of the chain (generateNewSecret); the same in 1.26 to 1.29 and 1.31.
func (p *Prober) AgentExpiry(ctx context.Context, address string) (time.Time, error) {
	if _, err := netip.ParseAddr(address); err != nil {
		return time.Time{}, fmt.Errorf("address of an agent: %w", err)
	}
	bounded, cancel := context.WithTimeout(ctx, agentTimeout)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	target := net.JoinHostPort(address, strconv.Itoa(p.AgentPort))
	response, err := get(bounded, transport, "http://"+target+"/stats/prometheus"+nothingOfEnvoy)
	if errors.Is(ctx.Err(), context.Canceled) {
		return time.Time{}, fmt.Errorf("the agent at %s was not asked to the end: %w", target, context.Canceled)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("the agent at %s can't be reached: %s; a NetworkPolicy must let the operator reach TCP port %d of the pod",
			target, reason(err), p.AgentPort)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return time.Time{}, fmt.Errorf("the agent at %s: its statistics have status %d, which is 403 where METRICS_LOCALHOST_ACCESS_ONLY is set "+
			"in its environment", target, response.StatusCode)
	}
	seconds, err := secondsLeft(http.MaxBytesReader(nil, response.Body, maxMetrics))
	if err != nil {
		return time.Time{}, fmt.Errorf("the agent at %s: %w", target, withoutAddresses(err))
	}
	now := p.now()
	if date, err := http.ParseTime(response.Header.Get("Date")); err == nil {
		now = date // the seconds are counted by the agent's own clock
	}
	return now.Add(time.Duration(seconds * float64(time.Second))).Truncate(time.Second), nil
}

// secondsLeft finds the gauge. It parses no other line, for those of the application come after the agent's in whatever form they have. Everything
// is read nevertheless: the agent counts an answer that it can't write as an error.
func secondsLeft(body io.Reader) (left float64, err error) {
	left = math.NaN()
	for lines := bufio.NewReader(body); ; {
		line, prefix, err := lines.ReadLine()
		switch {
		case errors.Is(err, io.EOF) && math.IsNaN(left):
			return 0, errors.New("it has no leaf of the mesh yet, or reads one from a file: " + expiryFamily + " is missing")
		case errors.Is(err, io.EOF):
			return left, nil
		case err != nil:
			return 0, fmt.Errorf("its statistics can't be read: %w", err)
		case !prefix && strings.HasPrefix(string(line), expiryFamily+"{"):
			if seconds, ours := leafSeconds(string(line)); ours {
				left = seconds
			}
		}
	}
}

func leafSeconds(line string) (seconds float64, ours bool) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(line + "\n"))
	if err != nil {
		return 0, false
	}
	for _, m := range families[expiryFamily].GetMetric() {
		if label(m, resourceLabel) == leafResource {
			seconds = m.GetUntyped().GetValue() // a line alone has no type
			return seconds, math.Abs(seconds) < math.MaxInt64/float64(time.Second)
		}
	}
	return 0, false
}
