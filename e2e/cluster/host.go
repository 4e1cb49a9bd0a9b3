// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// hostState is what an engine changes on the host, as it was before.
type hostState struct {
	ForwardPolicy string   `json:"forwardPolicy"`
	IPForward     string   `json:"ipForward"`
	Links         []string `json:"links"`
	Folders       []string `json:"folders"`
}

// engineFolders are where an engine and its shims put files however it is started.
var engineFolders = []string{"/run/containerd", "/run/docker"}

const (
	ipForward  = "/proc/sys/net/ipv4/ip_forward"
	cgroupRoot = "/sys/fs/cgroup"
	beforeFile = "before.json"
	// lazily is MNT_DETACH, by its number: the program says on any system what it needs.
	lazily = 2
)

func rememberHost(dir string) error {
	forward, err := os.ReadFile(ipForward)
	if err != nil {
		return err
	}
	policy := "ACCEPT"
	rules, err := iptables("filter", "-S", "FORWARD")
	if err != nil {
		return err
	}
	if strings.HasPrefix(rules, "-P FORWARD DROP") {
		policy = "DROP"
	}
	links, err := bridges()
	if err != nil {
		return err
	}
	var folders []string
	for _, folder := range engineFolders {
		if _, err := os.Stat(folder); err == nil {
			folders = append(folders, folder)
		}
	}
	raw, err := json.Marshal(hostState{ForwardPolicy: policy, IPForward: strings.TrimSpace(string(forward)), Links: links, Folders: folders})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, beforeFile), raw, 0o600)
}

// restoreHost puts back what rememberHost saw.
func restoreHost(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, beforeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no engine was started from here
	}
	if err != nil {
		return err
	}
	var before hostState
	if err := json.Unmarshal(raw, &before); err != nil {
		return err
	}
	if err := removeRules(); err != nil {
		return err
	}
	if _, err := iptables("filter", "-P", "FORWARD", before.ForwardPolicy); err != nil {
		return err
	}
	if err := removeLinks(before.Links); err != nil {
		return err
	}
	for _, folder := range engineFolders {
		if slices.Contains(before.Folders, folder) {
			continue
		}
		if err := removeIdle(folder); err != nil {
			return err
		}
	}
	return os.WriteFile(ipForward, []byte(before.IPForward), 0o644)
}

// removeLinks removes the bridges that were not there before, and what is plugged into them: the other end of a pair, in a
// container that was killed, goes when the kernel comes to it.
func removeLinks(before []string) error {
	names, err := bridges()
	if err != nil {
		return err
	}
	all, err := netlink.LinkList()
	if err != nil {
		return err
	}
	for _, name := range names {
		if slices.Contains(before, name) {
			continue
		}
		bridge, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for _, link := range append(all, bridge) {
			if link != bridge && link.Attrs().MasterIndex != bridge.Attrs().Index {
				continue
			}
			if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
				return fmt.Errorf("removing link %s: %w", link.Attrs().Name, err)
			}
		}
	}
	return nil
}

// removeIdle removes a folder as far as it holds nothing but folders and sockets on which nobody listens.
func removeIdle(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		inner := filepath.Join(path, e.Name())
		switch {
		case e.IsDir():
			err = removeIdle(inner)
		case e.Type() == fs.ModeSocket && !listens(inner):
			err = os.Remove(inner)
		}
		if err != nil {
			return err
		}
	}
	if err := unix.Rmdir(path); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("removing %s: %w", path, err)
	}
	return nil
}

func listens(socket string) bool {
	connection, err := net.DialTimeout("unix", socket, time.Second) //nolint:noctx // it ends at once, whoever is there
	if err != nil {
		return false
	}
	_ = connection.Close()
	return true
}

func iptables(table string, args ...string) (string, error) {
	//nolint:noctx // it takes no time, and must not be cut off between two rules
	out, err := exec.Command("iptables", append([]string{"-w", "-t", table}, args...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("iptables -t %s %s: %w: %s", table, strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// bridges are links that a Docker engine makes.
func bridges() ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, l := range links {
		if name := l.Attrs().Name; name == "docker0" || l.Type() == "bridge" && strings.HasPrefix(name, "br-") {
			out = append(out, name)
		}
	}
	return out, nil
}

// removeRules removes the chains of a Docker engine and every rule that speaks of them or of its links.
func removeRules() error {
	for _, table := range []string{"filter", "nat"} {
		listed, err := iptables(table, "-S")
		if err != nil {
			return err
		}
		var chains []string
		for line := range strings.SplitSeq(listed, "\n") {
			fields := strings.Fields(line)
			switch {
			case len(fields) == 2 && fields[0] == "-N" && strings.HasPrefix(fields[1], "DOCKER"):
				chains = append(chains, fields[1])
			case len(fields) > 2 && fields[0] == "-A" && ofEngine(line):
				fields[0] = "-D"
				if _, err := iptables(table, fields...); err != nil {
					return err
				}
			}
		}
		for _, flag := range []string{"-F", "-X"} {
			for _, chain := range chains {
				if _, err := iptables(table, flag, chain); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func ofEngine(rule string) bool {
	return strings.Contains(rule, "DOCKER") || strings.Contains(rule, "docker0") || strings.Contains(rule, " br-") || hairpin.MatchString(rule)
}

// hairpin is the rule for a container that calls its own published port: an engine that is killed leaves it, and it
// names nothing but addresses.
var hairpin = regexp.MustCompile(`^-A POSTROUTING -s 172\.(1[6-9]|2\d|3[01])\.\d+\.\d+/32 -d 172\.\S+/32 -p tcp -m tcp --dport 6443 -j MASQUERADE$`)

// closeWayOut refuses whatever a container sends towards the outside.
func closeWayOut() error {
	routes, err := netlink.RouteList(nil, unix.AF_INET)
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Dst != nil && r.Dst.IP != nil && !r.Dst.IP.IsUnspecified() {
			continue
		}
		link, err := netlink.LinkByIndex(r.LinkIndex)
		if err != nil {
			return err
		}
		rule := []string{"DOCKER-USER", "-o", link.Attrs().Name, "-j", "REJECT"}
		if _, err := iptables("filter", append([]string{"-C"}, rule...)...); err == nil {
			continue
		}
		if _, err := iptables("filter", append([]string{"-I"}, rule...)...); err != nil {
			return err
		}
	}
	return nil
}

// unmountBelow unmounts everything below a folder, the innermost first.
func unmountBelow(dir string) error {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	var points []string
	for line := range strings.SplitSeq(string(raw), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	slices.Reverse(points)
	for _, point := range points {
		if err := unix.Unmount(point, lazily); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmounting %s: %w", point, err)
		}
	}
	return nil
}

// engineCgroups are the groups that a Docker engine makes for its containers.
func engineCgroups() ([]string, error) {
	found, err := filepath.Glob(filepath.Join(cgroupRoot, "*", "docker"))
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(cgroupRoot, "docker")); err == nil {
		found = append(found, filepath.Join(cgroupRoot, "docker"))
	}
	return found, nil
}

// removeCgroups removes these groups and those below them where nothing runs in them any more.
func removeCgroups() error {
	groups, err := engineCgroups()
	if err != nil {
		return err
	}
	for _, group := range groups {
		var dirs []string
		err := filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil // groups come and go while they are walked
		})
		if err != nil {
			return err
		}
		slices.Reverse(dirs)
		for _, dir := range dirs {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EBUSY) {
				return fmt.Errorf("removing cgroup %s: %w", dir, err)
			}
		}
	}
	return nil
}
