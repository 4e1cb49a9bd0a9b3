// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command transcript writes docs/what-you-see.md, which is what kubectl prints of a healthy installation and of broken ones, and
// docs/session.md with docs/session.cast, which are an upgrade at the terminal. All of it is taken from a real run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func main() {
	out := flag.String("o", "", "folder to write into; default: docs of this checkout")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *out)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "transcript:", err)
		os.Exit(1)
	}
}

// scene is one installation and what is asked about it once a condition says something.
type scene struct {
	title, story    string
	spoil           func(*v1alpha1.MeshInstallation)
	condition, says string
}

var scenes = []scene{
	{
		title: "A healthy installation",
		story: "One gateway and nothing enrolled yet.",
		spoil: func(m *v1alpha1.MeshInstallation) {
			m.Spec.Gateways = []v1alpha1.Gateway{framework.Gateway("istio-ingress", "ingress")}
		},
		condition: v1alpha1.ConditionReady, says: "",
	},
	{
		title:     "Broken: the image of istiod can't be pulled",
		story:     "`spec.images.hub` names a registry that does not answer.",
		spoil:     func(m *v1alpha1.MeshInstallation) { m.Spec.Images.Hub = "local.test/nowhere" },
		condition: v1alpha1.ConditionReady, says: "ImagePull",
	},
	{
		title: "Broken: a gateway can't be scheduled",
		story: "The gateway's values ask for a node that does not exist; the control plane serves.",
		spoil: func(m *v1alpha1.MeshInstallation) {
			gateway := framework.Gateway("istio-ingress", "ingress")
			values := framework.GatewayValues()
			values["nodeSelector"] = map[string]any{"no-such": "node"}
			gateway.Values = framework.Values(values)
			m.Spec.Gateways = []v1alpha1.Gateway{gateway}
		},
		condition: v1alpha1.ConditionReady, says: "Unschedulable",
	},
	{
		title:     "Broken: a version that nobody has, accepted while the webhook was away",
		story:     "With the webhook there, `kubectl apply` is refused with the same words.",
		spoil:     func(m *v1alpha1.MeshInstallation) { m.Spec.Version = "1.29.77" },
		condition: v1alpha1.ConditionReady, says: "1.29.77",
	},
}

func run(ctx context.Context, out string) error {
	env, err := framework.Start(ctx, framework.Options{Name: "docs", Istio: []string{framework.Istio128, framework.Istio129}, InstallPackages: true})
	if err != nil {
		return err
	}
	if out == "" {
		out = filepath.Join(env.Root, "docs")
	}
	restore, err := env.WithoutWebhook(ctx)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("# What you see\n\nWritten by `make docs` from a real run: nothing here was typed by hand.\n")
	for _, s := range scenes {
		if err := play(ctx, env, &b, s); err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
	}
	if err := restore(); err != nil {
		return err
	}
	if err := upgrade(ctx, env, &b); err != nil {
		return fmt.Errorf("an upgrade: %w", err)
	}
	b.WriteString("\n## kubectl explain\n")
	for _, field := range []string{"mesh.spec", "mesh.spec.dataPlane", "mesh.spec.upgrade", "mesh.spec.deletionPolicy", "meshroll.spec"} {
		if err := show(ctx, env, &b, "explain", field); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(out, "what-you-see.md"), []byte(b.String()), 0o644); err != nil {
		return err
	}
	return session(ctx, env, out)
}

func play(ctx context.Context, env *framework.Env, b *strings.Builder, s scene) error {
	mesh := framework.Mesh("default", framework.Istio129)
	s.spoil(mesh)
	if err := env.Client.Create(ctx, mesh); err != nil {
		return err
	}
	var err error
	if s.says == "" {
		_, err = env.WaitReady(ctx, mesh.Name)
	} else {
		var message string
		err = env.WaitFor(ctx, "the condition of the scene", env.ConditionSays(mesh.Name, s.condition, s.says, &message))
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "\n## %s\n\n%s\n", s.title, s.story)
	for _, args := range [][]string{{"get", "mesh"}, {"get", "meshrev,meshgw", "-A"}, {"describe", "mesh", "default"}} {
		if err := show(ctx, env, b, args...); err != nil {
			return err
		}
	}
	return env.Remove(ctx, mesh.Name)
}

