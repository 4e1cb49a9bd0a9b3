// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/meshwright/meshwright/e2e/cluster/artifact"
)

// engine is the container engine that nodes run in.
type engine struct {
	mode EngineMode
	// host is the value of DOCKER_HOST, empty for the default.
	host string
	// dir holds the private engine.
	dir string
}

func engineDir() (string, error) {
	dir, err := stateDir()
	return filepath.Join(dir, "engine"), err
}

// chooseEngine looks for the host's engine unless one is forced, and says what it found.
func chooseEngine(ctx context.Context, o Options) (*engine, error) {
	dir, err := engineDir()
	if err != nil {
		return nil, err
	}
	host := &engine{mode: EngineHost, host: os.Getenv("DOCKER_HOST"), dir: dir}
	private := &engine{mode: EnginePrivate, host: "unix://" + filepath.Join(dir, "docker.sock"), dir: dir}
	if o.Engine == EnginePrivate {
		return private, nil
	}
	if host.host != private.host && host.answers(ctx) {
		o.Progress.Say("engine: the host's Docker answers and is used")
		return host, nil
	}
	if o.Engine == EngineHost {
		return nil, errors.New("no Docker engine answers: start it, or leave --engine out for a private one")
	}
	o.Progress.Say("engine: none answers here, a private one is used")
	return private, nil
}

func (e *engine) docker(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = os.Environ()
	if e.host != "" {
		cmd.Env = append(cmd.Env, "DOCKER_HOST="+e.host)
	}
	return cmd
}

func (e *engine) run(ctx context.Context, args ...string) error {
	out, err := e.docker(ctx, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, lastLines(out, 3))
	}
	return nil
}

// kindNetwork is the network in which kind puts its nodes; it makes one where there is none, and leaves it.
const kindNetwork = "kind"

// lacksNetwork says whether the host's engine has no network of kind's yet. A private engine goes with all it has.
func (e *engine) lacksNetwork(ctx context.Context) (bool, error) {
	if e.mode == EnginePrivate {
		return false, nil
	}
	out, err := e.docker(ctx, "network", "ls", "--quiet", "--filter", "name=^"+kindNetwork+"$").Output()
	if err != nil {
		return false, fmt.Errorf("docker network ls: %w", err)
	}
	return len(bytes.TrimSpace(out)) == 0, nil
}

func (e *engine) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := e.run(ctx, "version", "--format", "{{.Server.Version}}")
	return err == nil
}

// use makes kind, which calls the docker client, find the engine. It holds for the whole process.
func (e *engine) use() error {
	if e.host == "" {
		return nil
	}
	return os.Setenv("DOCKER_HOST", e.host)
}

// start starts the private engine where it does not answer yet; what an earlier one left is cleared first.
func (e *engine) start(ctx context.Context, store *artifact.Store, progress artifact.Progress) (err error) {
	if e.mode == EngineHost {
		return nil
	}
	if e.answers(ctx) {
		return closeWayOut() // the run that started it may have been ended before it came to this
	}
	end := progress.Begin("starting a private engine", 2*time.Second)
	defer func() { end(err) }()
	if err := e.clear(); err != nil {
		return fmt.Errorf("clearing what an earlier engine left: %w", err)
	}
	if err := os.MkdirAll(e.dir, 0o711); err != nil {
		return err
	}
	if err := rememberHost(e.dir); err != nil {
		return err
	}
	args := []string{
		"--data-root", filepath.Join(e.dir, "data"), "--exec-root", filepath.Join(e.dir, "exec"), "-H", e.host,
		"--pidfile", filepath.Join(e.dir, "pid"), "--storage-driver", "overlay2",
		"--dns", "127.0.0.1", // names of the outside are answered at once, with nothing
	}
	limited, err := lacksSysResource()
	if err != nil {
		return err
	}
	if limited {
		runcw, err := store.Ensure(ctx, progress, artifact.Runcw())
		if err != nil {
			return err
		}
		args = append(args, "--add-runtime", "runcw="+runcw[artifact.Runcw()], "--default-runtime", "runcw")
	}
	log, err := os.Create(filepath.Join(e.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	daemon := exec.Command("/usr/sbin/dockerd", args...) //nolint:noctx // it outlives this process: no context may end it
	daemon.Stdout, daemon.Stderr = log, log
	daemon.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := daemon.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	deadline := time.After(30 * time.Second)
	for !e.answers(ctx) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return fmt.Errorf("the engine ended at once: %w: %s", err, e.lastWords())
		case <-deadline:
			return fmt.Errorf("the engine does not answer after 30 s: %s", e.lastWords())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return closeWayOut()
}

func (e *engine) lastWords() string {
	raw, err := os.ReadFile(filepath.Join(e.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return lastLines(raw, 3)
}

// capSysResource is the number of CAP_SYS_RESOURCE.
const capSysResource = 24

// lacksSysResource says whether this machine may not raise limits: a privileged container can't be started by plain runc
// then.
func lacksSysResource() (bool, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false, err
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		if text, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			bounding, err := strconv.ParseUint(strings.TrimSpace(text), 16, 64)
			return bounding&(1<<capSysResource) == 0, err
		}
	}
	return false, errors.New("/proc/self/status does not say which capabilities there are")
}

// stop ends the private engine and puts the host back as it was before.
func (e *engine) stop(ctx context.Context) error {
	if e.mode == EngineHost {
		return nil
	}
	if pid, ok := e.pid(); ok {
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		if err := waitGone(ctx, pid, 20*time.Second); err != nil {
			return err
		}
	}
	return e.clear()
}

func (e *engine) pid() (int, bool) {
	raw, err := os.ReadFile(filepath.Join(e.dir, "pid"))
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return 0, false
	}
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return pid, err == nil && bytes.Contains(command, []byte(e.dir)) // the number may belong to another process by now
}

func waitGone(ctx context.Context, pid int, limit time.Duration) error {
	deadline := time.After(limit)
	for syscall.Kill(pid, 0) == nil && !zombie(pid) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return fmt.Errorf("process %d does not end: end it by hand (kill -9 %d)", pid, pid)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// clear removes what a private engine leaves, however it ended: processes, mounts, links, firewall rules, cgroups, files.
func (e *engine) clear() error {
	if err := endProcesses(e.dir); err != nil {
		return err
	}
	if err := unmountBelow(e.dir); err != nil {
		return err
	}
	if err := restoreHost(e.dir); err != nil {
		return err
	}
	if err := removeCgroups(); err != nil {
		return err
	}
	return os.RemoveAll(e.dir)
}
