// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demoupgrade moves a real mesh from Istio 1.28.2 to 1.29.1 while requests run inside it and into it: a gateway whose traffic goes
// to the new version share by share, two waves, a pause that is approved, the old revision retired, and not one request lost.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// The load of each of two clients inside the mesh, and for how long clients outside send theirs at most.
const (
	requests = 9000
	qps      = 100
	outside  = 10 * time.Minute
)

var ingress = client.ObjectKey{Namespace: "istio-ingress", Name: "ingress"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo-upgrade:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	start := time.Now()
	env, err := framework.Start(ctx, framework.Options{
		Name: "demo-upgrade", Istio: []string{framework.Istio128, framework.Istio129}, InstallPackages: true,
	})
	if err != nil {
		return err
	}
	apps, err := prepare(ctx, env)
	if err != nil {
		return err
	}
	failed, sent, err := upgrade(ctx, env, apps)
	if err != nil {
		return err
	}
	if err := show(ctx, env, "get", "mesh"); err != nil {
		return err
	}
	if err := show(ctx, env, "get", "meshroll"); err != nil {
		return err
	}
	if err := show(ctx, env, "get", "meshgw", "-A"); err != nil {
		return err
	}
	fmt.Printf("\n%d failed of %d requests. Done in %s.\n", failed, sent, time.Since(start).Round(time.Second))
	fmt.Printf("\n  export KUBECONFIG=%s\n  kubectl describe meshroll default-1           # step by step\n  make cluster-down NAME=demo-upgrade\n",
		env.Cluster.Kubeconfig())
	if failed > 0 {
		return fmt.Errorf("%d of %d requests failed", failed, sent)
	}
	return nil
}

// steps give the new version of the gateway a share of the traffic, move a wave, wait for an approval, and give it the rest.
func steps() []v1alpha1.Step {
	weight := func(percent int32) v1alpha1.Step {
		return v1alpha1.Step{
			Name: fmt.Sprintf("ingress-%d", percent), Type: v1alpha1.StepGatewayWeight,
			GatewayWeight: &v1alpha1.GatewayWeightStep{Percent: percent},
		}
	}
	return []v1alpha1.Step{
		weight(25),
		{Name: "early", Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: "early", Percent: 100}},
		weight(50),
		{Name: "go", Type: v1alpha1.StepPause},
		weight(100),
	}
}

// prepare installs Istio 1.28.2 with a gateway, and two applications, each in a wave of its own.
func prepare(ctx context.Context, env *framework.Env) ([]framework.Echo, error) {
	if err := env.RemoveLeftovers(ctx); err != nil {
		return nil, err
	}
	if err := env.RemoveNamespaces(ctx, "pay", "shop", "clients", "outside"); err != nil {
		return nil, err
	}
	values := framework.GatewayValues()
	values["autoscaling"] = map[string]any{"enabled": false}
	values["replicaCount"] = 3
	mesh := framework.Mesh("default", framework.Istio128)
	mesh.Spec.DataPlane.Waves = framework.Waves("early")
	mesh.Spec.Gateways = []v1alpha1.Gateway{{Namespace: ingress.Namespace, Name: ingress.Name, Values: framework.Values(values)}}
	mesh.Spec.Upgrade.Canary = v1alpha1.Canary{RetireAfterSeconds: new(int32(10)), Steps: steps()}
	if err := env.Client.Create(ctx, mesh); err != nil {
		return nil, err
	}
	if _, err := env.WaitReady(ctx, mesh.Name); err != nil {
		return nil, err
	}
	apps := []framework.Echo{
		{Namespace: "pay", Name: "pay", Version: "v1", Replicas: 2},
		{Namespace: "shop", Name: "cart", Version: "v1", Replicas: 2},
	}
	for i, wave := range []string{"early", "rest"} {
		app := apps[i]
		if err := env.Enrolled(ctx, app.Namespace, "1-28-2", map[string]string{framework.EnrollLabel: "default", framework.WaveLabel: wave}); err != nil {
			return nil, err
		}
		if err := env.Deploy(ctx, app); err != nil {
			return nil, err
		}
		if err := env.RequireMTLS(ctx, app.Namespace); err != nil {
			return nil, err
		}
	}
	if err := env.Enrolled(ctx, "clients", "1-28-2", map[string]string{framework.EnrollLabel: "default"}); err != nil {
		return nil, err
	}
	for _, app := range apps {
		if err := env.WaitDeployment(ctx, client.ObjectKey{Namespace: app.Namespace, Name: app.Name}); err != nil {
			return nil, err
		}
	}
	if err := env.Namespace(ctx, "outside", nil); err != nil {
		return nil, err
	}
	if err := env.Expose(ctx, ingress, apps[1]); err != nil {
		return nil, err
	}
	return apps, env.WaitServing(ctx, ingress)
}

