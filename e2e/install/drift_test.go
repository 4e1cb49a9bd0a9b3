// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package install

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// What somebody changes or deletes of the mesh is put back by the event of the change; how long it took is printed.
func TestDriftIsCorrected(t *testing.T) {
	mesh := framework.Mesh("default", framework.Istio129)
	mesh.Spec.Tags = []v1alpha1.Tag{{Name: "stable"}}
	mesh.Spec.Gateways = []v1alpha1.Gateway{framework.Gateway("istio-ingress", "ingress")}
	env.Install(t, mesh)

	for name, tc := range map[string]struct {
		reason string
		drift  []string
		look   []string
		want   string
	}{
		"deployment image": {
			reason: "the revision controller owns the image of istiod",
			drift:  []string{"-n", "istio-system", "set", "image", "deployment/istiod-1-29-1", "discovery=docker.io/istio/pilot:other"},
			look:   []string{"-n", "istio-system", "get", "deployment", "istiod-1-29-1", "-o", "jsonpath={.spec.template.spec.containers[0].image}"},
			want:   "docker.io/istio/pilot:1.29.1",
		},
		"service deleted": {
			reason: "a deleted object of a revision is created again",
			drift:  []string{"-n", "istio-system", "delete", "service", "istiod-1-29-1"},
			look:   []string{"-n", "istio-system", "get", "service", "istiod-1-29-1", "--ignore-not-found", "-o", "name"},
			want:   "service/istiod-1-29-1",
		},
		"cluster role rules": {
			reason: "istiod's rights are what its chart says, no more",
			drift: []string{
				"patch", "clusterrole", "istiod-clusterrole-1-29-1-istio-system", "--type=json",
				`-p=[{"op":"replace","path":"/rules/0/verbs","value":["get"]}]`,
			},
			look: []string{"get", "clusterrole", "istiod-clusterrole-1-29-1-istio-system", "-o", "jsonpath={.rules[0].verbs}"},
			want: "watch",
		},
		"tag deleted": {
			reason: "the installation controller owns tags",
			drift:  []string{"delete", "mutatingwebhookconfiguration", "istio-revision-tag-stable"},
			look:   []string{"get", "mutatingwebhookconfiguration", "--ignore-not-found", "istio-revision-tag-stable", "-o", "name"},
			want:   "istio-revision-tag-stable",
		},
		"mesh label removed": {
			reason: "an object that lost the label by which it is watched is found again",
			drift:  []string{"-n", "istio-system", "label", "configmap", "istio-1-29-1", "meshwright.io/mesh-"},
			look:   []string{"-n", "istio-system", "get", "configmap", "istio-1-29-1", "-o", `jsonpath={.metadata.labels.meshwright\.io/mesh}`},
			want:   "default",
		},
		"gateway selector": {
			reason: "the gateway controller owns the Service's selector",
			drift:  []string{"-n", "istio-ingress", "patch", "service", "ingress", "-p", `{"spec":{"selector":{"istio":"other"}}}`},
			look:   []string{"-n", "istio-ingress", "get", "service", "ingress", "-o", "jsonpath={.spec.selector.istio}"},
			want:   "ingress",
		},
		"default validator deleted": {
			reason: "configuration without a revision must be validated",
			drift:  []string{"delete", "validatingwebhookconfiguration", "istiod-default-validator"},
			look:   []string{"get", "validatingwebhookconfiguration", "--ignore-not-found", "istiod-default-validator", "-o", "name"},
			want:   "istiod-default-validator",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := env.Kubectl(t.Context(), tc.drift...); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			err := env.WaitFor(t.Context(), tc.reason, func(ctx context.Context) (bool, string, error) {
				out, err := env.Kubectl(ctx, tc.look...)
				return strings.Contains(out, tc.want), "now: " + out, err
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("corrected within %s", time.Since(start).Round(10*time.Millisecond))
		})
	}
	if _, err := env.WaitReady(t.Context(), mesh.Name); err != nil {
		t.Error(err)
	}
}

// CRDs of a newer Istio than the mesh's are left as they are.
func TestNewerCRDsAreLeft(t *testing.T) {
	env.Install(t, framework.Mesh("default", framework.Istio128))
	const crd = "wasmplugins.extensions.istio.io"
	patch := `{"metadata":{"labels":{"app.kubernetes.io/version":"1.99.0","meshwright.io/istio-version":"1.99.0"}},"spec":{"names":{"shortNames":["newer"]}}}`
	if _, err := env.Kubectl(t.Context(), "patch", "crd", crd, "--type=merge", "-p", patch); err != nil {
		t.Fatal(err)
	}
	// The mesh has looked at the change once it has repaired something that was broken after it.
	if _, err := env.Kubectl(t.Context(), "delete", "mutatingwebhookconfiguration", "istio-revision-tag-default"); err != nil {
		t.Fatal(err)
	}
	err := env.WaitFor(t.Context(), "the tag to be back", func(ctx context.Context) (bool, string, error) {
		out, err := env.Kubectl(ctx, "get", "mutatingwebhookconfiguration", "--ignore-not-found", "istio-revision-tag-default", "-o", "name")
		return out != "", "not there", err
	})
	if err != nil {
		t.Fatal(err)
	}
	out, err := env.Kubectl(t.Context(), "get", "crd", crd, "-o", "jsonpath={.spec.names.shortNames}")
	if err != nil || !strings.Contains(out, "newer") {
		t.Errorf("short names of the newer CRD = %s, %v; want them as the newer CRD has them", out, err)
	}
}
