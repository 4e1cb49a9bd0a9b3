// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package webhooks

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/validate"
)

// gateway validates MeshGateways.
type gateway struct{ Dependencies }

func (w *gateway) ValidateCreate(ctx context.Context, g *v1alpha1.MeshGateway) (admission.Warnings, error) {
	return w.validate(ctx, g, validate.OutsideOfGateway(g))
}

func (w *gateway) ValidateUpdate(ctx context.Context, before, g *v1alpha1.MeshGateway) (admission.Warnings, error) {
	if g.DeletionTimestamp != nil {
		return nil, nil // nothing may keep the finalizer from going
	}
	return w.validate(ctx, g, validate.OutsideOfGateway(g).Without(validate.OutsideOfGateway(before)))
}

func (w *gateway) ValidateDelete(context.Context, *v1alpha1.MeshGateway) (admission.Warnings, error) {
	return nil, nil
}

func (w *gateway) validate(ctx context.Context, g *v1alpha1.MeshGateway, named validate.Outside) (admission.Warnings, error) {
	errs, warnings, err := w.judge(ctx, g.Spec.Mesh, named, func(reader client.Reader, known validate.Facts) (field.ErrorList, []string, error) {
		mesh := &v1alpha1.MeshInstallation{}
		if err := reader.Get(ctx, client.ObjectKey{Name: g.Spec.Mesh}, mesh); apierrors.IsNotFound(err) {
			mesh = nil
		} else if err != nil {
			return nil, nil, err
		}
		errs, warnings := validate.Gateway(g, mesh, known)
		return errs, warnings, nil
	})
	if err != nil {
		return nil, err
	}
	return warnings, invalid("MeshGateway", g.Name, errs)
}
