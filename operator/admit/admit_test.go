// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package admit

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func TestInstallation(t *testing.T) {
	for _, tc := range []struct {
		reason, spec string
		wants        []string // parts of the problems, in their order; none: it is accepted
	}{
		{"the least that works", `{version: "1.29"}`, nil},
		{"a field that is not there", `{version: "1.29", flavour: x, upgrade: {cannary: {}}}`, []string{"spec.flavour: Forbidden", "spec.upgrade.cannary: Forbidden"}},
		{"a field that is missing", `{}`, []string{"spec.version: Required"}},
		{"a value that is not of the enum", `{version: "1.29", upgrade: {type: Blue}}`, []string{`spec.upgrade.type: Unsupported value: "Blue"`}},
		{"a rule over two fields", `{version: "1.29", upgrade: {type: InPlace}, defaultRevision: Leave}`, []string{"set defaultRevision to Claim"}},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			written := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte("{apiVersion: meshwright.io/v1alpha1, kind: MeshInstallation, metadata: {name: default}, spec: "+tc.spec+"}"), &written.Object); err != nil {
				t.Fatal(err)
			}
			got, problems, err := Installation(t.Context(), written)
			if err != nil {
				t.Fatal(err)
			}
			if len(problems) != len(tc.wants) || (got == nil) != (len(tc.wants) > 0) {
				t.Fatalf("installation %v, problems %v", got, problems)
			}
			for i, want := range tc.wants {
				if !strings.Contains(problems[i].Error(), want) {
					t.Errorf("problem %q, want %q in it", problems[i], want)
				}
			}
			if got != nil && (got.Spec.Namespace != "istio-system" || got.Spec.Upgrade.ProgressDeadlineSeconds != 1800 || got.Spec.Upgrade.Type != v1alpha1.UpgradeCanary) {
				t.Errorf("defaults are missing: %+v", got.Spec)
			}
		})
	}
}
