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
	{"/usr/bin/python3", "python3"},
}

func missingPackages() []string {
	var out []string
	for _, f := range hostFiles {
		if _, err := os.Stat(f.file); err != nil && !slices.Contains(out, f.pkg) {
			out = append(out, f.pkg)
		}
	}
	return out
}

// preflight says at once what stands in the way of a cluster that is made here, each with its remedy.
func preflight(ctx context.Context, o Options, dir string) error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("clusters are started on Linux, this is %s: use a Linux machine, or kind by itself", runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		return errors.New("a private engine has to be started as root: use sudo, or start Docker and add --engine host")
	}
	if missing := missingPackages(); len(missing) > 0 {
		if !o.InstallPackages {
			return fmt.Errorf("packages are missing: apt-get install %s, or add --install-packages", strings.Join(missing, " "))
		}
		if err := install(ctx, o, missing); err != nil {
			return err
		}
	}
	available, err := memoryAvailable()
	if err != nil {
		return err
	}
	if available < needMemory {
		return fmt.Errorf("%d MiB of memory are available and a cluster needs %d: stop something", available>>20, needMemory>>20)
	}
	free, err := diskFree(dir)
	if err != nil {
		return err
	}
	if free < needDisk {
		return fmt.Errorf("%d MiB are free in %s and a cluster needs %d: remove something, or set XDG_STATE_HOME to another disk", free>>20, dir, needDisk>>20)
	}
	return nil
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
			return int64(s.Bavail) * s.Bsize, nil
		}
		if !errors.Is(err, unix.ENOENT) || dir == "/" {
			return 0, fmt.Errorf("%s: %w", dir, err)
		}
		dir = filepath.Dir(dir)
	}
}
