// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// What people are shown, from a mesh in the middle of a rollout, with a rotation that waits for a proxy.
func TestViews(t *testing.T) {
	for _, tc := range []struct {
		reason, golden string
		show           func(f *factory) error
	}{
		{"a mesh as a tree", "status.txt", func(f *factory) error {
			return (&statusOptions{factory: f, output: &output{}}).run(t.Context(), fakeClient(t, everyObject()...))
		}},
		{"a mesh as data", "status.yaml", func(f *factory) error {
			return (&statusOptions{factory: f, output: &output{format: outputYAML}}).run(t.Context(), fakeClient(t, everyObject()...))
		}},
		{"a mesh in which nothing happens", "status-settled.txt", func(f *factory) error {
			return (&statusOptions{factory: f, output: &output{}}).run(t.Context(), fakeClient(t, settledMesh(), aRevision("1-28-2", "1.28.2")))
		}},
		{"proxies by workload", "proxies.txt", func(f *factory) error {
			return (&proxiesOptions{factory: f, output: &output{}}).run(t.Context(), fakeClient(t, everyObject()...))
		}},
		{"proxies by pod", "proxies-wide.txt", func(f *factory) error {
			return (&proxiesOptions{factory: f, output: &output{format: outputWide}}).run(t.Context(), fakeClient(t, everyObject()...))
		}},
		{"rollouts and rotations", "history.txt", func(f *factory) error {
			return f.history(t.Context(), fakeClient(t, everyObject()...), &output{}, "default")
		}},
		{"the story of a rollout", "story.txt", func(f *factory) error {
			return f.history(t.Context(), fakeClient(t, everyObject()...), &output{}, "default-7")
		}},
		{"the story of a rotation", "story-rotation.txt", func(f *factory) error {
			return f.history(t.Context(), fakeClient(t, everyObject()...), &output{}, "default-2")
		}},
		{"certificates", "certs.txt", func(f *factory) error {
			return f.certs(t.Context(), fakeClient(t, everyObject()...), &output{}, "")
		}},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			f, s := newFactory()
			if err := tc.show(f); err != nil {
				t.Fatal(err)
			}
			golden(t, tc.golden, s.out.String())
		})
	}
}

// What is installed is said of the operator where it runs, also where that is not the default of the flag.
func TestVersionFindsTheOperator(t *testing.T) {
	f, _ := newFactory()
	view := &MeshVersion{}
	c := fakeClient(t, &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "operators", Name: operatorName, Labels: map[string]string{nameLabel: operatorName}}})
	if err := f.installed(t.Context(), c, view); err != nil {
		t.Fatal(err)
	}
	if view.Operator == nil || view.Operator.Namespace != "operators" {
		t.Errorf("the operator is %+v", view.Operator)
	}
}

func TestProxiesAreChosen(t *testing.T) {
	for _, tc := range []struct {
		reason  string
		options proxiesOptions
		space   string
		want    []string
	}{
		{"all", proxiesOptions{}, "", []string{"pod/pay-1", "pod/alone", "pod/cart-1", "pod/cart-2"}},
		{"of a namespace", proxiesOptions{}, "pay", []string{"pod/pay-1"}},
		{"-A beats -n", proxiesOptions{allNamespaces: true}, "pay", []string{"pod/pay-1", "pod/alone", "pod/cart-1", "pod/cart-2"}},
		{"outdated: of the canary, and without a sidecar", proxiesOptions{outdated: true}, "", []string{"pod/pay-1", "pod/cart-2"}},
		{"unmovable", proxiesOptions{unmovable: true}, "", []string{"pod/alone"}},
		{"holdouts", proxiesOptions{holdouts: true}, "", []string{"pod/cart-1"}},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			f, s := newFactory()
			*f.Flags.Namespace = tc.space
			o := tc.options
			o.factory, o.output = f, &output{format: outputName}
			if err := o.run(t.Context(), fakeClient(t, everyObject()...)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, strings.Fields(s.out.String())); diff != "" {
				t.Errorf("proxies (-want +got):\n%s", diff)
			}
		})
	}
}

