// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// authority is a certificate, the same in every run.
func authority(t *testing.T) []byte {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestJudgement(t *testing.T) {
	metric := func(change func(*v1alpha1.Metric)) func(*v1alpha1.MeshInstallation) {
		return func(m *v1alpha1.MeshInstallation) { change(&m.Spec.Upgrade.Analysis.Metrics[0]) }
	}
	server := func(change func(*v1alpha1.PrometheusServer)) func(*v1alpha1.MeshInstallation) {
		return func(m *v1alpha1.MeshInstallation) { change(m.Spec.Upgrade.Analysis.Prometheus) }
	}
	ask := func(when v1alpha1.HookTime, change func(*v1alpha1.WebhookHook)) func(*v1alpha1.MeshInstallation) {
		return func(m *v1alpha1.MeshInstallation) {
			webhook := &v1alpha1.WebhookHook{
				Endpoint: v1alpha1.Endpoint{URL: "https://gates.example.com/mesh"}, Cadence: v1alpha1.Cadence{IntervalSeconds: 30, Count: 3},
			}
			change(webhook)
			m.Spec.Upgrade.Analysis.Hooks = []v1alpha1.Hook{{Name: "ask", When: when, Type: v1alpha1.HookWebhook, Webhook: webhook}}
		}
	}
	run := func(change func(*v1alpha1.JobHook)) func(*v1alpha1.MeshInstallation) {
		return func(m *v1alpha1.MeshInstallation) { change(m.Spec.Upgrade.Analysis.Hooks[1].Job) }
	}
	tell := func(e v1alpha1.Endpoint) func(*v1alpha1.MeshInstallation) {
		return func(m *v1alpha1.MeshInstallation) {
			m.Spec.Upgrade.Notifications = []v1alpha1.Notification{{Name: "chat", Endpoint: e}}
		}
	}
	const (
		metrics = "spec.upgrade.analysis.metrics[0]."
		prom    = "spec.upgrade.analysis.prometheus."
		webhook = "spec.upgrade.analysis.hooks[0].webhook."
		jobs    = "spec.upgrade.analysis.hooks[1].job."
		chat    = "spec.upgrade.notifications[0]."
	)
	for _, tc := range []struct {
		reason string
		mesh   func(*v1alpha1.MeshInstallation)
		want   []string
	}{
		{"a query with all its parameters", metric(func(m *v1alpha1.Metric) {
			m.Query = `sum(rate(x{a="$revision",b="$stable",c="$gateway",d="$namespace"}[$window])) or vector(0)`
		}), nil},
		{"a query that does not parse", metric(func(m *v1alpha1.Metric) { m.Query = `sum(rate(x[$window])` }), []string{metrics + "query", "parse error"}},
		{"a query with a parameter that there is not", metric(func(m *v1alpha1.Metric) { m.Query = `x{a="$pod"}` }), []string{metrics + "query", "$pod", "$revision"}},
		{"a query for a range", metric(func(m *v1alpha1.Metric) { m.Query = `x[$window]` }), []string{metrics + "query", "sum(rate("}},
		{
			"a condition that does not compile", metric(func(m *v1alpha1.Metric) { m.SuccessCondition = "result <" }),
			[]string{metrics + "successCondition", "CEL", "result < 0.01"},
		},
		{
			"a condition on what there is not", metric(func(m *v1alpha1.Metric) { m.FailureCondition = "errors > 1" }),
			[]string{metrics + "failureCondition", "errors", "result < 0.01"},
		},
		{"a condition that is a number", metric(func(m *v1alpha1.Metric) { m.SuccessCondition = "1 + 1" }), []string{metrics + "successCondition", "true or false"}},
		{"a preset", metric(func(m *v1alpha1.Metric) {
			m.Preset, m.Query, m.SuccessCondition = v1alpha1.PresetSuccessRate, "", ""
		}), nil},
		{"a preset with a condition of the user's that does not compile", metric(func(m *v1alpha1.Metric) {
			m.Preset, m.Query, m.SuccessCondition = v1alpha1.PresetSuccessRate, "", "result >"
		}), []string{metrics + "successCondition"}},
		{"a preset that there is not", metric(func(m *v1alpha1.Metric) {
			m.Preset, m.Query = "luck", ""
		}), []string{metrics + "preset", "luck"}},
		{"longer between measurements than a step may take", metric(func(m *v1alpha1.Metric) {
			m.IntervalSeconds = 1800
		}), []string{metrics + "intervalSeconds", "1800", "progressDeadlineSeconds", "write less, or raise"}},
		{"one measurement has no interval", metric(func(m *v1alpha1.Metric) { m.IntervalSeconds, m.Count = 1800, 1 }), nil},
		{"longer before the first measurement than a step may take", metric(func(m *v1alpha1.Metric) {
			m.InitialDelaySeconds = 3600
		}), []string{metrics + "initialDelaySeconds", "progressDeadlineSeconds"}},

		{"a server with a path", server(func(p *v1alpha1.PrometheusServer) { p.Address = "https://metrics.example.com:8443/tenant/prometheus" }), nil},
		{"a password in the address", server(func(p *v1alpha1.PrometheusServer) {
			p.Address = "https://ann:letmein@prometheus:9090"
		}), []string{prom + "address", "ann:xxxxx@", "put them into a Secret"}},
		{"an address without a server", server(func(p *v1alpha1.PrometheusServer) { p.Address = "https://:9090" }), []string{prom + "address", "names no server"}},
		{"an address that is none", server(func(p *v1alpha1.PrometheusServer) { p.Address = "https://prometheus:ninety" }), []string{prom + "address", "does not parse"}},
		{"a port that is none", server(func(p *v1alpha1.PrometheusServer) { p.Address = "https://prometheus:99999" }), []string{prom + "address", "99999", "1 to 65535"}},
		{"certificates", server(func(p *v1alpha1.PrometheusServer) { p.CABundle = append(authority(t), authority(t)...) }), nil},
		{"certificates that are none", server(func(p *v1alpha1.PrometheusServer) {
			p.CABundle = []byte("LS0t")
		}), []string{prom + "caBundle", "PEM", "BEGIN CERTIFICATE"}},
		{"a certificate that is broken", server(func(p *v1alpha1.PrometheusServer) {
			p.CABundle = append(authority(t), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})...)
		}), []string{prom + "caBundle", "certificate 2 does not parse"}},
		{"a key among the certificates", server(func(p *v1alpha1.PrometheusServer) {
			p.CABundle = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})
		}), []string{prom + "caBundle", "PRIVATE KEY", "certificates of the authorities only"}},
		{"a header for a tenant", server(func(p *v1alpha1.PrometheusServer) {
			p.Headers = []v1alpha1.Header{{Name: "X-Scope-OrgID", Value: "mesh"}}
		}), nil},
		{"credentials as a header", server(func(p *v1alpha1.PrometheusServer) {
			p.Headers = []v1alpha1.Header{{Name: "AUTHORIZATION", Value: "Bearer x"}}
		}), []string{prom + "headers[0].name", "AUTHORIZATION", "name it in auth"}},
		{"a Secret that can't be one", server(func(p *v1alpha1.PrometheusServer) {
			p.Auth = &v1alpha1.ServerAuth{Type: v1alpha1.AuthBearer, SecretName: "my token"}
		}), []string{prom + "auth.secretName", "is no name of a Secret"}},

		{"a web server", ask(v1alpha1.HookDuring, func(*v1alpha1.WebhookHook) {}), nil},
		{"a web server with a password", ask(v1alpha1.HookAfter, func(h *v1alpha1.WebhookHook) {
			h.URL = "https://ann:letmein@gates.example.com"
		}), []string{webhook + "url", "put them into a Secret"}},
		{"a web server's certificates that are none", ask(v1alpha1.HookBefore, func(h *v1alpha1.WebhookHook) {
			h.CABundle = []byte("x")
		}), []string{webhook + "caBundle", "holds no certificate"}},
		{"a web server's Secret that can't be one", ask(v1alpha1.HookBefore, func(h *v1alpha1.WebhookHook) {
			h.SecretName = "My"
		}), []string{webhook + "secretName", "is no name of a Secret"}},
		{"a web server that is asked more seldom than a step may take", ask(v1alpha1.HookDuring, func(h *v1alpha1.WebhookHook) {
			h.IntervalSeconds = 86400
		}), []string{webhook + "intervalSeconds", "progressDeadlineSeconds"}},
		{"what is asked once has no interval", ask(v1alpha1.HookAfter, func(h *v1alpha1.WebhookHook) { h.IntervalSeconds = 86400 }), nil},
		{"a CronJob that can't be one", run(func(j *v1alpha1.JobHook) { j.CronJob = "Smoke" }), []string{jobs + "cronJob", "is no name of a CronJob"}},
		{"a namespace that can't be one", run(func(j *v1alpha1.JobHook) { j.Namespace = "a.b" }), []string{jobs + "namespace", "is no name of a namespace"}},

		{"a notification", tell(v1alpha1.Endpoint{URL: "http://127.0.0.1:8080/x", CABundle: authority(t)}), nil},
		{"a notification with a password", tell(v1alpha1.Endpoint{URL: "https://ann@hooks.example.com"}), []string{chat + "url", "put them into a Secret"}},
		{"a notification that goes elsewhere in the open, behind what looks like a loopback address", tell(v1alpha1.Endpoint{
			URL: "http://127.0.0.1:x@hooks.example.com/",
		}), []string{chat + "url", "put them into a Secret"}},
		{"a notification that is signed by nothing that could be", tell(v1alpha1.Endpoint{
			URL: "https://hooks.example.com", SecretName: "a/b",
		}), []string{chat + "secretName", "is no name of a Secret"}},
		{"a notification's certificates that are none", tell(v1alpha1.Endpoint{
			URL: "https://hooks.example.com", CABundle: []byte("x"),
		}), []string{chat + "caBundle", "holds no certificate"}},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			m := mesh(judged)
			tc.mesh(m)
			errs, _ := Installation(m, world(nil))
			expectError(t, errs, tc.want...)
		})
	}
}

