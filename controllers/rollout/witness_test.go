// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/probe"
	"github.com/meshwright/meshwright/operator/rollout"
)

const uid = types.UID("rollout")

// court is a witness before an API server, whose clock stands still. No istiod runs, so that nobody is called.
func court(t *testing.T, create func(*corev1.Pod) error, objects ...client.Object) (*Witness, *clocktesting.FakeClock) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	cl := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(_ context.Context, _ client.WithWatch, o client.Object, options ...client.CreateOption) error {
			if applied := (&client.CreateOptions{}).ApplyOptions(options); len(applied.DryRun) == 0 {
				t.Errorf("a %T is created, and not by a dry run", o)
			}
			return create(o.(*corev1.Pod))
		},
	}).Build()
	clock := clocktesting.NewFakeClock(noon)
	w := &Witness{
		Live: cl, Client: cl, Owned: cl, Clock: clock,
		Examples: func(string) []types.NamespacedName { return nil },
		Ready:    func(string) map[types.NamespacedName]bool { return nil },
	}
	w.Heard()
	return w, clock
}

// injecting is an API server whose pods get the sidecar of the canary.
func injecting(p *corev1.Pod) error {
	p.Annotations = map[string]string{"sidecar.istio.io/status": `{"revision":"1-29-1"}`, v1alpha1.AnnotationInjection: "digest"}
	return nil
}

func tag(name, revision string) *admissionregistrationv1.MutatingWebhookConfiguration {
	return &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{
		Name: "istio-revision-tag-" + name, Labels: map[string]string{"istio.io/tag": name, "istio.io/rev": revision},
	}}
}

// proves asks for the proofs of the canary; uses asks who uses the old revision.
func proves() question {
	plan := threeSteps().Spec.Plan
	return question{plan: &plan, prove: true, target: canary()}
}

func uses() question {
	plan := threeSteps().Spec.Plan
	old := canary()
	old.Name, old.UID = "1-28-2", "old"
	return question{plan: &plan, target: canary(), used: old}
}

// An answer is given when it was asked for, for as long as it is fresh.
func TestAnswersGrowOld(t *testing.T) {
	w, clock := court(t, injecting)
	expect := func(when string, want rollout.Use) {
		t.Helper()
		if diff := cmp.Diff(want, w.ask(uid, uses()).use); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	unknown := rollout.Use{Pending: true, By: notYetAsked}
	expect("it was never asked", unknown)
	expect("nor answered since", unknown)
	w.round(t.Context())
	expect("it was answered: nobody uses the revision", rollout.Use{Known: true})
	clock.Step(fresh)
	expect("the answer is fresh still", rollout.Use{Known: true})
	clock.Step(time.Nanosecond)
	expect("the answer has grown old, and is none", unknown)
	w.round(t.Context())
	expect("it was asked again", rollout.Use{Known: true})
	w.Forget(uid)
	expect("the rollout had ended: another one begins anew", unknown)
}

// Who asks something else does not get the answers to an earlier question.
func TestAnotherQuestionForgetsAnswers(t *testing.T) {
	rendered := proves()
	rendered.target.Spec.InputsDigest = "other"
	recreated := proves()
	recreated.target.UID = "other"
	other := uses()
	other.used.UID = "other"
	for _, tc := range []struct {
		reason        string
		first, second question
		same          bool
	}{
		{"the same", proves(), proves(), true},
		{"another version of the canary", proves(), rendered, false},
		{"another canary of its name", proves(), recreated, false},
		{"who uses it", proves(), uses(), false},
		{"the proofs", uses(), proves(), false},
		{"who uses another revision", uses(), other, false},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			w, _ := court(t, injecting)
			w.ask(uid, tc.first)
			w.round(t.Context())
			known := w.ask(uid, tc.first)
			if len(known.proofs) == 0 && !known.use.Known {
				t.Fatal("the first question was not answered")
			}
			got := w.ask(uid, tc.second)
			if answered := len(got.proofs) > 0 || got.use.Known; answered != tc.same {
				t.Errorf("answered %v (%+v), want %v", answered, got, tc.same)
			}
		})
	}
}

