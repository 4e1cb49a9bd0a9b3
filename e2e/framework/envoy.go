// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/pki"
)

// Held is what a proxy really holds, as its Envoy says itself: the roots that it accepts, and whether its leaf is of a root.
type Held struct {
	Accepts map[pki.Fingerprint]bool
	// Issuer is the certificate after the leaf in the chain that it presents; empty where the leaf comes alone.
	Issuer pki.Fingerprint
}

// Held asks the Envoy of a pod. It runs a program in the pod, which the operator may not.
func (e *Env) Held(ctx context.Context, pod client.ObjectKey) (Held, error) {
	raw, err := e.Kubectl(ctx, "exec", "-n", pod.Namespace, pod.Name, "-c", "istio-proxy", "--",
		"pilot-agent", "request", "GET", "config_dump?resource=dynamic_active_secrets")
	if err != nil {
		return Held{}, err
	}
	type inline struct {
		Bytes []byte `json:"inline_bytes"`
	}
	var dump struct {
		Configs []struct {
			Name   string `json:"name"`
			Secret struct {
				Certificate struct {
					Chain inline `json:"certificate_chain"`
				} `json:"tls_certificate"`
				Validation struct {
					TrustedCA inline `json:"trusted_ca"`
				} `json:"validation_context"`
			} `json:"secret"`
		} `json:"configs"`
	}
	if err := json.Unmarshal([]byte(raw[max(0, strings.Index(raw, "{")):]), &dump); err != nil {
		return Held{}, fmt.Errorf("secrets of the Envoy of %s: %w", pod, err)
	}
	out := Held{Accepts: map[pki.Fingerprint]bool{}}
	for _, c := range dump.Configs {
		if err := out.take(c.Name, c.Secret.Certificate.Chain.Bytes, c.Secret.Validation.TrustedCA.Bytes); err != nil {
			return Held{}, fmt.Errorf("secrets of the Envoy of %s: %w", pod, err)
		}
	}
	if len(out.Accepts) == 0 {
		return Held{}, errors.New("the Envoy of " + pod.String() + " holds no root")
	}
	return out, nil
}

func (h *Held) take(name string, chain, roots []byte) error {
	switch name {
	case "default":
		certificates, err := pki.ParseCertificates(chain)
		if err != nil {
			return err
		}
		if len(certificates) > 1 {
			h.Issuer = pki.FingerprintOf(certificates[1])
		}
	case "ROOTCA":
		certificates, err := pki.ParseCertificates(roots)
		if err != nil {
			return err
		}
		for _, c := range certificates {
			h.Accepts[pki.FingerprintOf(c)] = true
		}
	}
	return nil
}
