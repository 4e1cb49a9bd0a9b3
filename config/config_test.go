// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package config holds the tests of the manifests.
package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
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
