// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

var (
	old    = v1alpha1.RolloutRevision{Revision: "1-28-2", Version: "1.28.2", InputsDigest: "a"}
	newer  = v1alpha1.RolloutRevision{Revision: "1-29-1", Version: "1.29.1", InputsDigest: "b"}
	newest = v1alpha1.RolloutRevision{Revision: "1-30-0", Version: "1.30.0", InputsDigest: "c"}
)

// called is one side of a rollout under another name of the revision.
func called(revision string, side v1alpha1.RolloutRevision) v1alpha1.RolloutRevision {
	side.Revision = revision
	return side
}

// mesh is an installation with the waves early and late; what matches neither is in the wave rest.
func mesh(steps ...v1alpha1.Step) *v1alpha1.MeshInstallation {
	m := &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	m.Spec.DataPlane.Enrollment = v1alpha1.EnrollmentNamespaceLabel
	m.Spec.DataPlane.Waves = []v1alpha1.Wave{
		{Name: "early", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "test"}}},
		{Name: "late", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "prod"}}},
	}
	m.Spec.Upgrade.Canary.Steps = steps
	return m
}

func dataPlane(name, wave string, percent int32) v1alpha1.Step {
	return v1alpha1.Step{Name: name, Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: wave, Percent: percent}}
}

func pause(name string) v1alpha1.Step { return v1alpha1.Step{Name: name, Type: v1alpha1.StepPause} }

// lines has a line for each step: its name, its type, and what it moves.
func lines(steps []v1alpha1.RolloutStep) []string {
	var out []string
	for _, s := range steps {
		line := s.Name + ": " + string(s.Type)
		if s.DataPlane != nil {
			line += fmt.Sprintf(" %d%% of %s", s.DataPlane.Percent, s.DataPlane.Wave)
		}
		out = append(out, line)
	}
	return out
}

