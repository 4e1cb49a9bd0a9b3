// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// A wait outlives an API server that does not answer for a while, and looks on where it may not watch; what only a person can mend ends it.
func TestAwait(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "meshrollouts"}, "", errors.New("no right"))
	for _, tc := range []struct {
		reason     string
		watch, get error
		code       ExitCode
		says       string
	}{
		{"requests fail for a while", nil, errors.New("connection refused"), ExitOK, "still waiting: connection refused"},
		{"a request takes too long", nil, context.DeadlineExceeded, ExitOK, "still waiting"},
		{"no watch can be had", errors.New("connection refused"), nil, ExitOK, ""},
		{"it may not be watched", forbidden, nil, ExitOK, ""},
		{"it may not be read", nil, forbidden, ExitError, ""},
		{"the credentials have expired", nil, apierrors.NewUnauthorized("expired"), ExitError, ""},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, s := newFactory()
				f.Clock = clock.RealClock{} // which is that of the bubble
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				below := fakeClient(t, aRollout())
				broken := true
				c := interceptor.NewClient(below, interceptor.Funcs{
					Watch: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) (watch.Interface, error) {
						if broken && tc.watch != nil {
							return nil, tc.watch
						}
						return c.Watch(ctx, list, options...)
					},
					Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, options ...client.GetOption) error {
						if broken && tc.get != nil {
							return tc.get
						}
						return c.Get(ctx, key, o, options...)
					},
				})
				time.AfterFunc(time.Minute, func() {
					broken = false
					o := aRollout()
					if err := below.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
						t.Error(err)
						return
					}
					comesTo("Completed", "everything is at 1-29-1", outcome(v1alpha1.OutcomeCompleted))(o)
					if err := below.Status().Update(ctx, o); err != nil {
						t.Error(err)
					}
				})
				o := operation{rollout: aRollout()}
				err := f.waiting(ctx, &patience{wait: true}, o.String(), func(ctx context.Context) error { return f.follow(ctx, c, f.Out, o, completes.reached) })
				if got := ExitCodeOf(err); got != tc.code {
					t.Errorf("exit code %d, want %d: %v", got, tc.code, err)
				}
				if said := s.err.String(); !strings.Contains(said, tc.says) || strings.Count(said, "still waiting") > 1 {
					t.Errorf("it says %q, want %q once", said, tc.says)
				}
				cancel()
				synctest.Wait()
				time.Sleep(2 * time.Minute) // of the bubble's time: what was begun ends
			})
		})
	}
}

// Who tries again what has ended waits for the rollout that follows, and for that.
func TestRetryOfWhatHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, s := newFactory()
		f.Clock = clock.RealClock{}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := fakeClient(t, failedMesh(), endedRollout())
		time.AfterFunc(time.Minute, func() {
			next := aRollout()
			if err := c.Create(ctx, next); err != nil {
				t.Error(err)
			}
			m := settledMesh()
			if err := c.Get(ctx, client.ObjectKeyFromObject(m), m); err != nil {
				t.Error(err)
			}
			m.Status.ActiveOperation = &v1alpha1.ActiveOperation{Kind: rolloutKind, Name: next.Name, UID: next.UID}
			if err := c.Status().Update(ctx, m); err != nil {
				t.Error(err)
			}
		})
		time.AfterFunc(2*time.Minute, func() {
			o := aRollout()
			if err := c.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
				t.Error(err)
			}
			comesTo("Completed", "everything is at 1-29-1", outcome(v1alpha1.OutcomeCompleted))(o)
			if err := c.Status().Update(ctx, o); err != nil {
				t.Error(err)
			}
		})
		v := &verb{factory: f, output: &output{}, patience: &patience{wait: true}}
		if err := v.retry(ctx, c); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"default-7 is given a retry", "another rollout tries its target again", "everything is at 1-29-1"} {
			if !strings.Contains(s.out.String(), want) {
				t.Errorf("it does not say %q:\n%s", want, &s.out)
			}
		}
		cancel()
		synctest.Wait()
		time.Sleep(2 * time.Minute)
	})
}

// failedMesh is a mesh whose rollout default-7 was rolled back.
func failedMesh() *v1alpha1.MeshInstallation {
	m := settledMesh()
	m.Spec.Version = "1.29.1"
	m.Status.FailedTarget = &v1alpha1.FailedTarget{Version: "1.29.1", InputsDigest: "j", Generation: 1, Rollout: "default-7"}
	m.Status.Conditions[1] = condition(v1alpha1.ConditionUpToDate, metav1.ConditionFalse, v1alpha1.ReasonTargetFailed, "default-7 did not get there")
	return m
}

