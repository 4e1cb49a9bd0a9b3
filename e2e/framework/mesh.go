// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"encoding/json"
	"fmt"

	"github.com/Masterminds/semver/v3"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/e2e/cluster/artifact"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/version"
)

// The Istio versions of the suites.
const (
	Istio128 = "1.28.2"
	Istio129 = "1.29.1"
	Istio131 = "1.31.0"
)

// Hub is where the test images of every Istio version live.
const Hub = "docker.io/istio"

// SupportedIstio are the versions of Istio that can be built here and that support a Kubernetes version, by default that of the
// test cluster.
func SupportedIstio(kubernetes string) ([]string, error) {
	if kubernetes == "" {
		kubernetes = artifact.DefaultKubernetes
	}
	cluster, err := semver.NewVersion(kubernetes)
	if err != nil {
		return nil, fmt.Errorf("version of Kubernetes %q: %w", kubernetes, err)
	}
	catalogue, err := istio.BuiltinCatalogue()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, v := range artifact.IstioVersions() {
		line, known := catalogue.Line(semver.MustParse(v))
		if known && version.CheckKubernetes(line, cluster) == nil {
			out = append(out, v)
		}
	}
	return out, nil
}

// Mesh is an installation as a user would write it, with the values that the test images need and requests small
// enough for a laptop. Members of the spec can be changed before it is created.
func Mesh(name, version string) *v1alpha1.MeshInstallation {
	return &v1alpha1.MeshInstallation{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "MeshInstallation"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.MeshInstallationSpec{
			Version:      version,
			Images:       v1alpha1.Images{Hub: Hub},
			ControlPlane: v1alpha1.ControlPlane{Values: Values(ControlPlaneValues())},
			DataPlane: v1alpha1.DataPlane{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{EnrollLabel: name}},
			},
		},
	}
}

// EnrollLabel on a namespace, with the name of the mesh, makes the meshes of the suites enroll it.
const EnrollLabel = "mesh"

// ControlPlaneValues are what the test images need of istiod: Envoy is the upstream build, which lacks Istio's own
// extensions.
func ControlPlaneValues() map[string]any {
	return map[string]any{
		"env":       map[string]any{"PILOT_ENABLE_ALPN_FILTER": "false", "PILOT_ENABLE_METADATA_EXCHANGE": "false"},
		"telemetry": map[string]any{"enabled": false},
		"resources": smallRequests(),
		"global": map[string]any{"proxy": map[string]any{
			"resources":              smallRequests(),
			"readinessPeriodSeconds": 1, // a gateway is looked at every 15 s otherwise, and a test waits for it
		}},
	}
}

// GatewayValues are what the test images need of a gateway: image "auto" has no tag, so that Kubernetes would always
// pull.
func GatewayValues() map[string]any {
	return map[string]any{
		"imagePullPolicy": "IfNotPresent",
		"service":         map[string]any{"type": "ClusterIP"},
		"resources":       smallRequests(),
	}
}

// Gateway is an entry of spec.gateways with the values that the test images need.
func Gateway(namespace, name string) v1alpha1.Gateway {
	return v1alpha1.Gateway{Namespace: namespace, Name: name, Values: Values(GatewayValues())}
}

// Values turns a map into a free-form field of the API.
func Values(m map[string]any) *apiextensionsv1.JSON {
	raw, err := json.Marshal(m)
	if err != nil {
		panic(err) // maps of strings and numbers written in this repository always marshal
	}
	return &apiextensionsv1.JSON{Raw: raw}
}

func smallRequests() map[string]any {
	return map[string]any{"requests": map[string]any{"cpu": "10m", "memory": "40Mi"}}
}
