// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command transcript writes docs/what-you-see.md: what kubectl prints of a healthy installation and of broken ones,
// taken from a real run.
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

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func main() {
	out := flag.String("o", "", "file to write; default: docs/what-you-see.md of this checkout")
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
	env, err := framework.Start(ctx, framework.Options{Name: "docs", Istio: []string{framework.Istio129}, InstallPackages: true})
	if err != nil {
		return err
	}
	if out == "" {
		out = filepath.Join(env.Root, "docs", "what-you-see.md")
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
	b.WriteString("\n## kubectl explain\n")
	for _, field := range []string{"mesh.spec", "mesh.spec.dataPlane", "mesh.spec.deletionPolicy"} {
		if err := show(ctx, env, &b, "explain", field); err != nil {
			return err
		}
	}
	return os.WriteFile(out, []byte(b.String()), 0o644)
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

func show(ctx context.Context, env *framework.Env, b *strings.Builder, args ...string) error {
	out, err := env.Kubectl(ctx, args...)
	if err != nil {
		return err
	}
	fmt.Fprintf(b, "\n```\n$ kubectl %s\n%s\n```\n", strings.Join(args, " "), strings.TrimRight(out, "\n"))
	return nil
}
