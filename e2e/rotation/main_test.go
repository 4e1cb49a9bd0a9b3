// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package rotation tests on a real cluster that the CA of a mesh changes while requests run through it: real istiods of two minors, real sidecars
// and a real gateway, with leaves that live for minutes, and roots that come from istiod, Meshwright, users and cert-manager.
package rotation

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/pki"
)

var env *framework.Env

func TestMain(m *testing.M) {
	framework.Main(m, func(e *framework.Env) { env = e })
}

// The gateway, and the application behind it.
var (
	ingress = client.ObjectKey{Namespace: "istio-ingress", Name: "ingress"}
	pay     = framework.Echo{Namespace: "pay", Name: "pay", Version: "v1", Replicas: 3}
)

// leafSeconds is the shortest life of a leaf that is allowed: agents fetch another one after half of it.
const leafSeconds = 300

// begin installs a mesh with mTLS everywhere, a gateway that holds its version, and an application behind it.
func begin(t *testing.T, version string, change func(*v1alpha1.MeshInstallation)) {
	t.Helper()
	mesh := framework.Mesh("default", version)
	mesh.Spec.Certificates.LeafSeconds = leafSeconds
	mesh.Spec.Upgrade.Canary.RetireAfterSeconds = new(int32(0))
	// What proxies count of TLS.
	mesh.Spec.ControlPlane.MeshConfig = framework.Values(map[string]any{"defaultConfig": map[string]any{
		"proxyStatsMatcher": map[string]any{"inclusionRegexps": []any{`.*ssl\.(connection_error|fail_verify.*|handshake)`}},
	}})
	gateway := framework.Gateway(ingress.Namespace, ingress.Name)
	gateway.VersionPolicy = v1alpha1.VersionHold
	mesh.Spec.Gateways = []v1alpha1.Gateway{gateway}
	if change != nil {
		change(mesh)
	}
	env.Install(t, mesh)
	labels := map[string]string{framework.EnrollLabel: "default"}
	env.TemporaryNamespaces(t, labels, pay.Namespace, "clients")
	env.TemporaryNamespace(t, "outside", nil)
	revision := strings.ReplaceAll(version, ".", "-")
	for _, namespace := range []string{pay.Namespace, "clients"} {
		if err := env.Enrolled(t.Context(), namespace, revision, labels); err != nil {
			t.Fatal(err)
		}
		if err := env.RequireMTLS(t.Context(), namespace); err != nil {
			t.Fatal(err)
		}
	}
	if err := env.Deploy(t.Context(), pay); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitDeployment(t.Context(), client.ObjectKey{Namespace: pay.Namespace, Name: pay.Name}); err != nil {
		t.Fatal(err)
	}
	if err := env.Expose(t.Context(), ingress, pay); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitServing(t.Context(), ingress); err != nil {
		t.Fatal(err)
	}
}

// trace logs what rotations do until the test ends.
func trace(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		env.TraceRotations(ctx, t.Output())
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
}

// traffic sends 300 requests a second through the gateway and 100 from a sidecar; the returned function ends them and fails the test for each
// request that failed.
func traffic(t *testing.T, bound time.Duration) (finish func()) {
	t.Helper()
	outside, err := env.StartTraffic(t.Context(), "outside", ingress, bound)
	if err != nil {
		t.Fatal(err)
	}
	const qps = 100
	inside := framework.Load{
		Namespace: "clients", Name: "load-pay", Requests: qps * int(bound.Seconds()), QPS: qps, Connections: 4, Fresh: true,
		URL: framework.ServiceURL(client.ObjectKey{Namespace: pay.Namespace, Name: pay.Name}, framework.EchoPort),
	}
	if err := env.StartLoad(t.Context(), inside); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitLoading(t.Context(), inside); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		through, err := outside.Stop(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := env.StopLoad(t.Context(), inside); err != nil {
			t.Fatal(err)
		}
		within, err := env.FinishLoad(t.Context(), inside)
		if err != nil {
			t.Fatal(err)
		}
		sent, failed := through.Requests()
		t.Logf("%d failed of %d requests through the gateway, %d of %d from a sidecar", failed, sent, within.Failed, within.Requests)
		if failed+within.Failed > 0 {
			t.Errorf("%d requests failed: %+v, %+v", failed+within.Failed, through, within)
		}
	}
}

