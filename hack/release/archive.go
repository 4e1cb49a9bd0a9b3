// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// archive is a program for one platform as people download it.
type archive struct {
	// File is its name below the release.
	File string
	// OS and Arch as Go, kubectl and krew name them.
	OS, Arch string
	// Bin is what the program is called inside.
	Bin string
	// Sum is its SHA-256 in hexadecimal.
	Sum string
}

// pack writes the archive of a program and its licence into a folder: a zip file for Windows, else a compressed tar file.
func pack(dir, version string, b binary, license string, date time.Time) (archive, error) {
	a := archive{OS: b.platform.os, Arch: b.platform.arch, Bin: b.program.file(b.platform)}
	a.File = fmt.Sprintf("%s-%s-%s", b.program.name, version, b.platform.suffix())
	executable, err := os.ReadFile(b.path)
	if err != nil {
		return a, err
	}
	text, err := os.ReadFile(license)
	if err != nil {
		return a, err
	}
	files := []layerFile{{a.Bin, 0o755, executable}, {"LICENSE", 0o644, text}}
	write := writeTarGz
	if a.OS == "windows" {
		a.File, write = a.File+".zip", writeZip
	} else {
		a.File += ".tar.gz"
	}
	out, err := os.Create(filepath.Join(dir, a.File))
	if err != nil {
		return a, err
	}
	sum := sha256.New()
	if err := errors.Join(write(io.MultiWriter(out, sum), files, date), out.Close()); err != nil {
		return a, fmt.Errorf("%s: %w", a.File, err)
	}
	a.Sum = hex.EncodeToString(sum.Sum(nil))
	return a, nil
}

func writeTarGz(w io.Writer, files []layerFile, date time.Time) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, f := range files {
		if err := writeFile(t, f.path, f.mode, f.content, date); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), z.Close())
}

func writeZip(w io.Writer, files []layerFile, date time.Time) error {
	z := zip.NewWriter(w)
	for _, f := range files {
		header := &zip.FileHeader{Name: f.path, Method: zip.Deflate, Modified: date}
		header.SetMode(os.FileMode(f.mode)) //nolint:gosec // permission bits
		entry, err := z.CreateHeader(header)
		if err != nil {
			return err
		}
		if _, err := entry.Write(f.content); err != nil {
			return err
		}
	}
	return z.Close()
}
