// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// redrawEvery bounds how often something is looked at again; rewatchAfter is how long a watch that has ended is left alone; lookAgain is how often a
// wait, and who can't watch, looks although nothing was told to have changed.
const (
	redrawEvery  = 300 * time.Millisecond
	rewatchAfter = time.Second
	lookAgain    = 10 * time.Second
)

// everything is what a mesh is shown by.
func everything() []client.ObjectList {
	return []client.ObjectList{
		&v1alpha1.MeshInstallationList{}, &v1alpha1.MeshRevisionList{}, &v1alpha1.MeshGatewayList{}, &v1alpha1.MeshRolloutList{}, &v1alpha1.MeshRotationList{},
	}
}

// look looks once. Done says that it is over, with or without an error; an error without it is one of the API server's, which may pass.
type look func(context.Context) (done bool, err error)

// whenChanged looks once, and again when an object of the lists has changed, until it is done or the context ends. As long as one of the lists can't be
// watched, it looks from time to time.
func (f *factory) whenChanged(ctx context.Context, c client.WithWatch, lists []client.ObjectList, look look) error {
	return f.looks(ctx, c, lists, false, look)
}

// await is whenChanged for a wait, which goes on for hours: it looks from time to time in any case, also when a watch says nothing any more.
func (f *factory) await(ctx context.Context, c client.WithWatch, lists []client.ObjectList, look look) error {
	return f.looks(ctx, c, lists, true, look)
}

// looks outlives an API server that does not answer for a while, and says so once for each time.
func (f *factory) looks(ctx context.Context, c client.WithWatch, lists []client.ObjectList, always bool, look look) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &teller{Clock: f.Clock, client: c, changed: make(chan struct{}, 1)}
	for _, list := range lists {
		t.blind.Add(1)
		first, err := t.watch(ctx, list)
		go t.tell(ctx, list, first, err)
	}
	away := false
	for {
		done, err := look(ctx)
		if ctx.Err() != nil {
			return ctx.Err() // a request that was cut off has errors of many kinds
		}
		if done || err != nil && !passing(err) {
			return err
		}
		if err != nil && !away {
			_, _ = fmt.Fprintf(f.ErrOut, "still waiting: %v\n", err)
		}
		away = err != nil
		if err := t.wait(ctx, func() bool { return always || away || t.blind.Load() > 0 }); err != nil {
			return err
		}
	}
}

// passing says whether an error may be another one, or none, when the same is asked again.
func passing(err error) bool {
	var missing *notFoundError
	return !errors.As(err, &missing) && !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) && !apierrors.IsNotFound(err)
}

// teller tells that an object of its lists has changed.
type teller struct {
	clock.Clock
	client  client.WithWatch
	changed chan struct{}
	// blind counts the lists that are not watched now.
	blind atomic.Int32
}

// wait waits for a change, or until it is time to look anyway.
func (t *teller) wait(ctx context.Context, anyway func() bool) error {
	for waits := true; waits; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.changed:
			waits = false
		case <-t.After(lookAgain):
			waits = !anyway()
		}
	}
	select { // what changes together is looked at together
	case <-ctx.Done():
		return ctx.Err()
	case <-t.After(redrawEvery):
	}
	select {
	case <-t.changed:
	default:
	}
	return nil
}

func (t *teller) watch(ctx context.Context, list client.ObjectList) (watch.Interface, error) {
	w, err := t.client.Watch(ctx, list)
	if err == nil {
		t.blind.Add(-1)
	}
	return w, err
}

// tell watches a list, and again when the API server ends a watch or gives none. What may not be watched is left alone. Why there is no watch is not said
// here: who looks meets the same, and if not, sees all that there is.
func (t *teller) tell(ctx context.Context, list client.ObjectList, now watch.Interface, err error) {
	for !apierrors.IsForbidden(err) {
		after := lookAgain
		if err == nil {
			t.drain(ctx, now)
			t.blind.Add(1)
			after = rewatchAfter
		}
		select {
		case <-ctx.Done():
			return
		case <-t.After(after):
		}
		now, err = t.watch(ctx, list)
		t.note() // nobody saw what has changed in between
	}
}

func (t *teller) note() {
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

func (t *teller) drain(ctx context.Context, now watch.Interface) {
	defer now.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case event, open := <-now.ResultChan():
			if !open {
				return
			}
			if event.Type == watch.Bookmark {
				continue
			}
			t.note()
			if event.Type == watch.Error {
				return
			}
		}
	}
}

// follow draws a status until the context ends, which is how it is meant to end.
func (o *statusOptions) follow(ctx context.Context, c client.WithWatch) error {
	screen, seen := &screen{out: o.Out}, false
	err := o.whenChanged(ctx, c, everything(), func(ctx context.Context) (bool, error) {
		s, err := o.take(ctx, c, o.mesh)
		if err != nil {
			screen.shown = nil // what is said of the error stands below it
			return !seen, err  // a cluster that was never reached is not away for a while
		}
		o.mesh, seen = s.mesh.Name, true
		now := o.Clock.Now()
		status := s.status(now)
		if o.output.format != outputText && o.output.format != outputWide {
			err := o.view(o.output, status, []string{nameOf("MeshInstallation", status.Name)}, nil)
			return err != nil, err
		}
		err = screen.draw(newPage(o.Out), func(p *page) { status.says(p, now, o.output.format == outputWide) })
		return err != nil, err
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// What turns the terminal's own breaking of lines off and on: DEC private mode 7, autowrap.
const (
	noWrap    = "\x1b[?7l"
	wrapAgain = "\x1b[?7h"
)

// screen shows a page again and again: in place on a terminal, else as blocks.
type screen struct {
	out io.Writer
	// shown are the lines of the last page.
	shown []string
}

// draw shows a page if it differs from the last one.
func (s *screen) draw(p *page, says func(*page)) error {
	says(p)
	if p.height > 0 {
		p.fit()
	}
	text := strings.Join(p.lines, "\n")
	if s.shown != nil && text == strings.Join(s.shown, "\n") {
		return nil
	}
	var b strings.Builder
	switch {
	case p.height > 0 && s.shown != nil:
		// Up to the first line of the last page, and away with what is below.
		fmt.Fprintf(&b, "\x1b[%dA\r\x1b[J", len(s.shown))
	case s.shown != nil:
		b.WriteString("\n")
	}
	if p.height > 0 {
		text = noWrap + text + wrapAgain // a line that is broken by the terminal is two, and counted as one
	}
	b.WriteString(text + "\n")
	s.shown = p.lines
	_, err := io.WriteString(s.out, b.String())
	return err
}

// fit leaves out what a terminal has no room for: what has scrolled away can't be drawn again.
func (p *page) fit() {
	room := p.height - 1
	if len(p.lines) <= room || room < 2 {
		return
	}
	left := len(p.lines) - room + 1
	p.lines = append(p.lines[:room-1:room-1], p.paint(cell{fmt.Sprintf("… %d lines more", left), dim}))
}
