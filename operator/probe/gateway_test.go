// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// proxyOn serves statistics on loopback, and is a prober that asks there.
func proxyOn(t *testing.T, answer http.HandlerFunc) *Prober {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := New()
	if p.GatewayPort, err = strconv.Atoi(address.Port()); err != nil {
		t.Fatal(err)
	}
	return p
}

// The recorded exposition has the names that Envoy 1.37 writes with the tags of Istio's bootstrap: listeners for traffic beside those
// at which the proxy is asked about itself.
func TestGatewayReadsWhatCarriesTraffic(t *testing.T) {
	recorded, err := os.ReadFile("testdata/gateway.txt")
	if err != nil {
		t.Fatal(err)
	}
	p := proxyOn(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stats/prometheus" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(recorded)
	})
	got, err := p.Gateway(t.Context(), "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	want := Proxy{
		Connections: 50, Requests: 150, Active: 4, Errors: 4, Rejected: 2,
		Buckets: map[float64]int64{5: 130, math.Inf(1): 150}, Listeners: []string{"0.0.0.0_443", "0.0.0.0_80"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestGatewayThatSaysNothing(t *testing.T) {
	tests := []struct {
		reason string
		answer http.HandlerFunc
		want   string
	}{
		{"it lacks the statistics", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("envoy_server_live{} 1\n")) }, StatsAnnotation},
		{"it is not allowed", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "status 403"},
		{"it is no exposition", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "can't be read"},
	}
	for _, tt := range tests {
		if _, err := proxyOn(t, tt.answer).Gateway(t.Context(), "127.0.0.1"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.reason, err, tt.want)
		}
	}
	if _, err := New().Gateway(t.Context(), "gateway.example.com"); err == nil {
		t.Error("a name is dialled, and only pods are to be")
	}
	if _, err := proxyOn(t, func(http.ResponseWriter, *http.Request) {}).Gateway(t.Context(), "127.0.0.1"); !errors.Is(err, errNotCounted) {
		t.Errorf("an empty answer: %v", err)
	}
}

// The annotation separates expressions by commas.
func TestStatisticsHoldNoComma(t *testing.T) {
	for _, s := range StatsRegexps {
		if strings.Contains(s, ",") {
			t.Errorf("%s", s)
		}
	}
}
