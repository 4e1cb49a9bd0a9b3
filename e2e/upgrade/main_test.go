// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package upgrade tests on a real cluster that a mesh moves from version to version, and back, while requests run inside it: real
// istiods beside each other, real sidecars, workloads restarted in waves, and people who approve, abort, roll back and deploy.
package upgrade

import (
	"context"
	"fmt"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

var env *framework.Env

func TestMain(m *testing.M) {
	framework.Main(m, func(e *framework.Env) { env = e })
}

// The revisions of the suites' versions.
const (
	rev128 = "1-28-2"
	rev129 = "1-29-1"
	rev131 = "1-31-0"
)

// The applications: pay is in the wave early, cart in the rest.
var (
	pay  = framework.Echo{Namespace: "pay", Name: "pay", Version: "v1", Replicas: 2}
	cart = framework.Echo{Namespace: "shop", Name: "cart", Version: "v1", Replicas: 2}
)

// begin installs Istio 1.28.2 with two waves and an application in each; change may change the mesh before.
func begin(t *testing.T, change func(*v1alpha1.MeshInstallation)) {
	t.Helper()
	mesh := framework.Mesh("default", framework.Istio128)
	mesh.Spec.DataPlane.Waves = framework.Waves("early")
	mesh.Spec.Upgrade.Canary.RetireAfterSeconds = new(int32(0))
	if change != nil {
		change(mesh)
	}
	env.Install(t, mesh)
	enroll(t, pay.Namespace, "early", rev128)
	enroll(t, cart.Namespace, "rest", rev128)
	deploy(t, pay)
	deploy(t, cart)
}

func enroll(t *testing.T, namespace, wave, revision string) {
	t.Helper()
	labels := map[string]string{framework.EnrollLabel: "default", framework.WaveLabel: wave}
	env.TemporaryNamespace(t, namespace, labels)
	if err := env.Enrolled(t.Context(), namespace, revision, labels); err != nil {
		t.Fatal(err)
	}
}

// deploy creates or changes an application and waits until it runs.
func deploy(t *testing.T, app framework.Echo) {
	t.Helper()
	if err := env.Deploy(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitDeployment(t.Context(), client.ObjectKey{Namespace: app.Namespace, Name: app.Name}); err != nil {
		t.Fatal(err)
	}
}

// load starts 100 requests a second to an application from a client in the mesh; the returned function waits for its end and
// fails the test for every request that failed.
func load(t *testing.T, app framework.Echo, seconds int) (finish func()) {
	t.Helper()
	l := framework.Load{
		Namespace: "clients", Name: "load-" + app.Name, Requests: 100 * seconds, QPS: 100, Connections: 4,
		URL: framework.ServiceURL(client.ObjectKey{Namespace: app.Namespace, Name: app.Name}, framework.EchoPort),
	}
	if err := env.StartLoad(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitLoading(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		result, err := env.FinishLoad(t.Context(), l)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d failed of %d requests to %s: %v", result.Failed, result.Requests, app.Name, result.Codes)
		if result.Failed > 0 {
			t.Errorf("%d of %d requests to %s failed: %v", result.Failed, result.Requests, app.Name, result.Codes)
		}
	}
}

// trace logs what a rollout decides and does until the test ends.
func trace(t *testing.T, name string) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		env.Trace(ctx, name, t.Output())
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
}

func setVersion(t *testing.T, version string) {
	t.Helper()
	if err := env.SetVersion(t.Context(), "default", version); err != nil {
		t.Fatal(err)
	}
}

func wait(t *testing.T, rollout, says string, done func(*v1alpha1.MeshRollout) bool) *v1alpha1.MeshRollout {
	t.Helper()
	o, err := env.WaitRollout(t.Context(), rollout, says, done)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// awaitingApproval says that a rollout stands at a Pause.
var awaitingApproval = framework.Acts(v1alpha1.ActAwaitApproval, v1alpha1.ReasonAwaitingApproval)

// allMoved says that all steps are done.
func allMoved(o *v1alpha1.MeshRollout) bool {
	return int(o.Status.Progress.Step) >= len(o.Spec.Plan.Steps)
}

func steer(t *testing.T, rollout string, verbs map[string]any) {
	t.Helper()
	if err := env.Steer(t.Context(), rollout, verbs); err != nil {
		t.Fatal(err)
	}
}

func approve(t *testing.T, rollout, step string) {
	t.Helper()
	if err := env.Approve(t.Context(), rollout, step); err != nil {
		t.Fatal(err)
	}
}

// only waits until the mesh has one revision, which serves every application, and nothing is under way.
func only(t *testing.T, revision string, apps ...framework.Echo) {
	t.Helper()
	err := env.WaitFor(t.Context(), "everything to be at "+revision, func(ctx context.Context) (bool, string, error) {
		var revisions v1alpha1.MeshRevisionList
		if err := env.Client.List(ctx, &revisions); err != nil {
			return false, "", err
		}
		var mesh v1alpha1.MeshInstallation
		if err := env.Client.Get(ctx, client.ObjectKey{Name: "default"}, &mesh); err != nil {
			return false, "", err
		}
		done := len(revisions.Items) == 1 && revisions.Items[0].Name == revision && mesh.Status.StableRevision == revision &&
			mesh.Status.ActiveOperation == nil && mesh.Status.CanaryRevision == ""
		return done, fmt.Sprintf("%d revisions, stable %s, canary %s, active %v", len(revisions.Items), mesh.Status.StableRevision,
			mesh.Status.CanaryRevision, mesh.Status.ActiveOperation), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, app := range apps {
		at(t, app, revision)
	}
}

// at says whether every pod of an application has the sidecar of a revision.
func at(t *testing.T, app framework.Echo, revision string) {
	t.Helper()
	revisions, err := env.Revisions(t.Context(), app)
	if err != nil {
		t.Fatal(err)
	}
	if len(revisions) != 1 || revisions[revision] != int(app.Replicas) {
		t.Errorf("pods of %s by revision: %v, want %d of %s", app.Name, revisions, app.Replicas, revision)
	}
}

func step(name, wave string, percent int32) v1alpha1.Step {
	return v1alpha1.Step{Name: name, Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: wave, Percent: percent}}
}

func pause(name string) v1alpha1.Step { return v1alpha1.Step{Name: name, Type: v1alpha1.StepPause} }
