// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"k8s.io/utils/clock"
)

// Notifier tells web servers of what has happened, as CloudEvents in structured mode. Nothing waits for it, and what can't be told after
// its retries is lost: Kubernetes has the events too.
type Notifier struct {
	// Told counts what became of each: sent, failed or dropped.
	Told func(result string)

	queue chan notice
}

type notice struct {
	to   func(ctx context.Context) (Endpoint, error)
	told event.Event
}

const (
	// maxQueue is how many notices wait; more are dropped.
	maxQueue = 100
	// perNotice bounds one notice with its retries, and atTheEnd what is still sent when the operator ends.
	perNotice = time.Minute
	atTheEnd  = 3 * time.Second
	// senders send at the same time, so that one slow server does not hold the others up.
	senders = 4
)

// NewNotifier makes a notifier, which has to be started.
func NewNotifier(told func(result string)) *Notifier {
	return &Notifier{Told: told, queue: make(chan notice, maxQueue)}
}

// Tell tells a server of an event, some time soon. To is asked for the server when it is told, outside of reconciles.
func (n *Notifier) Tell(to func(ctx context.Context) (Endpoint, error), e event.Event) {
	select {
	case n.queue <- notice{to, e}:
	default:
		n.Told("dropped")
	}
}

// NeedLeaderElection says that only the replica that acts tells.
func (n *Notifier) NeedLeaderElection() bool { return true }

// Start tells until the context ends, and then what is left for a few seconds.
func (n *Notifier) Start(ctx context.Context) error {
	done := make(chan struct{})
	for range senders {
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				select {
				case <-ctx.Done():
					return
				case next := <-n.queue:
					n.send(ctx, next)
				}
			}
		}()
	}
	for range senders {
		<-done
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), atTheEnd)
	defer cancel()
	for {
		select {
		case next := <-n.queue:
			n.send(last, next)
		default:
			return nil
		}
	}
}

func (n *Notifier) send(ctx context.Context, next notice) {
	bounded, cancel := context.WithTimeout(ctx, perNotice)
	defer cancel()
	if err := sendOnce(bounded, next); err != nil {
		n.Told("failed")
		return
	}
	n.Told("sent")
}

func sendOnce(ctx context.Context, next notice) error {
	to, err := next.to(ctx)
	if err != nil {
		return err
	}
	body, err := json.Marshal(next.told)
	if err != nil {
		return err
	}
	status, _, err := post(ctx, clock.RealClock{}, to, event.ApplicationCloudEventsJSON, next.told.ID(), body)
	if err == nil && status >= http.StatusMultipleChoices {
		err = fmt.Errorf("the server answers %d", status)
	}
	return err
}