// A retry that no rollout can follow ends, and says why; as long as one may, it waits.
func TestRetryThatNothingFollows(t *testing.T) {
	for _, tc := range []struct {
		reason string
		mesh   func(*v1alpha1.MeshInstallation)
		code   ExitCode
		says   string
	}{
		{
			"a finding holds it back", func(m *v1alpha1.MeshInstallation) {
				m.Status.Conditions[1] = condition(v1alpha1.ConditionUpToDate, metav1.ConditionFalse, v1alpha1.ReasonPreflight, "MW101 holds the rollout back")
			}, ExitBlocked, "does not move (Preflight): MW101",
		},
		{
			"the mesh wants something else by now", func(m *v1alpha1.MeshInstallation) {
				m.Status.Conditions[1] = condition(v1alpha1.ConditionUpToDate, metav1.ConditionTrue, v1alpha1.ReasonUpToDate, "every proxy is of it")
			}, ExitBlocked, "tries nothing again",
		},
		{"the operator does nothing", func(*v1alpha1.MeshInstallation) {}, ExitTimeout, "the retry of MeshRollout default-7 has not ended within 1m0s"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, s := newFactory()
				f.Clock = clock.RealClock{}
				c := fakeClient(t, failedMesh(), endedRollout())
				time.AfterFunc(30*time.Second, func() {
					m := failedMesh()
					if err := c.Get(t.Context(), client.ObjectKeyFromObject(m), m); err != nil {
						t.Error(err)
						return
					}
					tc.mesh(m)
					if err := c.Status().Update(t.Context(), m); err != nil {
						t.Error(err)
					}
				})
				v := &verb{factory: f, output: &output{}, patience: &patience{wait: true, timeout: time.Minute}}
				err := v.retry(t.Context(), c)
				if ExitCodeOf(err) != tc.code || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%v, want code %d and %q\n%s", err, tc.code, tc.says, &s.out)
				}
			})
		})
	}
}

// A retry that a finding held back can be told to wait again, and hears the finding again.
func TestRetryThatIsHeld(t *testing.T) {
	f, _ := newFactory()
	mesh, o := failedMesh(), endedRollout()
	mesh.Status.Conditions[1] = condition(v1alpha1.ConditionUpToDate, metav1.ConditionFalse, v1alpha1.ReasonPreflight, "MW101 holds the rollout back")
	o.Spec.Retries = 1
	v := &verb{factory: f, output: &output{}, patience: &patience{wait: true, timeout: time.Minute}}
	err := v.retry(t.Context(), fakeClient(t, mesh, o))
	if want := "does not move (Preflight): MW101"; ExitCodeOf(err) != ExitBlocked || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

// A wait for what has ended since is over: the operator does not look at it any more.
func TestWaitForWhatHasEnded(t *testing.T) {
	unseen := func(to v1alpha1.RolloutOutcome) operation {
		o := aRollout()
		o.Generation = 2
		comesTo(string(to), "it is over", outcome(to))(o)
		return operation{rollout: o}
	}
	for _, tc := range []struct {
		reason  string
		reached func(operation, time.Time) (bool, error)
		o       operation
		code    ExitCode
	}{
		{"an approval came in the second in which it completed", completes.reached, unseen(v1alpha1.OutcomeCompleted), ExitOK},
		{"an approval came in the second in which it was rolled back", completes.reached, unseen(v1alpha1.OutcomeRolledBack), ExitBlocked},
		{"a pause came in the second in which it completed", taken, unseen(v1alpha1.OutcomeCompleted), ExitBlocked},
	} {
		if done, err := tc.reached(tc.o, time.Now()); !done || ExitCodeOf(err) != tc.code {
			t.Errorf("%s: done %v, %v; want done and code %d", tc.reason, done, err, tc.code)
		}
	}
}

// A status that is watched outlives an API server that is away for a while, draws what can't be watched from time to time, and ends when the credentials do.
func TestWatchedStatusGoesOn(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "meshrollouts"}, "", errors.New("no right"))
	for _, tc := range []struct {
		reason      string
		watch, list error
		code        ExitCode
		blocks      int
		says        string
	}{
		{"requests fail for a while", nil, errors.New("connection refused"), ExitOK, 2, "still waiting: connection refused"},
		{"nothing may be watched", forbidden, nil, ExitOK, 2, ""},
		{"the credentials have expired", apierrors.NewUnauthorized("expired"), apierrors.NewUnauthorized("expired"), ExitError, 1, ""},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, s := newFactory()
				f.Clock = clock.RealClock{}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				below := fakeClient(t, aMesh(), aRevision("1-28-2", "1.28.2"), aRollout())
				var broken atomic.Bool
				begun := time.Now()
				c := interceptor.NewClient(below, interceptor.Funcs{
					Watch: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) (watch.Interface, error) {
						if tc.watch != nil {
							return nil, tc.watch
						}
						return c.Watch(ctx, list, options...)
					},
					List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
						if broken.Load() && tc.list != nil {
							return tc.list
						}
						return c.List(ctx, list, options...)
					},
				})
				time.AfterFunc(time.Minute, func() {
					broken.Store(true)
					o := aRollout()
					if err := below.Get(ctx, client.ObjectKeyFromObject(o), o); err != nil {
						t.Error(err)
						return
					}
					comesTo("Moving", "wave early: 1 of 3 workloads moved")(o)
					if err := below.Status().Update(ctx, o); err != nil {
						t.Error(err)
					}
				})
				time.AfterFunc(2*time.Minute, func() { broken.Store(false) })
				time.AfterFunc(3*time.Minute, cancel)
				err := (&statusOptions{factory: f, output: &output{}, watch: true}).run(ctx, c)
				if ExitCodeOf(err) != tc.code || err != nil && time.Since(begun) > 90*time.Second {
					t.Errorf("%v after %s, want code %d", err, time.Since(begun), tc.code)
				}
				if n := strings.Count(s.out.String(), "upgrade targets"); n != tc.blocks {
					t.Errorf("%d blocks, want %d:\n%s", n, tc.blocks, &s.out)
				}
				if said := s.err.String(); !strings.Contains(said, tc.says) || strings.Count(said, "still waiting") > 1 {
					t.Errorf("it says %q, want %q once", said, tc.says)
				}
				cancel()
				synctest.Wait()
				time.Sleep(time.Minute) // of the bubble's time: what was begun ends
			})
		})
	}
}
