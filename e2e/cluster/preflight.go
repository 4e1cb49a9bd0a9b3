// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What a cluster needs at least: a node takes about 460 MB, an Istio with a gateway as much again; images and layers of two
// Istios take about 4 GB.
const (
	needMemory = 2 << 30
	needDisk   = 5 << 30
)

// hostFiles says which of Debian's packages brings what a private engine and built images need.
var hostFiles = []struct{ file, pkg string }{
	{"/usr/sbin/dockerd", "docker.io"},
	{"/usr/bin/docker", "docker.io"},
	{"/usr/bin/containerd", "containerd"},
	{"/usr/sbin/runc", "runc"},
	{"/usr/lib/cni/ptp", "containernetworking-plugins"},
	{"/usr/sbin/xtables-nft-multi", "iptables"},
	{"/bin/busybox", "busybox-static"},
}

// hostCommands are what the same is needed of, wherever it was installed to.
var hostCommands = []struct{ command, pkg string }{
	{"python3", "python3"},
	{"pip3", "python3-pip"},
}

func missingPackages() []string {
	var out []string
	for _, f := range hostFiles {
		if _, err := os.Stat(f.file); err != nil && !slices.Contains(out, f.pkg) {
			out = append(out, f.pkg)
		}
	}
	for _, c := range hostCommands {
		if _, err := exec.LookPath(c.command); err != nil {
			out = append(out, c.pkg)
		}
	}
	return out
}

// machine is what decides whether a cluster can be made here.
type machine struct {
	os           string
	root         bool
	missing      []string // packages
	memory, disk int64    // bytes that are free
}

func lookAtMachine(dir string) (machine, error) {
	m := machine{os: runtime.GOOS, root: os.Geteuid() == 0, missing: missingPackages()}
	if m.os != "linux" {
		return m, nil // nothing else can be looked up there, nor is it needed
	}
	var memory, disk error
	m.memory, memory = memoryAvailable()
	m.disk, disk = diskFree(dir)
	return m, errors.Join(memory, disk)
}

// fits says what stands in the way of clusters here, with its remedy. One that is not up yet needs room in dir.
func (m machine) fits(dir string, up bool) error {
	switch {
	case m.os != "linux":
		return fmt.Errorf("clusters are started on Linux, this is %s: use a Linux machine, or kind by itself", m.os)
	case !m.root:
		return errors.New("a private engine has to be started as root: use sudo, or start Docker and add --engine host")
	case len(m.missing) > 0:
		return fmt.Errorf("packages are missing: apt-get install %s, or add --install-packages", strings.Join(m.missing, " "))
	case up:
		return nil
	case m.memory < needMemory:
		return fmt.Errorf("%d MiB of memory are available and a cluster needs %d: stop something", m.memory>>20, needMemory>>20)
	case m.disk < needDisk:
		return fmt.Errorf("%d MiB are free in %s and a cluster needs %d: remove something, or set XDG_STATE_HOME to another disk", m.disk>>20, dir, needDisk>>20)
	}
	return nil
}

// preflight says at once what stands in the way of a cluster that is made here.
func preflight(ctx context.Context, o Options, dir string, up bool) error {
	m, err := lookAtMachine(dir)
	if err != nil {
		return err
	}
	if o.InstallPackages && m.os == "linux" && m.root && len(m.missing) > 0 {
		if err := install(ctx, o, m.missing); err != nil {
			return err
		}
		m.missing = missingPackages()
	}
	return m.fits(dir, up)
}

func install(ctx context.Context, o Options, packages []string) (err error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("there is no apt-get to install %s: install them by your distribution's means", strings.Join(packages, " "))
	}
	end := o.Progress.Begin("installing "+strings.Join(packages, " "), 0)
	defer func() { end(err) }()
	for _, args := range [][]string{{"update", "-q"}, append([]string{"install", "-y", "-q", "--no-install-recommends"}, packages...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w\n%s", strings.Join(args, " "), err, lastLines(out, 5))
		}
	}
	return nil
}

func lastLines(out []byte, n int) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func memoryAvailable() (int64, error) {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for s := bufio.NewScanner(file); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 1 && fields[0] == "MemAvailable:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc/meminfo does not say how much memory is available")
}

// diskFree of the nearest folder at or above dir that exists.
func diskFree(dir string) (int64, error) {
	for {
		var s unix.Statfs_t
		err := unix.Statfs(dir, &s)
		if err == nil {
			return int64(s.Bavail * uint64(s.Bsize)), nil
		}
		if !errors.Is(err, unix.ENOENT) || dir == "/" {
			return 0, fmt.Errorf("%s: %w", dir, err)
		}
		dir = filepath.Dir(dir)
	}
}
