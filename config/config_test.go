// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package config holds the tests of the manifests.
package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/validate"
)

// build runs kustomize over a folder of this one.
func build(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []*unstructured.Unstructured
	for _, r := range built.Resources() {
		m, err := r.Map()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, &unstructured.Unstructured{Object: m})
	}
	return out
}

func find(t *testing.T, objects []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	t.Helper()
	i := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind && o.GetName() == name })
	if i < 0 {
		t.Fatalf("no %s %s", kind, name)
	}
	return objects[i]
}

func TestFoldersBuild(t *testing.T) {
	for _, dir := range []string{"default", "prometheus"} {
		if len(build(t, dir)) == 0 {
			t.Errorf("config/%s builds nothing", dir)
		}
	}
}

// TestOneWildcard says that wildcards come only from the rules that istiod itself is granted.
func TestOneWildcard(t *testing.T) {
	for _, o := range build(t, "rbac") {
		if kind := o.GetKind(); kind != "ClusterRole" && kind != "Role" || o.GetName() == "meshwright-grants" {
			continue
		}
		var role rbacv1.ClusterRole
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			for _, words := range [][]string{rule.APIGroups, rule.Resources, rule.Verbs} {
				if slices.Contains(words, "*") {
					t.Errorf("%s %s has a wildcard: %v", o.GetKind(), o.GetName(), rule)
				}
			}
			for _, verb := range []string{"escalate", "bind", "impersonate"} {
				if slices.Contains(rule.Verbs, verb) {
					t.Errorf("%s %s may %s", o.GetKind(), o.GetName(), verb)
				}
			}
		}
	}
}

// TestRightsBesideTheCharts says what the operator may do with kinds that no chart contains: what gateways and gates need, and no more.
func TestRightsBesideTheCharts(t *testing.T) {
	var role rbacv1.ClusterRole
	object := find(t, build(t, "rbac"), "ClusterRole", "meshwright")
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role); err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				got[resource+"."+group] = append(got[resource+"."+group], rule.Verbs...)
			}
		}
	}
	for resource, want := range map[string]struct {
		reason string
		verbs  []string
	}{
		"httproutes.gateway.networking.k8s.io": {"a gateway that shifts by a route has one", []string{"get", "list", "watch", "create", "patch", "delete"}},
		"gateways.gateway.networking.k8s.io":   {"they get the label of their revision, and are their owners'", []string{"get", "list", "watch", "patch"}},
		"envoyfilters.networking.istio.io":     {"the age of connections is one, and those of others are findings", []string{"get", "list", "watch", "create", "patch", "delete"}},
		"wasmplugins.extensions.istio.io":      {"they are findings", []string{"list"}},
		"cronjobs.batch":                       {"they are templates of gates", []string{"get"}},
		"jobs.batch":                           {"gates are made from them, and read once more until they end", []string{"get", "create"}},
	} {
		if diff := cmp.Diff(want.verbs, got[resource]); diff != "" {
			t.Errorf("%s: %s (-want +got):\n%s", resource, want.reason, diff)
		}
	}
}

// TestSecretsOfItsOwnNamespace says that Secrets which hold tokens are read beside the operator only.
func TestSecretsOfItsOwnNamespace(t *testing.T) {
	for _, o := range build(t, "rbac") {
		if o.GetKind() != "Role" && o.GetName() != "meshwright" {
			continue // istiod's own rights
		}
		var role rbacv1.ClusterRole
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			if slices.Equal(rule.ResourceNames, []string{"istio-ca-secret", "cacerts"}) {
				continue // what istiod signs with
			}
			if slices.Contains(rule.Resources, "secrets") && slices.Contains(rule.Verbs, "get") && (o.GetKind() != "Role" || o.GetNamespace() != "meshwright-system") {
				t.Errorf("%s %s may read Secrets %v elsewhere", o.GetKind(), o.GetName(), rule.ResourceNames)
			}
		}
	}
}

// TestPolicyAllowsTeamsTheSameValues compares the list in the policy with that of operator/validate.
func TestPolicyAllowsTeamsTheSameValues(t *testing.T) {
	policy := find(t, build(t, "policy"), "ValidatingAdmissionPolicy", "meshwright-gateway")
	variables, _, err := unstructured.NestedSlice(policy.Object, "spec", "variables")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range variables {
		variable, ok := v.(map[string]any)
		if !ok || variable["name"] != "allowed" {
			continue
		}
		expression, ok := variable["expression"].(string)
		if !ok {
			t.Fatalf("expression of %v", variable)
		}
		if err := yaml.Unmarshal([]byte(expression), &got); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(validate.TeamValues(), got); diff != "" {
		t.Errorf("values that teams may set (-operator/validate +config/policy):\n%s", diff)
	}
}

func TestSamplesAreValid(t *testing.T) {
	library, err := istio.Open(t.Context(), istio.Builtin())
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := istio.BuiltinCatalogue()
	if err != nil {
		t.Fatal(err)
	}
	facts := validate.Facts{
		Now: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), Kubernetes: semver.MustParse("1.34.4"),
		Available: library.Versions(), Lines: catalogue,
	}
	samples, err := filepath.Glob(filepath.Join("samples", "*.yaml"))
	if err != nil || len(samples) == 0 {
		t.Fatalf("samples: %v", err)
	}
	for _, sample := range samples {
		t.Run(filepath.Base(sample), func(t *testing.T) {
			raw, err := os.ReadFile(sample)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(raw), "kind: MeshGateway") {
				var gateway v1alpha1.MeshGateway
				strict(t, raw, &gateway)
				errs, _ := validate.Gateway(&gateway, &v1alpha1.MeshInstallation{}, facts)
				if len(errs) > 0 {
					t.Error(errs.ToAggregate())
				}
				return
			}
			var mesh v1alpha1.MeshInstallation
			strict(t, raw, &mesh)
			errs, warnings := validate.Installation(&mesh, facts)
			if len(errs) > 0 || len(warnings) > 0 {
				t.Error(errs.ToAggregate(), warnings)
			}
		})
	}
}

func strict(t *testing.T, raw []byte, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(raw, into); err != nil {
		t.Fatal(err)
	}
}

// TestAlerts reads the rules as Prometheus does. A certificate is told of by one rule at a time, and by one until it expires.
func TestAlerts(t *testing.T) {
	rule := find(t, build(t, "prometheus"), "PrometheusRule", "meshwright")
	raw, err := yaml.Marshal(rule.Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	groups, errs := rulefmt.Parse(raw, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	alerts := map[string]string{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			alerts[r.Alert] = r.Expr
		}
	}
	for _, days := range []string{"30Days", "14Days", "7Days", "1Day"} {
		if !strings.Contains(alerts["MeshwrightCAExpires"+days], "meshwright_ca_expiry_timestamp_seconds") {
			t.Errorf("no alert %s days before a certificate of a CA expires", days)
		}
	}
}
