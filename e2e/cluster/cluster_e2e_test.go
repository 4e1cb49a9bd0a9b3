// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package cluster_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/cluster"
	"github.com/meshwright/meshwright/e2e/cluster/artifact"
	"github.com/meshwright/meshwright/e2e/framework"
)

// One life of two clusters: the run that makes the first is killed at a random moment, the next run clears what it left;
// the second is made beside it, their pods reach each other; each request is in the audit log of its own API server; one is
// taken down, the engine of the other dies before it is, when no other cluster lives there, and the machine is as it was.
func TestClustersSideBySide(t *testing.T) {
	before := lookAtMachine(t)
	t.Cleanup(func() {
		for _, name := range []string{"east", "west"} {
			if err := cluster.Down(context.Background(), name); err != nil {
				t.Errorf("taking %s down after the test: %v", name, err)
			}
		}
	})
	killWhileItStarts(t, "east")
	east, west := attach(t, "east"), attach(t, "west")
	if err := cluster.Connect(t.Context(), east.Cluster, west.Cluster); err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]*framework.Env{{east, west}, {west, east}} {
		asks(t, pair[0], pair[1])
	}
	if again, err := cluster.Up(t.Context(), options("east")); err != nil || again.Kubeconfig() != east.Cluster.Kubeconfig() {
		t.Errorf("a cluster that is up is not used again: %v", err)
	}
	_, err := cluster.Up(t.Context(), cluster.Options{Name: "east", Kubernetes: "1.36.3"})
	if err == nil || !strings.Contains(err.Error(), "take it down first") {
		t.Errorf("another version over a cluster that is up: %v", err)
	}
	if err := cluster.Down(t.Context(), "east"); err != nil {
		t.Fatal(err)
	}
	others, err := cluster.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(others) == 1 { // an engine in which somebody else's cluster lives is not killed
		killPrivateEngine(t)
	}
	if err := cluster.Down(t.Context(), "west"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, lookAtMachine(t)); diff != "" {
		t.Errorf("the machine before and after (-before +after):\n%s", diff)
	}
}

func options(name string) cluster.Options {
	return cluster.Options{Name: name, Images: []artifact.Artifact{artifact.EchoImage(), artifact.LoadImage()}}
}

func attach(t *testing.T, name string) *framework.Env {
	t.Helper()
	c, err := cluster.Up(t.Context(), options(name))
	if err != nil {
		t.Fatal(err)
	}
	env, err := framework.Attach(c, artifact.NewProgress(os.Stderr))
	if err != nil {
		t.Fatal(err)
	}
	return env
}

// killWhileItStarts runs the command that brings a cluster up, and kills it at a moment between its first word about
// Kubernetes and the time it takes to start.
func killWhileItStarts(t *testing.T, name string) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	for longest := 15 * time.Second; ; longest /= 2 {
		after := time.Duration(random.Int64N(int64(longest)))
		t.Logf("seed %d: killed %s after Kubernetes began to start", seed, after)
		if !upAndKilled(t, name, after) {
			t.Log("it was up before that")
			if err := cluster.Down(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			continue
		}
		all, err := cluster.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		state := slices.IndexFunc(all, func(s cluster.Status) bool { return s.Name == name })
		if state < 0 || !strings.HasPrefix(all[state].State, "half-dead") {
			t.Errorf("status after the kill: %+v", all)
		}
		return
	}
}

// upAndKilled says whether the command was killed before it came to its end.
func upAndKilled(t *testing.T, name string, after time.Duration) bool {
	t.Helper()
	program := filepath.Join(t.TempDir(), "cluster")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/cluster").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	up := exec.CommandContext(t.Context(), program, "up", "--name", name)
	said, err := up.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	var words strings.Builder
	lines := bufio.NewScanner(said)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "starting Kubernetes") {
		words.WriteString(lines.Text() + "\n")
	}
	if !strings.HasPrefix(lines.Text(), "starting Kubernetes") {
		t.Fatalf("no Kubernetes was started: %s", words.String())
	}
	kill := time.AfterFunc(after, func() { _ = up.Process.Kill() })
	defer kill.Stop()
	for lines.Scan() { // until it is dead
	}
	return up.Wait() != nil
}

