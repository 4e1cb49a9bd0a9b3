// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// gatewayAPIModule holds the CRDs of the Gateway API, in the version of go.mod.
const gatewayAPIModule = "sigs.k8s.io/gateway-api"

// InstallGatewayAPI installs the CRDs of the Gateway API's standard channel, and removes them when the test ends.
func (e *Env) InstallGatewayAPI(t *testing.T) {
	t.Helper()
	objects, err := e.gatewayAPI(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, o := range objects {
			if err := e.Client.Delete(context.Background(), o); client.IgnoreNotFound(err) != nil {
				t.Errorf("removing %s: %v", o.GetName(), err)
			}
		}
		for _, o := range objects {
			if err := e.WaitGone(context.Background(), o.DeepCopy()); err != nil {
				t.Error(err)
			}
		}
	})
	for _, o := range objects {
		if err := e.apply(t.Context(), o.DeepCopy()); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.WaitFor(t.Context(), "the Gateway API to be served", func(ctx context.Context) (bool, string, error) {
		err := e.Client.List(ctx, &gatewayv1.HTTPRouteList{})
		return err == nil, "", err
	}); err != nil {
		t.Fatal(err)
	}
}

// gatewayAPI reads the CRDs. The policy beside them, which guards against downgrades, is left out: it would guard against removal too.
func (e *Env) gatewayAPI(ctx context.Context) ([]*unstructured.Unstructured, error) {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", gatewayAPIModule)
	list.Dir = e.Root
	dir, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", gatewayAPIModule, err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "config", "crd", "standard", "*.yaml"))
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), len(raw)); ; {
			o := &unstructured.Unstructured{}
			err := decoder.Decode(o)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			if o.GetKind() == "CustomResourceDefinition" {
				out = append(out, o)
			}
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("module %s has no CRDs in %s", gatewayAPIModule, dir)
	}
	return out, nil
}

// OuterGateway makes a Gateway of class istio with a label, whose pods and Service istiod makes when it runs. Routes of all namespaces may
// attach to its port 80. It returns the name of its Service and of its Deployment.
func (e *Env) OuterGateway(ctx context.Context, gateway client.ObjectKey, label, value string) (client.ObjectKey, error) {
	service := client.ObjectKey{Namespace: gateway.Namespace, Name: gateway.Name + "-istio"}
	return service, e.apply(ctx, &gatewayv1.Gateway{
		TypeMeta: metav1.TypeMeta{APIVersion: gatewayv1.GroupVersion.String(), Kind: "Gateway"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: gateway.Namespace, Name: gateway.Name,
			Labels:      map[string]string{label: value},
			Annotations: map[string]string{"networking.istio.io/service-type": "ClusterIP"},
		},
		Spec: gatewayv1.GatewaySpec{
			GatewayClassName: "istio",
			Listeners: []gatewayv1.Listener{{
				Name: "http", Port: 80, Protocol: gatewayv1.HTTPProtocolType,
				AllowedRoutes: &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: new(gatewayv1.NamespacesFromAll)}},
			}},
		},
	})
}
