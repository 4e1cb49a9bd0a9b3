// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/rollout"
)

// The crowd: pods that a large cluster has besides the few that move, and how many of these there are.
const (
	crowdNamespaces = 1000
	crowdPods       = 10
	movers          = 6
)

// scale measures a rollout in a large cluster. The crowd are API objects: pods that no scheduler takes, with the annotations of the
// injector, in namespaces of the mesh. What moves is real. It comes last: nobody takes the crowd away again.
func (b *bench) scale(ctx context.Context) error {
	b.decision()
	mesh := framework.Mesh("default", framework.Istio129)
	mesh.Spec.DataPlane.Waves = framework.Waves("early")
	mesh.Spec.DataPlane.Restart.MaxUnavailable = new(intstr.FromString("100%"))
	mesh.Spec.Upgrade.Canary.Steps = []v1alpha1.Step{
		{Name: "early", Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: "early", Percent: 100}},
		{Name: "stay", Type: v1alpha1.StepPause},
	}
	if err := b.env.Client.Create(ctx, mesh); err != nil {
		return err
	}
	if _, err := b.env.WaitReady(ctx, mesh.Name); err != nil {
		return err
	}
	if err := b.crowd(ctx); err != nil {
		return err
	}
	used, err := b.env.OperatorMemory(ctx)
	if err != nil {
		return err
	}
	resident, _, err := b.env.Cluster.Memory(ctx, framework.OperatorProgram)
	if err != nil {
		return err
	}
	all := fmt.Sprintf("%d pods in %d namespaces of the mesh", crowdNamespaces*crowdPods, crowdNamespaces)
	b.report.add("memory of the operator with "+all+": working set", "< 150 MB", fmt.Sprintf("%.0f MB", float64(used)/1e6))
	b.report.add("– VmRSS", "< 150 MB", fmt.Sprintf("%.0f MB", float64(resident)/1e6))
	return b.upgrade(ctx)
}

