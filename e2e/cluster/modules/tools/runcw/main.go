// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command runcw stands before runc and removes from what it is asked to run every capability that this machine's
// bounding set lacks. runc refuses a container, above all a privileged one, that asks for a capability it cannot
// grant; a machine without CAP_SYS_RESOURCE could run no kind node otherwise.
//
// The runc it calls is $RUNC, else the first one in the PATH, else /usr/sbin/runc.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// capabilities by their bit, as in linux/capability.h.
var capabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "runcw:", err)
		os.Exit(1)
	}
}

// run edits what runc is about to read and then becomes runc.
func run(args []string) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	bounding, err := boundingSet(string(status))
	if err != nil {
		return err
	}
	for i := 1; i+1 < len(args); i++ {
		switch args[i] {
		case "--bundle", "-b": // create, run: the whole specification
			err = restrict(filepath.Join(args[i+1], "config.json"), bounding, "process")
		case "--process", "-p": // exec: the process alone
			err = restrict(args[i+1], bounding)
		}
		if err != nil {
			return err
		}
	}
	runc := os.Getenv("RUNC")
	if runc == "" {
		if runc, err = exec.LookPath("runc"); err != nil {
			runc = "/usr/sbin/runc" // containerd's PATH may lack sbin
		}
	}
	return fmt.Errorf("start %s: %w", runc, syscall.Exec(runc, append([]string{runc}, args[1:]...), os.Environ()))
}

// boundingSet reads the names of the capabilities that /proc/<pid>/status allows at most.
func boundingSet(status string) ([]string, error) {
	for line := range strings.Lines(status) {
		hex, ok := strings.CutPrefix(line, "CapBnd:")
		if !ok {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
		if err != nil {
			return nil, fmt.Errorf("CapBnd of /proc/self/status: %w", err)
		}
		var names []string
		for bit, name := range capabilities {
			if mask&(1<<bit) != 0 {
				names = append(names, name)
			}
		}
		return names, nil
	}
	return nil, errors.New("/proc/self/status has no line CapBnd")
}

// restrict rewrites a file of the OCI runtime specification so that the process found at the path of members asks for
// allowed capabilities only. A file that is missing or is not JSON is left for runc to complain about.
func restrict(file string, allowed []string, members ...string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	var document map[string]any
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber() // limits are 64 bit wide
	if decoder.Decode(&document) != nil {
		return nil
	}
	process := document
	for _, m := range members {
		process, _ = process[m].(map[string]any)
	}
	sets, _ := process["capabilities"].(map[string]any)
	if sets == nil {
		return nil
	}
	for set, wanted := range sets {
		list, _ := wanted.([]any)
		sets[set] = slices.DeleteFunc(list, func(c any) bool {
			name, _ := c.(string)
			return !slices.Contains(allowed, name)
		})
	}
	if content, err = json.Marshal(document); err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o600) // an existing file keeps its mode
}