// upgrade edits spec.version under load, approves the pause, and waits until the old revision is gone.
func upgrade(ctx context.Context, env *framework.Env, apps []framework.Echo) (failed, sent int64, err error) {
	loads, err := begin(ctx, env, apps)
	if err != nil {
		return 0, 0, err
	}
	traffic, err := env.StartTraffic(ctx, "outside", ingress, outside)
	if err != nil {
		return 0, 0, err
	}
	defer trace(ctx, env)()
	fmt.Printf("\n$ kubectl patch mesh default --type=merge -p '{\"spec\":{\"version\":\"1.29.1\"}}'\n\n")
	if err := env.SetVersion(ctx, "default", framework.Istio129); err != nil {
		return 0, 0, err
	}
	awaits := framework.Acts(v1alpha1.ActAwaitApproval, v1alpha1.ReasonAwaitingApproval)
	if _, err := env.WaitRollout(ctx, "default-1", "to wait for the approval", awaits); err != nil {
		return 0, 0, err
	}
	if err := env.Approve(ctx, "default-1", "go"); err != nil {
		return 0, 0, err
	}
	if _, err := env.WaitRollout(ctx, "default-1", "to have moved everything", func(o *v1alpha1.MeshRollout) bool {
		return int(o.Status.Progress.Step) >= len(o.Spec.Plan.Steps)
	}); err != nil {
		return 0, 0, err
	}
	for _, load := range loads {
		result, err := env.FinishLoad(ctx, load)
		if err != nil {
			return 0, 0, err
		}
		failed, sent = failed+result.Failed, sent+result.Requests
	}
	if _, err := env.WaitRollout(ctx, "default-1", "to be completed", framework.Ended(v1alpha1.OutcomeCompleted)); err != nil {
		return 0, 0, err
	}
	result, err := traffic.Stop(ctx)
	if err != nil {
		return 0, 0, err
	}
	fmt.Printf("\nthrough the gateway: %s\n", result)
	through, lost := result.Requests()
	return failed + lost, sent + through, nil
}

// begin starts the clients inside the mesh.
func begin(ctx context.Context, env *framework.Env, apps []framework.Echo) (loads []framework.Load, err error) {
	for _, app := range apps {
		load := framework.Load{
			Namespace: "clients", Name: "load-" + app.Name, Requests: requests, QPS: qps, Connections: 4,
			URL: framework.ServiceURL(client.ObjectKey{Namespace: app.Namespace, Name: app.Name}, framework.EchoPort),
		}
		if err := env.StartLoad(ctx, load); err != nil {
			return nil, err
		}
		if err := env.WaitLoading(ctx, load); err != nil {
			return nil, err
		}
		loads = append(loads, load)
	}
	return loads, nil
}

// trace prints what the rollout decides, and the shares of the gateway as they move, until stop.
func trace(ctx context.Context, env *framework.Env) (stop func()) {
	tracing, cancel := context.WithCancel(ctx)
	var traces sync.WaitGroup
	traces.Go(func() { env.Trace(tracing, "default-1", os.Stdout) })
	traces.Go(func() {
		if err := env.TraceGateway(tracing, ingress, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	})
	return func() {
		cancel()
		traces.Wait()
	}
}

func show(ctx context.Context, env *framework.Env, args ...string) error {
	out, err := env.Kubectl(ctx, args...)
	fmt.Printf("\n$ kubectl %s\n%s", strings.Join(args, " "), out)
	return err
}