// killPrivateEngine gives an engine no time to put anything away. An engine of the host's own is left alone.
func killPrivateEngine(t *testing.T) {
	t.Helper()
	state, err := stateDir()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(state, "engine", "pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// asks sends requests from a pod of one cluster to the address of a pod of the other.
func asks(t *testing.T, from, to *framework.Env) {
	t.Helper()
	app := framework.Echo{Namespace: corev1.NamespaceDefault, Name: "echo", Version: "1", Replicas: 1}
	if err := to.Deploy(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	if err := to.WaitDeployment(t.Context(), client.ObjectKey{Namespace: app.Namespace, Name: app.Name}); err != nil {
		t.Fatal(err)
	}
	var pods corev1.PodList
	if err := to.Client.List(t.Context(), &pods, client.InNamespace(app.Namespace), client.MatchingLabels{"app": app.Name}); err != nil {
		t.Fatal(err)
	}
	load := framework.Load{
		Namespace: corev1.NamespaceDefault, Name: "ask", Requests: 20, QPS: 20, Connections: 2,
		URL: "http://" + net.JoinHostPort(pods.Items[0].Status.PodIP, strconv.Itoa(framework.EchoPort)) + "/",
	}
	result, err := from.RunLoad(t.Context(), load)
	if err != nil {
		t.Fatal(err)
	}
	if result.Requests != 20 || result.Failed != 0 {
		t.Errorf("from %s to %s: %+v", from.Cluster.Name(), to.Cluster.Name(), result)
	}
	audit, err := os.ReadFile(from.Cluster.AuditLog())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(audit, []byte("/api/v1/namespaces/default/pods/ask/log")) {
		t.Errorf("the audit log of %s does not have what was asked of it", from.Cluster.Name())
	}
}

// machineState is what a cluster changes on a machine.
type machineState struct {
	Processes, Mounts, Links, Routes, Rules, Cgroups, Files []string
}

func lookAtMachine(t *testing.T) machineState {
	t.Helper()
	var s machineState
	for _, look := range []func() error{s.processes, s.mounts, s.links, s.rules, s.cgroups, s.files} {
		if err := look(); err != nil {
			t.Fatal(err)
		}
	}
	for _, list := range []*[]string{&s.Processes, &s.Mounts, &s.Links, &s.Routes, &s.Rules, &s.Cgroups, &s.Files} {
		slices.Sort(*list)
	}
	return s
}

// processes by name: those of an engine, of a node and of its pods. One that has ended and waits for its parent to notice is none.
func (s *machineState) processes() error {
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return err
	}
	ours := []string{"dockerd", "docker-proxy", "containerd", "containerd-shim", "nodeinit", "kubelet", "kube", "etcd", "coredns", "pause", "echo", "load"}
	for _, file := range names {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		_, after, _ := strings.Cut(string(raw), "(")
		name, state, _ := strings.Cut(after, ") ")
		if strings.HasPrefix(state, "Z") {
			continue
		}
		if slices.ContainsFunc(ours, func(o string) bool { return name == o || strings.HasPrefix(name, o+"-") }) {
			s.Processes = append(s.Processes, name)
		}
	}
	return nil
}

func (s *machineState) mounts() error {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.SplitSeq(string(raw), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 {
			s.Mounts = append(s.Mounts, fields[4])
		}
	}
	return err
}

func (s *machineState) links() error {
	links, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, l := range links {
		s.Links = append(s.Links, l.Attrs().Name)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	for _, r := range routes {
		s.Routes = append(s.Routes, r.String())
	}
	return err
}

func (s *machineState) rules() error {
	for _, table := range []string{"filter", "nat", "mangle"} {
		out, err := exec.CommandContext(context.Background(), "iptables", "-w", "-t", table, "-S").Output()
		if err != nil {
			return err
		}
		for line := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n") {
			s.Rules = append(s.Rules, table+" "+line)
		}
	}
	forward, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	s.Rules = append(s.Rules, "ip_forward "+strings.TrimSpace(string(forward)))
	return err
}

func (s *machineState) cgroups() error {
	return filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (strings.Contains(path, "docker") || strings.Contains(path, "kube")) {
			s.Cgroups = append(s.Cgroups, path)
		}
		return nil // groups come and go while they are walked
	})
}

// files where engines and networks leave some, and the state folder down to the clusters.
func (s *machineState) files() error {
	state, err := stateDir()
	if err != nil {
		return err
	}
	for _, pattern := range []string{
		filepath.Join(state, "engine"), filepath.Join(state, "clusters", "*"), "/run/docker*", "/run/netns/*", "/run/containerd/*",
		"/var/lib/cni/*", "/etc/cni/net.d/*",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		s.Files = append(s.Files, found...)
	}
	return nil
}

func stateDir() (string, error) {
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", err
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "meshwright"), nil
}
