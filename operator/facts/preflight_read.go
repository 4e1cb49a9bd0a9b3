// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/preflight"
)

// pageSize is how many objects the API server is asked for at a time.
const pageSize = 500

// pages lists all objects of a kind, of a namespace or, where that is empty, of the cluster. Each page is a list of its own: decoding
// into the last one could leave traces of it. Resources are named as a right names them; where the right is missing, that is kept, and
// no error. A kind that the cluster does not know has no objects.
func pages[L client.ObjectList](
	ctx context.Context, r *reading, resources, namespace string, fresh func() L, each func(L), opts ...client.ListOption,
) error {
	for token := ""; ; {
		list := fresh()
		all := append([]client.ListOption{client.Limit(pageSize), client.Continue(token), client.InNamespace(namespace)}, opts...)
		err := r.live.List(ctx, list, all...)
		if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return r.unless(err, resources, "list", namespace)
		}
		each(list)
		if token = list.GetContinue(); token == "" {
			return nil
		}
	}
}

// unless keeps that something could not be read for want of a right; any other error stays one.
func (r *reading) unless(err error, resources, verb, namespace string) error {
	if !apierrors.IsForbidden(err) {
		return fmt.Errorf("%s %s: %w", verb, resources, err)
	}
	r.out.Unread = append(r.out.Unread, preflight.Unread{Resource: resources, Verb: verb, Namespace: namespace})
	return nil
}

func metadata(kind schema.GroupVersionKind) *metav1.PartialObjectMetadataList {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind)
	return list
}

func untyped(kind schema.GroupVersionKind) *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	return list
}