func TestJudgementThatIsWarnedOf(t *testing.T) {
	for _, tc := range []struct {
		reason string
		mesh   func(*v1alpha1.MeshInstallation)
		want   string
	}{
		{
			"credentials that travel in the open", func(m *v1alpha1.MeshInstallation) {
				m.Spec.Upgrade.Analysis.Prometheus.Address = "http://prometheus:9090"
				m.Spec.Upgrade.Analysis.Prometheus.Auth = &v1alpha1.ServerAuth{Type: v1alpha1.AuthBasic, SecretName: "prometheus"}
			}, "spec.upgrade.analysis.prometheus.address: the credentials of auth can be read on the way: use https",
		},
		{
			"a Job that a step does not wait for", func(m *v1alpha1.MeshInstallation) {
				m.Spec.Upgrade.Analysis.Hooks[0].Job.TimeoutSeconds = 3600
			}, "spec.upgrade.analysis.hooks[0].job.timeoutSeconds: a Job that takes longer than spec.upgrade.progressDeadlineSeconds (1800)",
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			m := mesh(judged)
			tc.mesh(m)
			errs, warnings := Installation(m, world(func(f *Facts) { f.KnownValues = nil }))
			expectError(t, errs)
			if len(warnings) != 1 || !strings.Contains(warnings[0], tc.want) {
				t.Errorf("warnings %q, want one with %q", warnings, tc.want)
			}
		})
	}
}
