// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e && long

package upgrade

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// kills is how often the operator is killed.
const kills = 20

// An operator that is killed again and again, at random moments of upgrades under load, comes to the same end, and nobody who sends
// requests notices.
func TestOperatorKilled(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	begin(t, nil)
	enroll(t, "clients", "rest", rev128)
	killed := 0
	for i, leg := range []struct{ rollout, version, revision string }{
		{"default-1", framework.Istio129, rev129}, {"default-2", framework.Istio131, rev131},
	} {
		trace(t, leg.rollout)
		finishPay, finishCart := load(t, pay, 90), load(t, cart, 90)
		setVersion(t, leg.version)
		for killed < kills*(i+1)/2 {
			// Its successor acts for a moment before it is killed in turn.
			moment := time.NewTimer(time.Duration(random.Int64N(int64(5 * time.Second))))
			if err := env.WaitLeader(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-moment.C
			if err := env.KillOperator(t.Context()); err != nil {
				t.Fatal(err)
			}
			killed++
		}
		finishPay()
		finishCart()
		wait(t, leg.rollout, "to be completed", framework.Ended(v1alpha1.OutcomeCompleted))
		only(t, leg.revision, pay, cart)
	}
	t.Logf("killed %d times", killed)
}
