// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The summary of a load run is the last JSON line among whatever else a pod prints; none, or half of one, is an error.
func TestParseLoad(t *testing.T) {
	got, err := parseLoad("starting\n{\"requests\":1}\n{\"requests\":100,\"failed\":2,\"codes\":{\"200\":98,\"503\":2},\"connections\":3}\nbye\n")
	want := &LoadResult{Requests: 100, Failed: 2, Codes: map[string]int64{"200": 98, "503": 2}, Connections: 3}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, logs := range []string{"", "no summary\n", "{\"requests\":1"} {
		if _, err := parseLoad(logs); err == nil {
			t.Errorf("%q was taken for a summary", logs)
		}
	}
}

// What counts as a request of the operator: not that of others, no lease, no watch, no review of a scrape.
func TestOperatorRequests(t *testing.T) {
	event := func(user, verb, resource string) AuditEvent {
		var e AuditEvent
		e.User.Username, e.Verb, e.ObjectRef.Resource = user, verb, resource
		return e
	}
	for reason, tc := range map[string]struct {
		event       AuditEvent
		want, write bool
	}{
		"an apply":      {event: event(OperatorUser, "patch", "deployments"), want: true, write: true},
		"a read":        {event: event(OperatorUser, "get", "deployments"), want: true},
		"a watch":       {event: event(OperatorUser, "watch", "deployments")},
		"a lease":       {event: event(OperatorUser, "update", "leases"), write: true},
		"a scrape":      {event: event(OperatorUser, "create", "tokenreviews"), write: true},
		"somebody else": {event: event("kubernetes-admin", "delete", "deployments"), write: true},
	} {
		if got := OperatorRequests(tc.event); got != tc.want || tc.event.Write() != tc.write {
			t.Errorf("%s: counted %v, write %v", reason, got, tc.event.Write())
		}
	}
}

func TestTail(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte(strings.Repeat("a", 100)+"end"), 0o600); err != nil {
		t.Fatal(err)
	}
	for bytes, want := range map[int64]int{3: 3, 1000: 103} {
		got, err := tail(file, bytes)
		if err != nil || len(got) != want || !strings.HasSuffix(got, "end") {
			t.Errorf("%d bytes: %q %v", bytes, got, err)
		}
	}
}
