// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && long

package rotation

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// kills is how often the operator is killed.
const kills = 20

// Each phase that is proven at proxies is held by one whose agent is stopped, for as long as it is, whatever happens meanwhile: operators that are killed
// at random moments, and an istiod that starts anew. Nobody who sends requests notices.
func TestTrouble(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	begin(t, framework.Istio129, func(m *v1alpha1.MeshInstallation) {
		m.Spec.Certificates.CA.Type = v1alpha1.CASourceManaged // it has its CA before its first istiod
		m.Spec.Certificates.CA.Managed = &v1alpha1.ManagedCA{Algorithm: v1alpha1.ECDSAP384, NameConstraints: v1alpha1.NameConstraintsTrustDomain}
		m.Spec.Certificates.LeafSeconds = 3600 // an agent is stopped for minutes, and its leaf must outlive that
	})
	wait(t, "default-1", "to be completed", ended(v1alpha1.OutcomeCompleted))
	trace(t)
	finish := traffic(t, 40*time.Minute)
	var pods corev1.PodList
	if err := env.Client.List(t.Context(), &pods, client.InNamespace(pay.Namespace), client.MatchingLabels{"app": pay.Name}); err != nil || len(pods.Items) != int(pay.Replicas) {
		t.Fatalf("%d pods of %s: %v", len(pods.Items), pay.Name, err)
	}
	first, second := pods.Items[0].Name, pods.Items[1].Name
	killed := 0
	kill := func(times int) {
		for range times {
			moment := time.NewTimer(time.Duration(random.Int64N(int64(4 * time.Second))))
			if err := env.WaitLeader(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-moment.C
			// The leader may have been one that was about to end after the kill before.
			err := env.WaitFor(t.Context(), "an operator to kill", func(ctx context.Context) (bool, string, error) {
				err := env.KillOperator(ctx)
				return err == nil, "", err
			})
			if err != nil {
				t.Fatal(err)
			}
			killed++
		}
	}

	const rotation = "default-by-hand"
	stop(t, first)
	err := env.Client.Create(t.Context(), &v1alpha1.MeshRotation{
		ObjectMeta: metav1.ObjectMeta{Name: rotation}, Spec: v1alpha1.MeshRotationSpec{Mesh: "default", Change: v1alpha1.ChangeRoot, RotationVerbs: v1alpha1.RotationVerbs{Goal: v1alpha1.GoalComplete}},
	})
	if err != nil {
		t.Fatal(err)
	}
	held := func(phase v1alpha1.RotationPhase, pod string) {
		t.Helper()
		holds := func(o *v1alpha1.MeshRotation) bool {
			return o.Status.Progress.Phase == phase && len(o.Status.Holdouts) == 1 && o.Status.Holdouts[0].Proxy == pay.Namespace+"/"+pod
		}
		wait(t, rotation, "to be held by "+pod+" in "+string(phase), holds)
		kill(kills / 4)
		restartIstiod(t)
		if err := env.WaitLeader(t.Context()); err != nil {
			t.Fatal(err)
		}
		wait(t, rotation, "to be held by "+pod+" in "+string(phase)+" still", holds)
	}
	held(v1alpha1.PhaseTrust, first)
	resume(t, first)
	wait(t, rotation, "to wait for kubelets", func(o *v1alpha1.MeshRotation) bool {
		return o.Status.Progress.Phase == v1alpha1.PhaseTrust && o.Status.Proxies != nil && o.Status.Proxies.Holding == 0
	})
	// A pod whose agent is stopped is not ready, and for a moment two of them are not: a third one serves.
	stop(t, second)
	kill(kills / 4)
	held(v1alpha1.PhaseDrain, second)
	stop(t, first)
	resume(t, second)
	held(v1alpha1.PhaseDrop, first)
	resume(t, first)
	o := wait(t, rotation, "to be completed", ended(v1alpha1.OutcomeCompleted))
	t.Logf("the operator was killed %d times", killed)
	mesh, err := env.WaitCondition(t.Context(), "default", v1alpha1.ConditionCertificatesReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	if err != nil {
		t.Fatal(err)
	}
	if roots := mesh.Status.Certificates.Roots; len(roots) != 1 || roots[0].Fingerprint != o.Status.Plan.To.Root {
		t.Errorf("roots at the end: %+v, want %s only", roots, o.Status.Plan.To.Root)
	}
	finish()
}

func stop(t *testing.T, pod string) {
	t.Helper()
	if err := env.StopAgent(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

func resume(t *testing.T, pod string) {
	t.Helper()
	if err := env.ContinueAgent(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

// restartIstiod has istiod start anew, as its Deployment does that.
func restartIstiod(t *testing.T) {
	t.Helper()
	if _, err := env.Kubectl(t.Context(), "-n", "istio-system", "rollout", "restart", "deployment", "istiod-1-29-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := env.Kubectl(t.Context(), "-n", "istio-system", "rollout", "status", "--timeout=120s", "deployment", "istiod-1-29-1"); err != nil {
		t.Fatal(err)
	}
}
