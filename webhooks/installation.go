// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/validate"
)

// installation validates MeshInstallations.
type installation struct{ Dependencies }

func (w *installation) ValidateCreate(ctx context.Context, m *v1alpha1.MeshInstallation) (admission.Warnings, error) {
	return w.validate(ctx, m, validate.OutsideOf(m))
}

func (w *installation) ValidateUpdate(ctx context.Context, before, m *v1alpha1.MeshInstallation) (admission.Warnings, error) {
	if m.DeletionTimestamp != nil {
		return nil, nil // nothing may keep the finalizer from going
	}
	return w.validate(ctx, m, validate.OutsideOf(m).Without(validate.OutsideOf(before)))
}

func (w *installation) validate(ctx context.Context, m *v1alpha1.MeshInstallation, named validate.Outside) (admission.Warnings, error) {
	errs, warnings, err := w.judge(ctx, m.Name, named, func(_ client.Reader, known validate.Facts) (field.ErrorList, []string, error) {
		errs, warnings := validate.Installation(m, known)
		return errs, warnings, nil
	})
	if err != nil {
		return nil, err
	}
	return warnings, invalid("MeshInstallation", m.Name, errs)
}

// ValidateDelete refuses to begin what could not be ended: the removal of a mesh that is in use.
func (w *installation) ValidateDelete(ctx context.Context, m *v1alpha1.MeshInstallation) (admission.Warnings, error) {
	if m.Spec.DeletionPolicy.InUse == v1alpha1.InUseProceed {
		return nil, nil
	}
	users, err := dataplane.UsersOf(ctx, w.Reader, w.Index, m)
	if errors.Is(err, dataplane.ErrUnknown) {
		return nil, nil // the finalizer asks again, when it is known
	}
	if err != nil || len(users) == 0 {
		return nil, err
	}
	why := fmt.Errorf("the mesh is used by %s: remove these, or set spec.deletionPolicy.inUse to Proceed", dataplane.Sentence(users))
	resource := schema.GroupResource{Group: v1alpha1.GroupVersion.Group, Resource: "meshinstallations"}
	return nil, apierrors.NewForbidden(resource, m.Name, why)
}
