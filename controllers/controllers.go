// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controllers holds what is the same for every controller below it: how it tries again, and how often it says
// what has only been counted.
package controllers

import (
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// An error is tried again after firstRetry, and after twice as long each time, up to lastRetry. controller-runtime's own bound is a
// quarter of an hour: an operator that has seen an API server away for some minutes would be away for longer than that.
const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Options of each controller.
func Options() controller.Options {
	return controller.Options{RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry)}
}

// CountEvery bounds how often counts and sentences alone make a write of a status.
const CountEvery = 10 * time.Second

// LookAtTime bounds how long a time that is far away is slept for: clocks are set right.
const LookAtTime = 6 * time.Hour

// Shorter is the shorter one of two waits, of which 0 is none.
func Shorter(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
