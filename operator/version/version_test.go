// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package version

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation"
	"pgregory.net/rapid"
)

func versions(texts ...string) []*semver.Version {
	out := make([]*semver.Version, len(texts))
	for i, t := range texts {
		out[i] = semver.MustParse(t)
	}
	return out
}

var known = versions("1.26.1", "1.28.2", "1.29.0", "1.29.1", "1.31.0")

func TestResolve(t *testing.T) {
	for _, tc := range []struct {
		reason, text, installed, want string
	}{
		{"an exact version is itself", "1.28.2", "", "1.28.2"},
		{"a line is its newest patch", "1.29", "", "1.29.1"},
		{"a constraint is the highest that it allows", ">=1.28 <1.30", "", "1.29.1"},
		{"a tilde stays in its line", "~1.29.0", "", "1.29.1"},
		{"what is installed stays while it is allowed", "1.29", "1.29.0", "1.29.0"},
		{"what is installed stays also when no charts of it are there any more", "1.29", "1.29.7", "1.29.7"},
		{"what is installed goes when it is not allowed", "1.31", "1.29.0", "1.31.0"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			w, err := Parse(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			var installed *semver.Version
			if tc.installed != "" {
				installed = semver.MustParse(tc.installed)
			}
			got, err := Resolve(w, known, installed, false)
			if err != nil || got.String() != tc.want {
				t.Errorf("Resolve(%s) = %v, %v, want %s", tc.text, got, err, tc.want)
			}
		})
	}
}

// With patches, an installed version follows its own line, as far as it is allowed.
func TestResolveFollowsPatches(t *testing.T) {
	for _, tc := range []struct {
		reason, text, installed, want string
	}{
		{"a newer patch of the line", "1.29", "1.29.0", "1.29.1"},
		{"no other line, although it is allowed", ">=1.28", "1.29.0", "1.29.1"},
		{"the newest patch stays", "1.29", "1.29.1", "1.29.1"},
		{"a patch that is not allowed", "<=1.29.0", "1.29.0", "1.29.0"},
		{"never down", "1.29", "1.29.7", "1.29.7"},
		{"what is installed goes when it is not allowed", "1.31", "1.29.0", "1.31.0"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			w, err := Parse(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Resolve(w, known, semver.MustParse(tc.installed), true)
			if err != nil || got.String() != tc.want {
				t.Errorf("Resolve(%s) = %v, %v, want %s", tc.text, got, err, tc.want)
			}
		})
	}
}

func TestNearestVersionsAreNamed(t *testing.T) {
	for _, tc := range []struct {
		text string
		want []string
	}{
		{"1.29.77", []string{"1.29.1", "1.29.0", "1.28.2"}},
		{"1.27", []string{"1.26.1", "1.28.2", "1.29.0"}},
		{"2.0", []string{"1.26.1", "1.28.2", "1.29.0"}},
	} {
		t.Run(tc.text, func(t *testing.T) {
			w, err := Parse(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Resolve(w, known, nil, false)
			var unavailable *UnavailableError
			if !errors.As(err, &unavailable) {
				t.Fatalf("Resolve(%s) = %v, want an UnavailableError", tc.text, err)
			}
			var got []string
			for _, v := range unavailable.Nearest {
				got = append(got, v.String())
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("nearest (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMalformed(t *testing.T) {
	for _, text := range []string{"", "one", "latest", "1.29.x.y", ">=1.28 <", "*", "1.29.1.2"} {
		if _, err := Parse(text); err == nil || !strings.Contains(err.Error(), "1.29.1") {
			t.Errorf("Parse(%q) = %v, want an error that shows what a version looks like", text, err)
		}
	}
}

func TestKubernetesRange(t *testing.T) {
	l := Line{Name: "1.28", KubernetesMin: 30, KubernetesMax: 34}
	for text, want := range map[string]bool{"1.29.9": false, "1.30.0": true, "1.34.4": true, "1.35.0": false, "2.31.0": false} {
		err := CheckKubernetes(l, semver.MustParse(text))
		if (err == nil) != want {
			t.Errorf("Kubernetes %s: %v, want supported=%v", text, err, want)
		}
	}
}

func TestEndOfLife(t *testing.T) {
	end := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		reason string
		line   Line
		now    time.Time
		want   bool
	}{
		{"the day before", Line{EndOfLife: end}, end.AddDate(0, 0, -1), false},
		{"the day itself", Line{EndOfLife: end}, end, true},
		{"an unknown end never comes", Line{}, end, false},
	} {
		if got := Ended(tc.line, tc.now); got != tc.want {
			t.Errorf("%s: Ended = %v, want %v", tc.reason, got, tc.want)
		}
	}
}

func TestRevisionNames(t *testing.T) {
	for text, want := range map[string]string{"1.29.1": "1-29-1", "1.30.0-rc.1": "1-30-0-rc-1", "1.30.0-Alpha.abc": "1-30-0-alpha-abc"} {
		got := RevisionName(semver.MustParse(text))
		if got != want || len(validation.IsDNS1123Label(got)) > 0 {
			t.Errorf("RevisionName(%s) = %s, want the DNS label %s", text, got, want)
		}
	}
}

// Whatever is available and installed: the result is allowed, and what is installed and allowed stays.
func TestResolveProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := rapid.Custom(func(t *rapid.T) *semver.Version {
			return semver.New(1, uint64(rapid.IntRange(26, 31).Draw(t, "minor")), uint64(rapid.IntRange(0, 4).Draw(t, "patch")), "", "")
		})
		available := rapid.SliceOf(draw).Draw(t, "available")
		installed := draw.Draw(t, "installed")
		w, err := Parse(rapid.SampledFrom([]string{"1.28", "~1.29.1", ">=1.27 <1.30", "1.31.2"}).Draw(t, "wanted"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Resolve(w, available, installed, false)
		switch {
		case w.Allows(installed) && (err != nil || got != installed):
			t.Fatalf("installed %s is allowed by %s, got %v, %v", installed, w, got, err)
		case err == nil && !w.Allows(got):
			t.Fatalf("%s does not allow %s", w, got)
		case err != nil:
			for _, v := range available {
				if w.Allows(v) {
					t.Fatalf("%s is available and allowed by %s, got %v", v, w, err)
				}
			}
		}
	})
}
