// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	kind "sigs.k8s.io/kind/pkg/cluster"
	"sigs.k8s.io/kind/pkg/cluster/nodes"
	"sigs.k8s.io/kind/pkg/log"

	"github.com/meshwright/meshwright/e2e/cluster/artifact"
)

func newProvider(progress artifact.Progress) *kind.Provider {
	return kind.NewProvider(kind.ProviderWithDocker(), kind.ProviderWithLogger(logger{progress}))
}

// logger hands kind's warnings on; its progress is told by ours.
type logger struct{ progress artifact.Progress }

func (l logger) Warn(message string)           { l.progress.Say("kind: " + message) }
func (l logger) Warnf(format string, a ...any) { l.Warn(fmt.Sprintf(format, a...)) }
func (l logger) Error(message string)          { l.Warn(message) }
func (l logger) Errorf(format string, a ...any) {
	l.Warn(fmt.Sprintf(format, a...))
}
func (l logger) V(log.Level) log.InfoLogger { return log.NoopInfoLogger{} }

// auditPolicy has every request written once, when it is answered.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
`

// podNetworkConfig is the node's whole network plugin: a veth pair for each pod and routes, with no daemon.
const podNetworkConfig = `{"cniVersion": "0.3.1", "name": "meshwright", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam-state",
    "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
`

// createNodes has kind make the cluster and waits until it can be used.
func (c *Cluster) createNodes(ctx context.Context) (err error) {
	end := c.progress.Begin("starting Kubernetes "+c.record.Kubernetes, 20*time.Second)
	defer func() { end(err) }()
	config, err := c.config()
	if err != nil {
		return err
	}
	err = c.provider.Create(c.record.Name,
		kind.CreateWithV1Alpha4Config(config),
		kind.CreateWithNodeImage(c.record.NodeImage),
		kind.CreateWithKubeconfigPath(c.Kubeconfig()),
		kind.CreateWithWaitForReady(2*time.Minute),
		kind.CreateWithRetain(true), // until its logs are collected
		kind.CreateWithDisplayUsage(false),
		kind.CreateWithDisplaySalutation(false),
	)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return c.settled(ctx)
}

// config of kind, and the files that it mounts.
func (c *Cluster) config() (*v1alpha4.Cluster, error) {
	audit := filepath.Dir(c.AuditLog())
	if err := os.MkdirAll(audit, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(audit, "policy.yaml"), []byte(auditPolicy), 0o644); err != nil {
		return nil, err
	}
	version, err := semver.NewVersion(c.record.Kubernetes)
	if err != nil {
		return nil, fmt.Errorf("version of Kubernetes %q: %w", c.record.Kubernetes, err)
	}
	node := v1alpha4.Node{
		Role:        v1alpha4.ControlPlaneRole,
		ExtraMounts: []v1alpha4.Mount{{HostPath: audit, ContainerPath: "/audit"}},
	}
	config := &v1alpha4.Cluster{
		TypeMeta: v1alpha4.TypeMeta{Kind: "Cluster", APIVersion: "kind.x-k8s.io/v1alpha4"},
		Networking: v1alpha4.Networking{
			APIServerAddress: "127.0.0.1", IPFamily: v1alpha4.IPv4Family, PodSubnet: c.record.podNetwork(), ServiceSubnet: "10.96.0.0/16",
		},
		KubeadmConfigPatches: []string{auditPatch(version)},
	}
	if version.Minor() >= 35 {
		config.KubeadmConfigPatches = append(config.KubeadmConfigPatches, oldCgroups)
	}
	if c.record.Source == ImagesBuild {
		network := filepath.Join(c.dir, "network.conflist")
		if err := os.WriteFile(network, fmt.Appendf(nil, podNetworkConfig, c.record.nodeNetwork()), 0o644); err != nil {
			return nil, err
		}
		node.ExtraMounts = append(node.ExtraMounts, v1alpha4.Mount{HostPath: network, ContainerPath: "/etc/cni/net.d/10-meshwright.conflist"})
		config.Networking.DisableDefaultCNI = true
		config.FeatureGates = map[string]bool{"KubeletInUserNamespace": true} // the kubelet does without what the machine withholds
	}
	config.Nodes = []v1alpha4.Node{node}
	return config, nil
}

// auditPatch makes the API server write its audit log. kind writes kubeadm's v1beta3 below Kubernetes 1.36, where arguments
// are a map, and v1beta4 from there on, where they are a list.
func auditPatch(kubernetes *semver.Version) string {
	// One file, never rotated in the life of a test cluster: those who count requests read on where they were.
	args := `{audit-policy-file: /audit/policy.yaml, audit-log-path: /audit/audit.log, audit-log-maxsize: "100000"}`
	if kubernetes.Minor() >= 36 {
		args = `[{name: audit-policy-file, value: /audit/policy.yaml}, {name: audit-log-path, value: /audit/audit.log},
    {name: audit-log-maxsize, value: "100000"}]`
	}
	return `kind: ClusterConfiguration
apiServer:
  extraArgs: ` + args + `
  extraVolumes: [{name: audit, hostPath: /audit, mountPath: /audit, readOnly: false, pathType: DirectoryOrCreate}]
`
}

// oldCgroups lets the kubelet start on a machine with version 1 of cgroups, which it refuses from Kubernetes 1.35 on.
const oldCgroups = `kind: KubeletConfiguration
failCgroupV1: false
`

// settled waits until pods can be created and names be resolved: a node that is Ready proves neither.
func (c *Cluster) settled(ctx context.Context) error {
	for {
		why := c.look(ctx)
		if why == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("is not ready: %w", why)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// look says what keeps the cluster from being used, at this moment.
func (c *Cluster) look(ctx context.Context) error {
	config, err := c.RESTConfig()
	if err != nil {
		return err
	}
	config.Timeout = time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if _, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{}); err != nil {
		return err
	}
	all, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range all.Items {
		ready := false
		for _, condition := range n.Status.Conditions {
			ready = ready || condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue
		}
		if !ready {
			return fmt.Errorf("node %s is not ready", n.Name)
		}
	}
	dns, err := client.AppsV1().Deployments(metav1.NamespaceSystem).Get(ctx, "coredns", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if dns.Status.AvailableReplicas == 0 {
		return errors.New("CoreDNS has no replica that serves")
	}
	proxy, err := client.AppsV1().DaemonSets(metav1.NamespaceSystem).Get(ctx, "kube-proxy", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if proxy.Status.NumberReady == 0 || proxy.Status.NumberReady != proxy.Status.DesiredNumberScheduled {
		return fmt.Errorf("kube-proxy runs on %d of %d nodes", proxy.Status.NumberReady, proxy.Status.DesiredNumberScheduled)
	}
	return nil
}

// node is the one node of the cluster.
func (c *Cluster) node() (nodes.Node, error) {
	all, err := c.provider.ListNodes(c.record.Name)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("cluster %s has no node", c.record.Name)
	}
	return all[0], nil
}

// RestartAPIServer kills the API server of the cluster, as a crash would, and waits until it answers again.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	if err := c.Kill(ctx, "kube-apiserver"); err != nil {
		return err
	}
	return c.settled(ctx)
}

// Kill sends SIGKILL to every process of the cluster that runs a program, by the name it was called with.
func (c *Cluster) Kill(ctx context.Context, program string) error {
	n, pids, err := c.processes(ctx, program)
	if err != nil {
		return err
	}
	// One that has ended by itself meanwhile is dead too.
	const script = `for pid; do kill -9 "$pid" || test ! -e "/proc/$pid" || exit 1; done`
	if err := n.CommandContext(ctx, "sh", append([]string{"-c", script, "sh"}, pids...)...).Run(); err != nil {
		return fmt.Errorf("killing %s: %w", program, err)
	}
	return nil
}

// Signal sends a signal, such as STOP, to the processes that run a program with an entry in their environment, such as POD_NAME=shop-0.
func (c *Cluster) Signal(ctx context.Context, program, entry, signal string) error {
	n, pids, err := c.processes(ctx, program)
	if err != nil {
		return err
	}
	const script = `signal=$1 entry=$2; shift 2; found=1; for pid; do
		if tr '\0' '\n' <"/proc/$pid/environ" | grep -qxF "$entry"; then kill -s "$signal" "$pid" && found=0; fi
	done; exit $found`
	if err := n.CommandContext(ctx, "sh", append([]string{"-c", script, "sh", signal, entry}, pids...)...).Run(); err != nil {
		return fmt.Errorf("sending %s to %s with %s: %w", signal, program, entry, err)
	}
	return nil
}

// Tag gives an image that the cluster holds one more name.
func (c *Cluster) Tag(ctx context.Context, image, name string) error {
	n, err := c.node()
	if err != nil {
		return err
	}
	if err := n.CommandContext(ctx, "ctr", "--namespace=k8s.io", "images", "tag", "--force", image, name).Run(); err != nil {
		return fmt.Errorf("naming image %s %s: %w", image, name, err)
	}
	return nil
}

// Memory is what the kernel says of a process that runs a program in the cluster, in bytes; of several, that of the largest.
func (c *Cluster) Memory(ctx context.Context, program string) (resident, anonymous int64, err error) {
	n, pids, err := c.processes(ctx, program)
	if err != nil {
		return 0, 0, err
	}
	for _, pid := range pids {
		var out strings.Builder
		if err := n.CommandContext(ctx, "cat", "/proc/"+pid+"/status").SetStdout(&out).Run(); err != nil {
			return 0, 0, fmt.Errorf("memory of %s: %w", program, err)
		}
		one, part, err := memoryOf(out.String())
		if err != nil {
			return 0, 0, fmt.Errorf("memory of %s: %w", program, err)
		}
		if one > resident {
			resident, anonymous = one, part
		}
	}
	return resident, anonymous, nil
}

// memoryOf reads VmRSS and RssAnon from a process's status, which gives them in units of 1024 bytes.
func memoryOf(status string) (resident, anonymous int64, err error) {
	for line := range strings.SplitSeq(status, "\n") {
		fields := strings.Fields(line)
		if len(fields) != 3 {
			continue
		}
		switch fields[0] {
		case "VmRSS:":
			resident, err = strconv.ParseInt(fields[1], 10, 64)
		case "RssAnon:":
			anonymous, err = strconv.ParseInt(fields[1], 10, 64)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	if resident == 0 || anonymous == 0 {
		return 0, 0, fmt.Errorf("the kernel does not say: %q", status)
	}
	return resident << 10, anonymous << 10, nil
}

// processes are those of the cluster that run a program, by the name it was called with, and the node they run on.
func (c *Cluster) processes(ctx context.Context, program string) (nodes.Node, []string, error) {
	n, err := c.node()
	if err != nil {
		return nil, nil, err
	}
	var out strings.Builder
	list := n.CommandContext(ctx, "sh", "-c", "for p in /proc/[0-9]*; do echo ${p#/proc/} $(tr '\\0' ' ' <$p/cmdline); done")
	if err := list.SetStdout(&out).Run(); err != nil {
		return nil, nil, fmt.Errorf("looking for %s: %w", program, err)
	}
	var pids []string
	for line := range strings.SplitSeq(out.String(), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[1] == program {
			pids = append(pids, fields[0])
		}
	}
	if len(pids) == 0 {
		return nil, nil, fmt.Errorf("no %s runs in cluster %s", program, c.record.Name)
	}
	return n, pids, nil
}

// Connect routes the pod networks of two clusters to each other.
func Connect(ctx context.Context, a, b *Cluster) error {
	for _, pair := range [][2]*Cluster{{a, b}, {b, a}} {
		from, err := pair[0].node()
		if err != nil {
			return err
		}
		to, err := pair[1].node()
		if err != nil {
			return err
		}
		address, _, err := to.IP()
		if err != nil {
			return err
		}
		err = from.CommandContext(ctx, "ip", "route", "replace", pair[1].record.nodeNetwork(), "via", address).Run()
		if err != nil {
			return fmt.Errorf("route from cluster %s to %s: %w", pair[0].record.Name, pair[1].record.Name, err)
		}
	}
	return nil
}
