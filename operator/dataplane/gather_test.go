// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

const us = v1alpha1.ManagerDataPlane

// canaryPlan moves two waves, the rest, and then what follows tags and the default revision.
func canaryPlan() v1alpha1.RolloutPlan {
	move := func(wave string) v1alpha1.RolloutStep {
		step := v1alpha1.RolloutStep{Name: wave, Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: wave, Percent: 100}}
		if wave == v1alpha1.FollowersWave {
			step.Name, step.Type = rollout.PromoteStep, v1alpha1.StepPromote
		}
		return step
	}
	return v1alpha1.RolloutPlan{
		Mesh: "default", From: v1alpha1.RolloutRevision{Revision: "1-28-2"}, To: v1alpha1.RolloutRevision{Revision: "1-29-1"},
		Enrollment: v1alpha1.EnrollmentNamespaceLabel,
		Waves: []v1alpha1.Wave{
			{Name: "early", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "test"}}},
			{Name: "late", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "bank"}}},
		},
		Steps:   []v1alpha1.RolloutStep{move("early"), move("late"), move(v1alpha1.RestWave), move(v1alpha1.FollowersWave)},
		Restart: v1alpha1.Restart{Type: v1alpha1.RestartRollout},
	}
}

// courseAt is a rollout that has proven its canary, at a step.
func courseAt(plan v1alpha1.RolloutPlan, step int32, changes ...func(*v1alpha1.RolloutProgress)) *Course {
	c := &Course{Plan: &plan, Sorter: rollout.NewSorter(&plan)}
	c.Progress = v1alpha1.RolloutProgress{Step: step, Proven: &metav1.Time{Time: noon}}
	for _, change := range changes {
		change(&c.Progress)
	}
	return c
}

func back(p *v1alpha1.RolloutProgress) { p.Back = true }

// moving is mesh shop at 1-28-2, with a rollout to 1-29-1.
func moving(course *Course) Named {
	m := Named{Name: "default", Mesh: shop}
	m.Revision, m.Course = "1-28-2", course
	return m
}

// with are labels that the selector of mesh shop matches, and others.
func with(more ...string) map[string]string {
	out := map[string]string{"mesh": "yes"}
	for i := 0; i < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

// Which namespaces a rollout counts, in which wave, and which of them it can't move.
func TestMembers(t *testing.T) {
	byTag := canaryPlan()
	byTag.Enrollment, byTag.Waves = v1alpha1.EnrollmentTag, []v1alpha1.Wave{{Name: "early", Tag: "stable"}}
	terminating := namespace("a", with(RevisionLabel, "1-28-2"), us)
	terminating.DeletionTimestamp = &metav1.Time{Time: noon}
	optedOut := namespace("a", with(RevisionLabel, "1-28-2"), us)
	optedOut.Annotations = map[string]string{v1alpha1.AnnotationRestart: "exclude"}
	labelled := namespace("a", with(RevisionLabel, "1-28-2"), us)
	labelled.ManagedFields[0].Time = &metav1.Time{Time: noon}
	tags := func(m *Mesh) { m.Label, m.Course, m.Tags = false, courseAt(byTag, 0), []string{"stable", "prod"} }
	const blocked = "its namespace is labelled istio.io/rev=1-28-2 by argocd: label it there, or remove the label"
	for _, tc := range []struct {
		reason    string
		mesh      func(*Mesh)
		namespace *metav1.PartialObjectMetadata
		wave      string // empty: it is not counted
		want      Member
	}{
		{
			"the first wave that matches has it", nil, namespace("a", with(RevisionLabel, "1-28-2", "tier", "test", "team", "bank"), us),
			"early",
			Member{Name: "a", Label: "1-28-2"},
		},
		{
			"the second one that which the first leaves", nil, namespace("a", with(RevisionLabel, "1-28-2", "team", "bank"), us),
			"late",
			Member{Name: "a", Label: "1-28-2"},
		},
		{"what matches none is the rest", nil, labelled, "rest", Member{Name: "a", Label: "1-28-2", Since: noon}},
		{
			"one that has the canary's label is counted too", nil, namespace("a", with(RevisionLabel, "1-29-1", "tier", "test"), us),
			"early",
			Member{Name: "a", Label: "1-29-1"},
		},
		{
			"who follows a tag moves with the tag, whatever wave matches", nil,
			namespace("a", with(RevisionLabel, "stable", "tier", "test"), "kubectl"), "followers",
			Member{Name: "a", Tag: "stable"},
		},
		{
			"who follows the default revision moves with that", nil,
			namespace("a", with(InjectionLabel, "enabled", "tier", "test")), "followers",
			Member{Name: "a", Tag: "default"},
		},
		{
			"by name too", nil, namespace("a", with(RevisionLabel, "default"), "kubectl"), "followers", Member{Name: "a", Tag: "default"},
		},
		{
			"istio-injection beats our label, which says nothing then", nil,
			namespace("a", with(InjectionLabel, "enabled", RevisionLabel, "1-28-2"), us), "followers",
			Member{Name: "a", Tag: "default"},
		},
		{
			"who names the revision itself can't be moved by us", nil, namespace("a", with(RevisionLabel, "1-28-2", "tier", "test"), "argocd"),
			"early",
			Member{Name: "a", Blocked: blocked},
		},
		{
			"also where the selector does not ask for it", nil, namespace("a", map[string]string{RevisionLabel: "1-28-2"}, "argocd"),
			"rest",
			Member{Name: "a", Blocked: blocked},
		},
		{"it opted out of restarts", nil, optedOut, "rest", Member{Name: "a", Label: "1-28-2", Excluded: true}},
		{"it is going", nil, terminating, "", Member{}},
		{"it is not labelled yet", nil, namespace("a", with()), "", Member{}},
		{"it is another mesh's", nil, namespace("a", with(RevisionLabel, "other"), "kubectl"), "", Member{}},
		{"that of a gateway of the mesh", nil, namespace("istio-ingress", with(RevisionLabel, "1-28-2"), us), "", Member{}},
		{
			"that of the default revision, which is not ours", func(m *Mesh) { m.Default = false },
			namespace("a", with(InjectionLabel, "enabled")), "",
			Member{},
		},
		{"a wave has a tag", tags, namespace("a", with(RevisionLabel, "stable"), "kubectl"), "early", Member{Name: "a", Tag: "stable"}},
		{"another tag is promoted", tags, namespace("a", with(RevisionLabel, "prod"), "kubectl"), "followers", Member{Name: "a", Tag: "prod"}},
		{
			"a tag moves nobody who names the revision itself", tags, namespace("a", with(RevisionLabel, "1-28-2"), "argocd"),
			"followers",
			Member{Name: "a", Blocked: blocked},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			mesh := moving(courseAt(canaryPlan(), 0))
			if tc.mesh != nil {
				tc.mesh(&mesh.Mesh)
			}
			want := map[string][]Member{}
			if tc.wave != "" {
				want[tc.wave] = []Member{tc.want}
			}
			if diff := cmp.Diff(want, Members(mesh, []metav1.PartialObjectMetadata{*tc.namespace})); diff != "" {
				t.Errorf("members (-want +got):\n%s", diff)
			}
		})
	}
}

