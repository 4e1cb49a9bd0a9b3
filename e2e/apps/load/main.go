// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command load sends requests at a steady rate and counts every one that fails and every connection that is opened. Its
// last line of output is the summary, one JSON object. A run is bounded in number and in time, whatever the server
// does.
//
// Beside them it can hold one request whose answer flows for as long as the run. Where that breaks off it is counted apart, and
// begun anew.
//
// It stands on fortio's packages; fortio's own command cannot be built from modules alone. Like every HTTP client it
// sends a request once more when a kept connection turns out to have been closed before it was used; the connection
// this takes is counted. With -fresh no connection is kept, and nothing is sent twice.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"fortio.org/fortio/fhttp"
	"fortio.org/fortio/periodic"
	"fortio.org/log"
)

// options of a run, from the command line.
type options struct {
	url, host   string
	qps         float64
	connections int
	requests    int64
	duration    time.Duration
	timeout     time.Duration
	h2, fresh   bool
	stream      string
	fail        bool
}

func parse(args []string, errs io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("load", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.StringVar(&o.url, "url", "", "where to send the requests")
	flags.StringVar(&o.host, "host", "", "Host header, if not the URL's")
	flags.Float64Var(&o.qps, "qps", 100, "requests a second, over all connections")
	flags.IntVar(&o.connections, "connections", 4, "connections, each with one request at a time")
	flags.Int64Var(&o.requests, "requests", 0, "how many requests; default: as many as -duration holds")
	flags.DurationVar(&o.duration, "duration", 0, "how long, after which a run that fell behind has one -timeout left; default: three times what -requests take")
	flags.DurationVar(&o.timeout, "timeout", 5*time.Second, "how long one request may take")
	flags.BoolVar(&o.h2, "h2", false, "HTTP/2, without TLS for an http URL, instead of HTTP/1.1")
	flags.BoolVar(&o.fresh, "fresh", false, "a new connection for each request, over HTTP/1.1")
	flags.StringVar(&o.stream, "stream", "", "where one request is held open beside the others, whose answer has no end; default: nowhere")
	flags.BoolVar(&o.fail, "fail", false, "exit with 1 if any request failed or was not sent in time, or the answer without an end broke off")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q: every option is a flag", flags.Arg(0))
	case o.url == "":
		return o, errors.New("-url is missing")
	case o.qps <= 0 || o.connections <= 0 || o.timeout <= 0:
		return o, errors.New("-qps, -connections and -timeout must be positive")
	case o.fresh && o.h2:
		return o, errors.New("-fresh and -h2 exclude each other: HTTP/2 shares a connection among requests")
	case o.requests <= 0 && o.duration <= 0:
		return o, errors.New("-requests or -duration must be positive: a run has an end")
	}
	if o.requests <= 0 {
		o.requests = max(1, int64(o.qps*o.duration.Seconds()))
	}
	if o.duration <= 0 {
		o.duration = 3 * time.Duration(float64(o.requests)/o.qps*float64(time.Second))
	}
	return o, nil
}

// summary of a run.
type summary struct {
	// Wanted is how many requests the run was to send, Requests how many it sent before its time was over.
	Wanted   int64 `json:"wanted"`
	Requests int64 `json:"requests"`
	// Failed counts the requests that did not end with status 200 and the whole body.
	Failed int64 `json:"failed"`
	// Codes counts requests by status; -1 stands for those without one, and 204 also for those whose body broke off.
	Codes map[int]int64 `json:"codes"`
	// Errors counts the requests of these two kinds by cause.
	Errors map[cause]int64 `json:"errors"`
	// Connections counts those that were opened, or tried to.
	Connections int64 `json:"connections"`
	// FirstFailure and LastFailure are when a request was seen to fail first and last; absent when none was.
	FirstFailure *time.Time `json:"firstFailure,omitempty"`
	LastFailure  *time.Time `json:"lastFailure,omitempty"`
	// Stream is the request of -stream.
	Stream *streamSummary `json:"stream,omitempty"`
	// Seconds that the run took, QPS that it reached, and percentiles of the time a request took, in milliseconds.
	Seconds float64 `json:"seconds"`
	QPS     float64 `json:"qps"`
	P50     float64 `json:"p50ms"`
	P99     float64 `json:"p99ms"`
	Max     float64 `json:"maxms"`
}

// run sends the requests until all are sent, the time is over or stop is closed.
func run(o options, stop <-chan os.Signal) (*summary, error) {
	observed := &observer{errors: map[cause]int64{}}
	aborter := periodic.NewAborter()
	run := fhttp.HTTPRunnerOptions{
		RunnerOptions: periodic.RunnerOptions{
			QPS: o.qps, NumThreads: o.connections, Percentiles: []float64{50, 99}, Out: io.Discard, Stop: aborter,
			// By number, even for a run bounded by time: then there are no warm-up requests that nobody counts.
			Exactly: o.requests,
		},
		HTTPOptions: fhttp.HTTPOptions{
			HTTPReqTimeOut: o.timeout, H2: o.h2, DisableKeepAlive: o.fresh,
			DisableFastClient: true, // only the other one lets errors be observed
			Transport:         observed.around,
		},
		AllowInitialErrors: true,
	}
	run.URL = o.url
	if o.host != "" {
		if err := run.AddAndValidateExtraHeader("Host: " + o.host); err != nil {
			return nil, fmt.Errorf("-host: %w", err)
		}
	}
	finished := make(chan struct{})
	defer close(finished)
	go func() {
		select {
		case <-finished:
			return
		case <-stop:
		case <-time.After(o.duration + o.timeout):
		}
		aborter.Abort(true)
	}()
	held := hold(o)
	result, err := fhttp.RunHTTPTest(&run)
	stream := held()
	if err != nil {
		return nil, err
	}
	out := &summary{
		Wanted: o.requests, Codes: map[int]int64{}, Errors: observed.errors, Connections: result.SocketCount,
		FirstFailure: observed.first, LastFailure: observed.last, Stream: stream,
		Seconds: result.ActualDuration.Seconds(), QPS: result.ActualQPS,
		Max: result.DurationHistogram.Max * 1000,
	}
	for code, n := range result.RetCodes {
		out.Codes[code] = n
		out.Requests += n
		if code != 200 {
			out.Failed += n
		}
	}
	for _, p := range result.DurationHistogram.Percentiles {
		switch p.Percentile {
		case 50:
			out.P50 = p.Value * 1000
		case 99:
			out.P99 = p.Value * 1000
		}
	}
	return out, nil
}

func main() {
	log.SetLogLevelQuiet(log.Critical) // the summary counts what it would log
	o, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(2)
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	out, err := run(o, stop)
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(2)
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(2)
	}
	if o.fail && (out.Failed > 0 || out.Requests < out.Wanted || out.Stream != nil && len(out.Stream.Broken) > 0) {
		os.Exit(1)
	}
}
