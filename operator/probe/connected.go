// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

const (
	// connectedFamily is a gauge with the label version, the ISTIO_VERSION that a proxy says it has.
	//
	// Source: istio pilot/pkg/xds/monitoring.go (xdsClients), under the name that is written there, for the exporter adds no
	// suffixes (pkg/monitoring/monitoring.go).
	connectedFamily = "pilot_xds"
	// pilotPrefix is that of families that only istiod has; pilot_info is there from the start.
	//
	// Source: istio pilot/pkg/bootstrap/monitoring.go, also for the uptime.
	pilotPrefix  = "pilot_"
	uptimeFamily = "istiod_uptime_seconds"

	connectedTimeout = 5 * time.Second
	// maxMetrics in bytes. An istiod has some hundred KiB.
	maxMetrics = 8 << 20
)

// Connected is how many proxies are connected to an istiod now, of all versions: the sum of its gauge pilot_xds, that counts each
// xDS stream from its first request until istiod sees its end. A proxy that left without a word counts until the keepalive of
// the connection fails, and a probe like [Prober.Configuration] while it runs and for a moment after it.
//
// Reading takes five seconds at most, or until the context's deadline. The error is an *[UnreachableError] when there was no
// answer, wraps [context.Canceled] when the caller gave up, and otherwise says why the answer is no number: another status than
// 200 (403 when METRICS_LOCALHOST_ACCESS_ONLY is set in istiod's environment), no metrics, more than 8 MiB of them, or none
// of an istiod. An istiod to which nothing has connected yet has no such gauge; that is 0.
//
// Source: istio pilot/pkg/xds/ads.go (addCon, removeCon call recordXDSClients with 1 and -1); the same in 1.26 to 1.29 and 1.31.
func (p *Prober) Connected(ctx context.Context, istiod Istiod) (int, error) {
	n := 0
	err := p.metrics(ctx, istiod, func(families map[string]*dto.MetricFamily) error {
		var err error
		n, err = connectedOf(families)
		return err
	})
	return n, err
}

func (e endpoint) metricsRemedy() string {
	return fmt.Sprintf("a NetworkPolicy must let the operator reach TCP port %d in namespace %s, "+
		"and istiod must listen there, which its argument --monitoringAddr can turn off", e.port, e.istiod.Namespace)
}

func get(ctx context.Context, transport http.RoundTripper, url string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	// Without a client there are no redirects: the answer is this pod's or nobody's.
	return transport.RoundTrip(request)
}

// noAnswer tells errors of the network from those of what was received.
func noAnswer(err error) bool {
	_, network := errors.AsType[net.Error](err) // of dialling, of a reset connection, of a deadline
	return network || errors.Is(err, io.EOF) || errors.Is(err, context.Canceled)
}

// connectedOf is the number of proxies that are connected, in the metrics of an istiod.
func connectedOf(families map[string]*dto.MetricFamily) (int, error) {
	family, ok := families[connectedFamily]
	switch {
	case ok:
		return sum(family)
	case ofIstiod(families):
		return 0, nil
	default:
		return 0, errors.New("its metrics are not those of an istiod")
	}
}

func ofIstiod(families map[string]*dto.MetricFamily) bool {
	for name := range families {
		if name == uptimeFamily || strings.HasPrefix(name, pilotPrefix) {
			return true
		}
	}
	return false
}

// sum adds up a gauge of things that can be counted.
func sum(family *dto.MetricFamily) (int, error) {
	if family.GetType() != dto.MetricType_GAUGE {
		return 0, fmt.Errorf("its metric %s is no gauge", connectedFamily)
	}
	var all float64
	for _, m := range family.GetMetric() {
		all += m.GetGauge().GetValue()
	}
	if !(all >= 0 && all <= math.MaxInt32) { // NaN is neither
		return 0, fmt.Errorf("its metric %s is %v", connectedFamily, all)
	}
	return int(all), nil
}
