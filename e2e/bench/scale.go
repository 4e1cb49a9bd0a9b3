// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
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
	if err := b.reconcile(ctx); err != nil {
		return err
	}
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

// reconcile runs the benchmark of a whole reconcile of a rollout, from the caches to the status that is kept.
func (b *bench) reconcile(ctx context.Context) error {
	command := exec.CommandContext(ctx, "go", "test", "./controllers/rollout", "-run", "^$", "-bench", "^BenchmarkReconcile$", "-benchtime", "3s")
	command.Dir = b.env.Root
	out, err := command.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		name, is := strings.CutPrefix(line, "BenchmarkReconcile/")
		if i := slices.Index(fields, "ns/op"); is && i > 0 {
			each, err := strconv.ParseFloat(fields[i-1], 64)
			if err != nil {
				return err
			}
			name, _, _ = strings.Cut(name, "-")
			what := "one reconcile of a rollout with 10,000 pods in 1,000 namespaces, " + strings.ReplaceAll(name, "_", " ")
			b.report.add(what, "< 10 ms", fmt.Sprintf("%.1f ms", each/1e6))
		}
	}
	return nil
}
