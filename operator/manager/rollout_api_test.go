// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build api

package manager

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/testkit"
)

// The two sides of every rollout here.
const (
	oldVersion, oldRevision = "1.28.2", "1-28-2"
	newVersion, newRevision = "1.29.1", "1-29-1"
)

// scenario is one story of a rollout, that ends the same whatever happens to the operator on the way.
type scenario struct {
	// steps of the canary; the waves are early and rest.
	steps []v1alpha1.Step
	// gateway says that the mesh has one.
	gateway bool
	// broken says that the istiod of the new version never gets ready.
	broken bool
	// people are what they do after the version was changed.
	people func(*testing.T, *story)
	// want is the end.
	want ending
	// deadly are the writes of which each lets an operator die, once before and once after it; later ones live a little longer. Where
	// it is nil, all are, and operators come a few writes further each: what was not recorded is written again.
	deadly func(*http.Request) bool
	// stale adds a run with reads that are late.
	stale bool
}

// ending is what a rollout leaves behind.
type ending struct {
	Stable, Version, Canary, Pending string
	// FailedTarget is the version that is not tried again.
	FailedTarget string
	// Active says that the mesh has an active operation.
	Active bool
	// Revisions that exist, those that are going included.
	Revisions []string
	// DefaultTag is the revision that the default tag points to.
	DefaultTag string
	// Labels are the revisions that namespaces name.
	Labels map[string]string
	// Workloads are the direction in which each was restarted last, how often its template has changed, and the revisions of its pods.
	Workloads map[string]string
	// Gateway has the versions of the gateway, and the one that its Service points to.
	Gateway string
	// Rollouts and their outcomes.
	Rollouts []string
}

// story is a world in which a rollout happens.
type story struct {
	*world

	fake *fakeMesh
}

// The workloads of each story, by namespace: two waves, and a namespace that follows the default revision.
var (
	workloadsOf = map[string][]string{"early": {"app"}, "late": {"api", "web"}, "follows": {"job"}}
	namespaces  = map[string]map[string]string{
		"early": {"mesh": "yes", "tier": "early"}, "late": {"mesh": "yes"}, "follows": {"istio-injection": "enabled"},
	}
)

// atOld is the end of a rollout that came to nothing; restarted are the workloads that have moved there and back.
func atOld(outcome v1alpha1.RolloutOutcome, failed string, restarted ...string) ending {
	out := ending{
		Stable: oldRevision, Version: oldVersion, FailedTarget: failed, Revisions: []string{oldRevision}, DefaultTag: oldRevision,
		Labels: map[string]string{"early": oldRevision, "late": oldRevision, "follows": ""}, Workloads: map[string]string{},
		Rollouts: []string{"default-1 " + string(outcome)},
	}
	for namespace, all := range workloadsOf {
		for _, name := range all {
			out.Workloads[namespace+"/"+name] = " 1 " + oldRevision
		}
	}
	for _, name := range restarted {
		out.Workloads[name] = "back 3 " + oldRevision
	}
	return out
}

// atNew is the end of a rollout that came to its end: each workload was restarted once.
func atNew() ending {
	out := ending{
		Stable: newRevision, Version: newVersion, Revisions: []string{newRevision}, DefaultTag: newRevision,
		Labels: map[string]string{"early": newRevision, "late": newRevision, "follows": ""}, Workloads: map[string]string{},
		Rollouts: []string{"default-1 " + string(v1alpha1.OutcomeCompleted)},
	}
	for namespace, all := range workloadsOf {
		for _, name := range all {
			out.Workloads[namespace+"/"+name] = "forward 2 " + newRevision
		}
	}
	return out
}

// earlyThenGo moves the first wave and waits for people.
var earlyThenGo = []v1alpha1.Step{
	{Name: "early", Type: v1alpha1.StepDataPlane, DataPlane: &v1alpha1.DataPlaneStep{Wave: "early", Percent: 100}},
	{Name: "go", Type: v1alpha1.StepPause},
}

