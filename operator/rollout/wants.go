// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"math"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Target is the side that a rollout moves to at present: back, it is where it came from.
func Target(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress) v1alpha1.RolloutRevision {
	if p.Back {
		return plan.From
	}
	return plan.To
}

// reached says whether a step was entered and is not undone. Before the canary is proven, none is. Going back, the
// current step is being undone, and with it all that its wave has moved.
func reached(p v1alpha1.RolloutProgress, i int) bool {
	if p.Proven == nil {
		return false
	}
	if p.Back {
		return int32(i) < p.Step //nolint:gosec // a plan has 50 steps at most
	}
	return int32(i) <= p.Step //nolint:gosec // a plan has 50 steps at most
}

// undoing says whether the current step, which is being undone, moves a wave.
func undoing(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress, wave string) bool {
	if !p.Back || p.Step < 0 || int(p.Step) >= len(plan.Steps) {
		return false
	}
	s := plan.Steps[p.Step]
	return s.DataPlane != nil && s.DataPlane.Wave == wave
}

// Percent of a wave that is to be at the new revision. A wave whose namespaces are enrolled there has more than 0.
func Percent(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress, wave string) int32 {
	if undoing(plan, p, wave) {
		return 0
	}
	percent := int32(0)
	for i, s := range plan.Steps {
		if s.DataPlane != nil && s.DataPlane.Wave == wave && reached(p, i) {
			percent = max(percent, s.DataPlane.Percent)
		}
	}
	return percent
}

// RevisionOf is the revision that the namespaces of a wave are to be labelled with, or its tag is to point to.
func RevisionOf(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress, wave string) string {
	if Percent(plan, p, wave) > 0 {
		return plan.To.Revision
	}
	return plan.From.Revision
}

// Promoted says whether the default revision, the tags that no wave has, and the gateways are to be at the new revision.
func Promoted(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress) bool {
	for i, s := range plan.Steps {
		if s.Type == v1alpha1.StepPromote {
			return reached(p, i)
		}
	}
	return false
}

// Shares is what restarts may come to in a wave: percent of it, towards the target.
func Shares(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress, wave string) (percent int32) {
	if p.Back {
		// What was never enrolled is at the old revision already; all else goes back as a whole.
		if RevisionOf(plan, p, wave) == plan.From.Revision {
			return 100
		}
		return 0
	}
	return Percent(plan, p, wave)
}

// Sorter sorts namespaces into the waves of a plan.
type Sorter struct {
	byTag bool
	waves []wave
}

// wave is one wave with its selector, which selects nothing when it can't be read.
type wave struct {
	name, tag string
	selector  labels.Selector
}

// NewSorter makes a sorter for a plan.
func NewSorter(plan *v1alpha1.RolloutPlan) *Sorter {
	out := &Sorter{byTag: plan.Enrollment == v1alpha1.EnrollmentTag}
	for _, w := range plan.Waves {
		selector, err := metav1.LabelSelectorAsSelector(w.Selector)
		if err != nil {
			selector = labels.Nothing()
		}
		out.waves = append(out.waves, wave{name: w.Name, tag: w.Tag, selector: selector})
	}
	return out
}

// WaveOf is the wave of a namespace, from its labels: the first that matches, else rest. A namespace that follows a tag which
// no wave has, or the default revision, is moved by promotion: follows says so.
func (s *Sorter) WaveOf(namespace map[string]string, follows bool) string {
	for _, w := range s.waves {
		switch {
		case s.byTag && namespace[v1alpha1.IstioRevision] == w.tag && namespace[v1alpha1.IstioInjection] == "",
			!s.byTag && !follows && w.selector.Matches(labels.Set(namespace)):
			return w.name
		}
	}
	if follows || s.byTag {
		return v1alpha1.FollowersWave
	}
	return v1alpha1.RestWave
}

// share is how many of a total are percent of it, rounded up: 1% of 3 is one.
func share(total, percent int32) int32 {
	return int32(math.Ceil(float64(total) * float64(percent) / 100))
}
