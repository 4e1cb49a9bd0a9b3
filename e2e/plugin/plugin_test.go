// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package plugin tests on a real cluster that a mesh is upgraded, held, taken back and looked at by kubectl mesh alone, as the real kubectl runs it.
package plugin

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/cli"
)

var env *framework.Env

func TestMain(m *testing.M) {
	framework.Main(m, func(e *framework.Env) { env = e })
}

// The applications: pay is in the wave early, cart in the rest.
var (
	pay  = framework.Echo{Namespace: "pay", Name: "pay", Version: "v1", Replicas: 1}
	cart = framework.Echo{Namespace: "shop", Name: "cart", Version: "v1", Replicas: 1}
)

// plugin is kubectl with the plugin beside it.
type plugin struct{ kubectl, path string }

// build builds the plugin, and what completes it, into a folder of the PATH.
func build(t *testing.T) *plugin {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "kubectl-mesh"), "./operator/cmd/kubectl-mesh")
	cmd.Dir = env.Root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the plugin: %v\n%s", err, out)
	}
	kubectl, err := env.KubectlProgram(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p := &plugin{kubectl: kubectl, path: dir + string(os.PathListSeparator) + filepath.Dir(kubectl) + string(os.PathListSeparator) + os.Getenv("PATH")}
	script := p.run(t, 0, "completion", "kubectl")
	if err := os.WriteFile(filepath.Join(dir, "kubectl_complete-mesh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *plugin) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.kubectl, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+env.Cluster.Kubeconfig(), "PATH="+p.path)
	return cmd
}

// run runs kubectl mesh, wants an exit code and returns what it printed on standard output.
func (p *plugin) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	cmd := p.command(t.Context(), append([]string{"mesh"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	t.Logf("kubectl mesh %s\n%s%s", strings.Join(args, " "), &out, &errs)
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Fatalf("kubectl mesh %s ends with %d, want %d", strings.Join(args, " "), got, code)
	}
	return out.String()
}

// says runs kubectl mesh and wants texts in what it printed.
func (p *plugin) says(t *testing.T, args []string, texts ...string) {
	t.Helper()
	out := p.run(t, 0, args...)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("kubectl mesh %s does not say %q", strings.Join(args, " "), text)
		}
	}
}

// ask runs kubectl mesh with -o json and reads what it prints.
func ask[T any](t *testing.T, p *plugin, args ...string) *T {
	t.Helper()
	out := new(T)
	decoder := json.NewDecoder(strings.NewReader(p.run(t, 0, append(args, "-o", "json")...)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(out); err != nil {
		t.Fatalf("kubectl mesh %s -o json: %v", strings.Join(args, " "), err)
	}
	return out
}

// started is a kubectl mesh that goes on while the test does.
type started struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	text bytes.Buffer
	done chan error
}

// Write keeps what it prints.
func (s *started) Write(raw []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(raw)
}

func (s *started) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (p *plugin) start(t *testing.T, args ...string) *started {
	t.Helper()
	s := &started{cmd: p.command(context.WithoutCancel(t.Context()), append([]string{"mesh"}, args...)...), done: make(chan error, 1)}
	s.cmd.Stdout, s.cmd.Stderr = s, s
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.done <- s.cmd.Wait() }()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it has mostly ended by itself
		t.Logf("kubectl mesh %s\n%s", strings.Join(args, " "), s)
	})
	return s
}

