// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && long

package upgrade

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// A mesh of type InPlace moves to a patch, back from the middle, there again, and has its sidecars refreshed when a value changes what
// they are. The patch is a second stamp of one build: charts and images of 1.29.1 under the name 1.29.2. So this shows what the operator
// does, not that two builds of Istio understand each other; the canary tests show that.
func TestInPlace(t *testing.T) {
	const patch = "1.29.2"
	restore, err := env.StampAnew(t.Context(), framework.Istio129, patch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := restore(); err != nil {
			t.Error(err)
		}
	})
	mesh := framework.Mesh("default", framework.Istio129)
	mesh.Spec.DataPlane.Waves = framework.Waves("early")
	mesh.Spec.Upgrade.Type = v1alpha1.UpgradeInPlace
	mesh.Spec.Upgrade.Canary.Steps = []v1alpha1.Step{step("early", "early", 100), pause("go")}
	env.Install(t, mesh)
	enroll(t, pay.Namespace, "early", "default")
	enroll(t, cart.Namespace, "rest", "default")
	enroll(t, "clients", "rest", "default")
	deploy(t, pay)
	deploy(t, cart)

	t.Run("back from the middle", func(t *testing.T) {
		trace(t, "default-1")
		finishPay, finishCart := load(t, pay, 45), load(t, cart, 45)
		setVersion(t, patch)
		wait(t, "default-1", "to wait for the approval", awaitingApproval)
		image(t, pay, patch)
		image(t, cart, framework.Istio129)
		steer(t, "default-1", map[string]any{"goal": "RollBack"})
		wait(t, "default-1", "to be rolled back", framework.Ended(v1alpha1.OutcomeRolledBack))
		image(t, pay, framework.Istio129)
		finishPay()
		finishCart()
	})
	t.Run("to the patch", func(t *testing.T) {
		trace(t, "default-2")
		finishPay, finishCart := load(t, pay, 45), load(t, cart, 45)
		setVersion(t, framework.Istio129)
		setVersion(t, patch)
		wait(t, "default-2", "to wait for the approval", awaitingApproval)
		approve(t, "default-2", "go")
		wait(t, "default-2", "to be completed", framework.Ended(v1alpha1.OutcomeCompleted))
		image(t, pay, patch)
		image(t, cart, patch)
		finishPay()
		finishCart()
	})
	t.Run("a value that changes what is injected", func(t *testing.T) {
		trace(t, "default-3")
		change(t, `{"spec":{"upgrade":{"canary":{"steps":null}},"controlPlane":{"values":{"global":{"proxy":{"logLevel":"info"}}}}}}`)
		wait(t, "default-3", "to be completed", framework.Ended(v1alpha1.OutcomeCompleted))
		for _, app := range []framework.Echo{pay, cart} {
			sidecars(t, app, func(c corev1.Container) error {
				if args := strings.Join(c.Args, " "); !strings.Contains(args, "--proxyLogLevel=info") {
					return fmt.Errorf("arguments %s", args)
				}
				return nil
			})
		}
	})
}

// image says whether the sidecars of an application have the image of a version.
func image(t *testing.T, app framework.Echo, version string) {
	t.Helper()
	sidecars(t, app, func(c corev1.Container) error {
		if !strings.HasSuffix(c.Image, ":"+version) {
			return fmt.Errorf("image %s, want %s", c.Image, version)
		}
		return nil
	})
}

// sidecars looks at the sidecar of every pod of an application.
func sidecars(t *testing.T, app framework.Echo, look func(corev1.Container) error) {
	t.Helper()
	var pods corev1.PodList
	if err := env.Client.List(t.Context(), &pods, client.InNamespace(app.Namespace), client.MatchingLabels{"app": app.Name}); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, p := range pods.Items {
		if p.DeletionTimestamp != nil {
			continue
		}
		for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
			if c.Name != "istio-proxy" {
				continue
			}
			seen++
			if err := look(c); err != nil {
				t.Errorf("pod %s: %v", p.Name, err)
			}
		}
	}
	if seen != int(app.Replicas) {
		t.Errorf("%d sidecars of %s, want %d", seen, app.Name, app.Replicas)
	}
}
