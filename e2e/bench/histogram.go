// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// histogram counts durations in seconds. Bucket i holds those up to base^i, where base is 2^(2^-schema): with schema 3, buckets are
// 9 % wide. Zero counts those that are too short for a bucket.
type histogram struct {
	count, zero uint64
	sum         float64
	schema      int32
	buckets     map[int32]int64
}

// native reads a native histogram of Prometheus.
func native(h *dto.Histogram) histogram {
	out := histogram{
		count: h.GetSampleCount(), zero: h.GetZeroCount(), sum: h.GetSampleSum(), schema: h.GetSchema(), buckets: map[int32]int64{},
	}
	index, n, deltas := int32(0), int64(0), h.GetPositiveDelta()
	for _, span := range h.GetPositiveSpan() {
		index += span.GetOffset()
		for range span.GetLength() {
			n += deltas[0]
			deltas = deltas[1:]
			out.buckets[index] = n
			index++
		}
	}
	return out
}

// coarser is the histogram with wider buckets: of each schema less, one holds what two held.
func (h histogram) coarser(schema int32) histogram {
	buckets := map[int32]int64{}
	shift := h.schema - schema
	for i, n := range h.buckets {
		buckets[(i-1)>>shift+1] += n
	}
	h.schema, h.buckets = schema, buckets
	return h
}

// since is what a histogram counts beyond an earlier state of it.
func (h histogram) since(before histogram) histogram {
	schema := h.schema
	if before.count > 0 {
		schema = min(schema, before.schema)
	} else {
		before.schema = schema
	}
	h, before = h.coarser(schema), before.coarser(schema)
	h.count, h.zero, h.sum = h.count-before.count, h.zero-before.zero, h.sum-before.sum
	for i, n := range before.buckets {
		h.buckets[i] -= n
	}
	return h
}

func (h histogram) mean() time.Duration {
	return seconds(h.sum / max(1, float64(h.count)))
}

// quantile is a bound that a share of all durations does not exceed.
func (h histogram) quantile(share float64) time.Duration {
	left := share*float64(h.count) - float64(h.zero)
	for _, i := range slices.Sorted(maps.Keys(h.buckets)) {
		if left -= float64(h.buckets[i]); left <= 0 {
			return seconds(math.Exp2(float64(i) * math.Exp2(-float64(h.schema))))
		}
	}
	return 0
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

// scraped are the metrics of the operator by name.
type scraped map[string]*dto.MetricFamily

// scrape reads them, in the format that has native histograms.
func (o *process) scrape(ctx context.Context) (scraped, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, o.metrics, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	request.Header.Set("Authorization", "Bearer "+o.token)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // it signs its certificate itself, on loopback
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics of the operator: %s", response.Status)
	}
	out, decoder := scraped{}, expfmt.NewDecoder(response.Body, expfmt.ResponseFormat(response.Header))
	for {
		family := &dto.MetricFamily{}
		err := decoder.Decode(family)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("metrics of the operator: %w", err)
		}
		out[family.GetName()] = family
	}
}

// with are the metrics of a name that have a label.
func (s scraped) with(name, label, value string) (out []*dto.Metric) {
	for _, m := range s[name].GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == label && l.GetValue() == value {
				out = append(out, m)
			}
		}
	}
	return out
}

// reconciles is how long the reconciles of a controller took, those that have been until now.
func (s scraped) reconciles(controller string) histogram {
	for _, m := range s.with("controller_runtime_reconcile_time_seconds", "controller", controller) {
		return native(m.GetHistogram())
	}
	return histogram{}
}
