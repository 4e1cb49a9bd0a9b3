// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"slices"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/traffic"
)

// NewPlan computes the plan of a rollout from an installation, with every default written out.
func NewPlan(m *v1alpha1.MeshInstallation, from, to v1alpha1.RolloutRevision, findings []v1alpha1.Finding) v1alpha1.RolloutPlan {
	upgrade, plane := m.Spec.Upgrade, m.Spec.DataPlane
	plan := v1alpha1.RolloutPlan{
		Mesh: m.Name, From: from, To: to, Enrollment: plane.Enrollment, Waves: plane.Waves, Restart: plane.Restart,
		OnFailure: upgrade.OnFailure, Windows: upgrade.Windows, ProgressDeadlineSeconds: upgrade.ProgressDeadlineSeconds,
		RetireAfterSeconds: DefaultRetireAfterSeconds, Findings: findings, Notifications: upgrade.Notifications,
	}
	if !Refresh(&plan) {
		plan.Analysis = upgrade.Analysis
	}
	if upgrade.Canary.RetireAfterSeconds != nil {
		plan.RetireAfterSeconds = *upgrade.Canary.RetireAfterSeconds
	}
	plan.Steps = stepsOf(m, &plan)
	return plan
}

// DefaultRetireAfterSeconds is how long an old revision is kept, where nothing is said: a day.
const DefaultRetireAfterSeconds = 86400

// PromoteStep is what the last step of a canary's rollout is called, unless a step of the user is.
const PromoteStep = "promote"

// stepsOf are the user's steps, then the waves that these do not name, then what promotion moves.
func stepsOf(m *v1alpha1.MeshInstallation, plan *v1alpha1.RolloutPlan) []v1alpha1.RolloutStep {
	var steps []v1alpha1.RolloutStep
	wanted := m.Spec.Upgrade.Canary.Steps
	if len(wanted) == 0 {
		wanted = gatewaySteps(m)
	}
	named := map[string]bool{}
	for _, s := range wanted {
		step := v1alpha1.RolloutStep(s)
		switch s.Type {
		case v1alpha1.StepGatewayWeight:
			if inPlace(plan) {
				continue // there is one version of a gateway only
			}
		case v1alpha1.StepAnalysis:
			gates := gatesNamed(m, plan, s.Analysis)
			if len(gates) == 0 {
				continue
			}
			step.Analysis = &v1alpha1.AnalysisStep{Gates: gates}
		default:
		}
		steps = append(steps, step)
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
	if !inPlace(plan) {
		last.Name, last.Type = unused(steps, PromoteStep), v1alpha1.StepPromote
	}
	return append(steps, last)
}

// gatewaySteps are the steps of the gateways where the user wrote no steps: the least share that the replicas of all of them allow,
// a look at how the new version does with it, and then the whole.
func gatewaySteps(m *v1alpha1.MeshInstallation) []v1alpha1.Step {
	least, follows := int32(0), false
	for _, g := range m.Spec.Gateways {
		if g.VersionPolicy == v1alpha1.VersionHold {
			continue
		}
		follows = true
		least = max(least, leastShare(g))
	}
	weight := func(name string, percent int32) v1alpha1.Step {
		return v1alpha1.Step{Name: name, Type: v1alpha1.StepGatewayWeight, GatewayWeight: &v1alpha1.GatewayWeightStep{Percent: percent}}
	}
	switch {
	case !follows:
		return nil
	case least == 0:
		return []v1alpha1.Step{weight("gateways", 100)}
	}
	return []v1alpha1.Step{
		weight(fmt.Sprintf("gateways-%d", least), least), {Name: "judge", Type: v1alpha1.StepAnalysis}, weight("gateways-100", 100),
	}
}

// leastShare is the least share of its traffic that a gateway can give to its new version; 0 where it gives all or nothing.
func leastShare(g v1alpha1.Gateway) int32 {
	switch g.Shift.Type {
	case v1alpha1.ShiftSelector:
		return 0
	case v1alpha1.ShiftHTTPRoute:
		return routeStep
	default:
	}
	values, err := v1alpha1.DecodeMap(g.Values)
	if err != nil {
		return 0 // it is refused before
	}
	base, _ := traffic.ReplicasOf(values)
	return traffic.Reachable(base)[1] // the first is 0
}

// routeStep is the share that a route begins with where nobody chose one.
const routeStep = 10

// gatesNamed are the gates of a step of type Analysis: those that it names, else all. Health needs gateways that shift.
func gatesNamed(m *v1alpha1.MeshInstallation, plan *v1alpha1.RolloutPlan, step *v1alpha1.AnalysisStep) (names []string) {
	var all []string
	follows := func(g v1alpha1.Gateway) bool { return g.VersionPolicy != v1alpha1.VersionHold }
	if slices.ContainsFunc(m.Spec.Gateways, follows) && !inPlace(plan) {
		all = append(all, v1alpha1.HealthGate)
	}
	for _, metric := range plan.Analysis.Metrics {
		all = append(all, metric.Name)
	}
	all = append(all, hooksOf(plan, v1alpha1.HookDuring)...)
	for _, name := range all {
		if step == nil || len(step.Gates) == 0 || slices.Contains(step.Gates, name) {
			names = append(names, name)
		}
	}
	return names
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

// GivenUp says whether a target is not tried again by itself: a rollout failed to reach it, the spec that wanted it is still of
// the same generation, and that rollout, nil for one that is gone, was given no retry since.
func GivenUp(last *v1alpha1.FailedTarget, to v1alpha1.RolloutRevision, generation int64, failed *v1alpha1.MeshRollout) bool {
	return last != nil && last.Version == to.Version && last.InputsDigest == to.InputsDigest && last.Generation == generation &&
		(failed == nil || failed.Name != last.Rollout || failed.Spec.Retries <= last.Retries)
}

// Move is what an installation asks for, beside the revision that serves.
type Move string

// The moves.
const (
	// MoveInstall: there is no revision yet.
	MoveInstall Move = "Install"
	// MoveNone: the revision that serves was made from the same inputs.
	MoveNone Move = "None"
	// MoveConfigure: other values or mesh configuration, which the revision gets where it stands.
	MoveConfigure Move = "Configure"
	// MoveRollOut: another version, or another revision, for which a MeshRollout is made.
	MoveRollOut Move = "RollOut"
)

// MoveOf says what is asked for by an installation that means a version, under the name of a revision. Same says that the stable
// revision, nil for none, has that version and was made from the same inputs.
func MoveOf(stable *v1alpha1.MeshRevision, revision, version string, same bool) Move {
	switch {
	case stable == nil:
		return MoveInstall
	case same:
		return MoveNone
	case stable.Name == revision && stable.Spec.Version == version:
		return MoveConfigure
	}
	return MoveRollOut
}
