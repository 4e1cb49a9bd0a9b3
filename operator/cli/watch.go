// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// redrawEvery bounds how often something is looked at again; rewatchAfter is how long a watch that has ended is left alone; lookAgain is how often a
// wait looks although nothing was told to have changed.
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

// whenChanged looks once, and again when an object of the lists has changed, until look says that it is done. Kinds that the user may not watch are
// left out, unless there is no other. It ends with the context.
func (f *factory) whenChanged(ctx context.Context, c client.WithWatch, lists []client.ObjectList, look func(context.Context) (done bool, err error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := make(chan struct{}, 1)
	var denied error
	watched := 0
	for _, list := range lists {
		first, err := c.Watch(ctx, list)
		if apierrors.IsForbidden(err) {
			denied = err
			continue
		}
		if err != nil {
			return explain(err)
		}
		watched++
		go f.tell(ctx, c, list, first, changed)
	}
	if watched == 0 && denied != nil {
		return denied
	}
	return f.looks(ctx, changed, 0, look)
}

// await is whenChanged for a wait, which goes on for hours: it also looks from time to time, whatever may be watched, and outlives an API server that
// does not answer for a while, which it says once.
func (f *factory) await(ctx context.Context, c client.WithWatch, lists []client.ObjectList, look func(context.Context) (done bool, err error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := make(chan struct{}, 1)
	for _, list := range lists {
		first, err := c.Watch(ctx, list)
		if apierrors.IsForbidden(err) {
			continue
		}
		if err != nil {
			first = nil // it is tried again
		}
		go f.tell(ctx, c, list, first, changed)
	}
	said := ""
	return f.looks(ctx, changed, lookAgain, func(ctx context.Context) (bool, error) {
		done, err := look(ctx)
		if err == nil || done || !passing(err) {
			return done, err
		}
		if text := err.Error(); text != said && ctx.Err() == nil {
			said = text
			_, _ = fmt.Fprintf(f.ErrOut, "still waiting: %s\n", text)
		}
		return false, nil
	})
}

// passing says whether an error may be another one, or none, when the same is asked again.
func passing(err error) bool {
	var exit *exitError
	var missing *notFoundError
	return !errors.As(err, &exit) && !errors.As(err, &missing) && !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) && !apierrors.IsNotFound(err)
}

// looks looks once, and again when it is told that something has changed, or after a while; a while of 0 is never.
func (f *factory) looks(ctx context.Context, changed <-chan struct{}, while time.Duration, look func(context.Context) (done bool, err error)) error {
	for {
		done, err := look(ctx)
		if ctx.Err() != nil {
			return ctx.Err() // a request that was cut off has errors of many kinds
		}
		if done || err != nil {
			return err
		}
		var later <-chan time.Time
		if while > 0 {
			later = f.Clock.After(while)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-later:
		}
		select { // what changes together is looked at together
		case <-ctx.Done():
			return ctx.Err()
		case <-f.Clock.After(redrawEvery):
		}
		select {
		case <-changed:
		default:
		}
	}
}

// tell passes on that something has changed, and watches again when the API server ends a watch.
func (f *factory) tell(ctx context.Context, c client.WithWatch, list client.ObjectList, now watch.Interface, changed chan<- struct{}) {
	for {
		if now != nil {
			f.drain(ctx, now, changed)
		}
		select {
		case <-ctx.Done():
			return
		case <-f.Clock.After(rewatchAfter):
		}
		var err error
		if now, err = c.Watch(ctx, list); err != nil {
			now = nil
		}
	}
}

func (f *factory) drain(ctx context.Context, now watch.Interface, changed chan<- struct{}) {
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
			select {
			case changed <- struct{}{}:
			default:
			}
			if event.Type == watch.Error {
				return
			}
		}
	}
}

// follow draws a status until the context ends, which is how it is meant to end.
func (o *statusOptions) follow(ctx context.Context, c client.WithWatch) error {
	screen := &screen{out: o.Out}
	err := o.whenChanged(ctx, c, everything(), func(ctx context.Context) (bool, error) {
		s, err := o.take(ctx, c, o.mesh)
		if err != nil {
			return false, err
		}
		o.mesh = s.mesh.Name
		now := o.Clock.Now()
		status := s.status(now)
		if o.output.format != outputText && o.output.format != outputWide {
			return false, o.view(o.output, status, []string{nameOf("MeshInstallation", status.Name)}, nil)
		}
		return false, screen.draw(newPage(o.Out), func(p *page) { status.says(p, now, o.output.format == outputWide) })
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
