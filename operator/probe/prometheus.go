// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/api"
	prometheusv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// PrometheusServer is a server with the Secret that it names; nil for none.
type PrometheusServer struct {
	Spec   v1alpha1.PrometheusServer
	Secret map[string][]byte
}

// Keys of the Secrets of servers.
const (
	tokenKey    = "token"
	usernameKey = "username"
	passwordKey = "password"
)

// UnauthorizedError says that a server does not let the operator ask.
type UnauthorizedError struct{ Status int }

// Error says what to do.
func (e *UnauthorizedError) Error() string {
	return fmt.Sprintf("the server answers %d %s: see spec.upgrade.analysis.prometheus.auth, and the Secret that it names", e.Status, http.StatusText(e.Status))
}

// Prometheus asks a server for the values of a query at a time: those of an instant vector, or the one of a scalar. No answer, and an
// answer that is no values, is an error, which says nothing of what was asked about.
func (p *Prober) Prometheus(ctx context.Context, server PrometheusServer, query string, at time.Time) ([]float64, error) {
	transport, err := transportOf(server.Spec.CABundle)
	if err != nil {
		return nil, fmt.Errorf("prometheus: %w", err)
	}
	defer transport.CloseIdleConnections()
	authorization, err := server.authorization()
	if err != nil {
		return nil, err
	}
	client, err := api.NewClient(api.Config{Address: server.Spec.Address, Client: &http.Client{
		Transport: &authorized{next: transport, authorization: authorization, headers: server.Spec.Headers},
		// A token must not travel to where an answer points.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}})
	if err != nil {
		return nil, fmt.Errorf("prometheus: %w", hidden(err))
	}
	bounded, cancel := context.WithTimeout(ctx, time.Duration(max(1, server.Spec.TimeoutSeconds))*time.Second)
	defer cancel()
	result, warnings, _, err := prometheusv1.NewAPI(client).Query(bounded, query, at)
	if denied, is := errors.AsType[*UnauthorizedError](err); is {
		return nil, denied
	}
	if err != nil {
		return nil, fmt.Errorf("prometheus: %w", hidden(err))
	}
	if len(warnings) > 0 { // such as that a part of its stores did not answer
		return nil, fmt.Errorf("prometheus: the answer may not be whole: %s", warnings[0])
	}
	switch values := result.(type) {
	case *model.Scalar:
		return []float64{float64(values.Value)}, nil
	case model.Vector:
		out := make([]float64, len(values))
		for i, sample := range values {
			out[i] = float64(sample.Value)
		}
		return out, nil
	}
	return nil, fmt.Errorf("prometheus: the query gives a %s, and not values of one time", result.Type())
}

// authorization is the header by which the operator shows who it is.
func (s PrometheusServer) authorization() (string, error) {
	if s.Spec.Auth == nil {
		return "", nil
	}
	need := func(key string) (string, error) {
		if len(s.Secret[key]) == 0 {
			return "", fmt.Errorf("prometheus: Secret %s has no key %s", s.Spec.Auth.SecretName, key)
		}
		return string(s.Secret[key]), nil
	}
	if s.Spec.Auth.Type == v1alpha1.AuthBearer {
		token, err := need(tokenKey)
		return "Bearer " + token, err
	}
	name, err := need(usernameKey)
	if err != nil {
		return "", err
	}
	password, err := need(passwordKey)
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password)), err
}

// authorized adds headers to requests, and bounds what is read.
type authorized struct {
	next          http.RoundTripper
	authorization string
	headers       []v1alpha1.Header
}

// RoundTrip sends a request.
func (a *authorized) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for _, h := range a.headers {
		r.Header.Set(h.Name, h.Value)
	}
	if a.authorization != "" {
		r.Header.Set("Authorization", a.authorization)
	}
	response, err := a.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden {
		_ = response.Body.Close()
		return nil, &UnauthorizedError{Status: response.StatusCode}
	}
	response.Body = http.MaxBytesReader(nil, response.Body, maxMetrics)
	return response, nil
}