// upgrade shows a rollout that waits for an approval, the same rolled back for a workload that crashes, and the mesh afterwards.
func upgrade(ctx context.Context, env *framework.Env, b *strings.Builder) error {
	mesh := framework.Mesh("default", framework.Istio128)
	mesh.Spec.DataPlane.Waves = framework.Waves("early")
	mesh.Spec.Upgrade.Canary = v1alpha1.Canary{
		RetireAfterSeconds: new(int32(0)),
		Steps: []v1alpha1.Step{
			{Name: "early", Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: "early", Percent: 100}},
			{Name: "go", Type: v1alpha1.StepPause},
		},
	}
	if err := env.Client.Create(ctx, mesh); err != nil {
		return err
	}
	if _, err := env.WaitReady(ctx, mesh.Name); err != nil {
		return err
	}
	for _, app := range []framework.Echo{
		{Namespace: "pay", Name: "pay", Version: "v1", Replicas: 1},
		{Namespace: "shop", Name: "cart", Version: "v1", Replicas: 1, CrashOn: "1-29-1"},
	} {
		wave := map[string]string{"pay": "early", "shop": "rest"}[app.Namespace]
		if err := env.Enrolled(ctx, app.Namespace, "1-28-2", map[string]string{framework.EnrollLabel: "default", framework.WaveLabel: wave}); err != nil {
			return err
		}
		if err := env.Deploy(ctx, app); err != nil {
			return err
		}
		if err := env.WaitDeployment(ctx, client.ObjectKey{Namespace: app.Namespace, Name: app.Name}); err != nil {
			return err
		}
	}
	if err := env.SetVersion(ctx, mesh.Name, framework.Istio129); err != nil {
		return err
	}
	awaits := framework.Acts(v1alpha1.ActAwaitApproval, v1alpha1.ReasonAwaitingApproval)
	if _, err := env.WaitRollout(ctx, "default-1", "to wait for the approval", awaits); err != nil {
		return err
	}
	b.WriteString("\n## An upgrade that waits for an approval\n\nThe wave early has moved; the step go is of type Pause.\n")
	if err := showAll(ctx, env, b, []string{"get", "mesh"}, []string{"get", "meshroll"}, []string{"describe", "meshroll", "default-1"}); err != nil {
		return err
	}
	if err := env.Approve(ctx, "default-1", "go"); err != nil {
		return err
	}
	if _, err := env.WaitRollout(ctx, "default-1", "to be rolled back", framework.Ended(v1alpha1.OutcomeRolledBack)); err != nil {
		return err
	}
	b.WriteString("\n## The same upgrade, rolled back\n\nIt was approved, and the new pods of the next workload crashed.\n")
	if err := showAll(ctx, env, b, []string{"get", "mesh"}, []string{"get", "meshroll"}, []string{"describe", "meshroll", "default-1"}); err != nil {
		return err
	}
	if err := env.Remove(ctx, mesh.Name); err != nil {
		return err
	}
	return env.RemoveNamespaces(ctx, "pay", "shop")
}

func showAll(ctx context.Context, env *framework.Env, b *strings.Builder, all ...[]string) error {
	for _, args := range all {
		if err := show(ctx, env, b, args...); err != nil {
			return err
		}
	}
	return nil
}

func show(ctx context.Context, env *framework.Env, b *strings.Builder, args ...string) error {
	out, err := env.Kubectl(ctx, args...)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "\n```\n$ kubectl %s\n%s\n```\n", strings.Join(args, " "), strings.TrimRight(out, "\n"))
	return nil
}
