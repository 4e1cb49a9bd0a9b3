// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// endpoint is a web server that an installation names, and where.
type endpoint struct {
	*v1alpha1.Endpoint

	path *field.Path
}

// endpoints are the web servers of hooks and notifications.
func endpoints(m *v1alpha1.MeshInstallation) (out []endpoint) {
	for i := range m.Spec.Upgrade.Analysis.Hooks {
		if h := m.Spec.Upgrade.Analysis.Hooks[i].Webhook; h != nil {
			out = append(out, endpoint{&h.Endpoint, analysisPath().Child("hooks").Index(i).Child("webhook")})
		}
	}
	for i := range m.Spec.Upgrade.Notifications {
		path := field.NewPath("spec", "upgrade", "notifications").Index(i)
		out = append(out, endpoint{&m.Spec.Upgrade.Notifications[i].Endpoint, path})
	}
	return out
}

func endpointRules(path *field.Path, e *v1alpha1.Endpoint) (errs field.ErrorList) {
	errs = append(errs, address(path.Child("url"), e.URL)...)
	errs = append(errs, certificates(path.Child("caBundle"), e.CABundle)...)
	if e.SecretName == "" {
		return errs
	}
	for _, problem := range validation.IsDNS1123Subdomain(e.SecretName) {
		errs = append(errs, field.Invalid(path.Child("secretName"), e.SecretName, "is no name of a Secret: "+problem))
	}
	return errs
}

// address checks a URL; that it is one of HTTP, the schema says.
func address(path *field.Path, text string) field.ErrorList {
	refuse := func(detail string) field.ErrorList {
		return field.ErrorList{field.Invalid(path, redacted(text), detail)}
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return refuse("does not parse as a URL: write one such as https://server.example.com:8443/path")
	case u.User != nil:
		return refuse("has a user or a password, which everybody reads who may read the installation: put them into a Secret and leave them out here")
	case u.Hostname() == "":
		return refuse("names no server: write a URL such as https://server.example.com:8443/path")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || len(validation.IsValidPortNum(n)) > 0 {
			return refuse("port " + port + " is none: write one from 1 to 65535")
		}
	}
	return nil
}

// redacted is a URL as it may be shown in an error, which ends up in logs.
func redacted(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Redacted()
}

// certificates checks PEM that servers are to be checked with.
func certificates(path *field.Path, bundle []byte) field.ErrorList {
	if len(bundle) == 0 {
		return nil
	}
	refuse := func(detail string) field.ErrorList {
		return field.ErrorList{field.Invalid(path, fmt.Sprintf("%d bytes", len(bundle)), detail)}
	}
	found := 0
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return refuse("holds a " + block.Type + ": leave in it the certificates of the authorities only")
		}
		found++
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return refuse(fmt.Sprintf("certificate %d does not parse: %v", found, err))
		}
	}
	if found == 0 {
		return refuse("holds no certificate: write them as PEM, each between BEGIN CERTIFICATE and END CERTIFICATE")
	}
	return nil
}
