// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
)

func TestParseVersion(t *testing.T) {
	for _, tc := range []struct {
		reason, text, want string
	}{
		{"a version", "0.1.0", ""},
		{"a candidate", "0.2.0-rc.1", ""},
		{"the v belongs to tags", "v0.1.0", "want three numbers"},
		{"no line", "0.1", "want three numbers"},
		{"a tag of an image has no plus sign", "0.1.0+build", "plus sign"},
		{"nothing", "", "want three numbers"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			_, err := parseVersion(tc.text)
			if !says(err, tc.want) {
				t.Errorf("%q: got %v, want an error with %q", tc.text, err, tc.want)
			}
		})
	}
}

// says compares an error with a part of its text; empty for no error.
func says(err error, want string) bool {
	if err == nil {
		return want == ""
	}
	return want != "" && strings.Contains(err.Error(), want)
}

// repository is a git repository with one commit of a fixed date.
func repository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"init", "--quiet"},
		{"add", "."},
		{"-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false", "commit", "--quiet", "-m", "first"},
	} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_DATE=1700000000 +0000", "GIT_COMMITTER_DATE=1700000000 +0000")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args[0], err, out)
		}
	}
	return dir
}

func TestReadSource(t *testing.T) {
	for _, tc := range []struct {
		reason, epoch string
		edit          bool
		want          time.Time
		fails         string
	}{
		{"a clean checkout has the date of its commit", "", false, time.Unix(1700000000, 0).UTC(), ""},
		{"a date that is given wins", "1600000000", false, time.Unix(1600000000, 0).UTC(), ""},
		{"an edit shows", "", true, time.Unix(1700000000, 0).UTC(), ""},
		{"what is no date", "yesterday", false, time.Time{}, "SOURCE_DATE_EPOCH"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			dir := repository(t)
			if tc.edit {
				if err := os.WriteFile(filepath.Join(dir, "file"), []byte("2\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := readSource(t.Context(), dir, tc.epoch)
			if !says(err, tc.fails) {
				t.Fatalf("got %v, want an error with %q", err, tc.fails)
			}
			if err != nil {
				return
			}
			if got.dirty != tc.edit || strings.HasSuffix(got.revision(), "-dirty") != tc.edit || len(got.commit) != 40 {
				t.Errorf("got %+v", got)
			}
			if diff := cmp.Diff(tc.want, got.date); diff != "" {
				t.Errorf("date (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := readSource(t.Context(), t.TempDir(), ""); !says(err, "git checkout") {
		t.Errorf("without git there is no release: got %v", err)
	}
}

func TestDirtySource(t *testing.T) {
	for _, tc := range []struct {
		reason, version string
		dirty           bool
		want            string
	}{
		{"a commit is what a version is made from", "0.1.0", false, ""},
		{"what is in no commit, nobody can make again", "0.1.0", true, "commit them"},
		{"a suffix says that it is no release", "0.1.0-dev", true, ""},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			err := source{commit: strings.Repeat("a", 40), dirty: tc.dirty}.check(semver.MustParse(tc.version))
			if !says(err, tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
		})
	}
}
