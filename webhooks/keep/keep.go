// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package keep is the loop of what the operator keeps for its own admission, beside its controllers: its certificate and its policies.
package keep

import (
	"context"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
)

// Loop keeps one thing as it should be.
type Loop struct {
	// Logger is the name under which it logs, Thing what is kept, as log lines say it.
	Logger, Thing string
	// Interval is how often it looks, Retry how soon after an error.
	Interval, Retry time.Duration
	// Changed tells that it should look at once; nil for never.
	Changed <-chan struct{}
	Clock   clock.WithTicker
	// Ensure makes it so.
	Ensure func(ctx context.Context) error
}

// Run goes on until the context ends, which is no error.
func (l Loop) Run(ctx context.Context) error {
	log := ctrl.LoggerFrom(ctx).WithName(l.Logger)
	for {
		wait := l.Interval
		if err := l.Ensure(ctx); err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the operator ends
			}
			log.Error(err, "keeping "+l.Thing+"; trying again", "after", l.Retry)
			wait = l.Retry
		}
		timer := l.Clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-l.Changed:
			timer.Stop()
		case <-timer.C():
		}
	}
}
