// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// steer changes the verbs of an operation. A denial names the right that is missing.
func (f *factory) steer(ctx context.Context, c client.Client, o operation, right string, change func() (bool, error)) (changed bool, err error) {
	if changed, err = locked(ctx, c, o.object(), change); err != nil {
		return false, f.denied(ctx, c, err, right, o.resource(), o.object().GetName())
	}
	return changed, nil
}

// locked changes an object under an optimistic lock; when somebody else was faster, it changes what they wrote. Change says whether there is anything to
// change.
func locked(ctx context.Context, c client.Client, o client.Object, change func() (bool, error)) (changed bool, err error) {
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		before := o.DeepCopyObject().(client.Object) //nolint:forcetypeassert // a copy has the type of what is copied
		if changed, err = change(); err != nil || !changed {
			return err
		}
		err = c.Patch(ctx, o, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
		if apierrors.IsConflict(err) {
			if again := c.Get(ctx, client.ObjectKeyFromObject(o), o); again != nil {
				return again
			}
		}
		return err
	})
	return changed, err
}

// roles are the ClusterRoles of Meshwright that have a right.
var roles = map[string]string{"meshrollouts": "meshwright-rollout-operator", "meshrotations": "meshwright-rotation-operator"}

// denied turns a denial into a sentence that names the rights that are missing, as the API server says when it is asked.
func (f *factory) denied(ctx context.Context, c client.Client, err error, right, resource, name string) error {
	if !apierrors.IsForbidden(err) {
		return explain(err)
	}
	var missing []string
	base := "patch"
	if right == "create" || right == "revoke" {
		base = "create"
	}
	for _, verb := range []string{base, right} {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Group: v1alpha1.GroupVersion.Group, Resource: resource, Verb: verb, Name: name},
		}}
		if c.Create(ctx, review) == nil && !review.Status.Allowed && !slices.Contains(missing, verb) {
			missing = append(missing, verb)
		}
	}
	if len(missing) == 0 {
		return explain(err)
	}
	who, errWho := f.Whoami(ctx, c)
	if errWho != nil {
		who = "you"
	}
	text := fmt.Sprintf("%s may not %s %s %s: this needs the RBAC verb %s on %s.%s", who, right, resource, name, strings.Join(missing, " and "), resource, v1alpha1.GroupVersion.Group)
	if role, known := roles[resource]; known {
		if right == "approve" && resource == "meshrollouts" {
			role = "meshwright-rollout-approver"
		}
		text += ", which the ClusterRole " + role + " has"
	}
	return &exitError{code: ExitError, text: text}
}