// waitSays waits until a started command has printed a text.
func (s *started) waitSays(t *testing.T, text string) {
	t.Helper()
	err := env.WaitFor(t.Context(), fmt.Sprintf("kubectl mesh to say %q", text), func(context.Context) (bool, string, error) {
		said := s.String()
		return strings.Contains(said, text), said, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ends waits until a started command ends, and wants its exit code.
func (s *started) ends(t *testing.T, code int) {
	t.Helper()
	err := env.WaitFor(t.Context(), "kubectl mesh to end", func(context.Context) (bool, string, error) {
		return len(s.done) == 1, s.String(), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("%v ends with %d, want %d", s.cmd.Args, got, code)
	}
}

// A mesh is upgraded by kubectl mesh alone, and two further upgrades are taken back; every command is run.
func TestPlugin(t *testing.T) {
	p := build(t)
	mesh := framework.Mesh("default", framework.Istio128)
	mesh.Spec.DataPlane.Waves = framework.Waves("early")
	mesh.Spec.Certificates.CA.Type = v1alpha1.CASourceManaged
	mesh.Spec.Gateways = []v1alpha1.Gateway{framework.Gateway("istio-ingress", "ingress")}
	mesh.Spec.Upgrade.Canary.RetireAfterSeconds = new(int32(0))
	mesh.Spec.Upgrade.Canary.Steps = []v1alpha1.Step{
		{Name: "begin", Type: v1alpha1.StepPause},
		{Name: "early", Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: "early", Percent: 100}},
		{Name: "go", Type: v1alpha1.StepPause},
	}
	env.Install(t, mesh)
	deploy(t, pay, "early")
	deploy(t, cart, "rest")

	t.Run("a look at the mesh", func(t *testing.T) { looks(t, p) })
	t.Run("an upgrade", func(t *testing.T) { upgrades(t, p) })
	t.Run("its history", func(t *testing.T) { remembers(t, p) })
	t.Run("one that is aborted, tried again, and rolled back", func(t *testing.T) { takesBack(t, p) })
	t.Run("certificates", func(t *testing.T) { certificates(t, p) })
	t.Run("a support archive", func(t *testing.T) { archives(t, p) })
}

// deploy runs an application in a namespace of a wave.
func deploy(t *testing.T, app framework.Echo, wave string) {
	t.Helper()
	labels := map[string]string{framework.EnrollLabel: "default", framework.WaveLabel: wave}
	env.TemporaryNamespace(t, app.Namespace, labels)
	if err := env.Enrolled(t.Context(), app.Namespace, "1-28-2", labels); err != nil {
		t.Fatal(err)
	}
	if err := env.Deploy(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	if err := env.WaitDeployment(t.Context(), client.ObjectKey{Namespace: app.Namespace, Name: app.Name}); err != nil {
		t.Fatal(err)
	}
}

func looks(t *testing.T, p *plugin) {
	version := ask[cli.MeshVersion](t, p, "version")
	if version.Operator == nil || version.Operator.Image == "" || version.Kubernetes == "" || len(version.Meshes) != 1 || version.Meshes[0].Revisions[0].Version != framework.Istio128 {
		t.Errorf("version: %+v", version)
	}
	p.says(t, []string{"status"}, "default", "1-28-2", "istio-ingress/ingress", "certificates", "upgrade targets", framework.Istio129)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		p.says(t, []string{"completion", shell}, "kubectl-mesh")
	}
	if out, err := p.command(t.Context(), "__complete", "mesh", "upgrade", "1.29").Output(); err != nil || !strings.Contains(string(out), framework.Istio129) {
		t.Errorf("kubectl completes the plugin as %q, %v", out, err)
	}
	p.run(t, 64, "status", "--no-such-flag")
	p.run(t, 1, "status", "nowhere")
	p.run(t, 3, "upgrade", "1.27.1")
	if plan := p.run(t, 2, "plan", "--to", framework.Istio129); !strings.Contains(plan, "1-29-1") {
		t.Error("the plan does not name the revision")
	}
	offline(t, p)
	p.says(t, []string{"preflight", "--to", framework.Istio129, "-o", "json"}, "MeshPreflight")
	p.says(t, []string{"upgrade", framework.Istio129, "--dry-run=server"}, "server dry run")
	p.run(t, 0, "proxies")
	if out := p.run(t, 0, "proxies", "-n", pay.Namespace, "-o", "name"); !strings.HasPrefix(out, "pod/pay-") {
		t.Errorf("proxies of namespace pay: %q", out)
	}
	if out := p.run(t, 0, "proxies", "--outdated", "-o", "name"); out != "" {
		t.Errorf("outdated before the upgrade: %q", out)
	}
}

// offline plans from a file, in less than a second.
func offline(t *testing.T, p *plugin) {
	t.Helper()
	file := filepath.Join(env.Root, "config", "samples", "least.yaml")
	begun := time.Now()
	plan := p.run(t, 2, "plan", "-f", file, "--offline")
	if took := time.Since(begun); took > time.Second || !strings.Contains(plan, "installs Istio") {
		t.Errorf("offline, a plan took %s:\n%s", took, plan)
	}
}

func upgrades(t *testing.T, p *plugin) {
	watch := p.start(t, "status", "--watch")
	upgrade := p.start(t, "upgrade", framework.Istio129, "--wait", "--timeout", "5m")
	upgrade.waitSays(t, "kubectl mesh approve begin")
	p.says(t, []string{"pause", "--wait"}, "MeshRollout default-1 paused", "Paused")
	p.says(t, []string{"pause"}, "is already paused")
	p.says(t, []string{"status"}, "MeshRollout default-1 is paused", "kubectl mesh resume")
	p.says(t, []string{"resume", "--wait"}, "MeshRollout default-1 resumed", "AwaitingApproval")
	p.says(t, []string{"approve"}, "step begin approved by kubernetes-admin")
	upgrade.waitSays(t, "kubectl mesh approve go")
	status := ask[cli.MeshStatus](t, p, "status")
	if r := status.Rollout; r == nil || r.Steps[1].State != "Done" || r.Steps[0].ApprovedBy != "kubernetes-admin" || len(status.Revisions) != 2 || len(status.Awaiting) == 0 {
		t.Errorf("status at the second pause: %+v", status)
	}
	if out := p.run(t, 0, "proxies", "--outdated", "-o", "name"); !strings.Contains(out, "pod/pay-") {
		t.Errorf("the wave that has moved is ahead of the stable revision, but: %q", out)
	}
	p.says(t, []string{"approve", "go", "-o", "name"}, "meshrollout.meshwright.io/default-1")
	upgrade.ends(t, 0)
	watch.waitSays(t, "1-29-1")
	if err := watch.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	watch.ends(t, 0)
	settled(t, "default-1", v1alpha1.OutcomeCompleted)
}

// settled waits until a rollout has ended, and nothing is under way.
func settled(t *testing.T, name string, outcome v1alpha1.RolloutOutcome) {
	t.Helper()
	if _, err := env.WaitRollout(t.Context(), name, "to end as "+string(outcome), framework.Ended(outcome)); err != nil {
		t.Fatal(err)
	}
	err := env.WaitFor(t.Context(), "nothing to be under way", func(ctx context.Context) (bool, string, error) {
		var m v1alpha1.MeshInstallation
		err := env.Client.Get(ctx, client.ObjectKey{Name: "default"}, &m)
		return m.Status.ActiveOperation == nil, fmt.Sprint(m.Status.ActiveOperation), err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func remembers(t *testing.T, p *plugin) {
	history := ask[cli.MeshHistory](t, p, "history")
	// The oldest is the rotation that gave the mesh its CA.
	if o := history.Operations; len(o) != 2 || o[0].Kind != "MeshRollout" || o[1].Kind != "MeshRotation" || o[0].Outcome != "Completed" || o[0].From != framework.Istio128 || o[0].To != framework.Istio129 || len(o[0].Approvals) != 2 {
		t.Errorf("history: %+v", history)
	}
	p.says(t, []string{"history", "default-1"}, "Completed", "approved by kubernetes-admin", "events", "steps")
	if out := p.run(t, 0, "proxies", "--outdated", "-o", "name"); out != "" {
		t.Errorf("outdated after the upgrade: %q", out)
	}
}

func takesBack(t *testing.T, p *plugin) {
	upgrade := p.start(t, "upgrade", framework.Istio131, "--wait")
	upgrade.waitSays(t, "kubectl mesh approve begin")
	p.says(t, []string{"waive", "Injection", "--for", "1m"}, "proof Injection waived")
	p.says(t, []string{"abort", "--wait"}, "MeshRollout default-2 is to be aborted")
	upgrade.ends(t, 3)
	settled(t, "default-2", v1alpha1.OutcomeAborted)
	p.says(t, []string{"status"}, "kubectl mesh retry --rollout default-2")
	p.says(t, []string{"retry"}, "another rollout tries its target again")
	if _, err := env.WaitRollout(t.Context(), "default-3", "to wait", framework.Acts(v1alpha1.ActAwaitApproval, v1alpha1.ReasonAwaitingApproval)); err != nil {
		t.Fatal(err)
	}
	p.says(t, []string{"approve"}, "step begin approved")
	_, err := env.WaitRollout(t.Context(), "default-3", "to wait again", func(o *v1alpha1.MeshRollout) bool {
		return framework.Acts(v1alpha1.ActAwaitApproval, v1alpha1.ReasonAwaitingApproval)(o) && o.Status.Progress.Step == 2
	})
	if err != nil {
		t.Fatal(err)
	}
	p.says(t, []string{"rollback", "--wait"}, "goes back to 1-29-1")
	settled(t, "default-3", v1alpha1.OutcomeRolledBack)
	p.says(t, []string{"upgrade", framework.Istio129, "--wait"}, "spec.version 1.31.0 -> 1.29.1")
}

// certificates sees a CA, changes its intermediate, turns back from another root, and fetches what an offline root has to sign.
func certificates(t *testing.T, p *plugin) {
	certs := ask[cli.MeshCertificates](t, p, "certs", "status")
	if certs.Certificates.Source != "Managed" || len(certs.Certificates.Roots) == 0 {
		t.Errorf("certs status: %+v", certs)
	}
	p.says(t, []string{"certs", "rotate", "--kind", "Intermediate", "--wait"}, "(Intermediate) created", "Completed")
	p.says(t, []string{"certs", "rotate", "--kind", "Root", "--name", "another-root"}, "MeshRotation another-root (Root) created")
	p.run(t, 3, "certs", "csr", "--rotation", "another-root")
	err := env.WaitFor(t.Context(), "the plan of another-root", func(ctx context.Context) (bool, string, error) {
		var o v1alpha1.MeshRotation
		err := env.Client.Get(ctx, client.ObjectKey{Name: "another-root"}, &o)
		return o.Status.Plan != nil, o.Status.Summary, err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.says(t, []string{"certs", "waive", "pay/nobody", "--for", "1m", "--rotation", "another-root"}, "pay/nobody waived")
	p.says(t, []string{"rollback", "--rotation", "another-root", "--wait"}, "another-root")

	offline := []byte(`{"spec":{"certificates":{"ca":{"managed":{"root":"Offline","answer":{"name":"signed"}}}}}}`)
	mesh := &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if err := env.Client.Patch(t.Context(), mesh, client.RawPatch(types.MergePatchType, offline)); err != nil {
		t.Fatal(err)
	}
	var asks v1alpha1.MeshRotation
	err = env.WaitFor(t.Context(), "a rotation to ask for a signature", func(ctx context.Context) (bool, string, error) {
		var all v1alpha1.MeshRotationList
		err := env.Client.List(ctx, &all)
		for i := range all.Items {
			if all.Items[i].Status.Request != "" && all.Items[i].Status.Progress.Outcome == "" {
				asks = all.Items[i]
			}
		}
		return asks.Name != "", fmt.Sprintf("%d rotations", len(all.Items)), err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.says(t, []string{"certs", "csr"}, "BEGIN CERTIFICATE REQUEST")
	p.says(t, []string{"abort", "--rotation", asks.Name, "--wait"}, asks.Name)
	p.says(t, []string{"pause", "--mesh-wide", "--wait"}, "mesh default paused")
	p.says(t, []string{"resume", "--mesh-wide", "--wait"}, "mesh default resumed")
}

// archives makes an archive, and looks that nothing of the cluster's Secrets is in it.
func archives(t *testing.T, p *plugin) {
	file := filepath.Join(t.TempDir(), "mesh.tgz")
	p.says(t, []string{"bundle", "--out", file}, file)
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for archive := tar.NewReader(bytes.NewReader(all)); ; {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
	for _, want := range []string{"meshwright/manifest.json", "meshwright/meshwright/meshinstallations/default.yaml", "meshwright/namespaces.json"} {
		if !slices.Contains(names, want) {
			t.Errorf("the archive lacks %s: %q", want, names)
		}
	}
	logs := slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "meshwright/logs/"+framework.OperatorNamespace+"/") })
	istiod := slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "meshwright/logs/istio-system/istiod-") })
	if !logs || !istiod {
		t.Errorf("logs of the operator: %v, of istiod: %v; files %q", logs, istiod, names)
	}
	var secrets corev1.SecretList
	if err := env.Client.List(t.Context(), &secrets); err != nil {
		t.Fatal(err)
	}
	for _, secret := range secrets.Items {
		for key, value := range secret.Data {
			public := strings.Contains(string(value), "BEGIN CERTIFICATE") && !strings.Contains(string(value), "PRIVATE KEY")
			if key != "namespace" && len(value) > 7 && !public && holds(all, value) {
				t.Errorf("the archive holds %s of Secret %s/%s", key, secret.Namespace, secret.Name)
			}
		}
	}
	if len(secrets.Items) == 0 || bytes.Contains(all, []byte("PRIVATE KEY")) {
		t.Errorf("%d Secrets were looked for; the archive holds a private key: %v", len(secrets.Items), bytes.Contains(all, []byte("PRIVATE KEY")))
	}
}

// holds says whether an archive has a value, whole or a line of it, as it is or in base64.
func holds(archive, value []byte) bool {
	const telling = 16 // bytes; shorter lines are in many things
	if bytes.Contains(archive, value) || bytes.Contains(archive, []byte(base64.StdEncoding.EncodeToString(value))) {
		return true
	}
	for line := range bytes.Lines(value) {
		line = bytes.TrimSpace(line)
		if len(line) > telling && !bytes.HasPrefix(line, []byte("-----")) && bytes.Contains(archive, line) {
			return true
		}
	}
	return false
}
