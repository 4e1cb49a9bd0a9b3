// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

const secretWord = "correct-horse"

// asked is a server that answers what it is told, one answer after another, and remembers what it was sent.
type asked struct {
	mu       sync.Mutex
	answers  []int
	body     string
	requests []*http.Request
	bodies   []string
}

func (a *asked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests, a.bodies = append(a.requests, r), append(a.bodies, string(body))
	status := a.answers[min(len(a.requests)-1, len(a.answers)-1)]
	if status == http.StatusFound {
		w.Header().Set("Location", "http://127.0.0.1:1/elsewhere")
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, a.body)
}

// endpointOn serves over TLS, and is an endpoint with its certificate.
func endpointOn(t *testing.T, a *asked) Endpoint {
	t.Helper()
	server := httptest.NewTLSServer(a)
	t.Cleanup(server.Close)
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return Endpoint{
		Spec:   v1alpha1.Endpoint{URL: server.URL + "/gate?key=" + secretWord, CABundle: bundle, SecretName: "signing", TimeoutSeconds: 5},
		Secret: map[string][]byte{"hmac": []byte(secretWord)},
	}
}

func TestAsk(t *testing.T) {
	tests := []struct {
		reason string
		status int
		body   string
		yes    bool
		fails  bool
		want   string
	}{
		{"2xx is a yes", 200, `{"message":"smoke tests pass"}`, true, false, "200 OK: smoke tests pass"},
		{"without a word", 204, "", true, false, "204 No Content"},
		{"409 is a no", 409, `{"message":"a freeze is\nin force"}`, false, false, "409 Conflict: a freeze is in force"},
		{"412 is a no", 412, "", false, false, "412 Precondition Failed"},
		{"a page that is not there says nothing", 404, "", false, true, "says nothing"},
		{"neither does a server in trouble", 503, "", false, true, "503"},
		{"nor one that points elsewhere, where nobody is asked", 302, "", false, true, "302"},
	}
	for _, tt := range tests {
		server := &asked{answers: []int{tt.status}, body: tt.body}
		answer, err := New().Ask(t.Context(), endpointOn(t, server), Question{Gate: "smoke", Delivery: "one"})
		if (err != nil) != tt.fails || answer.Yes != tt.yes {
			t.Errorf("%s: got %+v, %v", tt.reason, answer, err)
			continue
		}
		said := answer.Message
		if err != nil {
			said = err.Error()
		}
		if !strings.Contains(said, tt.want) {
			t.Errorf("%s: says %q, want %q", tt.reason, said, tt.want)
		}
		if strings.Contains(said, secretWord) {
			t.Errorf("%s: the secret is in %q", tt.reason, said)
		}
	}
}

// A question is signed, and asked again under the same name while a server is in trouble.
func TestQuestionsAreSignedAndRepeated(t *testing.T) {
	server := &asked{answers: []int{500, 429, 200}}
	to := endpointOn(t, server)
	to.Spec.Retries = 2
	q := Question{Gate: "smoke", When: "During", Mesh: "default", Rollout: "default-1", Step: "judge", From: Side{"1-28-2", "1.28.2"}, To: Side{"1-29-1", "1.29.1"}, Delivery: "uid/smoke/1/0"}
	answer, err := New().Ask(t.Context(), to, q)
	if err != nil || !answer.Yes {
		t.Fatalf("got %+v, %v", answer, err)
	}
	if len(server.requests) != 3 {
		t.Fatalf("asked %d times, want 3", len(server.requests))
	}
	for i, r := range server.requests {
		if got := r.Header.Get(SignatureHeader); got != Sign([]byte(secretWord), []byte(server.bodies[i])) {
			t.Errorf("signature %s", got)
		}
		if got := r.Header.Get(DeliveryHeader); got != q.Delivery {
			t.Errorf("delivery %s", got)
		}
	}
	var got Question
	if err := json.Unmarshal([]byte(server.bodies[0]), &got); err != nil {
		t.Fatal(err)
	}
	got.Delivery, q.Version = q.Delivery, 1
	if diff := cmp.Diff(q, got); diff != "" {
		t.Errorf("another question (-want +got):\n%s", diff)
	}
}

func TestEndpointsThatCanNotBeAsked(t *testing.T) {
	to := endpointOn(t, &asked{answers: []int{200}})
	other := to
	other.Spec.CABundle = nil
	if _, err := New().Ask(t.Context(), other, Question{}); err == nil || strings.Contains(err.Error(), secretWord) {
		t.Errorf("a certificate of nobody known: %v", err)
	}
	other = to
	other.Spec.CABundle = []byte("no PEM")
	if _, err := New().Ask(t.Context(), other, Question{}); err == nil || !strings.Contains(err.Error(), "caBundle") {
		t.Errorf("a bundle that is none: %v", err)
	}
	other = to
	other.Secret = map[string][]byte{"other": nil}
	if _, err := New().Ask(t.Context(), other, Question{}); !errors.Is(err, errNoKey) {
		t.Errorf("a Secret without the key: %v", err)
	}
}

