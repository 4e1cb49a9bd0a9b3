// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Command nodeinit is the first process of the node image where none can be pulled. It does what systemd and kind's own
// entrypoint do there: prepares the container for a kubelet, loads the control plane's images, and keeps containerd and
// the kubelet running.
package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

func main() {
	log.SetFlags(log.Ltime)
	if len(os.Args) > 1 && os.Args[1] == "supervise" {
		if err := supervise(); err != nil {
			log.Fatal(err)
		}
		return
	}
	if err := reap(); err != nil {
		log.Fatal(err)
	}
}

// reap is what the first process of a container owes the others: it collects those whose parents are gone. The work is done
// by a child, so that nobody else waits for processes here.
func reap() error {
	child := exec.Command("/proc/self/exe", "supervise")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		return fmt.Errorf("starting the supervisor: %w", err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-ended
		os.Exit(0) // with the first process all others end
	}()
	for {
		pid, err := syscall.Wait4(-1, nil, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return fmt.Errorf("waiting for processes: %w", err)
		case pid == child.Process.Pid:
			return errors.New("the supervisor has ended")
		}
	}
}