// The label of a namespace that is enrolled, while a rollout goes on.
func TestLabelsFollowTheRollout(t *testing.T) {
	early, late, rest := with("tier", "test"), with("team", "bank"), with()
	label := func(all map[string]string, revision string, setter string) *metav1.PartialObjectMetadata {
		out := map[string]string{RevisionLabel: revision}
		maps.Copy(out, all)
		return namespace("a", out, setter)
	}
	plan := canaryPlan()
	unproven := courseAt(plan, 0, func(p *v1alpha1.RolloutProgress) { p.Proven = nil })
	ended := func(outcome v1alpha1.RolloutOutcome) *Course {
		return courseAt(plan, 0, func(p *v1alpha1.RolloutProgress) { p.Outcome = outcome })
	}
	still := moving(courseAt(plan, 0))
	still.Still = true
	promoted := moving(courseAt(plan, 4))
	promoted.Revision = "1-29-1"
	selectsNothing := moving(courseAt(plan, 0))
	selectsNothing.Selector = nil
	for _, tc := range []struct {
		reason    string
		mesh      Named
		namespace *metav1.PartialObjectMetadata
		want      Label
	}{
		{"before the canary is proven, nothing moves", moving(unproven), label(early, "1-28-2", us), Label{true, "1-28-2"}},
		{
			"the wave of the current step goes to the canary",
			moving(courseAt(plan, 0)), label(early, "1-28-2", us),
			Label{true, "1-29-1"},
		},
		{"it stays there", moving(courseAt(plan, 0)), label(early, "1-29-1", us), Label{true, "1-29-1"}},
		{"the next wave stays", moving(courseAt(plan, 0)), label(late, "1-28-2", us), Label{true, "1-28-2"}},
		{
			"a namespace that comes meanwhile gets what its wave has: the canary",
			moving(courseAt(plan, 1)), namespace("a", late),
			Label{true, "1-29-1"},
		},
		{"or the old revision", moving(courseAt(plan, 1)), namespace("a", rest), Label{true, "1-28-2"}},
		{
			"one that is moved to a wave that is not reached goes back",
			moving(courseAt(plan, 0)), label(late, "1-29-1", us),
			Label{true, "1-28-2"},
		},
		{"all have been reached", promoted, label(rest, "1-28-2", us), Label{true, "1-29-1"}},
		{
			"going back, the wave of the current step goes first",
			moving(courseAt(plan, 1, back)), label(late, "1-29-1", us),
			Label{true, "1-28-2"},
		},
		{"earlier ones stay until their turn", moving(courseAt(plan, 1, back)), label(early, "1-29-1", us), Label{true, "1-29-1"}},
		{"all are back", moving(courseAt(plan, -1, back)), label(early, "1-29-1", us), Label{true, "1-28-2"}},
		{"it was rolled back", moving(ended(v1alpha1.OutcomeRolledBack)), label(early, "1-29-1", us), Label{true, "1-28-2"}},
		{"a paused mesh moves nothing", still, label(early, "1-28-2", us), Label{true, "1-28-2"}},
		{"neither forward nor back", still, label(late, "1-29-1", us), Label{true, "1-29-1"}},
		{"and enrolls nothing", still, namespace("a", early), Label{}},
		{"a namespace that is selected no more is left", selectsNothing, label(early, "1-29-1", us), Label{}},
		{"the label of others is theirs", moving(courseAt(plan, 0)), label(early, "1-28-2", "argocd"), Label{false, "1-28-2"}},
		{"who follows a tag is moved by the tag", moving(courseAt(plan, 0)), label(early, "stable", "kubectl"), Label{false, "stable"}},
		{
			"who follows the default revision is moved by that", moving(courseAt(plan, 0)),
			namespace("a", with("tier", "test", InjectionLabel, "enabled")),
			Label{},
		},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			verdicts, got := Decide([]Named{tc.mesh}, tc.namespace)
			if got != tc.want {
				t.Errorf("label %+v, want %+v (verdict %+v)", got, tc.want, verdicts[0])
			}
			if verdicts[0].Blocked != "" {
				t.Errorf("blocked: %s", verdicts[0].Message)
			}
		})
	}
}

