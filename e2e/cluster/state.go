// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// stateDir is where clusters are remembered: $XDG_STATE_HOME/meshwright, else ~/.local/state/meshwright.
func stateDir() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "meshwright"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no place for the state of clusters: set HOME or XDG_STATE_HOME: %w", err)
	}
	return filepath.Join(home, ".local", "state", "meshwright"), nil
}

// record is what is remembered of a cluster. It is written before the cluster is made, and once more when it is ready: one
// that is not ready is half-dead, and cleared by the next up.
type record struct {
	Name       string      `json:"name"`
	Kubernetes string      `json:"kubernetes"`
	Engine     EngineMode  `json:"engine"`
	Source     ImageSource `json:"source"`
	NodeImage  string      `json:"nodeImage"`
	// Slot numbers the clusters that are up side by side; their pod networks follow from it.
	Slot  int  `json:"slot"`
	Ready bool `json:"ready"`
	// Network says that the host's engine got kind's network for this cluster, or for one that was taken down before it.
	Network bool `json:"network,omitempty"`
}

func clusterDir(name string) (string, error) {
	dir, err := stateDir()
	return filepath.Join(dir, "clusters", name), err
}

func readRecord(name string) (*record, error) {
	dir, err := clusterDir(name)
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, "cluster.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := &record{}
	if err := json.Unmarshal(raw, r); err != nil {
		return &record{Name: name}, nil //nolint:nilerr // cut off while it was written: half-dead
	}
	return r, nil
}

func (r *record) write() error {
	dir, err := clusterDir(r.Name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "cluster.json")
	if err := os.WriteFile(file+".new", append(raw, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// records of all clusters, by name.
func records() ([]*record, error) {
	dir, err := stateDir()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, "clusters"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []*record
	for _, e := range entries {
		r, err := readRecord(e.Name())
		if err != nil {
			return nil, err
		}
		if r != nil {
			out = append(out, r)
		}
	}
	return out, nil
}

// maxClusters is how many clusters can be up side by side: pod networks count down from 10.244.0.0/16, that of Services is
// 10.96.0.0/16.
const maxClusters = 100

// freeSlot is the lowest number that no cluster has.
func freeSlot(all []*record) int {
	slot := 0
	for slices.ContainsFunc(all, func(r *record) bool { return r.Slot == slot }) {
		slot++
	}
	return slot
}

// podNetwork of a cluster: 10.244.0.0/16 for the first, 10.243.0.0/16 for the next and so on. Its one node has the first /24.
func (r *record) podNetwork() string { return fmt.Sprintf("10.%d.0.0/16", 244-r.Slot) }

func (r *record) nodeNetwork() string { return fmt.Sprintf("10.%d.0.0/24", 244-r.Slot) }

// locked runs do while no other process changes the state of clusters.
func locked(do func() error) error {
	dir, err := stateDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	for {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("waiting for another run: %w", err)
	}
	return do()
}
