// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
)

// Logs collects the logs of the node and of its pods into a folder, which is made when it is not there.
func (c *Cluster) Logs(ctx context.Context, dir string) error {
	if c.record.Source != ImagesBuild {
		return c.provider.CollectLogs(c.record.Name, dir)
	}
	// kind's collector asks systemd's journal, which a node that is built here does not have: its services write files.
	n, err := c.node()
	if err != nil {
		return err
	}
	var archive, stderr bytes.Buffer
	tail := n.CommandContext(ctx, "tar", "-C", "/var/log", "-chf", "-", ".").SetStdout(&archive).SetStderr(&stderr)
	if err := tail.Run(); err != nil && archive.Len() == 0 { // a pod that goes meanwhile takes its file along
		return fmt.Errorf("reading the logs of %s: %w: %s", n, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return unpack(&archive, filepath.Join(dir, n.String()))
}

// unpack writes the files of an archive below a folder; a name that leads out of it is an error.
func unpack(archive io.Reader, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for files := tar.NewReader(archive); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if err := writeFile(root, path.Clean(header.Name), files); err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, content io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	file, err := root.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Close())
}
