// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

var update = flag.Bool("update", false, "write the golden traces anew")

// mesh is an installation with two waves: test namespaces first, then the rest.
func mesh(change func(*v1alpha1.MeshInstallation)) *v1alpha1.MeshInstallation {
	m := &v1alpha1.MeshInstallation{}
	m.Name = "default"
	m.Spec.DataPlane = v1alpha1.DataPlane{
		Enrollment: v1alpha1.EnrollmentNamespaceLabel,
		Restart:    v1alpha1.Restart{Type: v1alpha1.RestartRollout, MaxUnavailable: new(intstr.FromString("50%"))},
		Waves: []v1alpha1.Wave{
			{Name: "early", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "test"}}},
		},
	}
	after := int32(60)
	m.Spec.Upgrade = v1alpha1.Upgrade{
		OnFailure: v1alpha1.OnFailureRollBack, ProgressDeadlineSeconds: 120, Canary: v1alpha1.Canary{RetireAfterSeconds: &after},
	}
	if change != nil {
		change(m)
	}
	return m
}

var (
	from = v1alpha1.RolloutRevision{Revision: "1-28-2", Version: "1.28.2", InputsDigest: "a"}
	to   = v1alpha1.RolloutRevision{Revision: "1-29-1", Version: "1.29.1", InputsDigest: "b"}
)

// shop is a cluster with two workloads in the early wave and two in the rest.
func shop(change func(*v1alpha1.MeshInstallation)) *Cluster {
	c := New(rollout.NewPlan(mesh(change), from, to, nil))
	c.Namespaces = []*Namespace{
		{Name: "test", Labels: map[string]string{"tier": "test"}},
		{Name: "shop"},
	}
	c.Workloads = []*Workload{
		{Name: "Deployment/shop/cart", Namespace: "shop", Replicas: 2, StartSeconds: 5},
		{Name: "Deployment/shop/pay", Namespace: "shop", Replicas: 1, StartSeconds: 5},
		{Name: "Deployment/test/a", Namespace: "test", Replicas: 1, StartSeconds: 3},
		{Name: "Deployment/test/b", Namespace: "test", Replicas: 1, StartSeconds: 3},
	}
	return c
}

func steps(steps ...v1alpha1.Step) func(*v1alpha1.MeshInstallation) {
	return func(m *v1alpha1.MeshInstallation) { m.Spec.Upgrade.Canary.Steps = steps }
}

func move(name, wave string, percent int32) v1alpha1.Step {
	return v1alpha1.Step{Name: name, Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: wave, Percent: percent}}
}

func pause(name string, seconds int32) v1alpha1.Step {
	s := v1alpha1.Step{Name: name, Type: v1alpha1.StepPause}
	if seconds > 0 {
		s.Pause = &v1alpha1.PauseStep{DurationSeconds: seconds}
	}
	return s
}

func both(changes ...func(*v1alpha1.MeshInstallation)) func(*v1alpha1.MeshInstallation) {
	return func(m *v1alpha1.MeshInstallation) {
		for _, change := range changes {
			change(m)
		}
	}
}

func pauseOnFailure(m *v1alpha1.MeshInstallation) { m.Spec.Upgrade.OnFailure = v1alpha1.OnFailurePause }

func (c *Cluster) workload(name string) *Workload {
	for _, w := range c.Workloads {
		if w.Name == name {
			return w
		}
	}
	return nil
}

// situation is one golden trace.
type situation struct {
	name    string
	cluster func() *Cluster
	// ends with an outcome; empty: it waits for a person.
	ends v1alpha1.RolloutOutcome
}

// TestTraces plays situations, and compares what was decided and done with testdata. The traces read as documentation; go test
// -v prints them.
func TestTraces(t *testing.T) {
	if len(situations) < 25 {
		t.Errorf("%d situations, want 25 at least", len(situations))
	}
	for _, s := range slices.Concat(situations, gatewaySituations) {
		t.Run(s.name, func(t *testing.T) {
			c := s.cluster()
			ended := c.Run(1800)
			if ended != (s.ends != "") || c.Progress().Outcome != s.ends {
				t.Errorf("ended with %q, want %q", c.Progress().Outcome, s.ends)
			}
			for _, problem := range c.Problems() {
				t.Error(problem)
			}
			t.Log("\n" + c.Trace())
			path := filepath.Join("testdata", s.name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(c.Trace()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), c.Trace()); diff != "" {
				t.Errorf("another trace (-want +got; run with -update to accept it):\n%s", diff)
			}
		})
	}
}

