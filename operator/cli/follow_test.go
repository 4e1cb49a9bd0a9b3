// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// script is what the operator does to a rollout, and what a wait says of it.
type script struct {
	reason string
	goal   goal
	steps  []func(o *v1alpha1.MeshRollout)
	code   ExitCode
	says   string
}

// comesTo is a decision of the operator.
func comesTo(reason, message string, more ...func(o *v1alpha1.MeshRollout)) func(o *v1alpha1.MeshRollout) {
	return func(o *v1alpha1.MeshRollout) {
		o.Status.Conditions = []metav1.Condition{condition(v1alpha1.ConditionComplete, metav1.ConditionFalse, reason, message)}
		for _, m := range more {
			m(o)
		}
	}
}

func outcome(is v1alpha1.RolloutOutcome) func(o *v1alpha1.MeshRollout) {
	return func(o *v1alpha1.MeshRollout) { o.Status.Progress.Outcome = is }
}

func stalled(o *v1alpha1.MeshRollout) {
	o.Status.Conditions = append(o.Status.Conditions, condition(v1alpha1.ConditionStalled, metav1.ConditionTrue, "WorkloadFailed", "crashes"))
}

func back(o *v1alpha1.MeshRollout) { o.Status.Progress.Back = true }

// left says that everything has left a revision by now.
func left(o *v1alpha1.MeshRollout) { o.Status.Progress.Entered = &metav1.Time{Time: time.Now()} }

// A wait prints each decision once, and ends as the rollout does.
func TestFollow(t *testing.T) {
	for _, tc := range []script{
		{
			"an upgrade that waits for an approval, and then gets there", completes, []func(*v1alpha1.MeshRollout){
				comesTo("Moving", "wave early: 1 of 3"), comesTo("Moving", "wave early: 1 of 3"),
				comesTo(v1alpha1.ReasonRetireAfter, "nothing refers to 1-28-2"),
			}, ExitOK, "kubectl mesh approve go",
		},
		{"an upgrade that completes", completes, []func(*v1alpha1.MeshRollout){comesTo("Completed", "everything is at 1-29-1", outcome(v1alpha1.OutcomeCompleted))}, ExitOK, "everything is at 1-29-1"},
		{"one that is rolled back", completes, []func(*v1alpha1.MeshRollout){comesTo("RollingBack", "back", back), comesTo("RolledBack", "it crashed", outcome(v1alpha1.OutcomeRolledBack))}, ExitBlocked, "back"},
		{"one whose canary is kept for a look", completes, []func(*v1alpha1.MeshRollout){comesTo(v1alpha1.ReasonRetireAfter, "kept for a look at it", back)}, ExitBlocked, "kept for a look"},
		{"one that halts", completes, []func(*v1alpha1.MeshRollout){comesTo("WorkloadFailed", "crashes", stalled)}, ExitBlocked, "crashes"},
		{"a rollback that gets there", goesBack, []func(*v1alpha1.MeshRollout){comesTo("RolledBack", "everything is at 1-28-2 again", outcome(v1alpha1.OutcomeRolledBack))}, ExitOK, "1-28-2 again"},
		{"one whose old revision something uses for a moment", completes, []func(*v1alpha1.MeshRollout){
			comesTo(v1alpha1.ReasonStillInUse, "used by Pod shop/cart-1", left), comesTo("Completed", "everything is at 1-29-1", outcome(v1alpha1.OutcomeCompleted)),
		}, ExitOK, "everything is at 1-29-1"},
		{"one whose old revision something uses on and on", completes, []func(*v1alpha1.MeshRollout){
			comesTo(v1alpha1.ReasonStillInUse, "1-28-2 is kept: it is used by Pod shop/alone", left),
		}, ExitOK, "used by Pod shop/alone"},
		{"a rollback whose canary something uses on and on", goesBack, []func(*v1alpha1.MeshRollout){
			comesTo(v1alpha1.ReasonStillInUse, "1-29-1 is kept: it is used by Pod shop/alone", back, left),
		}, ExitBlocked, "used by Pod shop/alone"},
		{"a rollback that came too late", goesBack, []func(*v1alpha1.MeshRollout){comesTo("Completed", "retired", outcome(v1alpha1.OutcomeCompleted))}, ExitBlocked, "retired"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, s := newFactory()
				f.Clock = clock.RealClock{} // which is that of the bubble
				c := fakeClient(t, aRollout())
				go func() {
					for _, step := range tc.steps {
						time.Sleep(2 * time.Second) // of the bubble's time
						o := &v1alpha1.MeshRollout{}
						if err := c.Get(t.Context(), client.ObjectKey{Name: "default-8"}, o); err != nil {
							t.Error(err)
						}
						step(o)
						if err := c.Status().Update(t.Context(), o); err != nil {
							t.Error(err)
						}
					}
				}()
				err := f.follow(t.Context(), c, f.Out, operation{rollout: aRollout()}, tc.goal.reached)
				if got := ExitCodeOf(err); got != tc.code {
					t.Errorf("exit code %d, want %d: %v", got, tc.code, err)
				}
				if !strings.Contains(s.out.String(), tc.says) {
					t.Errorf("it does not say %q:\n%s", tc.says, &s.out)
				}
				if n := strings.Count(s.out.String(), "1 of 3"); n > 1 {
					t.Errorf("a decision is said %d times:\n%s", n, &s.out)
				}
			})
		})
	}
}

