// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"fmt"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/version"
)

// maxTargets is what the API allows in status.
const maxTargets = 20

// endNear is how long before the end of a line's support it is warned of.
const endNear = 30 * 24 * time.Hour

// upgrades says to which versions the mesh could move, and whether support of its own ends.
func (r *Reconciler) upgrades(s *scope) {
	status := &s.mesh.Status
	if s.revision == nil {
		return
	}
	here, err := semver.NewVersion(s.revision.Spec.Version)
	if err != nil {
		return
	}
	status.UpgradeTargets = nil
	for _, v := range version.Newer(r.Library.Versions(), here, s.mesh.Spec.Upgrade.Type == v1alpha1.UpgradeInPlace) {
		line, known := r.Facts.Catalogue[version.LineOf(v)]
		if known && version.CheckKubernetes(line, r.Facts.Kubernetes) != nil || len(status.UpgradeTargets) == maxTargets {
			continue
		}
		status.UpgradeTargets = append(status.UpgradeTargets, v.String())
	}
	verdict, reason, message := metav1.ConditionFalse, v1alpha1.ReasonNoUpgrade, "no newer version is known that the mesh could move to"
	if len(status.UpgradeTargets) > 0 {
		verdict, reason = metav1.ConditionTrue, v1alpha1.ReasonUpgradeAvailable
		message = "the mesh could move to " + strings.Join(status.UpgradeTargets, ", ")
	}
	if line, known := r.Facts.Catalogue[version.LineOf(here)]; known && version.Ended(line, r.Clock.Now().Add(endNear)) {
		about := ""
		if line.Approximate {
			about = "about "
		}
		reason = v1alpha1.ReasonEndOfLife
		ends := "ends"
		if version.Ended(line, r.Clock.Now()) {
			ends = "ended"
		}
		message = fmt.Sprintf("support of Istio %s %s %s%s; %s", line.Name, ends, about, line.EndOfLife.Format(time.DateOnly), message)
	}
	conditions.Set(&status.Conditions, s.mesh.Generation, v1alpha1.ConditionUpgradeAvailable, verdict, reason, message)
}
