// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package admit does to an object what the API server would, without one: it sets defaults and checks schema and rules, by the
// CustomResourceDefinitions of this build. Rules of operator/validate, which the webhook asks, are not among them.
package admit

import (
	"context"
	"fmt"
	"math"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/config/crd"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Installation makes of an object as a person wrote it the MeshInstallation that the API server would store. Problems name the fields,
// also those that the schema does not know; with any of them there is no installation.
func Installation(ctx context.Context, written *unstructured.Unstructured) (*v1alpha1.MeshInstallation, field.ErrorList, error) {
	d, err := installations()
	if err != nil {
		return nil, nil, err
	}
	object := written.DeepCopy().Object
	var problems field.ErrorList
	unknown := pruning.PruneWithOptions(object, d.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
	for _, path := range unknown {
		problems = append(problems, field.Forbidden(field.NewPath(path), "there is no such field: kubectl explain mesh."+path))
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(object, d.structural)
	defaulting.Default(object, d.structural)

	problems = append(problems, validation.ValidateCustomResource(nil, object, d.fields)...)
	problems = append(problems, listtype.ValidateListSetsAndMaps(nil, d.structural, object)...)
	if len(problems) > 0 {
		return nil, problems, nil
	}
	problems, _ = d.rules.Validate(ctx, nil, d.structural, object, nil, math.MaxInt64)
	if len(problems) > 0 {
		return nil, problems, nil
	}
	out := &v1alpha1.MeshInstallation{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object, out); err != nil {
		return nil, nil, err
	}
	return out, nil, nil
}

// Change is what the API server would refuse of a change from one installation to another: by the rules about both, and those about the second.
func Change(ctx context.Context, before, after *v1alpha1.MeshInstallation) (field.ErrorList, error) {
	d, err := installations()
	if err != nil {
		return nil, err
	}
	was, err := runtime.DefaultUnstructuredConverter.ToUnstructured(before)
	if err != nil {
		return nil, err
	}
	is, err := runtime.DefaultUnstructuredConverter.ToUnstructured(after)
	if err != nil {
		return nil, err
	}
	// A plan changes no status.
	delete(was, "status")
	delete(is, "status")
	problems, _ := d.rules.Validate(ctx, nil, d.structural, is, was, math.MaxInt64)
	return problems, nil
}

// definition is what a CustomResourceDefinition of this build says of objects.
type definition struct {
	structural *schema.Structural
	fields     validation.SchemaValidator
	rules      *cel.Validator
}

// installations is that of MeshInstallations, read once: compiling its rules takes most of the time.
var installations = sync.OnceValues(func() (*definition, error) {
	props, err := schemaOf("meshwright.io_meshinstallations.yaml")
	if err != nil {
		return nil, err
	}
	out := &definition{}
	if out.structural, err = schema.NewStructural(props); err != nil {
		return nil, fmt.Errorf("schema of MeshInstallation: %w", err)
	}
	if out.fields, _, err = validation.NewSchemaValidator(props); err != nil {
		return nil, fmt.Errorf("schema of MeshInstallation: %w", err)
	}
	out.rules = cel.NewValidator(out.structural, true, celconfig.PerCallLimit)
	return out, nil
})

// schemaOf is the schema of the one version of a definition.
func schemaOf(file string) (*apiextensions.JSONSchemaProps, error) {
	raw, err := crd.Files.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var definition apiextensionsv1.CustomResourceDefinition
	if err := yaml.Unmarshal(raw, &definition); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var out apiextensions.JSONSchemaProps
	err = apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(definition.Spec.Versions[0].Schema.OpenAPIV3Schema, &out, nil)
	return &out, err
}
