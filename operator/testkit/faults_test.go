// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package testkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/json"
)

const rollouts = "/apis/meshwright.io/v1alpha1/meshrollouts"

// server answers each request with its number, and keeps what it was asked.
type server struct{ asked []string }

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI())
	return respond(r, answer{status: http.StatusOK, body: fmt.Append(nil, len(s.asked))}), nil
}

// ask makes requests and says how each ended: with the number of the answer, a status or an error.
func ask(t *testing.T, f *Faults, s *server, requests ...string) (out []string) {
	t.Helper()
	for _, request := range requests {
		method, url, _ := strings.Cut(request, " ")
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		response, err := f.Do(r, s) //nolint:bodyclose // it is a string
		switch {
		case errors.Is(err, context.Canceled):
			out = append(out, "canceled")
		case err != nil:
			t.Fatal(err)
		case response.StatusCode != http.StatusOK:
			out = append(out, strconv.Itoa(response.StatusCode))
		default:
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(body))
		}
	}
	return out
}

func TestFaults(t *testing.T) {
	for _, tc := range []struct {
		reason   string
		faults   *Faults
		requests []string
		want     []string
		// asked are how many requests reached the API server; writes are those that were counted.
		asked, writes, deaths int
	}{
		{
			reason: "reads, leases, events and dry runs are no writes",
			faults: &Faults{CrashBefore: 1, CrashAfter: 1, ConflictAt: 1},
			requests: []string{
				"GET " + rollouts, "POST /apis/events.k8s.io/v1/namespaces/default/events", "POST /api/v1/namespaces/a/pods?dryRun=All",
				"PUT /apis/coordination.k8s.io/v1/namespaces/default/leases/meshwright",
			},
			want: []string{"1", "2", "3", "4"}, asked: 4,
		},
		{
			reason:   "a crash before a write: nobody has it, and nothing is answered any more",
			faults:   &Faults{CrashBefore: 2},
			requests: []string{"POST /a", "GET /a", "POST /b", "POST /c", "GET /a"},
			want:     []string{"1", "2", "canceled", "canceled", "canceled"}, asked: 2, writes: 2, deaths: 1,
		},
		{
			reason:   "a crash after a write: the API server has it, and the answer is lost",
			faults:   &Faults{CrashAfter: 2},
			requests: []string{"POST /a", "POST /b", "POST /c"},
			want:     []string{"1", "canceled", "canceled"}, asked: 2, writes: 2, deaths: 1,
		},
		{
			reason:   "one conflict",
			faults:   &Faults{ConflictAt: 2},
			requests: []string{"PATCH /a", "PATCH /a", "PATCH /a"},
			want:     []string{"1", "409", "2"}, asked: 2, writes: 3,
		},
		{
			reason:   "a conflict for each write, which the second try gets past",
			faults:   &Faults{ConflictEach: true},
			requests: []string{"PATCH /a", "PATCH /b", "PATCH /a", "PATCH /b", "PATCH /a", "DELETE /a", "PATCH /a"},
			want:     []string{"409", "409", "1", "2", "409", "409", "3"}, asked: 3, writes: 7,
		},
		{
			reason:   "only some writes are counted",
			faults:   &Faults{CrashBefore: 1, Counts: func(r *http.Request) bool { return r.URL.Path == rollouts }},
			requests: []string{"POST /a", "POST " + rollouts, "POST /a"},
			want:     []string{"1", "canceled", "canceled"}, asked: 1, writes: 1, deaths: 1,
		},
		{
			reason: "reads of some kinds are answered late, each by itself; watches are not",
			faults: &Faults{StaleBy: 2, Stale: []string{"meshrollouts"}},
			requests: []string{
				"GET " + rollouts + "/a", "GET " + rollouts + "/a", "GET " + rollouts + "/b", "GET " + rollouts + "/a", "GET " + rollouts + "/a",
				"GET " + rollouts + "?watch=true", "GET /api/v1/pods", "GET /api/v1/pods",
			},
			want: []string{"1", "1", "3", "1", "2", "6", "7", "8"}, asked: 8,
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			f, s, deaths := tc.faults, &server{}, 0
			f.Die = func(*http.Request) { deaths++ }
			if diff := cmp.Diff(tc.want, ask(t, f, s, tc.requests...)); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			if len(s.asked) != tc.asked || f.Writes() != tc.writes || deaths != tc.deaths {
				t.Errorf("%d requests, %d writes, %d deaths; want %d, %d, %d", len(s.asked), f.Writes(), deaths, tc.asked, tc.writes, tc.deaths)
			}
		})
	}
}

// A conflict is one for the client library too.
func TestConflict(t *testing.T) {
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, rollouts, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	f := &Faults{ConflictAt: 1}
	response, err := f.Do(r, &server{}) //nolint:bodyclose // it is a string
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	var status metav1.Status
	if err := json.Unmarshal(body, &status); err != nil {
		t.Fatal(err)
	}
	if err := (&apierrors.StatusError{ErrStatus: status}); !apierrors.IsConflict(err) || f.Conflicts() != 1 {
		t.Errorf("%v is no conflict", err)
	}
}
