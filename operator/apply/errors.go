// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// TakenError says that an object which has to be ours alone belongs to somebody else.
type TakenError struct {
	Kind, Namespace, Name string
	// Owner is the mesh that it belongs to; empty when it is no mesh of Meshwright.
	Owner string
}

func (e *TakenError) Error() string {
	owner := "somebody else"
	if e.Owner != "" {
		owner = "MeshInstallation " + e.Owner
	}
	return fmt.Sprintf("%s %s exists and belongs to %s: remove it there, or choose another name here", e.Kind, join(e.Namespace, e.Name), owner)
}

// RefusedError says that the API server understood an object and refused it: trying again won't help until something
// is changed.
type RefusedError struct {
	Kind, Namespace, Name string
	Err                   error
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s %s is refused: %v", e.Kind, join(e.Namespace, e.Name), e.Err)
}

func (e *RefusedError) Unwrap() error { return e.Err }

func refused(o *unstructured.Unstructured, err error) error {
	switch {
	case err == nil:
		return nil
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return fmt.Errorf("applying %s %s: %w", o.GetKind(), join(o.GetNamespace(), o.GetName()), err)
	case apierrors.IsInvalid(err), apierrors.IsForbidden(err), apierrors.IsBadRequest(err):
		return &RefusedError{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName(), Err: err}
	default:
		return fmt.Errorf("applying %s %s: %w", o.GetKind(), join(o.GetNamespace(), o.GetName()), err)
	}
}

// IsTerminal says whether an error of this package can't be helped by trying again soon.
func IsTerminal(err error) bool {
	var taken *TakenError
	var refused *RefusedError
	return errors.As(err, &taken) || errors.As(err, &refused)
}