func wait(t *testing.T, rotation, says string, done func(*v1alpha1.MeshRotation) bool) *v1alpha1.MeshRotation {
	t.Helper()
	o, err := env.WaitRotation(t.Context(), rotation, says, done)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func ended(outcome v1alpha1.RolloutOutcome) func(*v1alpha1.MeshRotation) bool {
	return func(o *v1alpha1.MeshRotation) bool { return o.Status.Progress.Outcome == outcome }
}

// rotate changes spec.certificates.ca and waits until the rotation that follows is completed.
func rotate(t *testing.T, rotation string, ca v1alpha1.CertificateAuthority) {
	t.Helper()
	if err := env.SetCertificates(t.Context(), "default", v1alpha1.Certificates{LeafSeconds: leafSeconds, CA: ca}); err != nil {
		t.Fatal(err)
	}
	wait(t, rotation, "to be completed", ended(v1alpha1.OutcomeCompleted))
}

// rootOf is a root that somebody else has made, and its key.
func rootOf(t *testing.T, name string) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := pki.NewKey(rand.Reader, v1alpha1.ECDSAP384)
	if err != nil {
		t.Fatal(err)
	}
	root, err := pki.NewRoot(rand.Reader, key, pki.AuthorityRequest{CommonName: name + " root", Now: time.Now(), Life: 10000 * time.Hour, PathLength: 1})
	if err != nil {
		t.Fatal(err)
	}
	return root, key
}

// issued is a CA that somebody else has made: an intermediate under a root.
func issued(t *testing.T, name string) *pki.Bundle {
	t.Helper()
	root, rootKey := rootOf(t, name)
	key, err := pki.NewKey(rand.Reader, v1alpha1.RSA2048)
	if err != nil {
		t.Fatal(err)
	}
	intermediate, err := pki.NewIntermediate(rand.Reader, root, rootKey, key.Public(), pki.AuthorityRequest{CommonName: name + " intermediate", Now: time.Now(), Life: 900 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return &pki.Bundle{Signing: intermediate, Signer: key, Roots: []*x509.Certificate{root}}
}

// source puts a CA into a Secret of the user's.
func source(t *testing.T, name string, b *pki.Bundle) {
	t.Helper()
	data, err := pki.Material{Issuer: b.Issuer(), Roots: b.RootPrints()}.Files(false, b)
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: name}, Data: data}
	if err := env.Client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.IgnoreNotFound(env.Client.Delete(context.Background(), secret)); err != nil {
			t.Error(err)
		}
	})
}

// tlsErrors are what the proxies of the mesh counted of handshakes that failed, and how many they counted in all.
func tlsErrors(t *testing.T) (out map[string]int, handshakes int) {
	t.Helper()
	out = map[string]int{}
	for _, namespace := range []string{pay.Namespace, "clients", ingress.Namespace} {
		var pods corev1.PodList
		if err := env.Client.List(t.Context(), &pods, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
		for _, pod := range pods.Items {
			raw, err := env.Kube.CoreV1().Pods(namespace).ProxyGet("http", pod.Name, "15090", "/stats/prometheus", nil).DoRaw(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.SplitSeq(string(raw), "\n") {
				fields := strings.Fields(line)
				if len(fields) < 2 || strings.HasPrefix(line, "#") || !strings.Contains(line, "ssl_") {
					continue
				}
				n, err := strconv.Atoi(fields[len(fields)-1])
				switch {
				case err != nil || n == 0:
				case strings.Contains(line, "ssl_fail_verify"), strings.Contains(line, "ssl_connection_error"):
					out[namespace+"/"+pod.Name] += n
				case strings.Contains(line, "ssl_handshake"):
					handshakes += n
				}
			}
		}
	}
	return out, handshakes
}

func show(errors map[string]int) string {
	var out []string
	for _, pod := range slices.Sorted(maps.Keys(errors)) {
		out = append(out, fmt.Sprintf("%s: %d", pod, errors[pod]))
	}
	return strings.Join(out, ", ")
}