// crowd creates the namespaces and their pods, and then lets the mesh enroll them.
func (b *bench) crowd(ctx context.Context) (err error) {
	end := b.env.Progress.Begin(fmt.Sprintf("creating %d pods", crowdNamespaces*crowdPods), 3*time.Minute)
	defer func() { end(err) }()
	var revision v1alpha1.MeshRevision
	if err := b.env.Client.Get(ctx, client.ObjectKey{Name: "1-29-1"}, &revision); err != nil {
		return err
	}
	annotations := map[string]string{
		"sidecar.istio.io/status": `{"revision":"1-29-1"}`, v1alpha1.IstioRevision: "1-29-1", v1alpha1.AnnotationInjection: revision.Spec.Injection,
	}
	group, grouped := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for n := range crowdNamespaces {
		group.Go(func() error {
			name := fmt.Sprintf("crowd-%04d", n)
			if err := b.env.Namespace(grouped, name, nil); err != nil {
				return err
			}
			for i := range crowdPods {
				err := b.env.Client.Create(grouped, &corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: fmt.Sprintf("pod-%02d", i), Annotations: annotations},
					Spec: corev1.PodSpec{
						SchedulerName: "nobody", AutomountServiceAccountToken: new(false),
						Containers: []corev1.Container{{Name: "app", Image: framework.EchoImage}},
					},
				})
				if err != nil {
					return err
				}
			}
			return b.env.Namespace(grouped, name, map[string]string{framework.EnrollLabel: "default"})
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return b.counted(ctx, crowdNamespaces*crowdPods)
}

// upgrade restarts real workloads once by kubectl and once by a rollout, and counts what the rollout asks for.
func (b *bench) upgrade(ctx context.Context) error {
	const namespace = "movers"
	if err := b.env.Enrolled(ctx, namespace, "1-29-1", map[string]string{framework.EnrollLabel: "default", framework.WaveLabel: "early"}); err != nil {
		return err
	}
	var apps []framework.Echo
	for i := range movers {
		app := framework.Echo{Namespace: namespace, Name: fmt.Sprintf("app-%d", i), Version: "v1", Replicas: 1}
		if err := b.env.Deploy(ctx, app); err != nil {
			return err
		}
		apps = append(apps, app)
	}
	if err := b.available(ctx, apps); err != nil {
		return err
	}
	start := time.Now()
	if _, err := b.env.Kubectl(ctx, "-n", namespace, "rollout", "restart", "deployment"); err != nil {
		return err
	}
	if err := b.available(ctx, apps); err != nil {
		return err
	}
	plain := time.Since(start)
	if err := b.env.SetVersion(ctx, "default", framework.Istio131); err != nil {
		return err
	}
	if _, err := b.env.WaitRollout(ctx, "default-1", "to be proven", func(o *v1alpha1.MeshRollout) bool { return o.Status.Progress.Proven != nil }); err != nil {
		return err
	}
	audit, err := b.env.Audit(ctx)
	if err != nil {
		return err
	}
	awaits := framework.Acts(v1alpha1.ActAwaitApproval, v1alpha1.ReasonAwaitingApproval)
	o, err := b.env.WaitRollout(ctx, "default-1", "to have moved the wave", awaits)
	if err != nil {
		return err
	}
	moved := o.Status.Steps[0].Ended.Sub(o.Status.Steps[0].Started.Time)
	events, err := audit.Stop(ctx, framework.OperatorRequests)
	if err != nil {
		return err
	}
	lists, others := 0, 0
	for _, e := range events {
		if e.Verb == "list" {
			lists++
		} else if e.ObjectRef.Resource != "events" && !strings.Contains(e.RequestURI, "/leases") {
			others++
		}
	}
	b.report.add(fmt.Sprintf("moving %d workloads: by kubectl rollout restart", movers), "", plain.Round(time.Second).String())
	b.report.add("– by a rollout, 2 s for the label of their namespace to settle included", "1.1 × that + 2 s",
		fmt.Sprintf("%s (ratio %.2f)", moved, moved.Seconds()/plain.Seconds()))
	b.report.add(fmt.Sprintf("– requests of the operator meanwhile, with %d other pods", crowdNamespaces*crowdPods), "", strconv.Itoa(others))
	b.report.add("– LIST requests of the operator meanwhile", "0", strconv.Itoa(lists))
	return nil
}

func (b *bench) available(ctx context.Context, apps []framework.Echo) error {
	for _, app := range apps {
		if err := b.env.WaitDeployment(ctx, client.ObjectKey{Namespace: app.Namespace, Name: app.Name}); err != nil {
			return err
		}
	}
	return nil
}

// decision measures one decision over an index of as many pods, each ten of which are of a Deployment.
func (b *bench) decision() {
	index := dataplane.NewIndex(time.Hour, func() {})
	var pods []any
	var members []dataplane.Member
	for n := range crowdNamespaces {
		namespace := fmt.Sprintf("crowd-%04d", n)
		members = append(members, dataplane.Member{Name: namespace, Label: "1-31-0"})
		for i := range crowdPods {
			pods = append(pods, &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: namespace, Name: fmt.Sprintf("app-5d9c7b-%02d", i), Labels: map[string]string{"pod-template-hash": "5d9c7b"},
					Annotations:     map[string]string{"sidecar.istio.io/status": `{"revision":"1-29-1"}`},
					OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "app-5d9c7b", Controller: new(true)}},
				},
				Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
			})
		}
	}
	if err := index.Replace(pods, ""); err != nil {
		panic(err) // they are pods
	}
	mesh := framework.Mesh("default", framework.Istio131)
	plan := rollout.NewPlan(mesh, v1alpha1.RolloutRevision{Revision: "1-29-1"}, v1alpha1.RolloutRevision{Revision: "1-31-0"}, nil)
	plan.ProgressDeadlineSeconds, plan.Restart.Type = 1800, v1alpha1.RestartRollout // the API server's defaults
	spec := &v1alpha1.MeshRolloutSpec{Plan: plan, Goal: v1alpha1.GoalComplete}
	now := time.Now()
	progress := v1alpha1.RolloutProgress{Proven: &metav1.Time{Time: now}, Entered: &metav1.Time{Time: now}}
	result := testing.Benchmark(func(t *testing.B) {
		for t.Loop() {
			var all []rollout.Workload
			for _, m := range members {
				all = append(all, index.Workloads(m, dataplane.Towards{Revision: "1-31-0", Type: v1alpha1.RestartRollout, Now: now})...)
			}
			up := rollout.ControlPlane{Exists: true, Ready: true}
			d := rollout.Decide(spec, progress, rollout.Observation{
				Granted: true, From: up, To: up, Waves: map[string]rollout.Wave{v1alpha1.RestWave: rollout.Count(v1alpha1.RestartRollout, all)},
			}, now)
			if !d.Moving {
				panic("the benchmark decides nothing: " + d.Note)
			}
		}
	})
	each := time.Duration(result.NsPerOp())
	what := fmt.Sprintf("one decision over %d pods of %d Deployments in as many namespaces", crowdNamespaces*crowdPods, crowdNamespaces)
	b.report.add(what, "< 10 ms", fmt.Sprintf("%.1f ms", float64(each)/1e6))
}