// However a wait ends, it says that the cluster goes on; nothing more is written.
func TestWaitsEnd(t *testing.T) {
	for _, tc := range []struct {
		reason   string
		patience patience
		cancel   bool
		code     ExitCode
		says     string
	}{
		{"by Ctrl-C", patience{wait: true}, true, ExitInterrupted, "MeshRollout default-8 goes on as it was told"},
		{"by a timeout", patience{wait: true, timeout: time.Minute}, false, ExitTimeout, "has not ended within 1m0s, and goes on"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, s := newFactory()
				f.Clock = clock.RealClock{}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				writes := 0
				c := interceptor.NewClient(fakeClient(t, aRollout()), interceptor.Funcs{
					Patch: func(context.Context, client.WithWatch, client.Object, client.Patch, ...client.PatchOption) error {
						writes++
						return nil
					},
				})
				if tc.cancel {
					time.AfterFunc(time.Minute, cancel)
				}
				o := operation{rollout: aRollout()}
				err := f.waiting(ctx, &tc.patience, o.String(), func(ctx context.Context) error { return f.follow(ctx, c, f.Out, o, completes.reached) })
				said := s.err.String()
				if err != nil {
					said += err.Error()
				}
				if ExitCodeOf(err) != tc.code || !strings.Contains(said, tc.says) || writes > 0 {
					t.Errorf("code %d, %d writes, said %q", ExitCodeOf(err), writes, said)
				}
				cancel()
			})
		})
	}
}

// A watched status is a block for each change in a pipe, is not repeated while nothing changes, and asks for nothing in between.
func TestStatusIsWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newFactory()
		f.Clock = clock.RealClock{}
		ctx, cancel := context.WithCancel(t.Context())
		lists := 0
		c := interceptor.NewClient(fakeClient(t, aMesh(), aRevision("1-28-2", "1.28.2"), aRollout()), interceptor.Funcs{
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
				lists++
				return c.List(ctx, list, options...)
			},
		})
		ended := make(chan error, 1)
		go func() { ended <- (&statusOptions{factory: f, output: &output{}, watch: true}).run(ctx, c) }()
		time.Sleep(time.Second)
		synctest.Wait()
		before := lists
		time.Sleep(time.Hour)
		synctest.Wait()
		if lists != before {
			t.Errorf("%d lists in an hour in which nothing changed", lists-before)
		}
		o := &v1alpha1.MeshRollout{}
		if err := c.Get(ctx, client.ObjectKey{Name: "default-8"}, o); err != nil {
			t.Fatal(err)
		}
		comesTo("Moving", "wave early: 1 of 3 workloads moved")(o)
		if err := c.Status().Update(ctx, o); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Ctrl-C ends it with %v", err)
		}
		if n := strings.Count(s.out.String(), "upgrade targets"); n != 2 || strings.Contains(s.out.String(), "\x1b") {
			t.Errorf("%d blocks, want 2, without the terminal's controls:\n%s", n, &s.out)
		}
	})
}

func TestScreenRedrawsInPlace(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out}
	show := func(lines ...string) {
		t.Helper()
		err := s.draw(&page{width: 40, height: 5}, func(p *page) {
			for _, line := range lines {
				p.line(say(line))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	show("one", "two")
	show("one", "two")
	show("one", "three")
	show("1", "2", "3", "4", "5", "6")
	want := noWrap + "one\ntwo" + wrapAgain + "\n" +
		"\x1b[2A\r\x1b[J" + noWrap + "one\nthree" + wrapAgain + "\n" +
		"\x1b[2A\r\x1b[J" + noWrap + "1\n2\n3\n… 3 lines more" + wrapAgain + "\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("screen (-want +got):\n%s", diff)
	}
}

// whoami answers who the user is, which a fake client does not.
func whoami(t *testing.T, objects ...client.Object) client.WithWatch {
	t.Helper()
	return interceptor.NewClient(fakeClient(t, objects...), interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.CreateOption) error {
			if review, is := o.(*authenticationv1.SelfSubjectReview); is {
				review.Status.UserInfo.Username = "oncall@example.com"
				return nil
			}
			return c.Create(ctx, o, options...)
		},
	})
}

