// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package manager

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/testkit"
)

// world is an API server with the whole operator beside it. Nothing else runs: the tests play kubelet and istiod.
type world struct {
	client   client.Client
	config   *rest.Config
	requests *testkit.Requests
	settled  int
}

var crdKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

func TestMain(m *testing.M) {
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.WriteTo(logged), zap.UseDevMode(true)))
	os.Exit(m.Run())
}

func start(t *testing.T) *world {
	t.Helper()
	w := startAPIServer(t)
	w.run(t)
	return w
}

// startAPIServer starts a world without an operator.
func startAPIServer(t *testing.T) *world {
	t.Helper()
	t.Parallel() // each has an API server of its own, and waits for it most of the time
	config := testkit.StartAPIServer(t)
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	cl, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	return &world{client: cl, config: config}
}

// run runs the operator until the test ends.
func (w *world) run(t *testing.T) {
	t.Helper()
	config, requests := testkit.Count(w.config)
	w.requests = requests
	ctx, cancel := context.WithCancel(context.Background())
	mgr, err := New(ctx, config, optionsOf(t))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the operator ended with %v", err)
		}
	})
}

func (w *world) eventually(t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		ok, why := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never: %s; last: %s\n%s", what, why, w.conditions())
		}
		time.Sleep(50 * time.Millisecond) // the pace of looking, not a wait for an effect
	}
}

// conditions are those of everything of Meshwright, for the report of a failure.
func (w *world) conditions() string {
	var out strings.Builder
	ctx := context.Background()
	say := func(name string, conditions []metav1.Condition) {
		for _, c := range conditions {
			fmt.Fprintf(&out, "%s: %s=%s %s: %s\n", name, c.Type, c.Status, c.Reason, c.Message)
		}
	}
	var meshes v1alpha1.MeshInstallationList
	var revisions v1alpha1.MeshRevisionList
	var gateways v1alpha1.MeshGatewayList
	for _, list := range []client.ObjectList{&meshes, &revisions, &gateways} {
		if err := w.client.List(ctx, list); err != nil {
			return err.Error()
		}
	}
	for _, m := range meshes.Items {
		say("mesh "+m.Name, m.Status.Conditions)
	}
	for _, r := range revisions.Items {
		say("revision "+r.Name, r.Status.Conditions)
	}
	for _, g := range gateways.Items {
		say("gateway "+g.Name, g.Status.Conditions)
	}
	return out.String()
}

// deploy plays the Deployment controller and the kubelet: every Deployment of a mesh gets available.
func (w *world) deploy(t *testing.T, namespace string) {
	t.Helper()
	w.eventually(t, "a Deployment in "+namespace, func() (bool, string) {
		var all appsv1.DeploymentList
		if err := w.client.List(t.Context(), &all, client.InNamespace(namespace)); err != nil {
			return false, err.Error()
		}
		for i := range all.Items {
			d := &all.Items[i]
			d.Status = appsv1.DeploymentStatus{
				ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1,
				Conditions: []appsv1.DeploymentCondition{
					{Type: appsv1.DeploymentAvailable, Status: "True"},
					{Type: appsv1.DeploymentProgressing, Status: "True", Reason: "NewReplicaSetAvailable"},
				},
			}
			if err := w.client.Status().Update(t.Context(), d); err != nil {
				return false, err.Error()
			}
		}
		return len(all.Items) > 0, "none"
	})
}

// istiod plays that istiod runs and is reached.
func (w *world) istiod(t *testing.T) {
	t.Helper()
	w.deploy(t, "istio-system")
	w.confirm(t)
}

// confirm makes the validating webhook of istiod fail closed, as istiod does once the API server has called it.
func (w *world) confirm(t *testing.T) {
	t.Helper()
	w.eventually(t, "istiod's webhook", func() (bool, string) {
		var webhook admissionregistrationv1.ValidatingWebhookConfiguration
		if err := w.client.Get(t.Context(), client.ObjectKey{Name: "istio-validator-1-29-1-istio-system"}, &webhook); err != nil {
			return false, err.Error()
		}
		for i := range webhook.Webhooks {
			webhook.Webhooks[i].FailurePolicy = new(admissionregistrationv1.Fail)
		}
		if err := w.client.Update(t.Context(), &webhook, client.FieldOwner("pilot-discovery")); err != nil {
			return false, err.Error()
		}
		return true, ""
	})
}

func (w *world) ready(t *testing.T) {
	t.Helper()
	w.condition(t, v1alpha1.ConditionReady, metav1.ConditionTrue, "")
}

func (w *world) condition(t *testing.T, typ string, status metav1.ConditionStatus, says string) {
	t.Helper()
	w.eventually(t, fmt.Sprintf("%s=%s %s", typ, status, says), func() (bool, string) {
		var m v1alpha1.MeshInstallation
		if err := w.client.Get(t.Context(), client.ObjectKey{Name: "default"}, &m); err != nil {
			return false, err.Error()
		}
		c := apimeta.FindStatusCondition(m.Status.Conditions, typ)
		if c == nil {
			return false, "no condition"
		}
		return c.Status == status && c.ObservedGeneration == m.Generation && strings.Contains(c.Reason+" "+c.Message, says), fmt.Sprintf("%+v", *c)
	})
}

func mesh(version string) *v1alpha1.MeshInstallation {
	return &v1alpha1.MeshInstallation{
		ObjectMeta: metav1.ObjectMeta{Name: "default"},
		Spec:       v1alpha1.MeshInstallationSpec{Version: version},
	}
}
