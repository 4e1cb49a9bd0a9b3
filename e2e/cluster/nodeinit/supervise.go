// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// again is how soon a service that ended, or is not asked for yet, is looked at again.
const again = 200 * time.Millisecond

// supervise prepares the node and keeps its services running.
func supervise() error {
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"kernel settings", settings},
		{"mounts", func() error { return run("mount", "--make-rshared", "/") }},
		{"cgroups", cgroups},
		{"files of the node", files},
		{"name service", nameService},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	go keep("containerd", func() (*exec.Cmd, bool) { return exec.Command("containerd"), true })
	if err := loadImages(); err != nil {
		return fmt.Errorf("images of the control plane: %w", err)
	}
	fmt.Println("detected cgroup v1") // the line in the log by which kind knows that a node has started
	keep("kubelet", kubelet)
	return nil
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// keep runs a service again whenever it ends; command says whether it should run yet.
func keep(name string, command func() (*exec.Cmd, bool)) {
	for {
		if cmd, wanted := command(); wanted {
			if err := logged(cmd, name); err != nil {
				log.Printf("%s ended: %v", name, err)
			}
		}
		time.Sleep(again)
	}
}

func logged(cmd *exec.Cmd, name string) error {
	out, err := os.OpenFile(filepath.Join("/var/log", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	return cmd.Run()
}

// kubelet runs once kubeadm has written its configuration.
func kubelet() (*exec.Cmd, bool) {
	if _, err := os.Stat("/var/lib/kubelet/config.yaml"); err != nil {
		return nil, false
	}
	args := []string{
		"--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf", "--kubeconfig=/etc/kubernetes/kubelet.conf",
		"--config=/var/lib/kubelet/config.yaml", "--cgroup-driver=cgroupfs",
	}
	flags, err := os.ReadFile("/var/lib/kubelet/kubeadm-flags.env")
	if err == nil {
		_, value, _ := strings.Cut(strings.TrimSpace(string(flags)), "=")
		args = append(args, strings.Fields(strings.Trim(value, `"`))...)
	}
	return exec.Command("kubelet", args...), true
}

// loadImages imports the images that the node carries, and pins them against the kubelet's garbage collection.
func loadImages() error {
	archives, err := filepath.Glob("/kind/images/*.tar")
	if err != nil {
		return err
	}
	for range 100 {
		if err = run("ctr", "version"); err == nil {
			break
		}
		time.Sleep(again / 2)
	}
	if err != nil {
		return fmt.Errorf("containerd does not answer: %w", err)
	}
	for _, archive := range archives {
		err := run("ctr", "--namespace=k8s.io", "images", "import", "--label=io.cri-containerd.pinned=pinned", "--all-platforms", "--digests", archive)
		if err != nil {
			return err
		}
	}
	return nil
}
