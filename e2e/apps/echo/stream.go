// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// The bounds of a stream, and what it is when the request says nothing.
const (
	leastInterval, usualInterval = time.Millisecond, 100 * time.Millisecond
	longestStream                = time.Hour
)

// stream answers with a line at each interval until the client goes, the time is over or the server leaves.
func stream(w http.ResponseWriter, r *http.Request, line answer) {
	query := r.URL.Query()
	interval, err := duration(query, "interval", usualInterval, leastInterval)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	whole, err := duration(query, "for", longestStream, interval)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines, control := json.NewEncoder(w), http.NewResponseController(w)
	end := time.NewTimer(whole)
	defer end.Stop()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		// An error says that the client has gone.
		if err := errors.Join(lines.Encode(line), control.Flush()); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-end.C:
			return
		case <-tick.C:
		}
	}
}

// duration reads a parameter of a request; least and an hour are its bounds.
func duration(query url.Values, name string, usual, least time.Duration) (time.Duration, error) {
	text := query.Get(name)
	if text == "" {
		return usual, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < least || d > longestStream {
		return 0, fmt.Errorf("%s=%s: write a duration from %s to %s", name, text, least, longestStream)
	}
	return d, nil
}
