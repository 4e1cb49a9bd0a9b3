// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"k8s.io/client-go/rest"
)

// Faults stands between one operator and the API server, counts what the operator writes, and does to it what networks, API
// servers and the kubelet do. The zero value only counts.
//
// A write is every request but GET, save those of leases and events and those without effect (dry runs). The first one has the
// number 1.
type Faults struct {
	// Counts says which writes are counted, of which alone there are faults; nil: all.
	Counts func(*http.Request) bool
	// CrashBefore is the number of the write before which the operator dies: the API server never has it. 0: never.
	CrashBefore int
	// CrashAfter is the number of the write after which it dies: the API server has it, and its answer is lost. 0: never.
	CrashAfter int
	// Die ends the operator that crashes at a write. What it asks for afterwards is not answered.
	Die func(*http.Request)
	// ConflictAt is the number of the write that is answered with 409 Conflict instead of being done. 0: none.
	ConflictAt int
	// ConflictEach answers every first write of a method to a path with 409 Conflict, and lets the next one of the same pass, and
	// so on: each write is refused once, and done when it is tried again.
	ConflictEach bool
	// StaleBy is how many responses old the answers to reads of the kinds of Stale are: the first answers are the oldest there
	// are. Watches are left alone. 0: answers are new.
	StaleBy int
	// Stale are the resources that are read late, such as meshrollouts.
	Stale []string

	mu        sync.Mutex
	writes    int
	conflicts int
	dead      bool
	refused   map[string]bool
	seen      map[string][]answer
}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// Wrap makes a copy of a configuration whose requests meet the faults.
func (f *Faults) Wrap(config *rest.Config) *rest.Config {
	out := rest.CopyConfig(config)
	out.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) { return f.Do(r, next) })
	})
	return out
}

// Writes is how many writes were counted.
func (f *Faults) Writes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writes
}

// Conflicts is how many of them were answered with a conflict.
func (f *Faults) Conflicts() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conflicts
}

// Do lets a request pass to the next round tripper, or does to it what is due.
func (f *Faults) Do(r *http.Request, next http.RoundTripper) (*http.Response, error) {
	if r.Method == http.MethodGet {
		return f.read(r, next)
	}
	switch f.due(r) {
	case dead:
		return nil, context.Canceled
	case conflict:
		return refusal(r), nil
	case before:
		f.Die(r)
		return nil, context.Canceled
	case after:
		response, err := next.RoundTrip(r)
		if err == nil {
			_ = response.Body.Close()
		}
		f.Die(r)
		return nil, context.Canceled // the answer never reached it
	case nothing:
	}
	return next.RoundTrip(r)
}

// fault is what happens to a write.
type fault int8

const (
	nothing fault = iota
	dead
	before
	after
	conflict
)

// due counts a request, if it is a write, and says what happens to it.
func (f *Faults) due(r *http.Request) fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return dead
	}
	if !IsWrite(r) || f.Counts != nil && !f.Counts(r) {
		return nothing
	}
	f.writes++
	key := r.Method + " " + r.URL.Path
	switch {
	case f.writes == f.CrashBefore:
		f.dead = true
		return before
	case f.writes == f.CrashAfter:
		f.dead = true
		return after
	case f.writes == f.ConflictAt, f.ConflictEach && !f.refused[key]:
		if f.refused == nil {
			f.refused = map[string]bool{}
		}
		f.refused[key] = true
		f.conflicts++
		return conflict
	}
	delete(f.refused, key)
	return nothing
}

// IsWrite says whether a request changes something that a test is about: it is no read, no dry run, no lease and no event.
func IsWrite(r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.URL.Query().Has("dryRun") {
		return false
	}
	path := strings.Split(r.URL.Path, "/")
	return !slices.Contains(path, "leases") && !slices.Contains(path, "events")
}

// refusal is how an API server answers a write of an object that has changed meanwhile.
func refusal(r *http.Request) *http.Response {
	const body = `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","reason":"Conflict","code":409,` +
		`"message":"Operation cannot be fulfilled: the object has been modified; please apply your changes to the latest version and try again"}`
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return respond(r, answer{status: http.StatusConflict, header: http.Header{"Content-Type": {"application/json"}}, body: []byte(body)})
}

func respond(r *http.Request, a answer) *http.Response {
	return &http.Response{
		Status: http.StatusText(a.status), StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header.Clone(), Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: r,
	}
}

// read answers a read, with an old answer where that is asked for.
func (f *Faults) read(r *http.Request, next http.RoundTripper) (*http.Response, error) {
	f.mu.Lock()
	gone := f.dead
	f.mu.Unlock()
	if gone {
		return nil, context.Canceled
	}
	query := r.URL.Query()
	late := slices.ContainsFunc(strings.Split(r.URL.Path, "/"), func(part string) bool { return slices.Contains(f.Stale, part) })
	if f.StaleBy <= 0 || !late || query.Get("watch") != "" {
		return next.RoundTrip(r)
	}
	response, err := next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		return nil, err
	}
	return respond(r, f.older(r.URL.String()+" "+r.Header.Get("Accept"), answer{status: response.StatusCode, header: response.Header, body: body})), nil
}

// older keeps an answer, and gives the one that was the newest StaleBy answers ago.
func (f *Faults) older(key string, now answer) answer {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil {
		f.seen = map[string][]answer{}
	}
	all := f.seen[key]
	all = append(all, now)
	if len(all) > f.StaleBy+1 {
		all = all[1:]
	}
	f.seen[key] = all
	return all[0]
}
