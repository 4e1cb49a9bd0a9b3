// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Pilot is what an istiod has counted since it began.
type Pilot struct {
	// Connected proxies at present.
	Connected int
	// Rejects are configurations that proxies rejected, Failures pushes that istiod could not make or send.
	Rejects, Failures int64
	// Pushes that have converged, and how many of them took longer than [SlowPush].
	Pushes, Slow int64
}

// SlowPush is a bound, in seconds, of istiod's histogram: a change that takes longer to reach a proxy is late.
const SlowPush = 10

// Names of istiod's metrics.
//
// Source: istio pilot/pkg/xds/monitoring.go, 1.26 to 1.31.
const (
	rejectsFamily     = "pilot_total_xds_rejects"
	internalFamily    = "pilot_total_xds_internal_errors"
	timeoutFamily     = "pilot_xds_write_timeout"
	convergenceFamily = "pilot_proxy_convergence_time"
)

// Pilot reads the metrics of an istiod. It takes five seconds at most; the errors are those of [Prober.Connected].
func (p *Prober) Pilot(ctx context.Context, istiod Istiod) (Pilot, error) {
	var out Pilot
	err := p.metrics(ctx, istiod, func(families map[string]*dto.MetricFamily) error {
		var err error
		out, err = pilotOf(families)
		return err
	})
	return out, err
}

func pilotOf(families map[string]*dto.MetricFamily) (out Pilot, err error) {
	if out.Connected, err = connectedOf(families); err != nil {
		return out, err
	}
	every := func(*dto.Metric) bool { return true }
	out.Rejects = total(families[rejectsFamily], every)
	out.Failures = total(families[internalFamily], every) + total(families[timeoutFamily], every)
	for _, m := range families[convergenceFamily].GetMetric() {
		all := int64(m.GetHistogram().GetSampleCount()) //nolint:gosec // a counter of pushes
		out.Pushes += all
		for _, b := range m.GetHistogram().GetBucket() {
			if b.GetUpperBound() == SlowPush {
				out.Slow += all - int64(b.GetCumulativeCount()) //nolint:gosec // the same
			}
		}
	}
	return out, nil
}

// metrics hands the metrics of an istiod on.
func (p *Prober) metrics(ctx context.Context, istiod Istiod, take func(map[string]*dto.MetricFamily) error) error {
	e := endpoint{istiod, p.MetricsPort}
	if _, err := e.validate(); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, connectedTimeout)
	defer cancel()
	// Proxy stays nil: pods are not reached through one, whatever the environment says.
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	response, err := get(bounded, transport, "http://"+e.address()+"/metrics")
	if noAnswer(err) {
		return e.unreachable(ctx, e.metricsRemedy(), err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", e, withoutAddresses(err))
	}
	defer func() { _ = response.Body.Close() }()
	families, err := read(response)
	if err == nil {
		err = take(families)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", e, withoutAddresses(err))
	}
	return nil
}

// read is what a response has.
func read(response *http.Response) (map[string]*dto.MetricFamily, error) {
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("its metrics have status %d", response.StatusCode)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(http.MaxBytesReader(nil, response.Body, maxMetrics))
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, fmt.Errorf("its metrics have more than %d bytes", large.Limit)
	}
	if err != nil {
		return nil, fmt.Errorf("its metrics can't be read: %w", err)
	}
	return families, nil
}