// ofWalk are the writes by which a rollout walks: all but those that make the objects of Istio itself.
func ofWalk(r *http.Request) bool {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	return slices.Contains(path, v1alpha1.GroupVersion.Group) || path[2] == "namespaces" && len(path) == 4 ||
		path[2] == "mutatingwebhookconfigurations" && strings.HasPrefix(path[3], "istio-revision-tag-") ||
		strings.HasPrefix(r.URL.Path, "/apis/apps/v1/namespaces/") && path[4] != istioNamespace
}

// An upgrade moves both waves and what follows the default revision, once each, and takes the old revision away.
func TestRolloutToTheEnd(t *testing.T) {
	run(t, scenario{want: atNew(), deadly: ofWalk, stale: true})
}

// A rollout that is told to roll back in the middle moves back what has moved, and nothing else.
func TestRolloutRolledBack(t *testing.T) {
	run(t, scenario{
		steps: earlyThenGo, deadly: ofWalk, want: atOld(v1alpha1.OutcomeRolledBack, newVersion, "early/app"),
		people: func(t *testing.T, s *story) {
			s.awaits(t)
			s.verb(t, `{"spec":{"goal":"RollBack"}}`)
		},
	})
}

// A rollout that is aborted before anything has moved takes the canary away.
func TestRolloutAborted(t *testing.T) {
	run(t, scenario{
		steps: []v1alpha1.Step{{Name: "go", Type: v1alpha1.StepPause}}, deadly: ofWalk, want: atOld(v1alpha1.OutcomeAborted, newVersion),
		people: func(t *testing.T, s *story) {
			s.awaits(t)
			s.verb(t, `{"spec":{"goal":"Abort"}}`)
		},
	})
}

// A canary that never gets ready is taken away when the deadline has passed, and is not tried again.
func TestRolloutOfBrokenCanary(t *testing.T) {
	run(t, scenario{broken: true, deadly: ofWalk, want: atOld(v1alpha1.OutcomeRolledBack, newVersion)})
}

// A version that is put back in the middle of a rollout brings everything back.
func TestRolloutPutBack(t *testing.T) {
	run(t, scenario{
		steps: earlyThenGo, deadly: ofWalk, want: atOld(v1alpha1.OutcomeRolledBack, newVersion, "early/app"),
		people: func(t *testing.T, s *story) {
			s.awaits(t)
			s.patch(t, mesh(""), `{"spec":{"version":"`+oldVersion+`"}}`)
		},
	})
}

// A rollout whose mesh is paused stands still, and goes on when it is not paused any more.
func TestRolloutOfPausedMesh(t *testing.T) {
	run(t, scenario{
		steps: earlyThenGo, want: atNew(),
		people: func(t *testing.T, s *story) {
			s.await(t, "the rollout to begin", func() (bool, string) { return s.newest(t) != nil, "no rollout" })
			s.paused(t)
			s.patch(t, mesh(""), `{"spec":{"paused":false}}`)
			s.awaits(t)
			s.paused(t)
			s.verb(t, `{"spec":{"approvals":[{"step":"go","by":"somebody"}]}}`)
			s.patch(t, mesh(""), `{"spec":{"paused":false}}`)
		},
	})
}

// A gateway moves in steps whose shares are measured, while operators die, meet conflicts and read late.
func TestRolloutOfGateway(t *testing.T) {
	want := atNew()
	want.Gateway = newRevision + " <- " + newRevision
	run(t, scenario{gateway: true, steps: halfThenAll, deadly: ofGateway, want: want, stale: true})
}

// A gateway goes back to the version that it came from, and its workloads with it.
func TestRolloutOfGatewayRolledBack(t *testing.T) {
	want := atOld(v1alpha1.OutcomeRolledBack, newVersion)
	want.Gateway = oldRevision + " <- " + oldRevision
	run(t, scenario{
		gateway: true, deadly: ofGateway, want: want, steps: []v1alpha1.Step{halfThenAll[0], {Name: "go", Type: v1alpha1.StepPause}},
		people: func(t *testing.T, s *story) {
			s.awaits(t)
			s.verb(t, `{"spec":{"goal":"RollBack"}}`)
		},
	})
}

