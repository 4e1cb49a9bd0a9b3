// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package version

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// Wanted is what a user's version text allows: an exact version, a line or a constraint.
type Wanted struct {
	text  string
	check *semver.Constraints
}

var (
	exact = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$`)
	line  = regexp.MustCompile(`^[0-9]+\.[0-9]+$`)
)

// Parse reads a version text: exact ("1.29.1"), a line ("1.29") or a constraint ("~1.29.1", ">=1.28 <1.30"). The error
// says what is wrong and what a version looks like.
func Parse(text string) (Wanted, error) {
	constraint := text
	switch {
	case exact.MatchString(text):
		constraint = "=" + text
	case line.MatchString(text):
		constraint = "~" + text
	}
	check, err := semver.NewConstraint(constraint)
	if err != nil || !strings.ContainsAny(text, "0123456789") {
		return Wanted{}, fmt.Errorf("%q is not a version: write an exact one (1.29.1), a line (1.29) or a constraint (>=1.28 <1.30)", text)
	}
	return Wanted{text: text, check: check}, nil
}

// String is the text it was parsed from.
func (w Wanted) String() string { return w.text }

// Allows says whether a version is one of those that are meant.
func (w Wanted) Allows(v *semver.Version) bool { return w.check.Check(v) }

// UnavailableError says that nothing available is what is meant.
type UnavailableError struct {
	Wanted string
	// Nearest are up to three available versions, the nearest first; none when nothing is available at all.
	Nearest []*semver.Version
}

func (e *UnavailableError) Error() string {
	if len(e.Nearest) == 0 {
		return fmt.Sprintf("no charts of %s: this operator holds no Istio version at all", e.Wanted)
	}
	names := make([]string, len(e.Nearest))
	for i, v := range e.Nearest {
		names[i] = v.String()
	}
	return fmt.Sprintf("no charts of %s; the nearest versions are %s", e.Wanted, strings.Join(names, ", "))
}

// Resolve chooses the version that is meant: the installed one while it is allowed, so that a new catalogue alone moves
// nothing, else the highest available. With patches, a higher patch of the installed minor is chosen all the same. Installed is
// nil when nothing is. The error is an [*UnavailableError].
func Resolve(w Wanted, available []*semver.Version, installed *semver.Version, patches bool) (*semver.Version, error) {
	var best *semver.Version
	stays := installed != nil && w.Allows(installed)
	if stays {
		best = installed
	}
	for _, v := range available {
		if stays && (!patches || LineOf(v) != LineOf(installed)) {
			continue
		}
		if w.Allows(v) && (best == nil || v.GreaterThan(best)) {
			best = v
		}
	}
	if best == nil {
		return nil, &UnavailableError{Wanted: w.text, Nearest: nearest(w.text, available)}
	}
	return best, nil
}

func sortDown(all []*semver.Version) {
	slices.SortFunc(all, func(a, b *semver.Version) int { return b.Compare(a) })
}

var number = regexp.MustCompile(`[0-9]+(\.[0-9]+){0,2}`)

// nearest orders by the distance to the first version that the text names: minors first, then patches.
func nearest(text string, available []*semver.Version) []*semver.Version {
	out := slices.Clone(available)
	target, err := semver.NewVersion(number.FindString(text))
	if err != nil {
		slices.SortFunc(out, func(a, b *semver.Version) int { return b.Compare(a) })
		return out[:min(3, len(out))]
	}
	distance := func(v *semver.Version) [3]uint64 {
		return [3]uint64{apart(v.Major(), target.Major()), apart(v.Minor(), target.Minor()), apart(v.Patch(), target.Patch())}
	}
	slices.SortFunc(out, func(a, b *semver.Version) int {
		da, db := distance(a), distance(b)
		if c := slices.Compare(da[:], db[:]); c != 0 {
			return c
		}
		return b.Compare(a)
	})
	return out[:min(3, len(out))]
}

func apart(a, b uint64) uint64 { return max(a, b) - min(a, b) }
