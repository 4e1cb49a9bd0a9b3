// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// The terminal of a recording.
const (
	columns = 150
	rows    = 40
)

// recording is a session at a terminal: as a page to read, and as asciicast v2 (docs.asciinema.org/manual/asciicast/v2) to be played.
type recording struct {
	plugin, kubeconfig string
	page, cast         bytes.Buffer
	begun              time.Time
}

// event adds what the terminal shows to the cast.
func (r *recording) event(text string) error {
	line, err := json.Marshal([]any{time.Since(r.begun).Seconds(), "o", strings.ReplaceAll(text, "\n", "\r\n")})
	r.cast.Write(append(line, '\n'))
	return err
}

// Write is output of a command, as it comes.
func (r *recording) Write(p []byte) (int, error) {
	r.page.Write(p)
	return len(p), r.event(string(p))
}

// mesh runs kubectl mesh with what a person would type. Lawful is the exit code that means success.
func (r *recording) mesh(ctx context.Context, story, line string, lawful int) error {
	fmt.Fprintf(&r.page, "\n%s\n\n```\n$ kubectl mesh %s\n", story, line)
	if err := r.event("$ kubectl mesh " + line + "\n"); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, r.plugin, strings.Fields(line)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+r.kubeconfig, fmt.Sprintf("COLUMNS=%d", columns))
	cmd.Stdout, cmd.Stderr = r, r
	err := cmd.Run()
	code := 0
	if exit, ended := errors.AsType[*exec.ExitError](err); ended {
		code = exit.ExitCode()
	} else if err != nil {
		return err
	}
	if code != lawful {
		return fmt.Errorf("kubectl mesh %s: exit code %d\n%s", line, code, r.page.String())
	}
	r.page.WriteString("```\n")
	return r.event("\n")
}

// session records a whole upgrade, driven by the plugin, and writes session.md and session.cast into a folder.
func session(ctx context.Context, env *framework.Env, dir string) error {
	plugin := filepath.Join(os.TempDir(), fmt.Sprintf("kubectl-mesh-%d", os.Getpid()))
	build := exec.CommandContext(ctx, "go", "build", "-o", plugin, "./operator/cmd/kubectl-mesh")
	build.Dir, build.Stderr = env.Root, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("building the plugin: %w", err)
	}
	defer func() { _ = os.Remove(plugin) }()
	if err := sessionMesh(ctx, env); err != nil {
		return err
	}
	r := &recording{plugin: plugin, kubeconfig: env.Cluster.Kubeconfig(), begun: time.Now()}
	header, err := json.Marshal(map[string]any{"version": 2, "width": columns, "height": rows, "idle_time_limit": 2, "title": "kubectl mesh: an upgrade"})
	if err != nil {
		return err
	}
	r.cast.Write(append(header, '\n'))
	r.page.WriteString("# An upgrade at the terminal\n\nWritten by `make docs` from a real run: nothing here was typed by hand. " +
		"[session.cast](session.cast) is the same for `asciinema play`.\n")
	if err := upgradeAtTheTerminal(ctx, env, r); err != nil {
		return err
	}
	if err := env.Remove(ctx, "default"); err != nil {
		return err
	}
	if err := env.RemoveNamespaces(ctx, "pay", "shop"); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "session.md"), r.page.Bytes(), 0o644),
		os.WriteFile(filepath.Join(dir, "session.cast"), r.cast.Bytes(), 0o644),
	)
}

// sessionMesh is a mesh with a gateway, and an application in each of two waves.
func sessionMesh(ctx context.Context, env *framework.Env) error {
	mesh := framework.Mesh("default", framework.Istio128)
	mesh.Spec.Gateways = []v1alpha1.Gateway{framework.Gateway("istio-ingress", "ingress")}
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
	for wave, app := range map[string]framework.Echo{
		"early": {Namespace: "pay", Name: "pay", Version: "v1", Replicas: 2},
		"rest":  {Namespace: "shop", Name: "cart", Version: "v1", Replicas: 2},
	} {
		labels := map[string]string{framework.EnrollLabel: "default", framework.WaveLabel: wave}
		if err := env.Enrolled(ctx, app.Namespace, "1-28-2", labels); err != nil {
			return err
		}
		if err := env.Deploy(ctx, app); err != nil {
			return err
		}
		if err := env.WaitDeployment(ctx, client.ObjectKey{Namespace: app.Namespace, Name: app.Name}); err != nil {
			return err
		}
	}
	return nil
}

// upgradeAtTheTerminal is what a person types.
func upgradeAtTheTerminal(ctx context.Context, env *framework.Env, at *recording) error {
	const changes = 2 // exit code of plan
	for _, c := range []struct {
		story, line string
		code        int
	}{
		{"What is there:", "status", 0},
		{"What an upgrade would be:", "plan --to 1.29.1", changes},
		{"What it would meet:", "preflight --to 1.29.1", 0},
		{"It begins:", "upgrade 1.29.1", 0},
	} {
		if err := at.mesh(ctx, c.story, c.line, c.code); err != nil {
			return err
		}
	}
	awaits := framework.Acts(v1alpha1.ActAwaitApproval, v1alpha1.ReasonAwaitingApproval)
	if _, err := env.WaitRollout(ctx, "default-1", "to wait for the approval", awaits); err != nil {
		return err
	}
	for _, c := range []struct{ story, line string }{
		{"Shortly after, the canary is proven, the first wave has moved, and the rollout waits for a person:", "status"},
		{"Who has moved:", "proxies"},
		{"Go on, and look on until it is done:", "approve --wait"},
	} {
		if err := at.mesh(ctx, c.story, c.line, 0); err != nil {
			return err
		}
	}
	// The last pods of the old gateway drain, and are counted until they are gone.
	if _, err := env.WaitCondition(ctx, "default", v1alpha1.ConditionUpToDate, metav1.ConditionTrue, ""); err != nil {
		return err
	}
	if err := at.mesh(ctx, "Nothing is left of the old version:", "status", 0); err != nil {
		return err
	}
	return at.mesh(ctx, "What is kept of it:", "history", 0)
}
