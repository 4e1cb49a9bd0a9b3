// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// agentOn serves what an agent does on loopback, and is a prober that asks there.
func agentOn(t *testing.T, now time.Time, answer http.HandlerFunc) *Prober {
	t.Helper()
	p := proxyOn(t, answer)
	p.AgentPort, p.Clock = p.GatewayPort, clocktesting.NewFakePassiveClock(now)
	return p
}

// The exposition has the agent's families first, and what the application has to say after them, in whatever form that is.
func TestAgentExpiry(t *testing.T) {
	const head = "# HELP istio_agent_cert_expiry_seconds The time remaining, in seconds, before the certificate chain will expire. " +
		"A negative value indicates the cert is expired.\n# TYPE istio_agent_cert_expiry_seconds gauge\n"
	now := time.Date(2026, 3, 1, 12, 0, 0, 900_000_000, time.UTC)
	for _, tc := range []struct {
		reason string
		body   string
		status int
		want   time.Time
		err    string
	}{
		{
			reason: "among others",
			body: "# TYPE go_goroutines gauge\ngo_goroutines 11\n" + head + `istio_agent_cert_expiry_seconds{resource_name="file-root:x"} 5` + "\n" +
				`istio_agent_cert_expiry_seconds{resource_name="default"} 86399.6` + "\n" + "{{ no exposition \n" + strings.Repeat("x", 1<<16) + "\n# EOF\n",
			want: time.Date(2026, 3, 2, 11, 59, 59, 0, time.UTC),
		},
		{
			reason: "with a number as Go writes it, and no end of the line",
			body:   `istio_agent_cert_expiry_seconds{resource_name="default"} 8.6399e+04`, want: time.Date(2026, 3, 2, 11, 59, 59, 0, time.UTC),
		},
		{
			reason: "expired",
			body:   head + `istio_agent_cert_expiry_seconds{resource_name="default"} -60` + "\n", want: time.Date(2026, 3, 1, 11, 59, 0, 0, time.UTC),
		},
		{reason: "no leaf", body: "go_goroutines 11\n", err: "it has no leaf of the mesh yet, or reads one from a file"},
		{reason: "another leaf", body: `istio_agent_cert_expiry_seconds{resource_name="other"} 5` + "\n", err: "it has no leaf of the mesh yet"},
		{reason: "no number", body: `istio_agent_cert_expiry_seconds{resource_name="default"} NaN` + "\n", err: "it has no leaf of the mesh yet"},
		{reason: "no exposition", body: `istio_agent_cert_expiry_seconds{resource_name="default` + "\n", err: "it has no leaf of the mesh yet"},
		{reason: "too much", body: strings.Repeat("x", maxMetrics+1), err: "its statistics can't be read: http: request body too large"},
		{reason: "for its own host only", status: http.StatusForbidden, err: "status 403"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			p := agentOn(t, now.Add(-time.Hour), func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/stats/prometheus" || r.URL.Query().Get("filter") != "^$" {
					t.Errorf("asked for %s", r.URL)
				}
				w.Header().Set("Date", now.Format(http.TimeFormat)) // the agent counts by its own clock
				if tc.status != 0 {
					w.WriteHeader(tc.status)
				}
				_, _ = io.WriteString(w, tc.body)
			})
			got, err := p.AgentExpiry(t.Context(), target.Address)
			if !got.Equal(tc.want) {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if tc.err == "" {
				says(t, err, p.AgentPort)
			} else {
				says(t, err, p.AgentPort, "the agent at 127.0.0.1:PORT: ", tc.err)
			}
		})
	}
}

func TestAgentExpiryOfNobody(t *testing.T) {
	p := &Prober{AgentPort: closedPort(t)}
	_, err := p.AgentExpiry(t.Context(), target.Address)
	says(t, err, p.AgentPort, "the agent at 127.0.0.1:PORT can't be reached: connect: connection refused; "+
		"a NetworkPolicy must let the operator reach TCP port PORT of the pod")
	if _, err := p.AgentExpiry(t.Context(), "cart.shop"); err == nil {
		t.Error("a name is no address of a pod")
	}
	ctx, cancel := context.WithCancel(t.Context())
	p.AgentPort = accept(t, func(net.Conn) { cancel() })
	if _, err := p.AgentExpiry(ctx, target.Address); !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not of the caller", err)
	}
}
