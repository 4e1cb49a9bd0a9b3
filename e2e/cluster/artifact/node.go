// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// NodeImageName is the name of the node image of a Kubernetes version.
func NodeImageName(kubernetes string) string { return "local.test/node:v" + kubernetes }

// NodeImage is a node of kind: containerd, runc, CNI plugins and busybox of the host, Kubernetes of this store, and
// [NodeInit] as the first process, which loads the control plane's images that the image carries.
func NodeImage(kubernetes string) Artifact { return Artifact{kindNodeImage, kubernetes} }

// hostPrograms are copied from the host into the node, at the same path unless said otherwise.
var hostPrograms = []string{
	"/usr/bin/containerd", "/usr/bin/containerd-shim-runc-v2", "/usr/bin/ctr", "/usr/sbin/runc",
}

// cniPlugins of the host, by name; nodes look for them in /opt/cni/bin.
var cniPlugins = []string{"host-local", "loopback", "portmap", "ptp"}

const (
	cniDir  = "/usr/lib/cni"
	busybox = "/bin/busybox"
)

// needNode are what a node is made of besides Go modules.
var needNode = need{
	remedy: "containerd, runc, the CNI plugins or busybox of the host are missing: " +
		"apt-get install containerd runc containernetworking-plugins busybox-static",
	met: func() bool {
		files := append([]string{busybox}, hostPrograms...)
		for _, plugin := range cniPlugins {
			files = append(files, filepath.Join(cniDir, plugin))
		}
		for _, f := range files {
			if _, err := os.Stat(f); err != nil {
				return false
			}
		}
		return true
	},
}

// node is the recipe of a node image.
func (w *workshop) node(kubernetes string) recipe {
	kube, kubeadm := Kube(kubernetes), Kubeadm(kubernetes)
	images := ControlPlaneImages(kubernetes)
	return recipe{
		file:   "image.tar",
		inputs: append([]Artifact{kube, kubeadm, NodeInit()}, images...),
		reads:  []need{needXtables, needNode},
		maker: func(ctx context.Context, inputs map[Artifact]string) (maker, error) {
			pause, err := askKubeadm(ctx, inputs[kubeadm], kubernetes, []string{"pause"})
			if err != nil {
				return nil, err
			}
			i := image{
				identity:   w.identity,
				Tags:       []string{NodeImageName(kubernetes)},
				Entrypoint: []string{"/sbin/nodeinit"},
				Env:        []string{"KUBERNETES_VERSION=v" + kubernetes, "PAUSE_IMAGE=" + pause[0]},
				Files: map[string]imageFile{
					"/sbin/nodeinit":     program(inputs[NodeInit()]),
					"/usr/bin/kube":      program(inputs[kube]),
					"/usr/bin/kubelet":   link("kube"),
					"/usr/bin/kubectl":   link("kube"),
					"/usr/bin/kubeadm":   program(inputs[kubeadm]),
					"/lib/modules":       folder(0o755),
					"/root":              folder(0o700),
					"/var/lib/container": folder(0o755),
				},
			}
			for _, dir := range []string{"/proc", "/sys", "/dev", "/run", "/etc/kubernetes/manifests", "/kind/manifests", "/var/log"} {
				i.Files[dir] = folder(0o755)
			}
			for _, a := range images {
				i.Files["/kind/images/"+string(a.kind)+".tar"] = imageFile{From: inputs[a], Mode: 0o644}
			}
			return i, i.addHost(ctx)
		},
	}
}

// addHost adds the programs of the host and the libraries that they load.
func (i image) addHost(ctx context.Context) error {
	if err := i.addIptables(); err != nil {
		return err
	}
	dynamic := append([]string{}, hostPrograms...)
	for _, p := range hostPrograms {
		i.Files[p] = program(p)
	}
	for _, plugin := range cniPlugins {
		from := filepath.Join(cniDir, plugin)
		i.Files["/opt/cni/bin/"+plugin] = program(from)
		dynamic = append(dynamic, from)
	}
	if err := i.addLibraries(dynamic...); err != nil {
		return err
	}
	applets, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w", busybox, err)
	}
	i.Files["/bin/busybox"] = program(busybox)
	for applet := range strings.FieldsSeq(string(applets)) {
		at := path.Join("/bin", applet)
		if _, taken := i.Files[at]; !taken {
			i.Files[at] = link("busybox")
		}
	}
	return nil
}
