// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package webhooks answers the API server's questions about the kinds that people write, a file a kind, thin over
// operator/validate. It gives better words than the schema can; the invariants hold without it.
package webhooks

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/errors"
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
	err := ctrl.NewWebhookManagedBy(mgr, &v1alpha1.MeshInstallation{}).WithValidator(&installation{d}).Complete()
	if err != nil {
		return fmt.Errorf("webhook of MeshInstallation: %w", err)
	}
	if err := ctrl.NewWebhookManagedBy(mgr, &v1alpha1.MeshGateway{}).WithValidator(&gateway{d}).Complete(); err != nil {
		return fmt.Errorf("webhook of MeshGateway: %w", err)
	}
	return nil
}

// invalid turns errors of fields into what kubectl prints; nil for none.
func invalid(kind, name string, errs field.ErrorList) error {
	if len(errs) == 0 {
		return nil
	}
	return errors.NewInvalid(v1alpha1.GroupVersion.WithKind(kind).GroupKind(), name, errs)
}
