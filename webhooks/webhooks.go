// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package webhooks answers the API server's questions about the kinds that people write, a file a kind, thin over
// operator/validate. It gives better words than the schema can; the invariants hold without it.
package webhooks

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/validate"
)

// Dependencies are what the webhooks ask.
type Dependencies struct {
	// Reader reads from caches, Live from the API server.
	Reader, Live client.Reader
	Facts        *facts.Gatherer
	Index        *dataplane.Index
	// Self is the name by which the API server knows the operator.
	Self string
}

// judge applies rules to what the caches know of a mesh, and to what there is of what was named anew outside of it. Before anything is
// refused, the API server itself is asked: what was removed a moment ago must not stand in the way.
func (d Dependencies) judge(
	ctx context.Context, mesh string, named validate.Outside, rules func(client.Reader, validate.Facts) (field.ErrorList, []string, error),
) (errs field.ErrorList, warnings admission.Warnings, err error) {
	for _, reader := range []client.Reader{d.Reader, d.Live} {
		known, err := d.Facts.Gather(ctx, reader, mesh)
		if err != nil {
			return nil, nil, err
		}
		known.KnownValues = d.Facts.KnownValues(ctx)
		if err := d.Facts.Outside(ctx, d.Live, named, &known); err != nil {
			return nil, nil, err
		}
		if errs, warnings, err = rules(reader, known); err != nil || len(errs) == 0 {
			return nil, warnings, err
		}
	}
	return errs, warnings, nil
}

// SetupWithManager registers every webhook with the manager's server.
func SetupWithManager(mgr ctrl.Manager, d Dependencies) error {
	err := ctrl.NewWebhookManagedBy(mgr, &v1alpha1.MeshInstallation{}).WithValidator(others[*v1alpha1.MeshInstallation]{&installation{d}, d.Self}).Complete()
	if err != nil {
		return fmt.Errorf("webhook of MeshInstallation: %w", err)
	}
	err = ctrl.NewWebhookManagedBy(mgr, &v1alpha1.MeshGateway{}).WithValidator(others[*v1alpha1.MeshGateway]{&gateway{d}, d.Self}).Complete()
	if err != nil {
		return fmt.Errorf("webhook of MeshGateway: %w", err)
	}
	return nil
}

// others judges what all but the operator write: it writes finalizers, and the gateways of spec.gateways, which were judged there. The match
// conditions of config/webhook say the same, and spare the call; the webhooks that OLM makes can't have any.
type others[T runtime.Object] struct {
	admission.Validator[T]
	self string
}

func (o others[T]) ValidateCreate(ctx context.Context, object T) (admission.Warnings, error) {
	if o.own(ctx) {
		return nil, nil
	}
	return o.Validator.ValidateCreate(ctx, object)
}

func (o others[T]) ValidateUpdate(ctx context.Context, before, object T) (admission.Warnings, error) {
	if o.own(ctx) {
		return nil, nil
	}
	return o.Validator.ValidateUpdate(ctx, before, object)
}

func (o others[T]) ValidateDelete(ctx context.Context, object T) (admission.Warnings, error) {
	if o.own(ctx) {
		return nil, nil
	}
	return o.Validator.ValidateDelete(ctx, object)
}

func (o others[T]) own(ctx context.Context) bool {
	request, err := admission.RequestFromContext(ctx)
	return err == nil && request.UserInfo.Username == o.self
}

// invalid turns errors of fields into what kubectl prints; nil for none.
func invalid(kind, name string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return errors.NewInvalid(v1alpha1.GroupVersion.WithKind(kind).GroupKind(), name, errs)
}
