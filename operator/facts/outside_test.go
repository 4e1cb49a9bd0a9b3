// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/validate"
)

// namedObjects answers requests for objects by their names, and keeps what it was asked.
type namedObjects struct {
	client.Reader // nothing is listed

	secrets  map[types.NamespacedName]map[string][]byte
	gateways map[types.NamespacedName][]any
	// refuse is what a request for a kind is answered with.
	refuse map[string]error
	asked  []string
}

func (n *namedObjects) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	missing := apierrors.NewNotFound(schema.GroupResource{}, key.Name)
	switch o := o.(type) {
	case *corev1.Secret:
		n.asked = append(n.asked, "Secret "+key.String())
		data, exists := n.secrets[key]
		if o.Data = data; exists || n.refuse["Secret"] != nil {
			return n.refuse["Secret"]
		}
	case *unstructured.Unstructured:
		n.asked = append(n.asked, o.GroupVersionKind().String()+" "+key.String())
		listeners, exists := n.gateways[key]
		o.Object["spec"] = map[string]any{"listeners": listeners}
		if exists || n.refuse["Gateway"] != nil {
			return n.refuse["Gateway"]
		}
	}
	return missing
}

func edge(namespace string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: "edge"}
}

// world has a Secret with a token and an empty key, one of another namespace, and an outer Gateway of two listeners.
func world() *namedObjects {
	return &namedObjects{
		secrets: map[types.NamespacedName]map[string][]byte{
			{Namespace: "meshwright-system", Name: "prometheus"}: {"token": []byte("sesame"), "hmac": nil},
			{Namespace: "elsewhere", Name: "chat"}:               {"hmac": []byte("x")},
		},
		gateways: map[types.NamespacedName][]any{
			edge("edge"): {map[string]any{"name": "http", "port": int64(80)}, map[string]any{"name": "https"}},
		},
	}
}

var everything = validate.Outside{
	Keys: []validate.SecretKey{{Secret: "prometheus", Key: "token"}, {Secret: "prometheus", Key: "hmac"}, {Secret: "chat", Key: "hmac"}},
	Listeners: []validate.Listener{
		{Gateway: edge("edge"), Name: "http"}, {Gateway: edge("edge"), Name: "tls"}, {Gateway: edge("shop")},
	},
}

// What is named is looked for once each, in the operator's namespace, and of a Secret nothing but names of keys is kept.
func TestOutside(t *testing.T) {
	w, got := world(), validate.Facts{}
	if err := (&Gatherer{Namespace: "meshwright-system"}).Outside(t.Context(), w, everything, &got); err != nil {
		t.Fatal(err)
	}
	want := validate.Facts{
		OperatorNamespace: "meshwright-system",
		Secrets:           map[string]validate.Secret{"prometheus": {Exists: true, Keys: []string{"token"}}, "chat": {}},
		OuterGateways: map[types.NamespacedName]validate.OuterGateway{
			edge("edge"): {Exists: true, Listeners: []string{"http", "https"}}, edge("shop"): {},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	asked := []string{
		"Secret meshwright-system/prometheus", "Secret meshwright-system/chat",
		"gateway.networking.k8s.io/v1, Kind=Gateway edge/edge", "gateway.networking.k8s.io/v1, Kind=Gateway shop/edge",
	}
	if diff := cmp.Diff(asked, w.asked); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}

func TestNothingIsAskedForNothing(t *testing.T) {
	w := world()
	if err := (&Gatherer{}).Outside(t.Context(), w, validate.Outside{}, &validate.Facts{}); err != nil || len(w.asked) > 0 {
		t.Errorf("%v was asked: %v", w.asked, err)
	}
}

func TestOutsideThatIsRefused(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "x"}, "", errors.New("no"))
	for _, tc := range []struct {
		reason, kind string
		err          error
		want         string
	}{
		{"no right to Secrets", "Secret", forbidden, "the right to get secrets in namespace meshwright-system"},
		{"no right to outer Gateways", "Gateway", forbidden, "the right to get gateways.gateway.networking.k8s.io in namespace edge"},
		{"the API server is away", "Secret", context.DeadlineExceeded, "get Secret meshwright-system/prometheus"},
		{"the API server went away", "Gateway", context.DeadlineExceeded, "get Gateway edge/edge"},
		{"the cluster has no Gateway API", "Gateway", &meta.NoKindMatchError{GroupKind: outerGateway.GroupKind()}, ""},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			w, got := world(), validate.Facts{}
			w.refuse = map[string]error{tc.kind: tc.err}
			err := (&Gatherer{Namespace: "meshwright-system"}).Outside(t.Context(), w, everything, &got)
			if tc.want != "" {
				if err == nil || !strings.Contains(err.Error(), tc.want) || !errors.Is(err, tc.err) {
					t.Errorf("%v does not say %q", err, tc.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			none := validate.OuterGateway{NoAPI: true}
			want := map[types.NamespacedName]validate.OuterGateway{edge("edge"): none, edge("shop"): none}
			if diff := cmp.Diff(want, got.OuterGateways); diff != "" {
				t.Errorf("outer Gateways (-want +got):\n%s", diff)
			}
		})
	}
}
