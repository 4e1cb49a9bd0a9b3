// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"strings"
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
				err := f.waiting(ctx, &patience{wait: true}, o.String(), func(ctx context.Context) error { return f.follow(ctx, c, f.Out, o, completes) })
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
		mesh := settledMesh()
		mesh.Status.FailedTarget = &v1alpha1.FailedTarget{Version: "1.29.1", Rollout: "default-7"}
		mesh.Status.Conditions = []metav1.Condition{condition(v1alpha1.ConditionUpToDate, metav1.ConditionFalse, v1alpha1.ReasonTargetFailed, "did not get there")}
		ended := endedRollout()
		ended.Status.Progress.Outcome = v1alpha1.OutcomeRolledBack
		c := fakeClient(t, mesh, ended)
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

// What can't be taken back is done to a rotation only when it is named, and an operation of another mesh is not taken for one of this.
func TestWrongOperationIsRefused(t *testing.T) {
	for _, tc := range []struct {
		reason string
		which  which
		goal   v1alpha1.RolloutGoal
		says   string
	}{
		{"a rotation is under way, and a rollout was meant", which{}, v1alpha1.GoalRollBack, "kubectl mesh rollback --rotation default-2"},
		{"the same, to be aborted", which{}, v1alpha1.GoalAbort, "kubectl mesh abort --rotation default-2"},
		{"another mesh is named", which{mesh: "prod", rotation: "default-2"}, v1alpha1.GoalAbort, "is of mesh default, not of prod"},
		{"the rotation is named", which{rotation: "default-2"}, v1alpha1.GoalAbort, ""},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			f, _ := newFactory()
			c := fakeClient(t, settledMesh(), aRotation())
			v := &verb{factory: f, which: tc.which, output: &output{}, patience: &patience{}}
			err := v.with(t.Context(), c, v.turn(tc.goal))
			if tc.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if ExitCodeOf(err) != ExitUsage || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want %q", err, tc.says)
			}
		})
	}
}
