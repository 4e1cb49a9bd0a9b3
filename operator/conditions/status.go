// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package conditions

import (
	"context"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Write patches the status of an object from what it was to what it is, and makes no request when both are equal. It fails
// when the object has changed since it was read.
func Write[T client.Object](ctx context.Context, cl client.Client, before, after T) error {
	if apiequality.Semantic.DeepEqual(before, after) {
		return nil
	}
	// The resourceVersion in the patch makes the API server refuse it when somebody else wrote in between.
	return cl.Status().Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}
