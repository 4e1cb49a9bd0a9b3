// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// Progress is told what happens. Implementations may be called from several goroutines.
type Progress interface {
	// Say reports a fact or a decision in one line, without a line break.
	Say(line string)
	// Begin reports the start of something that takes about expect; zero means that nobody knows. The function it
	// returns reports the end, once.
	Begin(what string, expect time.Duration) (end func(error))
}

// NewProgress shows progress to whoever reads w: bars that move if it is a terminal, else lines, and a line as a sign
// of life every twenty seconds, so that a log of CI tells a slow build from one that hangs.
func NewProgress(w io.Writer) Progress {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &bars{w: w}
	}
	return &lines{w: w}
}

// lines is progress for logs.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

const heartbeat = 20 * time.Second

func (l *lines) Say(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.w, line)
}

func (l *lines) Begin(what string, expect time.Duration) func(error) {
	started := time.Now()
	if expect > 0 {
		l.Say(what + ", " + about(expect))
	} else {
		l.Say(what)
	}
	stop := every(heartbeat, func() {
		line := fmt.Sprintf("%s: still running after %s", what, elapsed(started))
		if expect > 0 {
			line += ", expected " + about(expect)
		}
		l.Say(line)
	})
	return func(err error) {
		stop()
		l.Say(outcome(what, started, err))
	}
}

// bars is progress for people: one bar at the bottom for what began last, finished things as lines above it.
type bars struct {
	mu      sync.Mutex
	w       io.Writer
	current *progressbar.ProgressBar
}

func (b *bars) Say(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.print(line)
}

// print puts a line above the bar, which is drawn again at its next move.
func (b *bars) print(line string) {
	if b.current != nil {
		_ = b.current.Clear()
	}
	fmt.Fprintln(b.w, line)
}

func (b *bars) Begin(what string, expect time.Duration) func(error) {
	started := time.Now()
	description, steps := what, int64(-1) // a spinner
	if expect > 0 {
		description, steps = what+", "+about(expect), expect.Milliseconds()
	}
	bar := progressbar.NewOptions64(steps, progressbar.OptionSetWriter(b.w), progressbar.OptionSetDescription(description),
		progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(true), progressbar.OptionSetWidth(30),
		progressbar.OptionSetSpinnerChangeInterval(0)) // else it would draw by itself, in between our lines
	b.mu.Lock()
	outer := b.current
	b.current = bar
	b.mu.Unlock()
	stop := every(200*time.Millisecond, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.current != bar {
			return // something began within this
		}
		if steps < 0 {
			_ = bar.Add(1)
			return
		}
		// A bar at its end would claim that the work is done.
		_ = bar.Set64(min(time.Since(started).Milliseconds(), steps*99/100))
	})
	return func(err error) {
		stop()
		b.mu.Lock()
		defer b.mu.Unlock()
		b.print(outcome(what, started, err))
		if b.current == bar {
			b.current = outer
		}
	}
}

// every calls tick again and again until the function it returns has returned.
func every(interval time.Duration, tick func()) (stop func()) {
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				tick()
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}

func outcome(what string, started time.Time, err error) string {
	if err != nil {
		return fmt.Sprintf("%s: failed after %s", what, elapsed(started))
	}
	return fmt.Sprintf("%s: done in %s", what, elapsed(started))
}

func elapsed(started time.Time) time.Duration {
	return time.Since(started).Round(100 * time.Millisecond)
}