func TestStepsOfAPlan(t *testing.T) {
	tests := []struct {
		name     string
		reason   string
		mesh     *v1alpha1.MeshInstallation
		from, to v1alpha1.RolloutRevision
		want     []string
	}{
		{
			name: "no steps", reason: "each wave moves as a whole, in its order, and promotion is last",
			mesh: mesh(), from: old, to: newer,
			want: []string{
				"early: DataPlane 100% of early", "late: DataPlane 100% of late", "rest: DataPlane 100% of rest",
				"promote: Promote 100% of followers",
			},
		},
		{
			name: "no waves", reason: "all namespaces are in the wave rest",
			mesh: func() *v1alpha1.MeshInstallation {
				m := mesh()
				m.Spec.DataPlane.Waves = nil
				return m
			}(), from: old, to: newer,
			want: []string{"rest: DataPlane 100% of rest", "promote: Promote 100% of followers"},
		},
		{
			name:   "steps that do not name all waves",
			reason: "the waves that are not named move after the user's steps, in the order of the waves",
			mesh:   mesh(dataPlane("prod-first", "late", 100), pause("go")), from: old, to: newer,
			want: []string{
				"prod-first: DataPlane 100% of late", "go: Pause",
				"early: DataPlane 100% of early", "rest: DataPlane 100% of rest", "promote: Promote 100% of followers",
			},
		},
		{
			name: "steps that name all waves", reason: "nothing is added but promotion",
			mesh: mesh(dataPlane("c", "rest", 100), dataPlane("b", "late", 100), dataPlane("a", "early", 100)), from: old, to: newer,
			want: []string{
				"c: DataPlane 100% of rest", "b: DataPlane 100% of late", "a: DataPlane 100% of early",
				"promote: Promote 100% of followers",
			},
		},
		{
			name: "a share of a wave", reason: "a wave of which a step moves a share is completed after the user's steps",
			mesh: mesh(dataPlane("some", "early", 10), pause("look"), dataPlane("more", "early", 50)), from: old, to: newer,
			want: []string{
				"some: DataPlane 10% of early", "look: Pause", "more: DataPlane 50% of early",
				"early: DataPlane 100% of early", "late: DataPlane 100% of late", "rest: DataPlane 100% of rest",
				"promote: Promote 100% of followers",
			},
		},
		{
			name: "a share and then all of a wave", reason: "a wave that the user completes is not added again",
			mesh: mesh(dataPlane("some", "rest", 10), pause("look"), dataPlane("all", "rest", 100)), from: old, to: newer,
			want: []string{
				"some: DataPlane 10% of rest", "look: Pause", "all: DataPlane 100% of rest",
				"early: DataPlane 100% of early", "late: DataPlane 100% of late", "promote: Promote 100% of followers",
			},
		},
		{
			name: "only pauses", reason: "a pause comes before everything that nobody named",
			mesh: mesh(pause("go")), from: old, to: newer,
			want: []string{
				"go: Pause", "early: DataPlane 100% of early", "late: DataPlane 100% of late", "rest: DataPlane 100% of rest",
				"promote: Promote 100% of followers",
			},
		},
		{
			name: "enrollment by tag", reason: "namespaces that no wave's tag has follow promotion: there is no rest",
			mesh: func() *v1alpha1.MeshInstallation {
				m := mesh()
				m.Spec.DataPlane.Enrollment = v1alpha1.EnrollmentTag
				m.Spec.DataPlane.Waves = []v1alpha1.Wave{{Name: "early", Tag: "canary"}, {Name: "late", Tag: "stable"}}
				return m
			}(), from: old, to: newer,
			want: []string{"early: DataPlane 100% of early", "late: DataPlane 100% of late", "promote: Promote 100% of followers"},
		},
		{
			name: "enrollment by tag without waves", reason: "all that is to be done is promotion",
			mesh: func() *v1alpha1.MeshInstallation {
				m := mesh()
				m.Spec.DataPlane.Enrollment, m.Spec.DataPlane.Waves = v1alpha1.EnrollmentTag, nil
				return m
			}(), from: old, to: newer,
			want: []string{"promote: Promote 100% of followers"},
		},
		{
			name:   "in place",
			reason: "one revision has nothing to promote; the workloads that follow a tag have to be restarted all the same",
			mesh:   mesh(), from: called("default", old), to: called("default", newer),
			want: []string{
				"early: DataPlane 100% of early", "late: DataPlane 100% of late", "rest: DataPlane 100% of rest",
				"followers: DataPlane 100% of followers",
			},
		},
		{
			name: "a refresh", reason: "both sides are one revision: there is nothing to promote",
			mesh: mesh(dataPlane("some", "rest", 10)), from: newer, to: newer,
			want: []string{
				"some: DataPlane 10% of rest", "early: DataPlane 100% of early", "late: DataPlane 100% of late",
				"rest: DataPlane 100% of rest", "followers: DataPlane 100% of followers",
			},
		},
		{
			name:   "names that clash",
			reason: "approvals bind to names: a step that is added takes a name that the user's steps do not have",
			mesh:   mesh(pause("rest"), pause("promote"), pause("early"), pause("early-2")), from: old, to: newer,
			want: []string{
				"rest: Pause", "promote: Pause", "early: Pause", "early-2: Pause",
				"early-3: DataPlane 100% of early", "late: DataPlane 100% of late", "rest-2: DataPlane 100% of rest",
				"promote-2: Promote 100% of followers",
			},
		},
		{
			name: "names that clash in place", reason: "so does the step of the followers",
			mesh: mesh(pause("followers")), from: called("default", old), to: called("default", newer),
			want: []string{
				"followers: Pause", "early: DataPlane 100% of early", "late: DataPlane 100% of late", "rest: DataPlane 100% of rest",
				"followers-2: DataPlane 100% of followers",
			},
		},
		{
			name: "a wave that is called promote", reason: "the step of the wave has the name, promotion takes another",
			mesh: func() *v1alpha1.MeshInstallation {
				m := mesh()
				m.Spec.DataPlane.Waves = []v1alpha1.Wave{{Name: "promote"}}
				return m
			}(), from: old, to: newer,
			want: []string{
				"promote: DataPlane 100% of promote", "rest: DataPlane 100% of rest", "promote-2: Promote 100% of followers",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			plan := NewPlan(tt.mesh, tt.from, tt.to, nil)
			if diff := cmp.Diff(tt.want, lines(plan.Steps)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.reason, diff)
			}
		})
	}
}

// A plan is frozen: all that a rollout needs of an installation is written out.
func TestPlanIsWrittenOut(t *testing.T) {
	m := mesh(v1alpha1.Step{Name: "go", Type: v1alpha1.StepPause, Pause: &v1alpha1.PauseStep{DurationSeconds: 60}}, v1alpha1.Step{
		Name: "all", Type: v1alpha1.StepDataPlane,
		DataPlane: &v1alpha1.DataPlaneStep{Wave: v1alpha1.RestWave, Percent: 100, BakeSeconds: 30},
	})
	m.Spec.DataPlane.Waves = nil
	m.Spec.DataPlane.Restart = v1alpha1.Restart{
		Type: v1alpha1.RestartEvict, MaxUnavailable: new(intstr.FromString("20%")), PodsPerMinute: 5,
	}
	m.Spec.Upgrade.OnFailure = v1alpha1.OnFailurePause
	m.Spec.Upgrade.ProgressDeadlineSeconds = 600
	m.Spec.Upgrade.Windows = []v1alpha1.Window{{Schedule: "0 2 * * 6", DurationSeconds: 3600}}
	findings := []v1alpha1.Finding{{Name: "EnvoyFilter/shop/headers", Message: "it patches a listener"}}
	want := v1alpha1.RolloutPlan{
		Mesh: "default", From: old, To: newer, Enrollment: v1alpha1.EnrollmentNamespaceLabel,
		Steps: []v1alpha1.RolloutStep{
			{Name: "go", Type: v1alpha1.StepPause, Pause: &v1alpha1.PauseStep{DurationSeconds: 60}},
			{Name: "all", Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: "rest", Percent: 100, BakeSeconds: 30}},
			{Name: "promote", Type: v1alpha1.StepPromote, DataPlane: &v1alpha1.DataPlaneStep{Wave: "followers", Percent: 100}},
		},
		Restart:   v1alpha1.Restart{Type: v1alpha1.RestartEvict, MaxUnavailable: new(intstr.FromString("20%")), PodsPerMinute: 5},
		OnFailure: v1alpha1.OnFailurePause, Windows: []v1alpha1.Window{{Schedule: "0 2 * * 6", DurationSeconds: 3600}},
		ProgressDeadlineSeconds: 600, RetireAfterSeconds: DefaultRetireAfterSeconds, Findings: findings,
	}
	if diff := cmp.Diff(want, NewPlan(m, old, newer, findings)); diff != "" {
		t.Errorf("a plan (-want +got):\n%s", diff)
	}
	none := int32(0)
	m.Spec.Upgrade.Canary.RetireAfterSeconds = &none
	if got := NewPlan(m, old, newer, nil).RetireAfterSeconds; got != 0 {
		t.Errorf("the old revision is kept for %d s, want 0: that is said, and no default", got)
	}
}