// An answer that comes after the question has changed is thrown away.
func TestLateAnswersAreThrownAway(t *testing.T) {
	w, _ := court(t, nil)
	w.Client = nil
	w.Live = late{Reader: w.Live, meanwhile: func() { w.ask(uid, proves()) }}
	w.ask(uid, uses())
	w.round(t.Context())
	if got := w.ask(uid, proves()); len(got.proofs) > 0 || got.use.Known {
		t.Errorf("%+v, want no answers", got)
	}
	select {
	case <-w.Heard():
		t.Error("there is something to be heard")
	default:
	}
}

// late does something while it reads.
type late struct {
	client.Reader
	meanwhile func()
}

func (l late) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	l.meanwhile()
	return l.Reader.List(ctx, list, options...)
}

// No question is none, and wakes nobody.
func TestNoQuestion(t *testing.T) {
	w, _ := court(t, injecting)
	if got := w.ask(uid, question{}); got.proofs != nil || got.use != (rollout.Use{}) || len(w.cases) != 0 {
		t.Errorf("%+v with %d cases, want nothing", got, len(w.cases))
	}
	w.ask(uid, uses())
	w.ask(uid, question{})
	if len(w.cases) != 0 {
		t.Error("a question that is not asked any more is kept")
	}
}

// The reconciler is told of a first answer and of another one, and not of the same one.
func TestNewAnswersAreTold(t *testing.T) {
	w, _ := court(t, injecting)
	heard := func() bool {
		select {
		case <-w.Heard():
			return true
		default:
			return false
		}
	}
	w.ask(uid, uses())
	for n, want := range []bool{true, false, false} {
		w.round(t.Context())
		if got := heard(); got != want {
			t.Errorf("round %d: told %v, want %v", n+1, got, want)
		}
	}
	w.Live = failing{}
	w.round(t.Context())
	if !heard() {
		t.Error("not told of another answer")
	}
	if got := w.ask(uid, uses()).use; got.Known || !strings.Contains(got.By, "no route") {
		t.Errorf("%+v, want unknown, because the tags can't be read", got)
	}
}

type failing struct{ client.Reader }

func (failing) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("no route")
}

// Who uses a revision, as far as no proxy has to be asked for.
func TestUse(t *testing.T) {
	starting := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "istio-system", Name: "istiod-1", Labels: map[string]string{"app": "istiod", v1alpha1.LabelRevision: "1-28-2"},
	}}
	for _, tc := range []struct {
		reason  string
		objects []client.Object
		want    rollout.Use
	}{
		{"nobody", nil, rollout.Use{Known: true}},
		{"a tag points to it, whoever set it", []client.Object{tag("prod", "1-28-2")}, rollout.Use{Known: true, By: "tag prod"}},
		{"a tag that points elsewhere is none", []client.Object{tag("prod", "1-29-1")}, rollout.Use{Known: true}},
		{"an istiod that does not run has no proxies", []client.Object{starting}, rollout.Use{Known: true}},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			w, _ := court(t, injecting, tc.objects...)
			if diff := cmp.Diff(tc.want, w.use(t.Context(), uses().used)); diff != "" {
				t.Errorf("use (-want +got):\n%s", diff)
			}
		})
	}
}

// What is tried, and what is said of a trial that was refused.
func TestInjects(t *testing.T) {
	pods := schema.GroupResource{Resource: "pods"}
	refuse := func(err error) func(*corev1.Pod) error { return func(*corev1.Pod) error { return err } }
	example := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-1"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web"}}},
	}
	for _, tc := range []struct {
		reason   string
		create   func(*corev1.Pod) error
		examples []string
		want     rollout.Answer
		why      string
	}{
		{"a pod like one that runs", injecting, []string{"gone", "web-1"}, rollout.Yes, "a pod like shop/web-1 would get the sidecar"},
		{"a plain one, where those that ran are gone", injecting, []string{"gone"}, rollout.Yes, "a plain pod would get the sidecar"},
		{
			"another policy refuses it: that says nothing about the canary", refuse(apierrors.NewForbidden(pods, "", errors.New("no limits"))),
			nil, rollout.Unknown, "exempt pods labelled meshwright.io/trial there",
		},
		{"the API server fails", refuse(apierrors.NewInternalError(errors.New("etcd"))), nil, rollout.Unknown, "a dry run of a pod failed"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			w, _ := court(t, tc.create, example)
			w.Examples = func(string) (out []types.NamespacedName) {
				for _, name := range tc.examples {
					out = append(out, types.NamespacedName{Namespace: "shop", Name: name})
				}
				return out
			}
			got := w.injects(t.Context(), proves())
			if got.Answer != tc.want || !strings.Contains(got.Why, tc.why) {
				t.Errorf("%d: %s, want %d: %s", got.Answer, got.Why, tc.want, tc.why)
			}
		})
	}
}