// While a rollout goes on, another mesh does not take its namespaces: both of its revisions are its own.
func TestOtherMeshesRespectTheCanary(t *testing.T) {
	other := Named{Name: "a-first-by-name", Mesh: shop}
	other.Revision, other.Default, other.Tags = "1-30-0", false, nil
	n := namespace("a", with(RevisionLabel, "1-29-1", "tier", "test"), us)
	verdicts, got := Decide([]Named{other, moving(courseAt(canaryPlan(), 0))}, n)
	if want := (Label{true, "1-29-1"}); got != want || verdicts[0].Blocked != BlockedByLabel || !verdicts[1].Member {
		t.Errorf("label %+v with verdicts %+v, want %+v, the first blocked and the second a member", got, verdicts, want)
	}
}

func TestRetiring(t *testing.T) {
	at := func(act v1alpha1.RolloutAct, back bool) *v1alpha1.MeshRollout {
		o := &v1alpha1.MeshRollout{Spec: v1alpha1.MeshRolloutSpec{Plan: canaryPlan()}}
		o.Status.Act, o.Status.Progress.Back = act, back
		return o
	}
	inPlace := at(v1alpha1.ActRetire, false)
	inPlace.Spec.Plan.To.Revision = "1-28-2"
	for _, tc := range []struct {
		reason     string
		rollout    *v1alpha1.MeshRollout
		old, young bool
	}{
		{"there is none", nil, false, false},
		{"it does something else", at(v1alpha1.ActWait, false), false, false},
		{"the old revision goes", at(v1alpha1.ActRetire, false), true, false},
		{"on the way back the canary goes", at(v1alpha1.ActRetire, true), false, true},
		{"in place there is one revision, which stays", inPlace, false, false},
	} {
		if old, young := Retiring(tc.rollout, "1-28-2"), Retiring(tc.rollout, "1-29-1"); old != tc.old || young != tc.young {
			t.Errorf("%s: old %v, canary %v, want %v and %v", tc.reason, old, young, tc.old, tc.young)
		}
	}
}

// reader reads some objects.
func reader(t *testing.T, objects ...client.Object) client.Client {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build()
}