// What waits for a person names the command that answers it.
func TestAwaiting(t *testing.T) {
	halted := aRollout()
	halted.Status.Act = v1alpha1.ActHalt
	halted.Status.Conditions = []metav1.Condition{
		condition(v1alpha1.ConditionComplete, metav1.ConditionFalse, v1alpha1.ReasonWorkloadFailed, "shop/cart crashes"),
		condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonWorkloadFailed, "shop/cart crashes"),
	}
	in := func(reason, message string) *v1alpha1.MeshRollout {
		o := aRollout()
		o.Status.Conditions = []metav1.Condition{condition(v1alpha1.ConditionComplete, metav1.ConditionFalse, reason, message)}
		return o
	}
	paused := aRollout()
	paused.Spec.Paused = true
	signed := aRotation()
	signed.Status.Request, signed.Status.Holdouts = "PEM", nil
	phase := aRotation()
	phase.Status.Holdouts, phase.Status.Progress.Phase = nil, v1alpha1.PhaseDrain
	phase.Status.Conditions = []metav1.Condition{condition(v1alpha1.ConditionComplete, metav1.ConditionFalse, v1alpha1.ReasonAwaitingApproval, "phase Drop waits")}
	failed := settledMesh()
	failed.Status.FailedTarget = &v1alpha1.FailedTarget{Version: "1.29.1", Rollout: "default-7"}
	forgotten := failed.DeepCopy() // the spec wants something else by now
	failed.Status.Conditions = []metav1.Condition{condition(v1alpha1.ConditionUpToDate, metav1.ConditionFalse, v1alpha1.ReasonTargetFailed, "did not get there")}
	young := aRotation()
	young.Status.Progress.Entered = at(28)
	still := settledMesh()
	still.Spec.Paused = true
	for _, tc := range []struct {
		reason string
		s      snapshot
		want   []string
	}{
		{"nothing", snapshot{mesh: settledMesh()}, nil},
		{"an approval", snapshot{mesh: aMesh(), rollouts: []v1alpha1.MeshRollout{*aRollout()}}, []string{"kubectl mesh approve go"}},
		{"of one of several meshes", snapshot{mesh: aMesh(), others: true, rollouts: []v1alpha1.MeshRollout{*aRollout()}}, []string{"kubectl mesh approve go --mesh default"}},
		{"more restarted than a step allows", snapshot{mesh: aMesh(), rollouts: []v1alpha1.MeshRollout{*in(v1alpha1.ReasonOvershoot, "")}}, []string{"kubectl mesh approve go"}},
		{
			"a proof",
			snapshot{mesh: aMesh(), rollouts: []v1alpha1.MeshRollout{*in(v1alpha1.ReasonUnproven, "a policy; or waive the proof Configuration")}},
			[]string{"kubectl mesh waive Configuration --for 1h"},
		},
		{"a halt", snapshot{mesh: aMesh(), rollouts: []v1alpha1.MeshRollout{*halted}}, []string{"kubectl mesh retry", "kubectl mesh rollback"}},
		{"a pause", snapshot{mesh: aMesh(), rollouts: []v1alpha1.MeshRollout{*paused}}, []string{"kubectl mesh resume"}},
		{"a paused mesh", snapshot{mesh: still}, []string{"kubectl mesh resume --mesh-wide"}},
		{"what failed", snapshot{mesh: failed, rollouts: []v1alpha1.MeshRollout{*endedRollout()}}, []string{"kubectl mesh retry --rollout default-7"}},
		{"what failed, and is not wanted any more", snapshot{mesh: forgotten, rollouts: []v1alpha1.MeshRollout{*endedRollout()}}, nil},
		{"restarts", snapshot{mesh: aMesh(), rollouts: []v1alpha1.MeshRollout{*in(v1alpha1.ReasonAwaitingRestarts, "restart them")}}, []string{""}},
		{"a signature", snapshot{mesh: settledMesh(), rotations: []v1alpha1.MeshRotation{*signed}}, []string{"kubectl mesh certs csr --rotation default-2"}},
		{"a holdout", snapshot{mesh: settledMesh(), rotations: []v1alpha1.MeshRotation{*aRotation()}}, []string{"kubectl mesh certs waive shop/cart-1 --for 1h"}},
		{"a proxy that has had little time", snapshot{mesh: settledMesh(), rotations: []v1alpha1.MeshRotation{*young}}, nil},
		{"a phase", snapshot{mesh: settledMesh(), rotations: []v1alpha1.MeshRotation{*phase}}, []string{"kubectl mesh approve Drop"}},
		{
			"a phase beside a rollout",
			snapshot{mesh: aMesh(), rollouts: []v1alpha1.MeshRollout{*aRollout()}, rotations: []v1alpha1.MeshRotation{*phase}},
			[]string{"kubectl mesh approve go --rollout default-8", "kubectl mesh approve Drop --rotation default-2"},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			var got []string
			for _, a := range tc.s.awaiting(at(30).Time) {
				got = append(got, a.Command)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOutputIsChecked(t *testing.T) {
	o := &output{format: "xml", allowed: []string{outputJSON, outputYAML}}
	if err := o.check(); ExitCodeOf(err) != ExitUsage || !strings.Contains(err.Error(), "json, yaml") {
		t.Errorf("-o xml: %v", err)
	}
}

// A view is JSON that its own type reads back.
func TestViewAsJSON(t *testing.T) {
	f, s := newFactory()
	if err := (&statusOptions{factory: f, output: &output{format: outputJSON}}).run(t.Context(), fakeClient(t, everyObject()...)); err != nil {
		t.Fatal(err)
	}
	var got MeshStatus
	decoder := json.NewDecoder(&s.out)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if got.Kind != "MeshStatus" || got.APIVersion != SchemaVersion || got.Rollout == nil || got.Rollout.Steps[2].Name != "go" || len(got.Gateways[0].Versions) != 2 {
		t.Errorf("read back: %+v", got)
	}
}

func TestPages(t *testing.T) {
	tree := func(p *page) {
		root := &branch{}
		a := root.add(cell{"one", bold}, say("first"), say("a sentence that is rather long for a terminal"))
		a.add(say("below"), cell{"bad", bad})
		root.add(say("two"), say("2"), say("short"))
		p.tree(root.below, "")
	}
	for _, tc := range []struct {
		reason string
		page   page
		want   string
	}{
		{"a pipe", page{}, "├─ one  first  a sentence that is rather long for a terminal\n│  └─ below  bad\n└─ two  2      short\n"},
		{
			"a narrow terminal",
			page{width: 40},
			"├─ one  first  a sentence that is rather\n│  │           long for a terminal\n│  └─ below  bad\n└─ two  2      short\n",
		},
		{
			"colours", page{colours: true}, "\x1b[2m├─ \x1b[0m\x1b[1mone\x1b[0m  first  a sentence that is rather long for a terminal\n" +
				"\x1b[2m│  └─ \x1b[0mbelow  \x1b[31mbad\x1b[0m\n\x1b[2m└─ \x1b[0mtwo  2      short\n",
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			tree(&tc.page)
			if diff := cmp.Diff(tc.want, tc.page.String()); diff != "" {
				t.Errorf("page (-want +got):\n%s", diff)
			}
		})
	}
}

func TestColours(t *testing.T) {
	for _, tc := range []struct {
		reason string
		env    map[string]string
		want   bool
	}{
		{"a terminal", map[string]string{"TERM": "xterm-256color"}, true},
		{"NO_COLOR", map[string]string{"TERM": "xterm-256color", "NO_COLOR": "1"}, false},
		{"a dumb terminal", map[string]string{"TERM": "dumb"}, false},
		{"none", nil, false},
	} {
		if got := coloured(func(name string) string { return tc.env[name] }); got != tc.want {
			t.Errorf("%s: colours %v", tc.reason, got)
		}
	}
	if p := newPage(&strings.Builder{}); p.colours || p.width != 0 {
		t.Errorf("a pipe has colours or a width: %+v", p)
	}
}

func TestTimes(t *testing.T) {
	for _, tc := range []struct {
		reason, got, want string
	}{
		{"of today", clockOf(*at(8), noon), "11:58:00"},
		{"of before", clockOf(metav1.NewTime(noon.Add(-48*time.Hour)), noon), "2026-02-27 12:00:00"},
		{"to come", moment(metav1.NewTime(noon.Add(3*time.Hour)), noon), "2026-03-01T15:00:00Z (in 3h)"},
		{"past", moment(metav1.NewTime(noon.Add(-3*time.Hour)), noon), "2026-03-01T09:00:00Z (3h ago)"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: %s, want %s", tc.reason, tc.got, tc.want)
		}
	}
}
