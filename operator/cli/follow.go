// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/spf13/cobra"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// patience are the flags --wait and --timeout.
type patience struct {
	wait    bool
	timeout time.Duration
}

func addPatience(cmd *cobra.Command, what string) *patience {
	p := &patience{}
	cmd.Flags().BoolVar(&p.wait, "wait", false, "Wait "+what+", with a line for each decision")
	cmd.Flags().DurationVar(&p.timeout, "timeout", 0, "How long --wait waits at most (exit code 4), such as 2h. Default: as long as it takes")
	return p
}

// check refuses a timeout that bounds nothing: who gives one believes that the command waits.
func (p *patience) check() error {
	switch {
	case p.timeout < 0:
		return usagef("--timeout %s: it is more than 0; leave it out to wait as long as it takes", p.timeout)
	case p.timeout > 0 && !p.wait:
		return usagef("--timeout %s bounds a wait, and there is none: give --wait with it, or leave it out", p.timeout)
	}
	return nil
}

// waiting runs a wait within the timeout. However it ends, the cluster goes on as it was told, and that is said.
func (f *factory) waiting(ctx context.Context, p *patience, on string, wait func(context.Context) error) error {
	if p.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.timeout)
		defer cancel()
	}
	err := wait(ctx)
	switch {
	case ctx.Err() == nil: // what ended is the wait, not its time
	case errors.Is(err, context.Canceled):
		_, _ = fmt.Fprintf(f.ErrOut, "\nno longer waiting: %s goes on as it was told (kubectl mesh status shows it, kubectl mesh pause stops it)\n", on)
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return &exitError{code: ExitTimeout, text: fmt.Sprintf("%s has not ended within %s, and goes on: kubectl mesh status shows it", on, p.timeout)}
	}
	return err
}

// decisions prints a line for each decision of an operation that differs from the last one.
type decisions struct {
	out   io.Writer
	clock func() time.Time
	last  string
}

func (d *decisions) say(reason, at, message string) {
	line := fmt.Sprintf("%-18s %-16s %s", reason, at, message)
	if line == d.last {
		return
	}
	d.last = line
	_, _ = fmt.Fprintf(d.out, "%s  %s\n", d.clock().Format(time.TimeOnly), line)
}

func (d *decisions) of(o operation) {
	reason, message := o.state()
	var summary string
	if o.rollout != nil {
		summary = o.rollout.Status.Summary
	} else {
		summary = o.rotation.Status.Summary
	}
	if step := o.awaits(); step != "" {
		message += fmt.Sprintf(" (kubectl mesh approve %s)", step)
	}
	d.say(reason, summary, message)
}

func (f *factory) decisions(out io.Writer) *decisions {
	return &decisions{out: out, clock: f.Clock.Now}
}

// goal is what a wait for an operation wants of it.
type goal struct {
	// outcomes that are a success.
	outcomes []v1alpha1.RolloutOutcome
	// moved says that it is enough that everything has moved: the old revision is kept for a while then, which may be a day.
	moved bool
}

var (
	completes = goal{outcomes: []v1alpha1.RolloutOutcome{v1alpha1.OutcomeCompleted}, moved: true}
	goesBack  = goal{outcomes: []v1alpha1.RolloutOutcome{v1alpha1.OutcomeAborted, v1alpha1.OutcomeRolledBack}}
)

// usualRelease is how long a revision may be in use after everything has left it before a person is asked: pods take their time to end.
const usualRelease = 3 * time.Minute

// kept says whether all is moved, one way or the other, that the rollout can move, and only the revision that was left stays: for
// as long as it was told to keep it, or because something uses it that the rollout can't move.
func kept(o *v1alpha1.MeshRollout, now time.Time) bool {
	reason, _ := operation{rollout: o}.state()
	p := &o.Status.Progress
	switch reason {
	case v1alpha1.ReasonRetireAfter:
		return true
	case v1alpha1.ReasonStillInUse:
		return p.Entered != nil && now.Sub(p.Entered.Time) >= usualRelease
	}
	return false
}

// reached says whether a wait for an operation is over, and with which error.
func (g goal) reached(o operation, now time.Time) (bool, error) {
	reason, message := o.state()
	switch {
	case slices.Contains(g.outcomes, o.outcome()):
		return true, nil
	case o.outcome() != "":
		return true, blockedf("%s has ended as %s: %s", o, o.outcome(), message)
	case !o.observed(): // what has ended is not observed any more
		return false, nil
	case o.halted():
		return true, blockedf("%s has halted (%s): %s", o, reason, message)
	case o.rollout == nil || !kept(o.rollout, now):
		return false, nil
	case !o.rollout.Status.Progress.Back:
		return g.moved, nil
	case g.moved: // everything is back, and what failed is kept for a look at it
		return true, blockedf("%s was rolled back: %s", o, message)
	case reason == v1alpha1.ReasonStillInUse:
		return true, blockedf("%s has moved back what it can: %s", o, message)
	}
	return true, nil
}

// taken is reached when the operator has seen the newest spec.
func taken(o operation, _ time.Time) (bool, error) {
	if o.observed() {
		return true, nil
	}
	return o.outcome() != "", ended(o)
}

// follow prints the decisions of an operation until it has reached what is wanted.
func (f *factory) follow(ctx context.Context, c client.WithWatch, out io.Writer, o operation, reached func(operation, time.Time) (bool, error)) error {
	says := f.decisions(out)
	lists := []client.ObjectList{&v1alpha1.MeshRolloutList{}}
	if o.rotation != nil {
		lists = []client.ObjectList{&v1alpha1.MeshRotationList{}}
	}
	return f.await(ctx, c, lists, func(ctx context.Context) (bool, error) {
		if err := o.again(ctx, c); err != nil {
			if apierrors.IsNotFound(err) {
				return true, blockedf("%s was deleted", o)
			}
			return false, explain(err)
		}
		if o.observed() || o.outcome() != "" {
			says.of(o)
		}
		return reached(o, f.Clock.Now())
	})
}