func TestOnChange(t *testing.T) {
	const moving, lingering = 1, 4 // steps: early, late, rest, promote
	canary := NewPlan(mesh(), old, newer, nil)
	refresh := NewPlan(mesh(), newer, newer, nil)
	inPlace := NewPlan(mesh(), called("default", old), called("default", newer), nil)
	values := NewPlan(mesh(), called("1-29-1-aaaa", newer), called("1-29-1-bbbb", newer), nil)
	tests := []struct {
		name, reason string
		plan         v1alpha1.RolloutPlan
		step         int32
		back         bool
		wanted       v1alpha1.RolloutRevision
		want         Change
	}{
		{"the target, while it moves", "nothing is wanted that is not under way", canary, moving, false, newer, Keep},
		{"the target, while it waits", "nothing is wanted that has not been done", canary, lingering, false, newer, Keep},
		{"the old version, while it moves", "the way back is the rollout's own", canary, moving, false, old, GoBack},
		{"the old version, while it waits", "the old revision is still there to go back to", canary, lingering, false, old, GoBack},
		{
			"another version, while it moves", "a mesh has two revisions at most: it has to go back first",
			canary, moving, false, newest, GoBack,
		},
		{
			"another version, while it waits", "going back would move everything once more for nothing",
			canary, lingering, false, newest, Finish,
		},
		{"another version, before the first step", "the canary is taken away before another comes", canary, 0, false, newest, GoBack},
		{"another version, during promotion", "the last step is not done yet", canary, lingering - 1, false, newest, GoBack},
		{"the old version, going back", "it goes there already", canary, moving, true, old, Keep},
		{"the target, going back", "a rollout turns once; another follows", canary, moving, true, newer, Keep},
		{"another version, going back", "a rollout turns once; another follows", canary, moving, true, newest, Keep},
		{"another version, back from the end", "a rollout turns once; another follows", canary, lingering, true, newest, Keep},
		{"another version, all undone", "it is about to end", canary, -1, true, newest, Keep},
		{"the same, in a refresh", "nothing is wanted that is not under way", refresh, moving, false, newer, Keep},
		{
			"another version, in a refresh", "the control plane has not changed: the refresh is ended",
			refresh, moving, false, newest, GoBack,
		},
		{"another version, after a refresh", "everything has moved", refresh, lingering, false, newest, Finish},
		{"the target, in place", "nothing is wanted that is not under way", inPlace, moving, false, called("default", newer), Keep},
		{
			"the old version, in place", "one revision goes back to its old version",
			inPlace, moving, false, called("default", old), GoBack,
		},
		{"another version, in place", "it has to go back first", inPlace, moving, false, called("default", newest), GoBack},
		{
			"the target, of one version", "the revision tells what the version does not",
			values, moving, false, called("1-29-1-bbbb", newer), Keep,
		},
		{
			"the old values, of one version", "the same version under another revision is not the target",
			values, moving, false, called("1-29-1-aaaa", newer), GoBack,
		},
		{
			"the old values, of one version, while it waits", "the old revision is still there to go back to",
			values, lingering, false, called("1-29-1-aaaa", newer), GoBack,
		},
		{
			"other values, of one version", "it has to go back first",
			values, moving, false, called("1-29-1-cccc", newer), GoBack,
		},
		{
			"other values, of one version, while it waits", "everything has moved",
			values, lingering, false, called("1-29-1-cccc", newer), Finish,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := v1alpha1.RolloutProgress{Step: tt.step, Back: tt.back}
			if got := OnChange(&tt.plan, p, tt.wanted); got != tt.want {
				t.Errorf("%s, want %s: %s", got, tt.want, tt.reason)
			}
		})
	}
	other := newer
	other.InputsDigest = "c"
	if got := OnChange(&canary, v1alpha1.RolloutProgress{Step: moving}, other); got != Keep {
		t.Errorf("other inputs of the same revision: %s, want Keep: they hold from the next rollout on", got)
	}
}
