// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"slices"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// NewPlan computes the plan of a rollout from an installation, with every default written out.
func NewPlan(m *v1alpha1.MeshInstallation, from, to v1alpha1.RolloutRevision, findings []v1alpha1.Finding) v1alpha1.RolloutPlan {
	upgrade, plane := m.Spec.Upgrade, m.Spec.DataPlane
	plan := v1alpha1.RolloutPlan{
		Mesh: m.Name, From: from, To: to, Enrollment: plane.Enrollment, Waves: plane.Waves, Restart: plane.Restart,
		OnFailure: upgrade.OnFailure, Windows: upgrade.Windows, ProgressDeadlineSeconds: upgrade.ProgressDeadlineSeconds,
		RetireAfterSeconds: DefaultRetireAfterSeconds, Findings: findings,
	}
	if upgrade.Canary.RetireAfterSeconds != nil {
		plan.RetireAfterSeconds = *upgrade.Canary.RetireAfterSeconds
	}
	plan.Steps = stepsOf(m, inPlace(&plan))
	return plan
}

// DefaultRetireAfterSeconds is how long an old revision is kept, where nothing is said: a day.
const DefaultRetireAfterSeconds = 86400

// PromoteStep is what the last step of a canary's rollout is called, unless a step of the user is.
const PromoteStep = "promote"

// stepsOf are the user's steps, then the waves that these do not name, then what promotion moves.
func stepsOf(m *v1alpha1.MeshInstallation, inPlace bool) []v1alpha1.RolloutStep {
	var steps []v1alpha1.RolloutStep
	named := map[string]bool{}
	for _, s := range m.Spec.Upgrade.Canary.Steps {
		steps = append(steps, v1alpha1.RolloutStep(s))
		if s.DataPlane != nil && s.DataPlane.Percent == 100 {
			named[s.DataPlane.Wave] = true
		}
	}
	for _, wave := range WavesOf(m) {
		if !named[wave] {
			steps = append(steps, move(steps, wave))
		}
	}
	last := move(steps, v1alpha1.FollowersWave)
	if !inPlace {
		last.Name, last.Type = unused(steps, PromoteStep), v1alpha1.StepPromote
	}
	return append(steps, last)
}

// WavesOf are the names of the waves that can move before promotion, in their order.
func WavesOf(m *v1alpha1.MeshInstallation) []string {
	var out []string
	for _, w := range m.Spec.DataPlane.Waves {
		out = append(out, w.Name)
	}
	if m.Spec.DataPlane.Enrollment != v1alpha1.EnrollmentTag {
		out = append(out, v1alpha1.RestWave)
	}
	return out
}

func move(steps []v1alpha1.RolloutStep, wave string) v1alpha1.RolloutStep {
	return v1alpha1.RolloutStep{
		Name: unused(steps, wave), Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: wave, Percent: 100},
	}
}

// unused is a name that no step has.
func unused(steps []v1alpha1.RolloutStep, name string) string {
	free := name
	for n := 2; slices.ContainsFunc(steps, func(s v1alpha1.RolloutStep) bool { return s.Name == free }); n++ {
		free = fmt.Sprintf("%s-%d", name, n)
	}
	return free
}

// Change is what a changed installation means for a rollout under way.
type Change string

// The values of Change.
const (
	// Keep: the plan goes on as it was frozen. What else the installation says holds from the next rollout on.
	Keep Change = "Keep"
	// GoBack: the rollout is told to roll back, and, if the installation wants something else than the old revision, another
	// rollout follows from there.
	GoBack Change = "GoBack"
	// Finish: everything has moved; the rollout only waits to retire the old revision. It does so as soon as nothing uses it,
	// and another rollout follows.
	Finish Change = "Finish"
)

// OnChange says what a rollout under way does when the installation means wanted by now. Moves that are not lawful never come
// here: the spec is refused, and the last one that was accepted goes on.
//
//	the installation wants   before everything moved | while the old revision waits to be retired
//	the target of the plan   Keep                    | Keep
//	the old version again    GoBack                  | GoBack
//	anything else            GoBack                  | Finish
func OnChange(plan *v1alpha1.RolloutPlan, p v1alpha1.RolloutProgress, wanted v1alpha1.RolloutRevision) Change {
	same := func(side v1alpha1.RolloutRevision) bool {
		return wanted.Version == side.Version && wanted.Revision == side.Revision
	}
	switch {
	case same(plan.To), p.Back:
		return Keep
	case same(plan.From), int(p.Step) < len(plan.Steps):
		return GoBack
	}
	return Finish
}
