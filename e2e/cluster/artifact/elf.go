// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// libraryDirs are where the loader of Debian's amd64 looks, in its order.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}

// closure lists, sorted, every shared library that ELF files need, directly or through another library, and their
// program interpreter. A file that the loader opens by itself at run time, a plugin, must be among the files: nothing
// in the program that opens it says so.
func closure(dirs []string, files ...string) ([]string, error) {
	found := map[string]bool{}
	queue := slices.Clone(files)
	for len(queue) > 0 {
		file := queue[0]
		queue = queue[1:]
		interpreter, needed, err := links(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if interpreter != "" {
			needed = append(needed, interpreter)
		}
		for _, name := range needed {
			path, err := locate(dirs, name)
			if err != nil {
				return nil, fmt.Errorf("%s needs %w", file, err)
			}
			if !found[path] {
				found[path] = true
				queue = append(queue, path)
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// locate finds a library by its name, or by its path if it has one.
func locate(dirs []string, name string) (string, error) {
	if filepath.IsAbs(name) {
		_, err := os.Stat(name)
		return name, err
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("the library %s, which is in none of %s", name, strings.Join(dirs, ", "))
}

// links reads the program interpreter, empty for a library, and the names of the libraries that an ELF file needs.
func links(path string) (interpreter string, needed []string, err error) {
	f, err := elf.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		text, err := io.ReadAll(p.Open())
		if err != nil {
			return "", nil, err
		}
		interpreter = strings.TrimRight(string(text), "\x00")
	}
	needed, err = f.ImportedLibraries()
	return interpreter, needed, err
}
