// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package install

import (
	"slices"
	"strings"
	"testing"

	apimeta "k8s.io/apimachinery/pkg/api/meta"

	"github.com/meshwright/meshwright/e2e/cluster/artifact"
	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Every Istio that supports this Kubernetes becomes Ready from one object, and the real istioctl sees what the object says;
// the others are refused.
func TestInstallEachVersion(t *testing.T) {
	supported, err := framework.SupportedIstio(env.Cluster.Kubernetes())
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range artifact.IstioVersions() {
		revision := strings.ReplaceAll(version, ".", "-")
		t.Run(version, func(t *testing.T) {
			mesh := framework.Mesh("default", version)
			if !slices.Contains(supported, version) {
				err := env.Client.Create(t.Context(), mesh)
				if err == nil || !strings.Contains(err.Error(), "supports Kubernetes") || !strings.Contains(err.Error(), "spec.upgrade.unsupportedKubernetes") {
					t.Errorf("error %v, want one that names the range of Kubernetes and the field that accepts another", err)
				}
				return
			}
			mesh.Spec.Tags = []v1alpha1.Tag{{Name: "stable"}}
			mesh.Spec.Gateways = []v1alpha1.Gateway{framework.Gateway("istio-ingress", "ingress")}
			ready := env.Install(t, mesh)

			if got := ready.Status.ResolvedVersion; got != version {
				t.Errorf("resolvedVersion = %q, want %q", got, version)
			}
			if got := ready.Status.StableRevision; got != revision {
				t.Errorf("stableRevision = %q, want %q", got, revision)
			}
			for _, condition := range []string{v1alpha1.ConditionControlPlaneReady, v1alpha1.ConditionGatewaysReady} {
				if !apimeta.IsStatusConditionTrue(ready.Status.Conditions, condition) {
					t.Errorf("%s is not True on a Ready mesh: %+v", condition, ready.Status.Conditions)
				}
			}
			if len(ready.Status.Gateways) != 1 || len(ready.Status.Gateways[0].Addresses) == 0 {
				t.Errorf("status.gateways = %+v, want one gateway with an address", ready.Status.Gateways)
			}
			istioctlAgrees(t, version, revision)
		})
	}
}

func istioctlAgrees(t *testing.T, version, revision string) {
	t.Helper()
	ask := func(args ...string) string {
		t.Helper()
		out, err := env.Istioctl(t.Context(), args...)
		if err != nil {
			t.Errorf("istioctl: %v\n%s", err, out)
		}
		t.Logf("istioctl %s\n%s", strings.Join(args, " "), out)
		return out
	}
	if out := ask("version", "--revision", revision); !strings.Contains(out, version) {
		t.Errorf("istioctl version does not name %s", version)
	}
	tags := ask("tag", "list")
	for _, tag := range []string{"default", "stable"} {
		if !lineWith(tags, tag, revision) {
			t.Errorf("istioctl tag list does not show tag %s at %s", tag, revision)
		}
	}
	if out := ask("proxy-status", "--revision", revision); !strings.Contains(out, "ingress") {
		t.Error("istioctl proxy-status does not show the gateway")
	}
	ask("analyze", "--all-namespaces", "--failure-threshold", "Error")
}

func lineWith(text string, words ...string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return true
		}
	}
	return false
}

// Type InPlace names its one revision default, as Istio itself does, and needs no tag object for it.
func TestInPlaceIsCalledDefault(t *testing.T) {
	mesh := framework.Mesh("default", framework.Istio129)
	mesh.Spec.Upgrade.Type = v1alpha1.UpgradeInPlace
	ready := env.Install(t, mesh)
	if got := ready.Status.StableRevision; got != "default" {
		t.Errorf("stableRevision = %q, want default", got)
	}
	out, err := env.Kubectl(t.Context(), "get", "mutatingwebhookconfigurations", "-o", "name")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "/istio-sidecar-injector\n") || strings.Contains(out, "istio-revision-tag-default") {
		t.Errorf("webhooks of an in-place installation:\n%s", out)
	}
}
