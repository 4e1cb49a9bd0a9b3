// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// serveMetrics runs an HTTP server until the test ends, which waits for its requests to end.
func serveMetrics(t *testing.T, handler http.HandlerFunc) (port int) {
	t.Helper()
	listener, port := listen(t)
	server := httptest.NewUnstartedServer(handler)
	_ = server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
	return port
}

// text answers with metrics.
func text(lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8; escaping=values")
		_, _ = io.WriteString(w, strings.Join(lines, "\n")+"\n")
	}
}

func TestConnected(t *testing.T) {
	const prefix = "istiod of revision 1-29-1 at 127.0.0.1:PORT: "
	for _, tc := range []struct {
		reason  string
		handler http.HandlerFunc
		want    int
		err     string
	}{
		{
			reason: "proxies of two versions and one whose version has gone",
			handler: text(
				"# HELP pilot_xds Number of endpoints connected to this pilot using XDS.", "# TYPE pilot_xds gauge",
				`pilot_xds{version="1.28.2"} 3`, `pilot_xds{version="1.29.1"} 4`, `pilot_xds{version="1.27.9"} 0`,
				"# TYPE pilot_xds_pushes counter", `pilot_xds_pushes{type="cds"} 99`,
			),
			want: 7,
		},
		{
			reason:  "istiod without proxies has no gauge of them",
			handler: text("# TYPE pilot_info gauge", `pilot_info{version="1.29.1"} 1`),
		},
		{
			reason:  "an uptime is enough to be an istiod",
			handler: text("# TYPE istiod_uptime_seconds gauge", "istiod_uptime_seconds 12.5"),
		},
		{
			reason:  "metrics of something else",
			handler: text("go_goroutines 12", "# TYPE istio_agent_pilot_xds gauge", "istio_agent_pilot_xds 1"),
			err:     prefix + "its metrics are not those of an istiod",
		},
		{
			reason:  "no metrics at all",
			handler: func(http.ResponseWriter, *http.Request) {},
			err:     prefix + "its metrics are not those of an istiod",
		},
		{
			reason:  "something that is no metrics",
			handler: text("<html>"),
			err:     prefix + `its metrics can't be read: text format parsing error in line 1: invalid metric name`,
		},
		{
			reason:  "a counter of that name",
			handler: text("# TYPE pilot_xds counter", "pilot_xds 3"),
			err:     prefix + "its metric pilot_xds is no gauge",
		},
		{
			reason:  "a number that counts nothing",
			handler: text("# TYPE pilot_xds gauge", `pilot_xds{version="1.29.1"} NaN`),
			err:     prefix + "its metric pilot_xds is NaN",
		},
		{
			reason:  "fewer than none",
			handler: text("# TYPE pilot_xds gauge", `pilot_xds{version="1.29.1"} -1`),
			err:     prefix + "its metric pilot_xds is -1",
		},
		{
			reason:  "metrics for localhost only",
			handler: func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) },
			err:     prefix + "its metrics have status 403",
		},
		{
			reason: "a redirect is not followed",
			handler: func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/elsewhere", http.StatusFound)
			},
			err: prefix + "its metrics have status 302",
		},
		{
			reason: "an endless body",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				line := []byte("# " + strings.Repeat("x", 1021) + "\n")
				for {
					if _, err := w.Write(line); err != nil {
						return // the other side has had enough
					}
				}
			},
			err: prefix + "its metrics have more than 8388608 bytes",
		},
		{
			reason: "a body that breaks off",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				_, _ = io.WriteString(w, "pilot_xds 1\n")
			},
			err: prefix + "its metrics can't be read: unexpected EOF",
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			port := serveMetrics(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodGet || r.URL.Path != "/metrics" || !r.Close {
					t.Errorf("got %s %s, to be closed: %v", r.Method, r.URL, r.Close)
				}
				tc.handler(w, r)
			})
			got, err := (&Prober{MetricsPort: port}).Connected(t.Context(), target)
			checkError(t, err, port, tc.err, false)
			if got != tc.want {
				t.Errorf("%d are connected, want %d", got, tc.want)
			}
		})
	}
}

func TestConnectedWithoutAnswer(t *testing.T) {
	const remedy = "; a NetworkPolicy must let the operator reach TCP port PORT in namespace istio-system, " +
		"and istiod must listen there, which its argument --monitoringAddr can turn off"
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
			reason: "no answer until the deadline",
			port: func(t *testing.T, pass func()) int {
				return accept(t, func(net.Conn) { pass() })
			},
			want: "istiod of revision 1-29-1 at 127.0.0.1:PORT can't be reached: no answer in time" + remedy,
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			ctx := newDeadline(t)
			port := tc.port(t, ctx.pass)
			_, err := (&Prober{MetricsPort: port}).Connected(ctx, target)
			checkError(t, err, port, tc.want, true)
		})
	}
}

func TestConnectedOfCallerThatGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	port := serveMetrics(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := (&Prober{MetricsPort: port}).Connected(ctx, target)
	checkError(t, err, port, "istiod of revision 1-29-1 at 127.0.0.1:PORT was not asked to the end: context canceled", false)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not %v", err, context.Canceled)
	}
}

func TestDefaultPorts(t *testing.T) {
	if p := New(); p.XDSPort != 15010 || p.MetricsPort != 15014 {
		t.Errorf("got %+v", p)
	}
}