var berlin = v1alpha1.Window{Schedule: "5 13 * * *", DurationSeconds: 600, TimeZone: "Europe/Berlin"} // 12:05 UTC, the model begins at 12:00

var situations = []situation{
	{"two-waves", func() *Cluster { return shop(nil) }, v1alpha1.OutcomeCompleted},
	{"a-pause-between-the-waves", func() *Cluster {
		c := shop(steps(move("early", "early", 100), pause("go", 0)))
		c.At(60, Approve("go"))
		return c
	}, v1alpha1.OutcomeCompleted},
	{"a-pause-that-nobody-approves", func() *Cluster { return shop(steps(pause("go", 0))) }, ""},
	{"a-pause-with-a-duration", func() *Cluster { return shop(steps(pause("an-hour", 600))) }, v1alpha1.OutcomeCompleted},
	{"percents-of-a-wave", func() *Cluster {
		return shop(steps(move("half", "rest", 50), pause("look", 30), move("all", "rest", 100)))
	}, v1alpha1.OutcomeCompleted},
	{"baking", func() *Cluster {
		s := move("early", "early", 100)
		s.DataPlane.BakeSeconds = 120
		return shop(steps(s))
	}, v1alpha1.OutcomeCompleted},
	{"a-canary-that-never-gets-ready", func() *Cluster {
		c := shop(nil)
		c.To.StartSeconds = -1
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"a-canary-that-does-not-inject", func() *Cluster {
		c := shop(nil)
		c.Injects = rollout.Evidence{Answer: rollout.No, Why: "a pod of shop/cart would be injected by 1-28-2"}
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"an-injection-that-can-not-be-tried", func() *Cluster {
		c := shop(pauseOnFailure)
		c.Injects = rollout.Evidence{Why: "the probe was refused by a policy (pods need a label team): exempt it"}
		c.At(30, Waive(v1alpha1.ProofInjection))
		return c
	}, v1alpha1.OutcomeCompleted},
	{"a-workload-that-crashes", func() *Cluster {
		c := shop(nil)
		c.workload("Deployment/test/b").Crashes = []string{to.Revision}
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"a-workload-that-crashes-and-on-failure-pause", func() *Cluster {
		c := shop(pauseOnFailure)
		b := c.workload("Deployment/test/b")
		b.Crashes = []string{to.Revision}
		c.At(100, func(*Cluster) { b.Crashes = nil })
		c.At(120, Retry)
		return c
	}, v1alpha1.OutcomeCompleted},
	{"abort-before-the-first-wave", func() *Cluster {
		c := shop(steps(pause("go", 0)))
		c.At(30, Goal(v1alpha1.GoalAbort))
		return c
	}, v1alpha1.OutcomeAborted},
	{"abort-before-the-canary-is-ready", func() *Cluster {
		c := shop(nil)
		c.At(3, Goal(v1alpha1.GoalAbort))
		return c
	}, v1alpha1.OutcomeAborted},
	{"abort-in-the-middle-needs-a-rollback", func() *Cluster {
		c := shop(steps(move("early", "early", 100), pause("go", 0)))
		c.At(60, Goal(v1alpha1.GoalAbort))
		c.At(90, Goal(v1alpha1.GoalRollBack))
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"rollback-from-the-middle", func() *Cluster {
		c := shop(steps(move("early", "early", 100), move("half", "rest", 50), pause("go", 0)))
		c.At(60, Goal(v1alpha1.GoalRollBack))
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"rollback-after-promotion", func() *Cluster {
		c := shop(nil)
		c.Namespaces = append(c.Namespaces, &Namespace{Name: "tagged", Follows: true})
		c.Workloads = append(c.Workloads, &Workload{Name: "Deployment/tagged/x", Namespace: "tagged", Replicas: 1, StartSeconds: 2})
		c.At(60, Goal(v1alpha1.GoalRollBack))
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"rollback-while-the-old-revision-is-down", func() *Cluster {
		c := shop(steps(move("early", "early", 100), pause("go", 0)))
		c.At(50, func(c *Cluster) { c.From.StartSeconds = -1 })
		c.At(60, Goal(v1alpha1.GoalRollBack))
		c.At(120, func(c *Cluster) { c.From.StartSeconds = 0 })
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"namespaces-that-follow-a-tag", func() *Cluster {
		c := shop(nil)
		c.Namespaces = append(c.Namespaces, &Namespace{Name: "tagged", Follows: true})
		c.Workloads = append(c.Workloads, &Workload{Name: "Deployment/tagged/x", Namespace: "tagged", Replicas: 2, StartSeconds: 2})
		return c
	}, v1alpha1.OutcomeCompleted},
	{"enrollment-by-tag", func() *Cluster {
		c := New(rollout.NewPlan(mesh(func(m *v1alpha1.MeshInstallation) {
			m.Spec.DataPlane.Enrollment = v1alpha1.EnrollmentTag
			m.Spec.DataPlane.Waves = []v1alpha1.Wave{{Name: "early", Tag: "canary"}, {Name: "late", Tag: "stable"}}
		}), from, to, nil))
		c.Namespaces = []*Namespace{
			{Name: "test", Labels: map[string]string{v1alpha1.IstioRevision: "canary"}},
			{Name: "shop", Labels: map[string]string{v1alpha1.IstioRevision: "stable"}},
		}
		c.Workloads = []*Workload{
			{Name: "Deployment/shop/cart", Namespace: "shop", Replicas: 1, StartSeconds: 2},
			{Name: "Deployment/test/a", Namespace: "test", Replicas: 1, StartSeconds: 2},
		}
		return c
	}, v1alpha1.OutcomeCompleted},
	{"outside-the-window", func() *Cluster {
		return shop(func(m *v1alpha1.MeshInstallation) { m.Spec.Upgrade.Windows = []v1alpha1.Window{berlin} })
	}, v1alpha1.OutcomeCompleted},
	{"a-rollback-does-not-wait-for-a-window", func() *Cluster {
		c := shop(both(steps(move("early", "early", 100), pause("go", 0)), func(m *v1alpha1.MeshInstallation) {
			m.Spec.Upgrade.Windows = []v1alpha1.Window{berlin}
		}))
		c.At(1000, Goal(v1alpha1.GoalRollBack))
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"paused-and-resumed", func() *Cluster {
		c := shop(nil)
		c.At(12, func(c *Cluster) { c.Spec.Paused = true })
		c.At(400, func(c *Cluster) { c.Spec.Paused = false })
		return c
	}, v1alpha1.OutcomeCompleted},
	{"the-mesh-is-paused", func() *Cluster {
		c := shop(nil)
		c.At(5, func(c *Cluster) { c.Paused = true })
		c.At(300, func(c *Cluster) { c.Paused = false })
		return c
	}, v1alpha1.OutcomeCompleted},
	{"others-restart-more-than-a-step-allows", func() *Cluster {
		c := shop(both(steps(move("half", "rest", 50)), pauseOnFailure))
		c.At(12, func(c *Cluster) { c.workload("Deployment/shop/pay").Restart() })
		c.At(100, Approve("half"))
		return c
	}, v1alpha1.OutcomeCompleted},
	{"evictions", func() *Cluster {
		return shop(func(m *v1alpha1.MeshInstallation) {
			m.Spec.DataPlane.Restart = v1alpha1.Restart{Type: v1alpha1.RestartEvict, MaxUnavailable: new(intstr.FromInt32(1))}
		})
	}, v1alpha1.OutcomeCompleted},
	{"an-eviction-that-is-refused", func() *Cluster {
		c := shop(both(pauseOnFailure, func(m *v1alpha1.MeshInstallation) {
			m.Spec.DataPlane.Restart = v1alpha1.Restart{Type: v1alpha1.RestartEvict, MaxUnavailable: new(intstr.FromInt32(1))}
		}))
		a := c.workload("Deployment/test/a")
		a.Refuses = true
		c.At(200, func(*Cluster) { a.Refuses = false })
		c.At(210, Retry)
		return c
	}, v1alpha1.OutcomeCompleted},
	{"restarts-by-hand", func() *Cluster {
		c := shop(func(m *v1alpha1.MeshInstallation) { m.Spec.DataPlane.Restart.Type = v1alpha1.RestartManual })
		c.At(60, func(c *Cluster) {
			for _, w := range c.Workloads {
				w.Restart()
			}
		})
		c.At(120, func(c *Cluster) {
			c.workload("Deployment/shop/cart").Restart()
			c.workload("Deployment/shop/pay").Restart()
		})
		return c
	}, v1alpha1.OutcomeCompleted},
	{"pods-a-minute", func() *Cluster {
		return shop(func(m *v1alpha1.MeshInstallation) { m.Spec.DataPlane.Restart.PodsPerMinute = 1 })
	}, v1alpha1.OutcomeCompleted},
	{"what-can-not-be-moved-holds-the-old-revision", func() *Cluster {
		c := shop(nil)
		pay := c.workload("Deployment/shop/pay")
		pay.Held = rollout.HeldExcluded
		c.At(200, func(*Cluster) { pay.Restart() })
		return c
	}, v1alpha1.OutcomeCompleted},
	{"a-proxy-of-a-virtual-machine-holds-the-old-revision", func() *Cluster {
		c := shop(nil)
		c.Uses = []string{"1 proxy that is connected to istiod"}
		c.At(300, func(c *Cluster) { c.Uses = nil })
		return c
	}, v1alpha1.OutcomeCompleted},
	{"nothing-is-known", func() *Cluster {
		c := shop(nil)
		c.At(20, func(c *Cluster) { c.Blind = true })
		c.At(60, func(c *Cluster) { c.Blind = false })
		return c
	}, v1alpha1.OutcomeCompleted},
	{"a-newer-version-is-wanted-while-the-old-one-waits-to-be-retired", func() *Cluster {
		c := shop(func(m *v1alpha1.MeshInstallation) {
			day := int32(rollout.DefaultRetireAfterSeconds)
			m.Spec.Upgrade.Canary.RetireAfterSeconds = &day
		})
		c.At(100, func(c *Cluster) { c.Superseded = true })
		return c
	}, v1alpha1.OutcomeCompleted},
	{"a-clock-that-goes-back", func() *Cluster {
		c := shop(nil)
		c.At(50, func(c *Cluster) { c.Skew = -time.Hour })
		return c
	}, ""},
	{"a-refresh", func() *Cluster {
		c := shop(nil)
		c.Spec.Plan = rollout.NewPlan(mesh(nil), to, to, nil)
		c.To = ControlPlane{exists: true}
		for _, w := range c.Workloads {
			w.Pinned = "1-29-1, with an older sidecar"
			c.At(0, func(*Cluster) { w.Pinned = "" })
		}
		return c
	}, v1alpha1.OutcomeCompleted},
	{"a-patch-in-place", patch, v1alpha1.OutcomeCompleted},
	{"a-patch-in-place-is-rolled-back", func() *Cluster {
		c := patch()
		c.At(25, Goal(v1alpha1.GoalRollBack))
		return c
	}, v1alpha1.OutcomeRolledBack},
	{"a-patch-in-place-whose-istiod-can-not-be-asked", func() *Cluster {
		c := patch()
		c.ReconnectSeconds = 1800
		c.At(40, Waive(v1alpha1.ProofConnection))
		return c
	}, v1alpha1.OutcomeCompleted},
}

// patch replaces istiod of a revision in place; its proxies take a while to find the new one.
func patch() *Cluster {
	old, next := from, to
	old.Revision, next.Revision, old.Version, next.Version = "default", "default", "1.29.1", "1.29.2"
	c := shop(nil)
	c.Spec.Plan = rollout.NewPlan(mesh(nil), old, next, nil)
	c.ReconnectSeconds = 10
	return c
}
