// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && long

package gateways

import (
	"context"
	"fmt"
	"maps"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// A gateway of Helm's is taken over where it stands: no pod restarts, and no request is lost. Its Deployment is replaced when the mesh moves.
func TestAdoption(t *testing.T) {
	ctx := t.Context()
	mesh := framework.Mesh("default", framework.Istio128)
	mesh.Spec.Upgrade.Canary.RetireAfterSeconds = new(int32(0))
	mesh.Spec.Upgrade.Canary.Steps = []v1alpha1.Step{{Name: "all", Type: v1alpha1.StepPause, Pause: &v1alpha1.PauseStep{DurationSeconds: 1}}}
	env.TemporaryNamespaces(t, nil, ingress.Namespace, cart.Namespace, "clients") // they go after the mesh, which has a gateway in one
	env.Install(t, mesh)
	values := framework.GatewayValues()
	values["autoscaling"] = map[string]any{"enabled": false}
	values["replicaCount"] = 2
	byHelm(t, values)
	for _, err := range []error{env.Deploy(ctx, cart), env.Expose(ctx, ingress, cart), env.WaitServing(ctx, ingress)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	traffic := send(t, ingress)
	before := pods(t)

	entry := v1alpha1.Gateway{Namespace: ingress.Namespace, Name: ingress.Name, Values: framework.Values(values), Adoption: v1alpha1.AdoptionAdopt}
	change := mesh.DeepCopy()
	if err := env.Client.Get(ctx, client.ObjectKeyFromObject(mesh), change); err != nil {
		t.Fatal(err)
	}
	patch := client.MergeFrom(change.DeepCopy())
	change.Spec.Gateways = []v1alpha1.Gateway{entry}
	if err := env.Client.Patch(ctx, change, patch); err != nil {
		t.Fatal(err)
	}
	err := env.WaitFor(ctx, "the gateway to be adopted", func(ctx context.Context) (bool, string, error) {
		g, err := env.Gateway(ctx, ingress)
		if apierrors.IsNotFound(err) {
			return false, "no MeshGateway", nil
		}
		if err != nil {
			return false, "", err
		}
		ready := apimeta.IsStatusConditionTrue(g.Status.Conditions, v1alpha1.ConditionReady)
		return ready && len(g.Status.Versions) == 1, fmt.Sprintf("%+v", g.Status), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if now := pods(t); !maps.Equal(before, now) {
		t.Errorf("pods were %v, and are %v: adoption restarts nothing", before, now)
	}
	moments := observed(t, "default-1")
	setVersion(t, framework.Istio129)
	wait(t, "default-1", "to be completed", framework.Ended(v1alpha1.OutcomeCompleted))
	alone(t, rev129)
	allServed(t, traffic())
	unmoved(t, moments())
	var old appsv1.Deployment
	if err := env.Client.Get(ctx, ingress, &old); !apierrors.IsNotFound(err) {
		t.Errorf("the Deployment of Helm's is still there: %v", err)
	}
}

// byHelm installs the gateway by the helm CLI, from Istio's own chart.
func byHelm(t *testing.T, values map[string]any) {
	t.Helper()
	dir := t.TempDir()
	charts, err := framework.Charts(t.Context(), dir, framework.Istio128, "gateway")
	if err != nil {
		t.Fatal(err)
	}
	file, err := framework.ValuesFile(dir, values)
	if err != nil {
		t.Fatal(err)
	}
	out, err := env.Helm(t.Context(), "install", ingress.Name, charts["gateway"], "-n", ingress.Namespace, "--wait", "-f", file, "--set", "revision="+rev128)
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// pods of the gateway's namespace, by UID.
func pods(t *testing.T) map[string]string {
	t.Helper()
	var all corev1.PodList
	if err := env.Client.List(t.Context(), &all, client.InNamespace(ingress.Namespace)); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, p := range all.Items {
		out[string(p.UID)] = p.Name
	}
	return out
}