// beaten is a client whose first patch comes after what somebody else does.
func beaten(below client.WithWatch, others func(ctx context.Context, c client.WithWatch) error) client.WithWatch {
	first := true
	return interceptor.NewClient(below, interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, patch client.Patch, options ...client.PatchOption) error {
			if first {
				first = false
				if err := others(ctx, c); err != nil {
					return err
				}
			}
			return c.Patch(ctx, o, patch, options...)
		},
	})
}

// A verb that meets somebody else's write is tried again on what they wrote.
func TestVerbsKeepWhatOthersWrite(t *testing.T) {
	f, s := newFactory()
	below := whoami(t, aMesh(), aRollout())
	c := beaten(below, func(ctx context.Context, c client.WithWatch) error {
		other := &v1alpha1.MeshRollout{}
		if err := c.Get(ctx, client.ObjectKey{Name: "default-8"}, other); err != nil {
			return err
		}
		other.Spec.Approvals = []v1alpha1.Approval{{Step: "early", By: "somebody@example.com"}}
		return c.Update(ctx, other)
	})
	v := &verb{factory: f, output: &output{}, patience: &patience{}}
	err := v.with(t.Context(), c, func(c client.Client, o operation) (set, error) { return v.approval(t.Context(), c, o, "") })
	if err != nil {
		t.Fatal(err)
	}
	o := &v1alpha1.MeshRollout{}
	if err := below.Get(t.Context(), client.ObjectKey{Name: "default-8"}, o); err != nil {
		t.Fatal(err)
	}
	want := []v1alpha1.Approval{{Step: "early", By: "somebody@example.com"}, {Step: "go", By: "oncall@example.com"}}
	if diff := cmp.Diff(want, o.Spec.Approvals); diff != "" {
		t.Errorf("approvals (-want +got):\n%s\n%s", diff, &s.out)
	}
}

// A mesh of which the operator writes the status at the same time is paused all the same.
func TestMeshIsHeldWhateverOthersWrite(t *testing.T) {
	f, s := newFactory()
	below := fakeClient(t, settledMesh())
	c := beaten(below, func(ctx context.Context, c client.WithWatch) error {
		other := &v1alpha1.MeshInstallation{}
		if err := c.Get(ctx, client.ObjectKey{Name: "default"}, other); err != nil {
			return err
		}
		other.Status.GatewaySummary = "1/1"
		return c.Status().Update(ctx, other)
	})
	v := &verb{factory: f, output: &output{}, patience: &patience{}}
	if err := v.holdMesh(t.Context(), c, true); err != nil {
		t.Fatal(err)
	}
	var m v1alpha1.MeshInstallation
	if err := below.Get(t.Context(), client.ObjectKey{Name: "default"}, &m); err != nil {
		t.Fatal(err)
	}
	if !m.Spec.Paused || m.Status.GatewaySummary != "1/1" || !strings.Contains(s.out.String(), "mesh default paused") {
		t.Errorf("paused %v, gateways %s, said %q", m.Spec.Paused, m.Status.GatewaySummary, &s.out)
	}
}

// What has ended while it was to be steered is not steered.
func TestVerbsLeaveWhatHasEnded(t *testing.T) {
	f, _ := newFactory()
	below := fakeClient(t, aMesh(), aRollout())
	c := beaten(below, func(ctx context.Context, c client.WithWatch) error {
		other := &v1alpha1.MeshRollout{}
		if err := c.Get(ctx, client.ObjectKey{Name: "default-8"}, other); err != nil {
			return err
		}
		comesTo("Completed", "everything is at 1-29-1", outcome(v1alpha1.OutcomeCompleted))(other)
		return c.Status().Update(ctx, other)
	})
	v := &verb{factory: f, output: &output{}, patience: &patience{}}
	err := v.with(t.Context(), c, func(client.Client, operation) (set, error) { return turn(v1alpha1.GoalRollBack), nil })
	if ExitCodeOf(err) != ExitBlocked || !strings.Contains(err.Error(), "has ended as Completed") {
		t.Errorf("%v, want that it has ended as Completed", err)
	}
	var o v1alpha1.MeshRollout
	if err := below.Get(t.Context(), client.ObjectKey{Name: "default-8"}, &o); err != nil {
		t.Fatal(err)
	}
	if o.Spec.Goal != v1alpha1.GoalComplete {
		t.Errorf("the goal of what has ended was set to %s", o.Spec.Goal)
	}
}

