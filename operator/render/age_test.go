// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"testing"
	"time"

	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Connections end after a while, those over HTTP/1 after an answer only; Envoy's own types know every field of it.
func TestConnectionAge(t *testing.T) {
	r := ingress(t, "1.29.1", nil)
	r.Shift.MaxConnectionAgeSeconds = 600
	shared := rendered(t, r).Shared
	PointAt(find(t, shared, "Service"), "1-29-1")
	o := ConnectionAge(r, shared)
	if o.GetName() != "ingress-connection-age" || o.GetNamespace() != "istio-ingress" ||
		o.GetLabels()[v1alpha1.LabelMesh] != "default" || o.GetLabels()[v1alpha1.LabelGateway] != "ingress" {
		t.Errorf("%s/%s with labels %v is not marked as the gateway's", o.GetNamespace(), o.GetName(), o.GetLabels())
	}
	want := map[string]any{"app": "ingress", "istio": "ingress"}
	if diff := cmp.Diff(want, value(t, o, "spec", "workloadSelector", "labels")); diff != "" {
		t.Errorf("it is bound to other pods than those of all versions (-want +got):\n%s", diff)
	}
	patches, _, err := unstructured.NestedSlice(o.Object, "spec", "configPatches")
	if err != nil || len(patches) != 1 {
		t.Fatalf("%d patches, want 1: %v", len(patches), err)
	}
	config, _, err := unstructured.NestedMap(patches[0].(map[string]any), "patch", "value", "typed_config")
	if err != nil {
		t.Fatal(err)
	}
	delete(config, "@type")
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	manager := &hcm.HttpConnectionManager{}
	if err := protojson.Unmarshal(raw, manager); err != nil {
		t.Fatal(err)
	}
	if got := manager.GetCommonHttpProtocolOptions().GetMaxConnectionDuration().AsDuration(); got != 10*time.Minute {
		t.Errorf("connections end after %s, want 10m", got)
	}
	if !manager.GetHttp1SafeMaxConnectionDuration() {
		t.Error("a connection over HTTP/1 would be closed while a request is on its way")
	}
}

func TestConnectionsOfAnyAge(t *testing.T) {
	r := ingress(t, "1.29.1", nil)
	if got := ConnectionAge(r, rendered(t, r).Shared); got != nil {
		t.Errorf("without shift.maxConnectionAgeSeconds there is %s %s", got.GetKind(), got.GetName())
	}
}