// Notices are CloudEvents; what can't be told is counted, and nobody waits.
func TestNotifier(t *testing.T) {
	server := &asked{answers: []int{202}}
	to := endpointOn(t, server)
	told := make(chan string, 2)
	n := NewNotifier(func(result string) { told <- result })
	e := event.New()
	e.SetID("uid-1")
	e.SetType("io.meshwright.rollout.Shifting")
	e.SetSource("/meshwright.io/meshrollouts/default-1")
	if err := e.SetData(event.ApplicationJSON, map[string]string{"reason": "Shifting"}); err != nil {
		t.Fatal(err)
	}
	n.Tell(func(context.Context) (Endpoint, error) { return to, nil }, e)
	n.Tell(func(context.Context) (Endpoint, error) { return Endpoint{}, errors.New("there is no Secret") }, e)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- n.Start(ctx) }()
	results := map[string]int{}
	for range 2 {
		select {
		case r := <-told:
			results[r]++
		case <-time.After(time.Minute):
			t.Fatal("nothing was told")
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string]int{"sent": 1, "failed": 1}, results); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got := event.New()
	if err := json.Unmarshal([]byte(server.bodies[0]), &got); err != nil {
		t.Fatal(err)
	}
	if server.requests[0].Header.Get("Content-Type") != "application/cloudevents+json" || got.ID() != "uid-1" || got.Type() != e.Type() {
		t.Errorf("told %s as %s", server.bodies[0], server.requests[0].Header.Get("Content-Type"))
	}
}

// A queue that is full drops what comes, and counts it.
func TestNotifierNeverWaits(t *testing.T) {
	dropped := 0
	n := NewNotifier(func(string) { dropped++ })
	for range maxQueue + 3 {
		n.Tell(nil, event.New())
	}
	if dropped != 3 {
		t.Errorf("%d dropped, want 3", dropped)
	}
}

func TestPrometheus(t *testing.T) {
	vector := `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0.25"]},{"metric":{},"value":[1,"NaN"]}]}}`
	tests := []struct {
		reason string
		status int
		body   string
		want   int
		err    string
	}{
		{"a vector", 200, vector, 2, ""},
		{"a scalar", 200, `{"status":"success","data":{"resultType":"scalar","result":[1,"3"]}}`, 1, ""},
		{"no series", 200, `{"status":"success","data":{"resultType":"vector","result":[]}}`, 0, ""},
		{"a matrix is no value of one time", 200, `{"status":"success","data":{"resultType":"matrix","result":[]}}`, 0, "not values of one time"},
		{"a query that it does not take", 400, `{"status":"error","errorType":"bad_data","error":"parse error"}`, 0, "parse error"},
		{"a token that it does not take", 401, "", 0, "spec.upgrade.analysis.prometheus.auth"},
		{"a server in trouble", 503, "", 0, "prometheus"},
		{"one that points elsewhere", 302, "", 0, "prometheus"},
	}
	for _, tt := range tests {
		server := &asked{answers: []int{tt.status}, body: tt.body}
		to := endpointOn(t, server)
		spec := v1alpha1.PrometheusServer{
			Address: strings.TrimSuffix(to.Spec.URL, "/gate?key="+secretWord), CABundle: to.Spec.CABundle, TimeoutSeconds: 5,
			Auth:    &v1alpha1.ServerAuth{Type: v1alpha1.AuthBearer, SecretName: "prometheus"},
			Headers: []v1alpha1.Header{{Name: "X-Scope-OrgID", Value: "mesh"}},
		}
		values, err := New().Prometheus(t.Context(), PrometheusServer{Spec: spec, Secret: map[string][]byte{"token": []byte(secretWord)}}, "up", time.Unix(1, 0))
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) || len(values) != tt.want {
			t.Errorf("%s: got %v, %v", tt.reason, values, err)
		}
		if err != nil && strings.Contains(err.Error(), secretWord) {
			t.Errorf("%s: the secret is in %v", tt.reason, err)
		}
		for _, r := range server.requests {
			if r.Header.Get("Authorization") != "Bearer "+secretWord || r.Header.Get("X-Scope-Orgid") != "mesh" {
				t.Errorf("%s: headers %v", tt.reason, r.Header)
			}
		}
	}
}

func TestPrometheusThatIsNotThere(t *testing.T) {
	spec := v1alpha1.PrometheusServer{Address: "http://127.0.0.1:1", TimeoutSeconds: 1}
	if _, err := New().Prometheus(t.Context(), PrometheusServer{Spec: spec}, "up", time.Unix(1, 0)); err == nil {
		t.Error("a server that is not there has answered")
	}
	spec.Auth = &v1alpha1.ServerAuth{Type: v1alpha1.AuthBasic, SecretName: "prometheus"}
	_, err := New().Prometheus(t.Context(), PrometheusServer{Spec: spec, Secret: map[string][]byte{"username": []byte("me")}}, "up", time.Unix(1, 0))
	if err == nil || !strings.Contains(err.Error(), "has no key password") {
		t.Errorf("a Secret without a password: %v", err)
	}
}
