// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo is the first thing a newcomer runs: a real Kubernetes on this machine, the operator from its own
// manifests, one MeshInstallation, and requests through a real Envoy gateway to a sidecar that accepts mTLS only.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

const requests = 100

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	start := time.Now()
	env, err := framework.Start(ctx, framework.Options{Name: "demo", Istio: []string{framework.Istio129}, InstallPackages: true})
	if err != nil {
		return err
	}
	if err := installMesh(ctx, env); err != nil {
		return err
	}
	result, answer, err := sendRequests(ctx, env)
	if err != nil {
		return err
	}
	fmt.Printf("\n%d requests through the gateway: %v, %d failed\n", result.Requests, result.Codes, result.Failed)
	fmt.Printf("answered by %s, revision %s; it saw the client certificate of\n  %s\n", answer.Pod, answer.Revision, answer.Peer)
	if result.Failed > 0 || result.Requests != requests || answer.Peer == "" {
		return fmt.Errorf("want %d requests answered with 200 over mTLS", requests)
	}
	fmt.Printf("\nDone in %s.\n", time.Since(start).Round(time.Second))
	return whatNext(ctx, env)
}

// installMesh applies the one object of a user, and shows it until it is Ready.
func installMesh(ctx context.Context, env *framework.Env) error {
	mesh := framework.Mesh("default", "1.29")
	mesh.Spec.Gateways = []v1alpha1.Gateway{framework.Gateway("istio-ingress", "ingress")}
	manifest, err := manifestOf(mesh)
	if err != nil {
		return err
	}
	fmt.Printf("\n# The values are for the small machine and the vanilla Envoy of a test cluster; a mesh needs only spec.version.\n")
	fmt.Printf("$ kubectl apply -f - <<EOF\n%sEOF\n", manifest)
	out, err := env.KubectlApply(ctx, manifest)
	if err != nil {
		return err
	}
	fmt.Print(out)
	if _, err := env.WaitReady(ctx, mesh.Name); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"get", "mesh"}, {"get", "meshrev"}, {"get", "meshgw", "-A"}, {"get", "pods", "-A", "-l", v1alpha1.LabelMesh},
	} {
		out, err := env.Kubectl(ctx, args...)
		if err != nil {
			return err
		}
		fmt.Printf("\n$ kubectl %s\n%s", strings.Join(args, " "), out)
	}
	return nil
}

// manifestOf is the object as a user would write it: without status and empty members.
func manifestOf(mesh *v1alpha1.MeshInstallation) (string, error) {
	spec, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&mesh.Spec)
	if err != nil {
		return "", err
	}
	dropEmpty(spec)
	raw, err := yaml.Marshal(map[string]any{
		"apiVersion": mesh.APIVersion,
		"kind":       mesh.Kind,
		"metadata":   map[string]any{"name": mesh.Name},
		"spec":       spec,
	})
	return string(raw), err
}

func dropEmpty(fields map[string]any) {
	for name, value := range fields {
		if members, ok := value.(map[string]any); ok {
			if dropEmpty(members); len(members) == 0 {
				delete(fields, name)
			}
		}
	}
}

func sendRequests(ctx context.Context, env *framework.Env) (*framework.LoadResult, *framework.Answer, error) {
	app := framework.Echo{Namespace: "shop", Name: "cart", Version: "v1", Replicas: 1}
	gateway := client.ObjectKey{Namespace: "istio-ingress", Name: "ingress"}
	steps := []func() error{
		func() error { return env.Namespace(ctx, "outside", nil) },
		func() error {
			return env.Namespace(ctx, app.Namespace, map[string]string{framework.EnrollLabel: "default"})
		},
		func() error {
			return env.WaitFor(ctx, "shop to be enrolled", env.NamespaceHasLabel(app.Namespace, "istio.io/rev", "1-29-1"))
		},
		func() error { return env.Deploy(ctx, app) },
		func() error { return env.RequireMTLS(ctx, app.Namespace) },
		func() error { return env.Expose(ctx, gateway, app) },
		func() error {
			return env.WaitDeployment(ctx, client.ObjectKey{Namespace: app.Namespace, Name: app.Name})
		},
		func() error { return env.WaitServing(ctx, gateway) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, nil, err
		}
	}
	result, err := env.RunLoad(ctx, framework.Load{
		Namespace: "outside", Name: "load", URL: framework.ServiceURL(gateway, 80), Requests: requests, QPS: 50, Connections: 4,
	})
	if err != nil {
		return nil, nil, err
	}
	answer, err := env.Ask(ctx, gateway)
	return result, answer, err
}

func whatNext(ctx context.Context, env *framework.Env) error {
	alias := ""
	if _, err := exec.LookPath("kubectl"); err != nil {
		program, err := env.KubectlProgram(ctx)
		if err != nil {
			return err
		}
		alias = "  alias kubectl=" + program + "\n"
	}
	fmt.Printf(`
What to try next:
  export KUBECONFIG=%s
%s  kubectl get mesh -w                                  # the mesh, as it changes
  kubectl explain mesh.spec                            # every field, with default and example
  kubectl -n istio-system delete deployment istiod-1-29-1   # it comes back at once
  kubectl patch mesh default --type=merge -p '{"spec":{"version":"1.29.77"}}'   # refused, with the reason
  kubectl delete mesh default                          # refused: shop uses it
  make cluster-down NAME=demo                          # leaves nothing on this machine
`, env.Cluster.Kubeconfig(), alias)
	return nil
}
