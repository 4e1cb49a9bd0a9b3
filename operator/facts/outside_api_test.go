// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package facts

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/testkit"
	"github.com/meshwright/meshwright/operator/validate"
)

// A real API server tells a Gateway API that it does not have from a Gateway that it does not have.
func TestOutsideOfARealCluster(t *testing.T) {
	live, err := client.New(testkit.StartAPIServer(t), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "prometheus"},
		StringData: map[string]string{"token": "sesame", "hmac": ""},
	}
	if err := live.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	var got validate.Facts
	if err := (&Gatherer{Namespace: metav1.NamespaceDefault}).Outside(t.Context(), live, everything, &got); err != nil {
		t.Fatal(err)
	}
	none := validate.OuterGateway{NoAPI: true}
	want := validate.Facts{
		OperatorNamespace: metav1.NamespaceDefault,
		Secrets:           map[string]validate.Secret{"prometheus": {Exists: true, Keys: []string{"token"}}, "chat": {}},
		OuterGateways:     map[types.NamespacedName]validate.OuterGateway{edge("edge"): none, edge("shop"): none},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
