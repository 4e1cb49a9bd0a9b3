// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// settings lets the kubelet and kube-proxy write kernel settings that belong to the whole machine: they write files of the
// node that are bound over them.
func settings() error {
	values := map[string]string{
		"vm/overcommit_memory": "1", "vm/panic_on_oom": "0", "kernel/panic": "10", "kernel/panic_on_oops": "1",
		"kernel/keys/root_maxkeys": "1000000", "kernel/keys/root_maxbytes": "25000000",
	}
	if err := os.MkdirAll("/kind/sysctl", 0o755); err != nil {
		return err
	}
	for name, value := range values {
		file := filepath.Join("/kind/sysctl", strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := run("mount", "--bind", file, "/proc/sys/"+name); err != nil {
			return err
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/conf/all/route_localnet", []byte("1"), 0o644)
}

// cgroups makes the group that kind tells the kubelet to live in, in every controller of cgroup v1.
func cgroups() error {
	controllers, err := os.ReadDir("/sys/fs/cgroup")
	if err != nil {
		return err
	}
	for _, c := range controllers {
		dir := filepath.Join("/sys/fs/cgroup", c.Name())
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		group := filepath.Join(dir, "kubelet")
		if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} { // empty in a new group, in which then nothing may run
			value, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(group, name), value, 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// containerdConfig is of containerd 1.6. The restrictions are those of machines whose engine may not raise limits.
const containerdConfig = `version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = %q
  restrict_oom_score_adj = true
  disable_apparmor = true
  tolerate_missing_hugepages_controller = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    discard_unpacked_layers = true
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
`

// What kind applies after kubeadm: it wants both files, with an object in each.
const (
	networkManifest = `apiVersion: v1
kind: ConfigMap
metadata: {name: network, namespace: kube-system}
data: {plugin: "ptp, configured by a file of the node"}
`
	storageManifest = `apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: kubernetes.io/no-provisioner
volumeBindingMode: WaitForFirstConsumer
`
)

func files() error {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	for path, text := range map[string]string{
		"/etc/machine-id":                      hex.EncodeToString(id) + "\n",
		"/etc/passwd":                          "root:x:0:0:root:/root:/bin/sh\n",
		"/etc/group":                           "root:x:0:\n",
		"/etc/os-release":                      "PRETTY_NAME=\"Meshwright test node\"\nID=meshwright\n",
		"/etc/nsswitch.conf":                   "hosts: files dns\n",
		"/etc/containerd/config.toml":          fmt.Sprintf(containerdConfig, os.Getenv("PAUSE_IMAGE")),
		"/kind/version":                        os.Getenv("KUBERNETES_VERSION"),
		"/kind/manifests/default-cni.yaml":     networkManifest,
		"/kind/manifests/default-storage.yaml": storageManifest,
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// engineDNS is where Docker answers names inside a container: a loopback address, which pods can't reach.
const engineDNS = "127.0.0.11"

var (
	outputRule   = regexp.MustCompile(`(?m)^-A OUTPUT (.*) -j DOCKER_OUTPUT$`)
	defaultRoute = regexp.MustCompile(`(?m)^default via (\S+)`)
)

// nameService makes the engine's DNS answer on the address of the default gateway too, for pods; and refuses Service
// addresses that kube-proxy has not programmed yet, which would be waited for otherwise.
func nameService() error {
	if err := run("iptables", "-A", "FORWARD", "-d", "10.96.0.0/16", "-j", "REJECT"); err != nil {
		return err
	}
	routes, err := exec.Command("ip", "route").Output()
	if err != nil {
		return err
	}
	found := defaultRoute.FindSubmatch(routes)
	if found == nil {
		return fmt.Errorf("no default route in %q", routes)
	}
	gateway := string(found[1])
	rules, err := exec.Command("iptables-save").Output()
	if err != nil {
		return err
	}
	text := strings.ReplaceAll(string(rules), "-d "+engineDNS, "-d "+gateway)
	text = outputRule.ReplaceAllString(text, "$0\n-A PREROUTING $1 -j DOCKER_OUTPUT")
	text = strings.ReplaceAll(text, "--to-source :53", "--to-source "+gateway+":53")
	restore := exec.Command("iptables-restore")
	restore.Stdin = strings.NewReader(text)
	if out, err := restore.CombinedOutput(); err != nil {
		return fmt.Errorf("iptables-restore: %w: %s", err, bytes.TrimSpace(out))
	}
	resolver, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return err
	}
	// The file is a mount: it is written in place.
	return os.WriteFile("/etc/resolv.conf", bytes.ReplaceAll(resolver, []byte(engineDNS), []byte(gateway)), 0o644)
}
