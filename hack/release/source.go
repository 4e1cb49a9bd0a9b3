// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
)

// source is what a release is made from.
type source struct {
	// commit that is checked out.
	commit string
	// dirty says that files differ from the commit.
	dirty bool
	// date is on everything that has one: SOURCE_DATE_EPOCH, else when the commit was made.
	date time.Time
}

// readSource asks git. epoch is the value of SOURCE_DATE_EPOCH, which may be empty.
func readSource(ctx context.Context, root, epoch string) (source, error) {
	head, err := git(ctx, root, "log", "-1", "--format=%H %ct")
	if err != nil {
		return source{}, err
	}
	commit, seconds, _ := strings.Cut(head, " ")
	changed, err := git(ctx, root, "status", "--porcelain")
	if err != nil {
		return source{}, err
	}
	if epoch != "" {
		seconds = epoch
	}
	date, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return source{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", seconds)
	}
	return source{commit: commit, dirty: changed != "", date: time.Unix(date, 0).UTC()}, nil
}

// revision names the commit, and that it is not all.
func (s source) revision() string {
	if s.dirty {
		return s.commit + "-dirty"
	}
	return s.commit
}

// check refuses to call something a version that nobody could make again.
func (s source) check(v *semver.Version) error {
	if s.dirty && v.Prerelease() == "" {
		return fmt.Errorf("files of the checkout differ from commit %.12s: commit them, or give a version with a suffix, such as %s-dev", s.commit, v)
	}
	return nil
}

// parseVersion reads a version of Meshwright, such as 0.1.0 or 0.2.0-rc.1.
func parseVersion(text string) (*semver.Version, error) {
	v, err := semver.StrictNewVersion(text)
	if err != nil {
		return nil, fmt.Errorf("version %q: want three numbers and no v before them, such as 0.1.0 or 0.2.0-rc.1", text)
	}
	if v.Metadata() != "" {
		return nil, fmt.Errorf("version %q: a tag of an image can't have a plus sign", text)
	}
	return v, nil
}

func git(ctx context.Context, root string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
		}
		return "", fmt.Errorf("a release is made from a git checkout: git %s: %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}
