// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"fmt"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

// rotationRules checks where the CA comes from and how it changes, and that nothing else says how long leaves live.
func rotationRules(m *v1alpha1.MeshInstallation) (errs field.ErrorList) {
	path, c := field.NewPath("spec", "certificates"), m.Spec.Certificates
	for i, w := range c.Rotation.Windows {
		if _, err := rollout.ParseWindow(w); err != nil {
			errs = append(errs, field.Invalid(path.Child("rotation", "windows").Index(i), w.Schedule, err.Error()))
		}
	}
	for name, seconds := range map[string]int32{"managed": intermediateOf(c.CA.Managed), "certManager": issuedOf(c.CA.CertManager)} {
		if seconds > 0 && seconds <= c.LeafSeconds {
			detail := fmt.Sprintf("an intermediate has to live longer than the leaves under it (spec.certificates.leafSeconds is %d)", c.LeafSeconds)
			errs = append(errs, field.Invalid(path.Child("ca", name, "intermediateSeconds"), seconds, detail))
		}
	}
	for _, said := range []struct {
		path   *field.Path
		values *apiextensionsv1.JSON
		field  []string
	}{
		{field.NewPath("spec", "controlPlane", "meshConfig"), m.Spec.ControlPlane.MeshConfig, []string{"defaultConfig", "proxyMetadata", "SECRET_TTL"}},
		{field.NewPath("spec", "controlPlane", "values"), m.Spec.ControlPlane.Values, []string{"env", "DEFAULT_WORKLOAD_CERT_TTL"}},
		{field.NewPath("spec", "controlPlane", "values"), m.Spec.ControlPlane.Values, []string{"pilot", "env", "DEFAULT_WORKLOAD_CERT_TTL"}},
	} {
		if text := textAt(said.values, said.field...); text != "" && longer(text, c.LeafSeconds) {
			at := said.path
			for _, name := range said.field {
				at = at.Child(name)
			}
			errs = append(errs, field.Invalid(at, text, "leaves would live longer than a rotation expects: write that into spec.certificates.leafSeconds instead"))
		}
	}
	return errs
}

func intermediateOf(m *v1alpha1.ManagedCA) int32 {
	if m == nil {
		return 0
	}
	return m.IntermediateSeconds
}

func issuedOf(m *v1alpha1.CertManagerCA) int32 {
	if m == nil {
		return 0
	}
	return m.IntermediateSeconds
}

// textAt is a text somewhere in values; empty where there is none.
func textAt(values *apiextensionsv1.JSON, path ...string) string {
	all, err := v1alpha1.DecodeMap(values)
	if err != nil {
		return "" // another rule says so
	}
	text, _, _ := unstructured.NestedString(all, path...)
	return text
}

// longer says whether a duration is longer than some seconds, or can't be read.
func longer(text string, seconds int32) bool {
	life, err := time.ParseDuration(text)
	return err != nil || seconds > 0 && life > time.Duration(seconds)*time.Second
}
