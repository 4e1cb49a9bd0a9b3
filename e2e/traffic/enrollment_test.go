// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package traffic

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func waitEnrolled(t *testing.T, namespace, revision string) {
	t.Helper()
	err := env.WaitFor(t.Context(), "namespace "+namespace+" to be enrolled in "+revision, env.NamespaceHasLabel(namespace, "istio.io/rev", revision))
	if err != nil {
		t.Fatal(err)
	}
}

// Namespaces that match are enrolled, pods from before are counted and left alone, and what belongs to others is
// reported instead of taken.
func TestEnrollment(t *testing.T) {
	enroll := map[string]string{framework.EnrollLabel: "default"}
	before := framework.Echo{Namespace: "early", Name: "old", Version: "v1", Replicas: 1}
	env.TemporaryNamespace(t, before.Namespace, enroll)
	env.TemporaryNamespace(t, "opted-out", map[string]string{framework.EnrollLabel: "default", "istio-injection": "disabled"})
	env.TemporaryNamespace(t, "claimed", map[string]string{framework.EnrollLabel: "default", "istio.io/rev": "somebody-elses"})
	if err := env.Deploy(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitDeployment(t.Context(), client.ObjectKey{Namespace: before.Namespace, Name: before.Name}); err != nil {
		t.Fatal(err)
	}

	mesh := framework.Mesh("default", framework.Istio129)
	env.Install(t, mesh)
	waitEnrolled(t, before.Namespace, "1-29-1")

	waitDataPlane(t, mesh.Name, "one outdated pod", func(s v1alpha1.DataPlaneStatus) bool {
		return s.Outdated == 1 && len(s.OutdatedExamples) == 1
	})
	waitDataPlane(t, mesh.Name, "both blocked namespaces with a reason", func(s v1alpha1.DataPlaneStatus) bool {
		reasons := map[string]string{}
		for _, b := range s.Blocked {
			reasons[b.Namespace] = b.Reason
		}
		return reasons["opted-out"] == "InjectionDisabled" && reasons["claimed"] == "LabelledByOther"
	})
	if _, err := env.WaitCondition(t.Context(), mesh.Name, v1alpha1.ConditionUpToDate, "False", ""); err != nil {
		t.Error(err)
	}
	var claimed corev1.Namespace
	if err := env.Client.Get(t.Context(), client.ObjectKey{Name: "claimed"}, &claimed); err != nil {
		t.Fatal(err)
	}
	if got := claimed.Labels["istio.io/rev"]; got != "somebody-elses" {
		t.Errorf("another manager's label was changed to %q", got)
	}

	if _, err := env.Kubectl(t.Context(), "-n", before.Namespace, "rollout", "restart", "deployment", before.Name); err != nil {
		t.Fatal(err)
	}
	waitDataPlane(t, mesh.Name, "the restarted pod to be a proxy of the stable revision", func(s v1alpha1.DataPlaneStatus) bool {
		return s.Outdated == 0 && len(s.Proxies) == 1 && s.Proxies[0].Revision == "1-29-1" && s.Proxies[0].Count == 1
	})
	for _, system := range []string{"kube-system", "istio-system"} {
		var ns corev1.Namespace
		if err := env.Client.Get(t.Context(), client.ObjectKey{Name: system}, &ns); err != nil {
			t.Fatal(err)
		}
		if ns.Labels["istio.io/rev"] != "" {
			t.Errorf("system namespace %s was enrolled", system)
		}
	}
}

func waitDataPlane(t *testing.T, name, what string, done func(v1alpha1.DataPlaneStatus) bool) {
	t.Helper()
	err := env.WaitFor(t.Context(), what, func(ctx context.Context) (bool, string, error) {
		var mesh v1alpha1.MeshInstallation
		if err := env.Client.Get(ctx, client.ObjectKey{Name: name}, &mesh); err != nil {
			return false, "", err
		}
		return done(mesh.Status.DataPlane), fmt.Sprintf("%+v", mesh.Status.DataPlane), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
