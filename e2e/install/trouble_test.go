// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package install

import (
	"strings"
	"testing"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// When istiod or a gateway can't run, Ready gives the pod's own reason, and a correction of the spec heals it.
func TestPodsOwnReasons(t *testing.T) {
	for name, tc := range map[string]struct {
		breakMesh func(*v1alpha1.MeshInstallation)
		condition string
		want      string
	}{
		"istiod's image can't be pulled": {
			breakMesh: func(m *v1alpha1.MeshInstallation) { m.Spec.Images.Hub = "local.test/nowhere" },
			condition: v1alpha1.ConditionControlPlaneReady, want: "ImagePull",
		},
		"istiod can't be scheduled": {
			breakMesh: func(m *v1alpha1.MeshInstallation) {
				values := framework.ControlPlaneValues()
				values["nodeSelector"] = map[string]any{"no-such": "node"}
				m.Spec.ControlPlane.Values = framework.Values(values)
			},
			condition: v1alpha1.ConditionControlPlaneReady, want: "Unschedulable",
		},
		"istiod crashes": {
			breakMesh: func(m *v1alpha1.MeshInstallation) {
				values := framework.ControlPlaneValues()
				values["extraContainerArgs"] = []any{"--keepaliveMaxServerConnectionAge=never"} // no duration
				m.Spec.ControlPlane.Values = framework.Values(values)
			},
			condition: v1alpha1.ConditionControlPlaneReady, want: "CrashLoopBackOff",
		},
		"a gateway can't be scheduled": {
			breakMesh: func(m *v1alpha1.MeshInstallation) {
				gateway := framework.Gateway("istio-ingress", "ingress")
				values := framework.GatewayValues()
				values["nodeSelector"] = map[string]any{"no-such": "node"}
				gateway.Values = framework.Values(values)
				m.Spec.Gateways = []v1alpha1.Gateway{gateway}
			},
			condition: v1alpha1.ConditionGatewaysReady, want: "Unschedulable",
		},
	} {
		t.Run(name, func(t *testing.T) {
			mesh := framework.Mesh("default", framework.Istio129)
			tc.breakMesh(mesh)
			env.Create(t, mesh)
			var message string
			err := env.WaitFor(t.Context(), tc.condition+" to say "+tc.want, env.ConditionSays(mesh.Name, tc.condition, tc.want, &message))
			if err != nil {
				t.Fatal(err)
			}
			t.Log(message)
			broken, err := env.WaitCondition(t.Context(), mesh.Name, v1alpha1.ConditionReady, metav1.ConditionFalse, "")
			if err != nil {
				t.Fatal(err)
			}
			if ready := apimeta.FindStatusCondition(broken.Status.Conditions, v1alpha1.ConditionReady); !strings.Contains(ready.Message, tc.want) {
				t.Errorf("Ready says %q, want the pod's reason %s", ready.Message, tc.want)
			}

			good := framework.Mesh("default", framework.Istio129).Spec
			broken.Spec.Images, broken.Spec.ControlPlane, broken.Spec.Gateways = good.Images, good.ControlPlane, good.Gateways
			if err := env.Client.Update(t.Context(), broken); err != nil {
				t.Fatal(err)
			}
			if _, err := env.WaitReady(t.Context(), mesh.Name); err != nil {
				t.Error(err)
			}
		})
	}
}
