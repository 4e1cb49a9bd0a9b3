// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers_test

import (
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/meshwright/meshwright/controllers"
)

// However long something has failed, it is tried again within half a minute.
func TestRetriesAreNeverFarApart(t *testing.T) {
	limiter, request := controllers.Options().RateLimiter, reconcile.Request{}
	if first := limiter.When(request); first > 10*time.Millisecond {
		t.Errorf("the first retry comes after %s", first)
	}
	last := time.Duration(0)
	for range 100 {
		last = limiter.When(request)
	}
	if last != 30*time.Second {
		t.Errorf("after 100 failures the next retry comes after %s", last)
	}
}
