// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package selfupgrade

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/hack/packaging"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// kept are the kinds of config/default that stay when OLM takes over: with the CRDs the meshes would go.
var kept = []string{"CustomResourceDefinition", "Namespace"}

// An operator from OLM's bundle takes a mesh over from one of config/default, and moves nothing. Its webhook answers, its policies hold, and
// each example of the bundle becomes Ready.
func TestAsOLM(t *testing.T) {
	plain := release(t, "")
	if err := env.ApplyRelease(t.Context(), plain); err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(env.Root, "bundles", "olm", "bundle")
	objects, err := packaging.AsOLM(bundle, framework.OperatorNamespace)
	if err != nil {
		t.Fatal(err)
	}
	olm := framework.ReleaseAs(objects)
	t.Cleanup(func() {
		for _, err := range []error{env.RemoveRelease(context.Background(), olm.Without(kept...)), env.InstallOperator(context.Background())} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("takes over", func(t *testing.T) {
		env.Install(t, mesh(framework.Istio129))
		handOver(t, []string{rev129}, "the operator of the bundle", func() error {
			if err := env.RemoveRelease(t.Context(), plain.Without(kept...)); err != nil {
				return err
			}
			return env.ApplyRelease(t.Context(), olm) // which waits for the webhook
		})
		if _, err := env.WaitReady(t.Context(), "default"); err != nil {
			t.Error(err)
		}
		policiesHold(t)
	})
	t.Run("examples", func(t *testing.T) { examples(t, bundle) })
}

// policiesHold says that nobody but the operator writes what it applies with its own rights.
func policiesHold(t *testing.T) {
	t.Helper()
	revision := &v1alpha1.MeshRevision{ObjectMeta: metav1.ObjectMeta{Name: rev129}}
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"version":"1.29.2"}}`))
	err := env.WaitFor(t.Context(), "the policy on MeshRevisions to hold", func(ctx context.Context) (bool, string, error) {
		err := env.Client.Patch(ctx, revision, patch, client.DryRunAll)
		return apierrors.IsForbidden(err), fmt.Sprintf("another spec of a MeshRevision: %v", err), nil
	})
	if err != nil {
		t.Error(err)
	}
}

// examples creates each of alm-examples, as a console offers them, and waits until it is Ready. They are as they are but for what the images
// of the cluster under test need: values of the mesh, which it is given once it is Ready without them, and of the gateway. Where the charts
// look for images by themselves, the cluster is given its own.
func examples(t *testing.T, bundle string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(bundle, "manifests", "meshwright.clusterserviceversion.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var csv metav1.PartialObjectMetadata
	if err := yaml.Unmarshal(raw, &csv); err != nil {
		t.Fatal(err)
	}
	var all []json.RawMessage
	if err := json.Unmarshal([]byte(csv.Annotations["alm-examples"]), &all); err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, example := range all {
		var kind metav1.TypeMeta
		if err := json.Unmarshal(example, &kind); err != nil {
			t.Fatal(err)
		}
		shown[kind.Kind] = true
		switch kind.Kind {
		case "MeshInstallation":
			exampleMesh(t, example)
		case "MeshGateway":
			exampleGateway(t, example)
		default:
			t.Errorf("there is an example of %s, which this test does not know", kind.Kind)
		}
	}
	if !shown["MeshInstallation"] || !shown["MeshGateway"] {
		t.Errorf("examples of %v, want one of a mesh and one of a gateway at least", shown)
	}
}

func exampleMesh(t *testing.T, example []byte) {
	t.Helper()
	mesh := &v1alpha1.MeshInstallation{}
	if err := json.Unmarshal(example, mesh); err != nil {
		t.Fatal(err)
	}
	env.Create(t, mesh)
	istiod := &appsv1.Deployment{}
	err := env.WaitFor(t.Context(), "a Deployment of istiod", func(ctx context.Context) (bool, string, error) {
		err := env.Client.Get(ctx, client.ObjectKey{Namespace: "istio-system", Name: "istiod-" + rev129}, istiod)
		return err == nil, "", err
	})
	if err != nil {
		t.Fatal(err)
	}
	hub, _, _ := strings.Cut(istiod.Spec.Template.Spec.Containers[0].Image, "/pilot:")
	for _, image := range []string{"/pilot:", "/proxyv2:"} {
		if err := env.Cluster.Tag(t.Context(), framework.Hub+image+framework.Istio129, hub+image+framework.Istio129); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := env.WaitReady(t.Context(), mesh.Name); err != nil {
		t.Fatal(err)
	}
	values, err := json.Marshal(map[string]any{"spec": map[string]any{"controlPlane": map[string]any{"values": framework.ControlPlaneValues()}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := env.Client.Patch(t.Context(), mesh, client.RawPatch("application/merge-patch+json", values)); err != nil {
		t.Fatal(err)
	}
	if _, err := env.WaitReady(t.Context(), mesh.Name); err != nil {
		t.Fatal(err)
	}
}

func exampleGateway(t *testing.T, example []byte) {
	t.Helper()
	gateway := &v1alpha1.MeshGateway{}
	if err := json.Unmarshal(example, gateway); err != nil {
		t.Fatal(err)
	}
	values, err := v1alpha1.DecodeMap(gateway.Spec.Values)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"imagePullPolicy", "resources"} {
		values[name] = framework.GatewayValues()[name]
	}
	gateway.Spec.Values = framework.Values(values)
	env.TemporaryNamespace(t, gateway.Namespace, nil)
	if err := env.Client.Create(t.Context(), gateway); err != nil {
		t.Fatal(err)
	}
	err = env.WaitFor(t.Context(), "gateway "+gateway.Name+" to be Ready", func(ctx context.Context) (bool, string, error) {
		if err := env.Client.Get(ctx, client.ObjectKeyFromObject(gateway), gateway); err != nil {
			return false, "", err
		}
		ready := apimeta.FindStatusCondition(gateway.Status.Conditions, v1alpha1.ConditionReady)
		if ready == nil {
			return false, "no condition yet", nil
		}
		return ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == gateway.Generation, ready.Reason + ": " + ready.Message, nil
	})
	if err != nil {
		t.Error(err)
	}
}
