// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Secrets reads Secrets of one namespace from the API server: no Secret is in any cache.
func Secrets(live client.Reader, namespace string) func(ctx context.Context, name string) (map[string][]byte, error) {
	return func(ctx context.Context, name string) (map[string][]byte, error) {
		var secret corev1.Secret
		err := live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &secret)
		if apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("there is no Secret %s in namespace %s: create it", name, namespace)
		}
		if err != nil {
			return nil, fmt.Errorf("reading Secret %s in namespace %s: %w", name, namespace, err)
		}
		return secret.Data, nil
	}
}
