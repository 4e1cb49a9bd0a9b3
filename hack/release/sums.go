// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// sumsName is the file with the sums of all others, as sha256sum writes and checks it. Signatures of it are called the same with a suffix.
const sumsName = "SHA256SUMS"

// writeSums sums every file of a release.
func writeSums(dir string) error {
	sums, err := sumTree(dir)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintf(&out, "%s  %s\n", sums[name], name)
	}
	return os.WriteFile(filepath.Join(dir, sumsName), out.Bytes(), 0o644)
}

// sumTree is the SHA-256 of each file below a folder, by its path with slashes. The sums and their signatures are left out.
func sumTree(dir string) (map[string]string, error) {
	sums := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if name == sumsName || strings.HasPrefix(name, sumsName+".") {
			return nil
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is no regular file", name)
		}
		sums[name], err = sumFile(path)
		return err
	})
	return sums, err
}

func sumFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

var sumLine = regexp.MustCompile(`^([0-9a-f]{64})  (\S.*)$`)

// readSums reads what writeSums wrote.
func readSums(text []byte) (map[string]string, error) {
	sums := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		m := sumLine.FindStringSubmatch(lines.Text())
		if m == nil {
			return nil, fmt.Errorf("%s: %q is no sum and file", sumsName, lines.Text())
		}
		sums[m[2]] = m[1]
	}
	if len(sums) == 0 {
		return nil, fmt.Errorf("%s is empty", sumsName)
	}
	return sums, nil
}

// Verify checks that a folder holds exactly the files of a release, unchanged. key, unless empty, is the file with the public key with which the sums
// have to be signed. The error names everything that is wrong.
func Verify(dir, key string) error {
	text, err := os.ReadFile(filepath.Join(dir, sumsName))
	if err != nil {
		return err
	}
	if key != "" {
		// First the signature: sums that nobody vouches for say nothing.
		if err := verifySignature(filepath.Join(dir, signatureName), key, text); err != nil {
			return err
		}
	}
	want, err := readSums(text)
	if err != nil {
		return err
	}
	got, err := sumTree(dir)
	if err != nil {
		return err
	}
	var wrong []error
	for _, name := range slices.Sorted(maps.Keys(want)) {
		switch got[name] {
		case want[name]:
		case "":
			wrong = append(wrong, fmt.Errorf("%s is missing", name))
		default:
			wrong = append(wrong, fmt.Errorf("%s is not what was released: its SHA-256 is %s, want %s", name, got[name], want[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if want[name] == "" {
			wrong = append(wrong, fmt.Errorf("%s was not released: %s does not name it", name, sumsName))
		}
	}
	return errors.Join(wrong...)
}