// halfThenAll gives a gateway's new version half of the traffic, and then all of it.
var halfThenAll = []v1alpha1.Step{
	{Name: "half", Type: v1alpha1.StepGatewayWeight, GatewayWeight: &v1alpha1.GatewayWeightStep{Percent: 50}},
	{Name: "all", Type: v1alpha1.StepGatewayWeight, GatewayWeight: &v1alpha1.GatewayWeightStep{Percent: 100}},
}

// ofGateway are the writes by which a gateway moves.
func ofGateway(r *http.Request) bool {
	return strings.Contains(r.URL.Path, "/namespaces/istio-ingress/") || strings.Contains(r.URL.Path, "/meshgateways/")
}

// newStory starts an API server with a fake mesh of its own.
func newStory(t *testing.T) *story {
	t.Helper()
	t.Parallel()
	config := testkit.StartRoutingAPIServer(t)
	scheme, err := Scheme()
	if err != nil {
		t.Fatal(err)
	}
	cl, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	s := &story{world: &world{client: cl, config: config}}
	s.fake = fake(t, s.world)
	for name, labels := range namespaces {
		if err := cl.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// With revisionFor AnyChange a change of the mesh configuration is a revision too, named with a hash; turning it on alone moves
// nothing.
func TestRolloutForAnyChange(t *testing.T) {
	s := newStory(t)
	s.begin(t, scenario{})
	stop := s.operate(t, nil)
	defer stop()
	s.patch(t, mesh(""), `{"spec":{"upgrade":{"canary":{"revisionFor":"AnyChange"}}}}`)
	s.ready(t)
	if o := s.newest(t); o != nil {
		t.Errorf("rollout %s began although nothing had changed", o.Name)
	}
	s.patch(t, mesh(""), `{"spec":{"controlPlane":{"meshConfig":{"accessLogFile":"/dev/stdout"}}}}`)
	s.await(t, "a revision of the new configuration to be the only one", func() (bool, string) {
		now := s.now(t)
		done := strings.HasPrefix(now.Stable, oldRevision+"-") && now.Version == oldVersion && len(now.Revisions) == 1 &&
			now.DefaultTag == now.Stable && now.Labels["late"] == now.Stable && !now.Active && now.Workloads["late/web"] == "forward 2 "+now.Stable
		return done, fmt.Sprintf("%+v", now)
	})
}

// run plays a scenario with an operator that lives, with operators that die at their writes, with one whose every write meets a
// conflict first, and, where that is asked for, with one that reads late.
func run(t *testing.T, c scenario) {
	s := newStory(t)
	if c.broken {
		s.fake.breaks(newRevision)
	}

	for _, course := range []struct {
		name string
		play func(*testing.T, *story, scenario)
		skip bool
	}{
		{"operator that lives", lives, false},
		{"operators that die", dies, false},
		{"conflicts", conflicts, false},
		{"late reads", late, !c.stale},
	} {
		if course.skip {
			continue
		}
		t.Run(course.name, func(t *testing.T) {
			s.begin(t, c)
			course.play(t, s, c)
			for _, wrong := range s.fake.takeWrong() {
				t.Error(wrong)
			}
			s.checkEvents(t)
		})
	}
}

// lives plays a scenario with nothing in its way; after the end the operator asks for nothing.
func lives(t *testing.T, s *story, c scenario) {
	counted := *s.world
	counted.config, counted.requests = testkit.Count(s.config)
	stop := counted.operate(t, nil)
	defer stop()
	s.play(t, c)
	s.await(t, "the operator to come to rest", func() (bool, string) {
		counted.requests.Take()
		<-time.After(time.Second) // the time in which it is watched
		var asked []string
		for _, r := range counted.requests.Take() {
			if !strings.HasSuffix(r, "/meshinstallations/default/status") { // counts
				asked = append(asked, r)
			}
		}
		return len(asked) == 0, strings.Join(asked, "\n")
	})
	s.ends(t, c.want)
}

// dies plays a scenario with operators that die, one after the other, once before the API server has a write and once after it.
func dies(t *testing.T, s *story, c scenario) {
	deaths := 0
	stop := s.operate(t, func(die func()) func(*http.Request, http.RoundTripper) (*http.Response, error) {
		write := 1 + deaths/2*further
		if c.deadly != nil {
			write = 1 + deaths/20 // what istiod has answered is not kept: operators that die before they use it would not get on
		}
		f, when := &testkit.Faults{Counts: c.deadly, CrashBefore: write}, "before"
		if deaths%2 == 1 {
			f.CrashBefore, f.CrashAfter, when = 0, write, "after"
		}
		f.Die = func(r *http.Request) {
			t.Logf("death %d: %s write %d, %s %s", deaths, when, write, r.Method, r.URL.Path)
			deaths++
			die()
		}
		return f.Do
	})
	defer stop() // also when the end never comes
	s.play(t, c)
	stop()
	if deaths < 10 {
		t.Errorf("the operator died %d times only: this test says little", deaths)
	}
}

// conflicts plays a scenario with an operator whose every write is refused once.
func conflicts(t *testing.T, s *story, c scenario) {
	f := &testkit.Faults{ConflictEach: true}
	stop := s.operate(t, func(func()) func(*http.Request, http.RoundTripper) (*http.Response, error) { return f.Do })
	defer stop()
	s.play(t, c)
	t.Logf("%d writes, %d conflicts", f.Writes(), f.Conflicts())
	if f.Conflicts() < 10 {
		t.Errorf("there were %d conflicts only: this test says little", f.Conflicts())
	}
}

// late plays a scenario with an operator that reads from the API server what was some reads ago. Events go on meanwhile, as they
// do in a cluster: what is seen too late is looked at again.
func late(t *testing.T, s *story, c scenario) {
	f := &testkit.Faults{StaleBy: 2, Stale: []string{"meshrollouts", "meshinstallations"}}
	stop := s.operate(t, func(func()) func(*http.Request, http.RoundTripper) (*http.Response, error) { return f.Do })
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			look := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"annotations":{"example.com/looked":"%d"}}}`, n))
			_ = s.client.Patch(ctx, &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: "default-1"}}, look) // it may not be there yet
			select {
			case <-ctx.Done():
			case <-time.After(time.Second / 2): // the pace of events
			}
		}
	})
	s.play(t, c)
}

// begin makes a mesh of the old version anew, with its workloads.
func (s *story) begin(t *testing.T, c scenario) {
	t.Helper()
	stop := s.operate(t, nil)
	defer stop()
	ctx := t.Context()
	for namespace := range workloadsOf {
		if err := s.client.DeleteAllOf(ctx, &appsv1.Deployment{}, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
	}
	m := mesh(oldVersion)
	if err := s.client.Get(ctx, client.ObjectKeyFromObject(m), m); err == nil {
		s.uninstall(t)
	}
	m = mesh(oldVersion)
	retire := int32(0)
	m.Spec.Upgrade.ProgressDeadlineSeconds = 120
	if c.broken {
		m.Spec.Upgrade.ProgressDeadlineSeconds = 10
	}
	m.Spec.Upgrade.Canary = v1alpha1.Canary{RetireAfterSeconds: &retire, Steps: c.steps}
	if c.gateway {
		m.Spec.Gateways = []v1alpha1.Gateway{{
			Name: "ingress", Namespace: "istio-ingress", Values: &apiextensionsv1.JSON{Raw: []byte(`{"autoscaling":{"enabled":false},"replicaCount":1}`)},
		}}
	}
	m.Spec.DataPlane.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"mesh": "yes"}}
	m.Spec.DataPlane.Waves = []v1alpha1.Wave{{Name: "early", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "early"}}}}
	m.Spec.DataPlane.Restart.MaxUnavailable = new(intstr.FromInt32(2))
	if err := s.client.Create(ctx, m); err != nil {
		t.Fatal(err)
	}
	s.ready(t)
	for namespace, all := range workloadsOf {
		for _, name := range all {
			s.workload(t, namespace, name)
		}
	}
	want := atOld(v1alpha1.OutcomeAborted, "")
	want.Rollouts = nil
	if c.gateway {
		want.Gateway = oldRevision + " <- " + oldRevision
	}
	s.await(t, "the workloads to have sidecars", func() (bool, string) {
		now := s.now(t)
		s.removeBare(t)
		return cmp.Equal(want, now), cmp.Diff(want, now)
	})
}

func (s *story) workload(t *testing.T, namespace, name string) {
	t.Helper()
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(1)), Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
			},
		},
	}
	if err := s.client.Create(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// removeBare deletes pods that came before their namespace was enrolled: they are made anew.
func (s *story) removeBare(t *testing.T) {
	t.Helper()
	var pods corev1.PodList
	if err := s.client.List(t.Context(), &pods); err != nil {
		t.Fatal(err)
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.Namespace == istioNamespace || revisionOfPod(p) != "" {
			continue
		}
		if err := s.client.Delete(t.Context(), p, client.GracePeriodSeconds(0)); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
	}
}

// play changes the version, does what people do, and waits for the end.
func (s *story) play(t *testing.T, c scenario) {
	t.Helper()
	s.patch(t, mesh(""), `{"spec":{"version":"`+newVersion+`"}}`)
	if c.people != nil {
		c.people(t, s)
	}
	s.ends(t, c.want)
}

func (s *story) ends(t *testing.T, want ending) {
	t.Helper()
	s.await(t, "the end", func() (bool, string) {
		now := s.now(t)
		return cmp.Equal(want, now), cmp.Diff(want, now)
	})
}

// await is eventually with the patience that many deaths need.
func (s *story) await(t *testing.T, what string, done func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		ok, why := done()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			said := ""
			if o := s.newest(t); o != nil {
				said = fmt.Sprintf("act %s, moving %t, progress %+v, conditions %+v", o.Status.Act, o.Status.Moving, o.Status.Progress, o.Status.Conditions)
			}
			t.Fatalf("never: %s; last: %s\n%s\n%s", what, why, said, s.conditions())
		}
		time.Sleep(100 * time.Millisecond) // the pace of looking, not a wait for an effect
	}
}

// newest is the rollout that was made last, nil for none.
func (s *story) newest(t *testing.T) *v1alpha1.MeshRollout {
	t.Helper()
	var all v1alpha1.MeshRolloutList
	if err := s.client.List(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	if len(all.Items) == 0 {
		return nil
	}
	return &all.Items[len(all.Items)-1]
}

// awaits waits until the rollout waits for people at a step.
func (s *story) awaits(t *testing.T) {
	t.Helper()
	const step = "go"
	s.await(t, "step "+step+" to wait for an approval", func() (bool, string) {
		o := s.newest(t)
		if o == nil {
			return false, "no rollout"
		}
		c := conditionOf(o, v1alpha1.ConditionComplete)
		return o.Status.Act == v1alpha1.ActAwaitApproval && o.Spec.Plan.Steps[o.Status.Progress.Step].Name == step, c.Message
	})
}

// verb steers the rollout.
func (s *story) verb(t *testing.T, patch string) {
	t.Helper()
	s.patch(t, s.newest(t), patch)
}

// paused pauses the mesh, and waits until the rollout knows it.
func (s *story) paused(t *testing.T) {
	t.Helper()
	s.patch(t, mesh(""), `{"spec":{"paused":true}}`)
	s.await(t, "the rollout to pause", func() (bool, string) {
		c := conditionOf(s.newest(t), v1alpha1.ConditionComplete)
		return c.Reason == v1alpha1.ReasonPaused, c.Reason + ": " + c.Message
	})
}

// now is what there is at present.
func (s *story) now(t *testing.T) ending {
	t.Helper()
	ctx := t.Context()
	var m v1alpha1.MeshInstallation
	var revisions v1alpha1.MeshRevisionList
	var rollouts v1alpha1.MeshRolloutList
	var pods corev1.PodList
	if err := s.client.Get(ctx, client.ObjectKey{Name: "default"}, &m); err != nil {
		t.Fatal(err)
	}
	for _, list := range []client.ObjectList{&revisions, &rollouts, &pods} {
		if err := s.client.List(ctx, list); err != nil {
			t.Fatal(err)
		}
	}
	out := ending{
		Stable: m.Status.StableRevision, Version: m.Status.ResolvedVersion, Canary: m.Status.CanaryRevision, Pending: m.Status.PendingVersion,
		Active: m.Status.ActiveOperation != nil, Labels: map[string]string{}, Workloads: map[string]string{},
	}
	if m.Status.FailedTarget != nil {
		out.FailedTarget = m.Status.FailedTarget.Version
	}
	for _, r := range revisions.Items {
		out.Revisions = append(out.Revisions, r.Name)
	}
	for _, o := range rollouts.Items {
		out.Rollouts = append(out.Rollouts, o.Name+" "+string(o.Status.Progress.Outcome))
	}
	out.Gateway = s.gateway(t)
	tag := defaultTag()
	if err := s.client.Get(ctx, client.ObjectKeyFromObject(tag), tag); err == nil {
		out.DefaultTag = tag.Labels[v1alpha1.IstioRevision]
	} else if !apierrors.IsNotFound(err) {
		t.Fatal(err)
	}
	for name := range namespaces {
		var n corev1.Namespace
		if err := s.client.Get(ctx, client.ObjectKey{Name: name}, &n); err != nil {
			t.Fatal(err)
		}
		out.Labels[name] = n.Labels[v1alpha1.IstioRevision]
		s.workloads(t, name, pods.Items, out.Workloads)
	}
	return out
}

// gateway says which versions of the gateway there are, by their Deployments, and where its Service points to; empty without one.
func (s *story) gateway(t *testing.T) string {
	t.Helper()
	var all appsv1.DeploymentList
	if err := s.client.List(t.Context(), &all, client.InNamespace("istio-ingress")); err != nil {
		t.Fatal(err)
	}
	var service corev1.Service
	err := s.client.Get(t.Context(), client.ObjectKey{Namespace: "istio-ingress", Name: "ingress"}, &service)
	if apierrors.IsNotFound(err) && len(all.Items) == 0 {
		return ""
	}
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	var versions []string
	for _, d := range all.Items {
		versions = append(versions, strings.TrimPrefix(d.Name, "ingress-"))
	}
	return strings.Join(versions, ",") + " <- " + service.Spec.Selector[v1alpha1.IstioRevision]
}

// workloads says how those of a namespace are.
func (s *story) workloads(t *testing.T, namespace string, pods []corev1.Pod, out map[string]string) {
	t.Helper()
	var all appsv1.DeploymentList
	if err := s.client.List(t.Context(), &all, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	for _, d := range all.Items {
		direction := ""
		if stamp := strings.Split(d.Spec.Template.Annotations[v1alpha1.AnnotationRestartedFor], "/"); len(stamp) == 4 {
			direction = stamp[2] // the UID is another one in each run
		}
		var revisions []string
		for i := range pods {
			if pods[i].Namespace == namespace && strings.HasPrefix(pods[i].Name, d.Name+"-") {
				revisions = append(revisions, revisionOfPod(&pods[i]))
			}
		}
		slices.Sort(revisions)
		out[namespace+"/"+d.Name] = fmt.Sprintf("%s %d %s", direction, d.Generation, strings.Join(revisions, ","))
	}
}

// checkEvents checks that no event tells of a conflict.
func (s *story) checkEvents(t *testing.T) {
	t.Helper()
	var all eventsv1.EventList
	if err := s.client.List(context.WithoutCancel(t.Context()), &all); err != nil {
		t.Fatal(err)
	}
	for _, e := range all.Items {
		if tellsOfConflict(e.Note) {
			t.Errorf("an event of %s %s tells of a conflict: %s", e.Regarding.Kind, e.Regarding.Name, e.Note)
		}
	}
}
