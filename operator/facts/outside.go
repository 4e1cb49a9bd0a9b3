// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/validate"
)

var outerGateway = schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "Gateway"}

// Outside adds to facts what there is of what a spec names. It asks the API server itself, and for what is named only: a cache would
// keep every Secret of the operator's namespace. Of Secrets nothing is kept but the names of keys. An error names the right that is
// missing, if that is why.
func (g *Gatherer) Outside(ctx context.Context, live client.Reader, named validate.Outside, known *validate.Facts) error {
	known.OperatorNamespace = g.Namespace
	known.Secrets = map[string]validate.Secret{}
	known.OuterGateways = map[types.NamespacedName]validate.OuterGateway{}
	for _, k := range named.Keys {
		if _, asked := known.Secrets[k.Secret]; asked {
			continue
		}
		found, err := secretOf(ctx, live, types.NamespacedName{Namespace: g.Namespace, Name: k.Secret})
		if err != nil {
			return err
		}
		known.Secrets[k.Secret] = found
	}
	for _, l := range named.Listeners {
		if _, asked := known.OuterGateways[l.Gateway]; asked {
			continue
		}
		found, err := outerGatewayOf(ctx, live, l.Gateway)
		if err != nil {
			return err
		}
		known.OuterGateways[l.Gateway] = found
	}
	return nil
}

func secretOf(ctx context.Context, live client.Reader, key types.NamespacedName) (out validate.Secret, err error) {
	secret := &corev1.Secret{}
	switch err := live.Get(ctx, key, secret); {
	case apierrors.IsNotFound(err):
		return out, nil
	case apierrors.IsForbidden(err):
		return out, fmt.Errorf("this needs the right to get secrets in namespace %s: %w", key.Namespace, err)
	case err != nil:
		return out, fmt.Errorf("get Secret %s: %w", key, err)
	}
	out.Exists = true
	for name, value := range secret.Data {
		if len(value) > 0 {
			out.Keys = append(out.Keys, name)
		}
	}
	return out, nil
}

func outerGatewayOf(ctx context.Context, live client.Reader, key types.NamespacedName) (out validate.OuterGateway, err error) {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(outerGateway)
	switch err := live.Get(ctx, key, o); {
	case meta.IsNoMatchError(err):
		return validate.OuterGateway{NoAPI: true}, nil
	case apierrors.IsNotFound(err):
		return out, nil
	case apierrors.IsForbidden(err):
		return out, fmt.Errorf("this needs the right to get gateways.%s in namespace %s: %w", outerGateway.Group, key.Namespace, err)
	case err != nil:
		return out, fmt.Errorf("get Gateway %s: %w", key, err)
	}
	out.Exists = true
	listeners, _, _ := unstructured.NestedSlice(o.Object, "spec", "listeners")
	for _, l := range listeners {
		listener, _ := l.(map[string]any)
		if name, ok := listener["name"].(string); ok {
			out.Listeners = append(out.Listeners, name)
		}
	}
	return out, nil
}
