// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// endProcesses ends, by its own number, every process whose command line names a folder below dir.
func endProcesses(dir string) error {
	pids, err := processes(func(command []byte) bool { return bytes.Contains(command, []byte(dir+"/")) && ofEngineProgram(command) })
	if err != nil {
		return err
	}
	for _, pid := range pids {
		// A shim takes its containers with it only when asked kindly; what is in them ends with their first process.
		for _, child := range descendants(pid) {
			_ = syscall.Kill(child, syscall.SIGKILL)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	deadline := time.Now().Add(10 * time.Second)
	for _, pid := range pids {
		for syscall.Kill(pid, 0) == nil && !zombie(pid) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d does not end: end it by hand (kill -9 %d)", pid, pid)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	return nil
}

// processes are the numbers of the others whose command line, words that end in zero bytes, is meant.
func processes(meant func(command []byte) bool) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		command, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && meant(command) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// orphans are the docker commands that make a node of a cluster.
func orphans(name string) ([]int, error) {
	label := []byte("\x00io.x-k8s.kind.cluster=" + name + "\x00")
	return processes(func(command []byte) bool {
		program, _, _ := bytes.Cut(command, []byte{0})
		return filepath.Base(string(program)) == "docker" && bytes.Contains(command, label)
	})
}

// awaitOrphans waits until nothing that a killed run began makes a node any more. A node that came after the others were removed
// would be in the way of the next, and the engine would make folders in place of the files that it mounts.
func awaitOrphans(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		pids, err := orphans(name)
		if err != nil || len(pids) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d still makes a node of an earlier cluster %s: end it by hand (kill %d)", pids[0], name, pids[0])
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ofEngineProgram keeps a shell or an editor that only looks at the folder alive.
func ofEngineProgram(command []byte) bool {
	program, _, _ := bytes.Cut(command, []byte{0})
	name := filepath.Base(string(program))
	return name == "dockerd" || name == "containerd" || strings.HasPrefix(name, "containerd-shim")
}

// descendants of a process, the deepest first.
func descendants(pid int) []int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var out []int
	for text := range strings.FieldsSeq(string(raw)) {
		child, err := strconv.Atoi(text)
		if err != nil {
			continue
		}
		out = append(out, append(descendants(child), child)...)
	}
	return out
}

// zombie says whether a process has ended and only waits for its parent, which may be this one.
func zombie(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	after := raw[bytes.LastIndexByte(raw, ')')+1:]
	return strings.Fields(string(after))[0] == "Z"
}