// Which operation is meant, where several could be.
func TestOperationIsChosen(t *testing.T) {
	rotating := aMesh()
	rotating.Status.ActiveOperation = &v1alpha1.ActiveOperation{Kind: rotationKind, Name: "default-2", UID: "rot-2", Preempted: "default-8"}
	for _, tc := range []struct {
		reason  string
		objects []client.Object
		which   which
		want    string
		code    ExitCode
	}{
		{"the active one", []client.Object{aMesh(), aRollout(), aRotation()}, which{}, "MeshRollout default-8", ExitOK},
		{"the one that is named", []client.Object{aMesh(), aRollout(), aRotation()}, which{rotation: "default-2"}, "MeshRotation default-2", ExitOK},
		{"the only one", []client.Object{settledMesh(), aRotation()}, which{}, "MeshRotation default-2", ExitOK},
		{"a rollout, where only a rotation is under way", []client.Object{settledMesh(), aRotation()}, which{only: rolloutKind}, "name it by --rotation default-2", ExitUsage},
		{"a rollout, where a rotation goes first", []client.Object{rotating, aRollout(), aRotation()}, which{only: rolloutKind}, "MeshRollout default-8", ExitOK},
		{"a rollout, where the rotation is named", []client.Object{aMesh(), aRollout(), aRotation()}, which{only: rolloutKind, rotation: "default-2"}, "MeshRotation default-2", ExitOK},
		{"a rollout, where nothing is under way", []client.Object{settledMesh(), endedRollout()}, which{only: rolloutKind}, "nothing is under way on mesh default", ExitBlocked},
		{"a rotation, where a rollout goes first", []client.Object{aMesh(), aRollout(), aRotation()}, which{only: rotationKind}, "MeshRotation default-2", ExitOK},
		{"a rotation, where only a rollout is under way", []client.Object{aMesh(), aRollout()}, which{only: rotationKind}, "no MeshRotation is under way on mesh default", ExitBlocked},
		{"a rollout of another mesh", []client.Object{aMesh(), aRollout()}, which{mesh: "prod", rollout: "default-8"}, "is of mesh default, not of prod", ExitUsage},
		{"a rotation of another mesh", []client.Object{aMesh(), aRotation()}, which{mesh: "prod", rotation: "default-2"}, "is of mesh default, not of prod", ExitUsage},
		{"one of the mesh that is named", []client.Object{aMesh(), aRollout()}, which{mesh: "default", rollout: "default-8"}, "MeshRollout default-8", ExitOK},
		{"a rotation that a rollout stands still for", []client.Object{rotating, aRollout(), aRotation()}, which{}, "--rotation default-2 or --rollout default-8", ExitUsage},
		{"none", []client.Object{settledMesh(), endedRollout()}, which{}, "nothing is under way on mesh default", ExitBlocked},
		{"one that is not there", []client.Object{aMesh(), aRollout()}, which{rollout: "default-9"}, "there are default-8", ExitError},
		{"of a mesh that is not there", []client.Object{aMesh()}, which{mesh: "other"}, "no MeshInstallation is called other; there are default", ExitError},
		{"no mesh at all", nil, which{}, "the cluster has no MeshInstallation", ExitError},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			f, _ := newFactory()
			o, err := f.operation(t.Context(), fakeClient(t, tc.objects...), tc.which)
			var got string
			if err != nil {
				got = err.Error()
			} else {
				got = o.String()
			}
			if ExitCodeOf(err) != tc.code || !strings.Contains(got, tc.want) {
				t.Errorf("code %d: %s; want %d: %s", ExitCodeOf(err), got, tc.code, tc.want)
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	for _, tc := range []struct {
		reason string
		err    error
		want   ExitCode
	}{
		{"done", nil, ExitOK},
		{"an error", errors.New("x"), ExitError},
		{"held back", blockedf("x"), ExitBlocked},
		{"not understood", usagef("x"), ExitUsage},
		{"Ctrl-C", context.Canceled, ExitInterrupted},
		{"a request took longer than --request-timeout", context.DeadlineExceeded, ExitError},
		{"not there", &notFoundError{"x"}, ExitError},
	} {
		if got := ExitCodeOf(tc.err); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.reason, got, tc.want)
		}
	}
}
