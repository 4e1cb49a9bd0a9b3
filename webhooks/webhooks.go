// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package webhooks answers the API server's questions about the kinds that people write, a file a kind, thin over
// operator/validate. It gives better words than the schema can; the invariants hold without it.
package webhooks

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/facts"
)

// Dependencies are what the webhooks ask.
type Dependencies struct {
	Reader client.Reader
	Facts  *facts.Gatherer
	Index  *dataplane.Index
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
