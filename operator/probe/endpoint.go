// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"k8s.io/utils/clock"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Endpoint is a web server that is sent something, with the Secret that it names; nil for none.
type Endpoint struct {
	Spec   v1alpha1.Endpoint
	Secret map[string][]byte
}

const (
	// SignatureHeader has sha256= and the HMAC of the body in hexadecimal digits.
	SignatureHeader = "Meshwright-Signature"
	// DeliveryHeader is the same in each retry.
	DeliveryHeader = "Meshwright-Delivery"

	// hmacKey is the key of a Secret that signs.
	hmacKey = "hmac"

	// firstBackoff doubles with each retry.
	firstBackoff = 200 * time.Millisecond
	// maxAnswer in bytes is read of an answer.
	maxAnswer = 64 << 10
)

// errNoKey says that a Secret lacks its key.
var errNoKey = errors.New("the Secret that signs has no key " + hmacKey)

// post sends a body, again while there is no answer or one that a server gives when it is in trouble. The answer is its status and the
// beginning of its body.
func post(ctx context.Context, waits clock.Clock, to Endpoint, contentType, delivery string, body []byte) (status int, answer []byte, err error) {
	transport, err := transportOf(to.Spec.CABundle)
	if err != nil {
		return 0, nil, err
	}
	defer transport.CloseIdleConnections()
	backoff := firstBackoff
	for try := int32(0); ; try++ {
		status, answer, err = postOnce(ctx, transport, to, contentType, delivery, body)
		if err == nil && status < http.StatusInternalServerError && status != http.StatusTooManyRequests || try >= to.Spec.Retries {
			return status, answer, err
		}
		select {
		case <-ctx.Done():
			return status, answer, err
		case <-waits.After(backoff):
		}
		backoff *= 2
	}
}

func postOnce(ctx context.Context, transport http.RoundTripper, to Endpoint, contentType, delivery string, body []byte) (int, []byte, error) {
	bounded, cancel := context.WithTimeout(ctx, time.Duration(max(1, to.Spec.TimeoutSeconds))*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(bounded, http.MethodPost, to.Spec.URL, bytes.NewReader(body))
	if err != nil {
		return 0, nil, hidden(err)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set(DeliveryHeader, delivery)
	if to.Spec.SecretName != "" {
		key := to.Secret[hmacKey]
		if len(key) == 0 {
			return 0, nil, errNoKey
		}
		request.Header.Set(SignatureHeader, Sign(key, body))
	}
	// Without a client there are no redirects: nothing is sent to anybody else.
	response, err := transport.RoundTrip(request)
	if err != nil {
		return 0, nil, fmt.Errorf("no answer: %w", hidden(err))
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, nil, fmt.Errorf("no whole answer: %w", hidden(err))
	}
	return response.StatusCode, answer, nil
}

// Sign is the signature of a body.
func Sign(key, body []byte) string {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write(body) // never fails
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// hidden takes the address out of an error: a query may hold a secret.
func hidden(err error) error {
	if whole, is := errors.AsType[*url.Error](err); is {
		return whole.Err
	}
	return withoutAddresses(err)
}

// transportOf trusts a bundle of certificates; none: those of the operator's image.
func transportOf(bundle []byte) (*http.Transport, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(bundle) > 0 {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(bundle) {
			return nil, errors.New("caBundle holds no certificate in PEM")
		}
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true}, nil
}
