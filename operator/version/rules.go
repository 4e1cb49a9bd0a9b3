// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package version

import (
	"fmt"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
)

// Line is what is known of one minor release of Istio.
type Line struct {
	// Name is major and minor: "1.29".
	Name string
	// Released and EndOfLife are dates; EndOfLife is zero while nobody knows it.
	Released, EndOfLife time.Time
	// Approximate says that Istio has not fixed the dates.
	Approximate bool
	// KubernetesMin and KubernetesMax are the supported Kubernetes minors of major version 1, both included.
	KubernetesMin, KubernetesMax uint64
	// KnownBad names versions of the line that should not be installed, with the reason.
	KnownBad map[string]string
}

// LineOf is the name of a version's line: "1.29".
func LineOf(v *semver.Version) string { return fmt.Sprintf("%d.%d", v.Major(), v.Minor()) }

// RevisionName is what the revision of a version is called: 1.29.1 is 1-29-1. It is a DNS label.
func RevisionName(v *semver.Version) string {
	return strings.ToLower(strings.NewReplacer(".", "-", "+", "-").Replace(v.String()))
}

// DefaultRevisionName is what a revision is called that is upgraded in place, as in Istio.
const DefaultRevisionName = "default"

// UnsupportedKubernetesError says that a line does not support a Kubernetes version.
type UnsupportedKubernetesError struct {
	Line       Line
	Kubernetes *semver.Version
}

func (e *UnsupportedKubernetesError) Error() string {
	return fmt.Sprintf("Istio %s supports Kubernetes 1.%d to 1.%d, this cluster is %d.%d",
		e.Line.Name, e.Line.KubernetesMin, e.Line.KubernetesMax, e.Kubernetes.Major(), e.Kubernetes.Minor())
}

// CheckKubernetes says whether a line supports a Kubernetes version. The error is an [*UnsupportedKubernetesError].
func CheckKubernetes(l Line, kubernetes *semver.Version) error {
	if kubernetes.Major() == 1 && kubernetes.Minor() >= l.KubernetesMin && kubernetes.Minor() <= l.KubernetesMax {
		return nil
	}
	return &UnsupportedKubernetesError{Line: l, Kubernetes: kubernetes}
}

// Ended says whether a line's support has ended.
func Ended(l Line, now time.Time) bool { return !l.EndOfLife.IsZero() && !now.Before(l.EndOfLife) }
