// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package installation

import (
	"slices"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/testkit"
)

// A check reads each kind. Events within the minute ask nothing, unless the mesh, its installed version or its target is another one.
func TestWhatAPreflightAsks(t *testing.T) {
	server := testkit.StartAPIServer(t)
	config, requests := testkit.Count(server)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	live, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := istio.BuiltinCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	clock := clocktesting.NewFakeClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	r := &Reconciler{
		Live: live, Clock: clock, Index: dataplane.NewIndex(0, func() {}), Library: library, KubeVersion: "v1.34.1",
		Facts: &facts.Gatherer{Library: library, Catalogue: catalogue, Kubernetes: semver.MustParse("1.34.1"), Clock: clock, Namespace: "meshwright-system"},
	}
	mesh := &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: "default", UID: "mesh", Generation: 1}}
	mesh.Spec.Namespace, mesh.Spec.Version, mesh.Status.StableRevision = "istio-system", "1.29.1", "1-28-2"
	s, from := &scope{mesh: mesh}, semver.MustParse("1.28.2")
	ask := func(version string) (asked []string, found verdict) {
		t.Helper()
		request, err := r.request(t.Context(), mesh, semver.MustParse(version), "1-29-1")
		if err != nil {
			t.Fatal(err)
		}
		if found, err = r.preflight(t.Context(), s, from, request); err != nil {
			t.Fatal(err)
		}
		asked = requests.Take()
		slices.Sort(asked)
		return slices.Compact(asked), found // an API server that still prepares a kind is asked about it again
	}

	once, first := ask("1.29.1")
	if diff := cmp.Diff([]string{
		"GET /api/v1/namespaces",
		"GET /api/v1/namespaces/istio-system/configmaps",
		"GET /api/v1/namespaces/istio-system/limitranges",
		"GET /api/v1/namespaces/istio-system/resourcequotas",
		"GET /api/v1/nodes",
		"GET /api/v1/pods",
		"GET /api/v1/services",
		"GET /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
		"GET /apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
		"GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions",
		"GET /apis/apps/v1/deployments",
		"GET /apis/autoscaling/v2/namespaces/istio-system/horizontalpodautoscalers",
		"GET /apis/meshwright.io/v1alpha1/meshgateways",
		"GET /apis/meshwright.io/v1alpha1/meshinstallations",
		"GET /apis/networking.k8s.io/v1/networkpolicies",
		"GET /apis/policy/v1/poddisruptionbudgets",
	}, once); diff != "" {
		t.Errorf("the first check (-want +got):\n%s", diff)
	}
	clock.Step(preflightAgain - time.Second)
	again, second := ask("1.29.1")
	if diff := cmp.Diff([]string(nil), again); diff != "" {
		t.Errorf("within the minute (-want +got):\n%s", diff)
	}
	if !first.at.Equal(second.at) || !slices.Equal(first.findings, second.findings) || second.again(clock.Now()) != time.Second {
		t.Errorf("%+v is not the verdict that there was, %+v", second, first)
	}
	for _, tc := range []struct {
		reason string
		change func() string
	}{
		{"a minute later", func() string { clock.Step(time.Second); return "1.29.1" }},
		{"another target", func() string { return "1.31.0" }},
		{"another spec", func() string { mesh.Generation++; return "1.31.0" }},
		{"another installed version", func() string { from = semver.MustParse("1.27.9"); return "1.31.0" }},
		{"after it was forgotten", func() string { r.verdicts.forget("default"); return "1.31.0" }},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			version := tc.change()
			asked, _ := ask(version)
			if diff := cmp.Diff(once, asked); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if asked, _ := ask(version); len(asked) > 0 {
				t.Errorf("the same once more asks %v", asked)
			}
		})
	}

	t.Run("what may not be read holds back, where it could", func(t *testing.T) {
		as := rest.CopyConfig(server)
		as.Impersonate = rest.ImpersonationConfig{UserName: "nobody@example.com"}
		if r.Live, err = client.New(as, client.Options{Scheme: scheme}); err != nil {
			t.Fatal(err)
		}
		mesh.Generation++
		mesh.Spec.Upgrade.Acknowledged = []string{"Resource/pods"}
		_, found := ask("1.31.0")
		var names []string
		for _, f := range found.blocking {
			names = append(names, f.Name)
		}
		if diff := cmp.Diff([]string{
			"MW502/MeshInstallation/default",
			"Resource/customresourcedefinitions.apiextensions.k8s.io",
			"Resource/deployments.apps",
			"Resource/istio-system/limitranges",
			"Resource/istio-system/resourcequotas",
			"Resource/meshgateways.meshwright.io",
			"Resource/mutatingwebhookconfigurations.admissionregistration.k8s.io",
			"Resource/namespaces",
			"Resource/poddisruptionbudgets.policy",
			"Resource/validatingwebhookconfigurations.admissionregistration.k8s.io",
		}, names); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}
