// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package version

import (
	"fmt"

	"github.com/Masterminds/semver/v3"
)

// How many minors a mesh may move up at once. Source: istio.io, "Canary Upgrades" and "In-place Upgrades".
const (
	maxMinorsCanary  = 2
	maxMinorsInPlace = 1
)

// SkewError says that Istio does not support a move.
type SkewError struct {
	From, To *semver.Version
	// Why is a sentence with the remedy.
	Why string
}

func (e *SkewError) Error() string {
	return fmt.Sprintf("from Istio %s to %s: %s", e.From, e.To, e.Why)
}

// CheckMove says whether a mesh may move from one version to another: never down, one minor up at most in place, and two by a
// revision of its own, so that no proxy is newer than its control plane and none is too old for it. The error is a [*SkewError].
func CheckMove(from, to *semver.Version, inPlace bool) error {
	limit, how := uint64(maxMinorsCanary), "two minors at most are supported by a canary revision"
	if inPlace {
		limit, how = maxMinorsInPlace, "one minor at most is supported in place"
	}
	switch {
	case to.LessThan(from):
		return &SkewError{From: from, To: to, Why: "a mesh does not move down, except by the rollback of a rollout: choose a version that is not lower"}
	case from.Major() != to.Major():
		return &SkewError{From: from, To: to, Why: "no major version can be skipped or changed: choose a version of the same major"}
	case to.Minor()-from.Minor() > limit:
		step := fmt.Sprintf("%d.%d", from.Major(), from.Minor()+limit)
		return &SkewError{From: from, To: to, Why: how + ": go to " + step + " first"}
	}
	return nil
}

// Newer are the versions of a list that a mesh could move to, the highest first.
func Newer(available []*semver.Version, from *semver.Version, inPlace bool) (out []*semver.Version) {
	for _, v := range available {
		if v.GreaterThan(from) && CheckMove(from, v, inPlace) == nil {
			out = append(out, v)
		}
	}
	sortDown(out)
	return out
}
