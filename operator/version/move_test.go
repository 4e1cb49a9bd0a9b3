// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package version

import (
	"errors"
	"strings"
	"testing"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestCheckMove(t *testing.T) {
	const (
		canary  = false
		inPlace = true
	)
	for _, tc := range []struct {
		reason, from, to string
		inPlace          bool
		refused          string // part of why; empty: it is allowed
	}{
		{"to where it is", "1.28.2", "1.28.2", inPlace, ""},
		{"a patch up", "1.28.2", "1.28.9", inPlace, ""},
		{"from a release candidate to its release", "1.29.0-rc.1", "1.29.0", inPlace, ""},
		{"a minor up, whatever the patch", "1.28.9", "1.29.0", inPlace, ""},
		{"two minors in place", "1.28.2", "1.30.0", inPlace, "one minor at most is supported in place: go to 1.29 first"},
		{"two minors by a canary", "1.28.2", "1.30.0", canary, ""},
		{"three minors by a canary", "1.26.1", "1.29.0", canary, "two minors at most are supported by a canary revision: go to 1.28 first"},
		{"a patch down", "1.28.2", "1.28.1", canary, "does not move down"},
		{"a minor down", "1.29.0", "1.28.9", canary, "does not move down"},
		{"from a release to its candidate", "1.29.0", "1.29.0-rc.1", canary, "does not move down"},
		{"a major up", "1.30.0", "2.0.0", canary, "major"},
		{"a major down", "2.0.0", "1.30.0", canary, "does not move down"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			err := CheckMove(semver.MustParse(tc.from), semver.MustParse(tc.to), tc.inPlace)
			if tc.refused == "" {
				if err != nil {
					t.Errorf("from %s to %s: %v, want no error", tc.from, tc.to, err)
				}
				return
			}
			var skew *SkewError
			if !errors.As(err, &skew) || !strings.Contains(skew.Why, tc.refused) {
				t.Fatalf("from %s to %s: %v, want a SkewError with %q", tc.from, tc.to, err, tc.refused)
			}
			if want := "from Istio " + tc.from + " to " + tc.to + ": "; !strings.HasPrefix(err.Error(), want) {
				t.Errorf("error %q, want it to begin with %q", err, want)
			}
		})
	}
}

func TestNewer(t *testing.T) {
	available := versions("1.27.4", "1.28.2", "1.29.1", "1.28.3", "1.30.0", "1.31.0", "1.29.0", "2.0.0")
	for _, tc := range []struct {
		reason, from string
		inPlace      bool
		want         []string
	}{
		{"two minors by a canary, the highest first", "1.28.2", false, []string{"1.30.0", "1.29.1", "1.29.0", "1.28.3"}},
		{"one in place", "1.28.2", true, []string{"1.29.1", "1.29.0", "1.28.3"}},
		{"a version that is not in the list has newer ones too", "1.29.7", true, []string{"1.30.0"}},
		{"nothing above the highest", "1.31.0", false, nil},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			var got []string
			for _, v := range Newer(available, semver.MustParse(tc.from), tc.inPlace) {
				got = append(got, v.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("newer (-want +got):\n%s", diff)
			}
		})
	}
	if got := Newer(nil, semver.MustParse("1.28.2"), false); got != nil {
		t.Errorf("of nothing %v is newer", got)
	}
}

// From any version of a major, steps of the supported size lead to any higher one.
func TestEveryVersionIsReached(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.Custom(func(t *rapid.T) *semver.Version {
			return semver.New(1, uint64(rapid.IntRange(20, 32).Draw(t, "minor")), uint64(rapid.IntRange(0, 4).Draw(t, "patch")), "", "")
		})
		at, target, inPlace := draw.Draw(t, "from"), draw.Draw(t, "to"), rapid.Bool().Draw(t, "inPlace")
		if target.LessThan(at) {
			at, target = target, at
		}
		for steps := 0; CheckMove(at, target, inPlace) != nil; steps++ {
			next := semver.New(1, at.Minor()+1, 0, "", "")
			if err := CheckMove(at, next, inPlace); err != nil || steps > 12 {
				t.Fatalf("step %d from %s: %v", steps, at, err)
			}
			at = next
		}
	})
}
