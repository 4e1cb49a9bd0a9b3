// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/meshwright/meshwright/operator/traffic"
)

// StatsAnnotation asks for what a gateway's proxy has to count: Istio lets Envoy make few statistics. None of the
// expressions holds a comma, by which the annotation separates them.
//
// Source: istio pkg/bootstrap/config.go (getStatsOptions), 1.26 to 1.31.
const StatsAnnotation = "sidecar.istio.io/statsInclusionRegexps"

// StatsRegexps are the statistics that [Prober.Gateway] reads, besides those that are always there. Envoy writes an underscore for each
// colon of an address.
var StatsRegexps = []string{
	`http\..*\.downstream_rq_(total|5xx|active|tx_reset|time)`,
	`http\..*\.rds\..*\.update_rejected`,
	`listener\.[0-9a-fA-F\._:\[\]]*_[0-9]+\.downstream_cx_total`,
}

// Names of the statistics in the exposition of Envoy, with the tags of Istio's bootstrap. Those of a connection manager begin with its
// name, unless that ends in a semicolon, by which Istio makes it the label http_conn_manager_prefix: a server with TLS and a name of its own has
// that name, without one.
//
// Source: istio tools/packaging/common/envoy_bootstrap.json (stats_tags), pilot/pkg/networking/core/gateway.go (statPrefix); seen on Envoy
// 1.36 and 1.37.
const (
	managerFamilies   = "envoy_http_"
	requestsFamily    = "downstream_rq_total"
	classFamily       = "downstream_rq"
	activeFamily      = "downstream_rq_active"
	resetFamily       = "downstream_rq_tx_reset"
	timeFamily        = "downstream_rq_time"
	connectionsFamily = "envoy_listener_downstream_cx_total"
	rejectedSuffix    = "_update_rejected"

	listenerLabel = "listener_address"
	classLabel    = "response_code_class"
)

// ownManagers are the connection managers at which a proxy is asked about itself.
//
// Source: istio tools/packaging/common/envoy_bootstrap.json.
var ownManagers = []string{"agent_", "stats_", "admin_"}

// ownPorts are those at which a proxy is asked about itself.
var ownPorts = []string{"15021", "15090"}

const (
	gatewayStatsPort = 15090
	gatewayTimeout   = 5 * time.Second
)

// Proxy is what one proxy has counted since it began.
type Proxy struct {
	Connections, Requests, Active, Errors, Rejected int64
	// Buckets by their upper bound in milliseconds, cumulative.
	Buckets map[float64]int64
	// Listeners are the addresses at which it listens for traffic, in order.
	Listeners []string
}

// Gateway reads the counters of a gateway's pod, at its port 15090. It takes five seconds at most.
func (p *Prober) Gateway(ctx context.Context, address string) (Proxy, error) {
	if _, err := netip.ParseAddr(address); err != nil {
		return Proxy{}, fmt.Errorf("address of a gateway: %w", err)
	}
	bounded, cancel := context.WithTimeout(ctx, gatewayTimeout)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	target := net.JoinHostPort(address, strconv.Itoa(p.GatewayPort))
	response, err := get(bounded, transport, "http://"+target+"/stats/prometheus")
	if err != nil {
		return Proxy{}, fmt.Errorf("gateway at %s: %w", target, withoutAddresses(err))
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return Proxy{}, fmt.Errorf("gateway at %s: its statistics have status %d", target, response.StatusCode)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(http.MaxBytesReader(nil, response.Body, maxMetrics))
	if err != nil {
		return Proxy{}, fmt.Errorf("gateway at %s: its statistics can't be read: %w", target, err)
	}
	out, err := proxyOf(families)
	if err != nil {
		return Proxy{}, fmt.Errorf("gateway at %s: %w", target, err)
	}
	return out, nil
}

// errNotCounted says that a proxy lacks the statistics.
var errNotCounted = errors.New("its proxy does not count connections: it was not made by this operator, or its annotation " + StatsAnnotation + " was changed")

// proxyOf sums up what the listeners for traffic have counted.
func proxyOf(families map[string]*dto.MetricFamily) (Proxy, error) {
	out := Proxy{Buckets: map[float64]int64{}}
	if families[connectionsFamily] == nil {
		return out, errNotCounted
	}
	for _, m := range families[connectionsFamily].GetMetric() {
		address := label(m, listenerLabel)
		if i := strings.LastIndex(address, "_"); i < 0 || slices.Contains(ownPorts, address[i+1:]) {
			continue
		}
		out.Connections += value(m)
		out.Listeners = append(out.Listeners, address)
	}
	slices.Sort(out.Listeners)
	every := func(*dto.Metric) bool { return true }
	for name, family := range families {
		if strings.HasSuffix(name, rejectedSuffix) {
			out.Rejected += total(family, every)
		}
		switch statistic := ofTraffic(name); statistic {
		case requestsFamily:
			out.Requests += total(family, every)
		case activeFamily:
			out.Active += total(family, every)
		case classFamily:
			out.Errors += total(family, func(m *dto.Metric) bool { return label(m, classLabel) == "5xx" })
		case resetFamily: // a response that the proxy resets has no class, or has been broken off
			out.Errors += total(family, every)
		case timeFamily:
			for _, m := range family.GetMetric() {
				for _, b := range m.GetHistogram().GetBucket() {
					out.Buckets[b.GetUpperBound()] += int64(b.GetCumulativeCount()) //nolint:gosec // a counter of requests
				}
			}
		}
	}
	return out, nil
}

// ofTraffic is the statistic that a family has of a connection manager that carries traffic; empty for any other.
func ofTraffic(family string) string {
	rest, ofManager := strings.CutPrefix(family, managerFamilies)
	i := strings.LastIndex(rest, classFamily)
	if !ofManager || i < 0 || slices.Contains(ownManagers, rest[:i]) {
		return ""
	}
	return rest[i:]
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

func total(family *dto.MetricFamily, counts func(*dto.Metric) bool) (out int64) {
	for _, m := range family.GetMetric() {
		if counts(m) {
			out += value(m)
		}
	}
	return out
}

func value(m *dto.Metric) int64 {
	v := m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
	if !(v >= 0 && v <= math.MaxInt64/2) { // NaN is neither
		return 0
	}
	return int64(v)
}

// add counts what a proxy has counted since an earlier reading of it. A counter that fell has begun anew.
func add(c *traffic.Counters, buckets map[float64]int64, now, before Proxy) {
	c.Connections += since(now.Connections, before.Connections)
	c.Requests += since(now.Requests, before.Requests)
	c.Errors += since(now.Errors, before.Errors)
	c.Rejected += since(now.Rejected, before.Rejected)
	anew := now.Requests < before.Requests
	for bound, n := range now.Buckets {
		if anew {
			buckets[bound] += n
		} else {
			buckets[bound] += since(n, before.Buckets[bound])
		}
	}
}

func since(now, before int64) int64 {
	if now < before {
		return now
	}
	return now - before
}

// bucketsOf are buckets in their order.
func bucketsOf(counts map[float64]int64) (out []traffic.Bucket) {
	for _, bound := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, traffic.Bucket{Millis: bound, Count: counts[bound]})
	}
	return out
}