// A canary without a running istiod configures nobody yet.
func TestConfiguresNeedsAnIstiod(t *testing.T) {
	w, _ := court(t, injecting)
	got := w.configures(t.Context(), canary())
	if got.Answer != rollout.Unknown || !strings.Contains(got.Why, "no pod of istiod of revision 1-29-1") {
		t.Errorf("%d: %s, want that it is not known", got.Answer, got.Why)
	}
}

// Proxies that lost an istiod which was replaced in place are waited for. Pods that start or end meanwhile are neither missed nor
// counted, and an istiod that can't be asked is no yes.
func TestConnected(t *testing.T) {
	const running = "127.0.0.1"
	pods := func(names ...string) map[types.NamespacedName]bool {
		out := map[types.NamespacedName]bool{}
		for _, name := range names {
			out[types.NamespacedName{Namespace: "shop", Name: name}] = true
		}
		return out
	}
	for _, tc := range []struct {
		reason        string
		before, after map[types.NamespacedName]bool
		metrics       string
		want          rollout.Answer
		why           string
	}{
		{"all are there", pods("a", "b"), pods("a", "b"), "pilot_xds 2", rollout.Yes, "all proxies are connected"},
		{"one is missing", pods("a", "b"), pods("a", "b"), "pilot_xds 1", rollout.No, "1 of 2 proxies are connected to istiod of revision 1-29-1"},
		{"the one that is missing has ended", pods("a", "b"), pods("a"), "pilot_xds 1", rollout.Yes, "all proxies are connected"},
		{"one has started since", pods("a"), pods("a", "b"), "pilot_xds 1", rollout.Yes, "all proxies are connected"},
		{"a pod without the injector's proxy is connected too", pods("a"), pods("a"), "pilot_xds 2", rollout.Yes, "all proxies are connected"},
		{"nobody has come back yet", pods("a"), pods("a"), `pilot_info{version="1.29.1"} 1`, rollout.No, "0 of 1 proxies"},
		{"there are no proxies", nil, nil, `pilot_info{version="1.29.1"} 1`, rollout.Yes, "all proxies are connected"},
		{"something else answers", pods("a"), pods("a"), "other 1", rollout.Unknown, "are not those of an istiod"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintf(out, "# TYPE pilot_xds gauge\n# TYPE pilot_info gauge\n%s\n", tc.metrics)
			}))
			defer server.Close()
			istiod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: canary().Spec.Namespace, Name: "istiod", Labels: map[string]string{"app": "istiod", v1alpha1.LabelRevision: "1-29-1"},
				},
				Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: running},
			}
			w, _ := court(t, injecting, istiod)
			w.Prober = probe.New()
			w.Prober.MetricsPort = server.Listener.Addr().(*net.TCPAddr).Port
			asked := 0
			w.Ready = func(string) map[types.NamespacedName]bool {
				asked++
				if asked == 1 {
					return tc.before
				}
				return tc.after
			}
			got := w.connected(t.Context(), canary())
			if got.Answer != tc.want || !strings.Contains(got.Why, tc.why) {
				t.Errorf("%d: %s, want %d: %s", got.Answer, got.Why, tc.want, tc.why)
			}
		})
	}
}

// The witness asks at once when it is woken, then at intervals, until its context ends.
func TestStart(t *testing.T) {
	w, clock := court(t, injecting)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.Start(ctx) }()
	w.ask(uid, uses())
	<-w.Heard()
	if got := w.ask(uid, uses()).use; !got.Known {
		t.Errorf("%+v, want an answer", got)
	}
	w.Forget(uid)
	w.mu.Lock()
	w.cases[uid] = &inquiry{question: uses(), about: uses().about()}
	w.mu.Unlock()
	clock.Step(askEvery)
	<-w.Heard()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Start = %v", err)
	}
}