// What keeps a revision from being removed.
func TestUsersOfRevision(t *testing.T) {
	named := func(name, revision string) *corev1.Namespace {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{RevisionLabel: revision}}}
	}
	going := named("going", "1-28-2")
	going.DeletionTimestamp, going.Finalizers = &metav1.Time{Time: noon}, []string{"kubernetes"}
	cluster := reader(t, named("stays", "1-28-2"), named("moved", "1-29-1"), going)

	if _, err := UsersOfRevision(t.Context(), cluster, quiet(), "1-28-2"); !errors.Is(err, ErrUnknown) {
		t.Errorf("before the pods are known: %v, want ErrUnknown", err)
	}
	web := deployment("web", 1)
	web.Spec.Template.Labels[RevisionLabel] = "1-28-2"
	i := seen(t, web, webPod("a", 1, "1-28-2"), webPod("b", 1, "1-29-1"),
		podOfOwner(kindReplicaSet, "ingress", "ingress-1", "1-28-2", func(p *corev1.Pod) { p.Labels[v1alpha1.LabelGateway] = "ingress" }))
	got, err := UsersOfRevision(t.Context(), cluster, i, "1-28-2")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"pod shop/ingress-1", "pod shop/web-a-1", "the pod template of Deployment/shop/web", "namespace stays",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
	if got, err := UsersOfRevision(t.Context(), cluster, i, "1-27-0"); err != nil || len(got) != 0 {
		t.Errorf("users of a revision that nothing names: %v, %v, want none", got, err)
	}
}

// From the API: a rollout is the mesh's only while the installation names it as its active operation.
func TestGather(t *testing.T) {
	mesh := func(change func(*v1alpha1.MeshInstallation)) *v1alpha1.MeshInstallation {
		m := &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
		m.Spec.Namespace, m.Status.StableRevision = "istio-system", "1-28-2"
		m.Spec.DataPlane.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"mesh": "yes"}}
		m.Status.ActiveOperation = &v1alpha1.ActiveOperation{Kind: RolloutKind, Name: "default-1", UID: "u"}
		change(m)
		return m
	}
	o := &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: "default-1", UID: "u"}}
	o.Spec.Plan = canaryPlan()
	o.Status.Progress.Proven = &metav1.Time{Time: noon}
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: with(RevisionLabel, "1-28-2", "tier", "test")}}
	for _, tc := range []struct {
		reason        string
		change        func(*v1alpha1.MeshInstallation)
		active, still bool
	}{
		{"it has a rollout", func(*v1alpha1.MeshInstallation) {}, true, false},
		{"it has none", func(m *v1alpha1.MeshInstallation) { m.Status.ActiveOperation = nil }, false, false},
		{"it has another operation", func(m *v1alpha1.MeshInstallation) { m.Status.ActiveOperation.Kind = "Other" }, false, false},
		{"its rollout is gone", func(m *v1alpha1.MeshInstallation) { m.Status.ActiveOperation.Name = "default-0" }, false, false},
		{"another one has its name", func(m *v1alpha1.MeshInstallation) { m.Status.ActiveOperation.UID = "v" }, false, false},
		{"it is paused", func(m *v1alpha1.MeshInstallation) { m.Spec.Paused = true }, true, true},
		{"its selector does not parse", func(m *v1alpha1.MeshInstallation) {
			m.Spec.DataPlane.NamespaceSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "tier", Operator: "Like"}}
		}, true, true},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			cluster := reader(t, mesh(tc.change), o.DeepCopy(), n.DeepCopy())
			meshes, err := Gather(t.Context(), cluster, "meshwright-system")
			if err != nil || len(meshes) != 1 {
				t.Fatalf("%d meshes, %v, want one", len(meshes), err)
			}
			if active := meshes[0].Course != nil; active != tc.active || meshes[0].Still != tc.still {
				t.Errorf("active %v, still %v, want %v and %v", active, meshes[0].Still, tc.active, tc.still)
			}
			members, err := MembersOf(t.Context(), cluster, "meshwright-system", "default")
			if err != nil || (members != nil) != tc.active || len(members["early"]) != map[bool]int{true: 1}[tc.active] {
				t.Errorf("members %v, %v, want namespace a in wave early while a rollout is active: %v", members, err, tc.active)
			}
		})
	}
	if members, err := MembersOf(t.Context(), reader(t), "", "default"); members != nil || err != nil {
		t.Errorf("members of a mesh that is not there: %v, %v, want none", members, err)
	}
}

// labelledAt is when we wrote, not when others did.
func TestLabelledAt(t *testing.T) {
	n := namespace("a", with(RevisionLabel, "1-28-2"), "argocd", us)
	n.ManagedFields[0].Time = &metav1.Time{Time: noon.Add(time.Hour)}
	if got := labelledAt(n); !got.IsZero() {
		t.Errorf("labelledAt = %v, and we wrote no time", got)
	}
	n.ManagedFields[1].Time = &metav1.Time{Time: noon}
	if got := labelledAt(n); !got.Equal(noon) {
		t.Errorf("labelledAt = %v, want noon", got)
	}
}
