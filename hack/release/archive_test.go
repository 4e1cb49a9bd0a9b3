// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"archive/zip"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// somePlugins are archives of executables of fixed contents.
func somePlugins(t *testing.T, dir string) []archive {
	t.Helper()
	var out []archive
	for _, on := range plugin.platforms {
		a, err := pack(dir, "0.1.0", someBinary(t, plugin, on, "#!/bin/sh\necho "+on.String()+"\n"), filepath.Join(root, "LICENSE"), someDate)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
}

func TestArchives(t *testing.T) {
	dir := t.TempDir()
	all := somePlugins(t, dir)
	var names []string
	for _, a := range all {
		names = append(names, a.File)
		sum, err := sumFile(filepath.Join(dir, a.File))
		if err != nil || sum != a.Sum {
			t.Errorf("%s: sum %s (%v), want %s", a.File, a.Sum, err, sum)
		}
		want := []string{a.Bin + " 755", "LICENSE 644"}
		if diff := cmp.Diff(want, archiveList(t, filepath.Join(dir, a.File))); diff != "" {
			t.Errorf("files in %s (-want +got):\n%s", a.File, diff)
		}
	}
	want := []string{
		"kubectl-mesh-0.1.0-darwin-amd64.tar.gz", "kubectl-mesh-0.1.0-darwin-arm64.tar.gz", "kubectl-mesh-0.1.0-linux-amd64.tar.gz",
		"kubectl-mesh-0.1.0-linux-arm64.tar.gz", "kubectl-mesh-0.1.0-windows-amd64.zip",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("archives (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(all, somePlugins(t, t.TempDir())); diff != "" {
		t.Errorf("the same program makes the same archive (-first +again):\n%s", diff)
	}
}

// archiveList are the names and permissions in a zip or a compressed tar file.
func archiveList(t *testing.T, file string) (out []string) {
	t.Helper()
	if filepath.Ext(file) == ".zip" {
		z, err := zip.OpenReader(file)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		for _, f := range z.File {
			if !f.Modified.Equal(someDate) {
				t.Errorf("%s is of %s", f.Name, f.Modified)
			}
			out = append(out, fmt.Sprintf("%s %o", f.Name, f.Mode().Perm()))
		}
		return out
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return tarList(t, z)
}

// krew runs a program of hack/tools/krew.
func krew(t *testing.T, env []string, program string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"tool", "-modfile=hack/tools/krew/go.mod", program}, args...)...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// krew itself reads the manifest, and installs the plugin on every platform that it is released for.
func TestKrew(t *testing.T) {
	dir := t.TempDir()
	archives := somePlugins(t, dir)
	manifest := filepath.Join(dir, "mesh.yaml")
	if err := writeKrew(manifest, "0.1.0", "https://registry.example.com/v0.1.0", archives); err != nil {
		t.Fatal(err)
	}
	if out, err := krew(t, nil, "validate-krew-manifest", "-manifest", manifest, "-skip-install"); err != nil {
		t.Fatalf("krew refuses the manifest: %v\n%s", err, out)
	}
	install := func(a archive, file string) (string, string, error) {
		store := t.TempDir()
		out, err := krew(t, []string{"KREW_ROOT=" + store, "KREW_OS=" + a.OS, "KREW_ARCH=" + a.Arch, "KREW_NO_UPGRADE_CHECK=1"},
			"krew", "install", "--manifest="+manifest, "--archive="+file)
		return store, out, err
	}
	for _, a := range archives {
		store, out, err := install(a, filepath.Join(dir, a.File))
		if err != nil {
			t.Errorf("%s/%s: %v\n%s", a.OS, a.Arch, err, out)
			continue
		}
		want := "#!/bin/sh\necho " + a.OS + "/" + a.Arch + "\n"
		got, err := os.ReadFile(filepath.Join(store, "store", "mesh", "v0.1.0", a.Bin))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("what krew installed on %s/%s (-want +got):\n%s", a.OS, a.Arch, diff)
		}
		if _, err := os.Stat(filepath.Join(store, "store", "mesh", "v0.1.0", "LICENSE")); err != nil {
			t.Error(err)
		}
	}
	_, out, err := install(archives[2], filepath.Join(dir, archives[3].File))
	if err == nil || !strings.Contains(out, "checksum") {
		t.Errorf("an archive of another sum is refused: got %v\n%s", err, out)
	}
	if out, err := krew(t, []string{"KREW_ROOT=" + t.TempDir(), "KREW_OS=windows", "KREW_ARCH=arm64", "KREW_NO_UPGRADE_CHECK=1"},
		"krew", "install", "--manifest="+manifest, "--archive="+filepath.Join(dir, archives[4].File)); err == nil {
		t.Errorf("nothing is released for this platform, so nothing is installed:\n%s", out)
	}
}
