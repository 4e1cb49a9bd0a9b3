// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

var update = flag.Bool("update", false, "write the traces anew")

// What the planner says and does in one situation after the other, as text.
func TestTraces(t *testing.T) {
	for _, tc := range []struct {
		name       string
		kind       v1alpha1.RotationKind
		selfSigned bool
		play       func(t *testing.T, m *model)
		want       v1alpha1.RolloutOutcome
	}{
		{"a new intermediate", v1alpha1.RotationIntermediate, false, nil, v1alpha1.OutcomeCompleted},
		{"a new root", v1alpha1.RotationRoot, false, nil, v1alpha1.OutcomeCompleted},
		{"from istiod's own root to one that is plugged in", v1alpha1.RotationPlugIn, true, nil, v1alpha1.OutcomeCompleted},
		{"and back to istiod's own", v1alpha1.RotationSelfSign, false, nil, v1alpha1.OutcomeCompleted},
		{"a revocation", v1alpha1.RotationRevoke, false, nil, v1alpha1.OutcomeCompleted},
		{"a revocation waits for no window and no approval", v1alpha1.RotationRevoke, false, func(_ *testing.T, m *model) {
			m.plan.Approve = []v1alpha1.RotationPhase{v1alpha1.PhaseDrop}
			m.plan.Windows = []v1alpha1.Window{{Schedule: "0 2 * * 6", DurationSeconds: 3600, TimeZone: "UTC"}}
		}, v1alpha1.OutcomeCompleted},
		{"outside the window", v1alpha1.RotationRoot, false, func(_ *testing.T, m *model) {
			m.plan.Windows = []v1alpha1.Window{{Schedule: "10 12 * * *", DurationSeconds: 7200, TimeZone: "UTC"}}
		}, v1alpha1.OutcomeCompleted},
		{"an approval before the old root is dropped", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.plan.Approve = []v1alpha1.RotationPhase{v1alpha1.PhaseDrop}
			m.play(t, 60)
			m.verbs.Approvals = []v1alpha1.Approval{{Step: "Drop", By: "oncall"}}
		}, v1alpha1.OutcomeCompleted},
		{"a rollout is active", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.granted = false
			m.play(t, 10)
			m.granted = true
		}, v1alpha1.OutcomeCompleted},
		{"a proxy whose agent is stopped holds the first phase", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.proxies[1].stuck, m.proxies[1].pushed = true, true
			m.play(t, 200)
			m.proxies[1].stuck = false
		}, v1alpha1.OutcomeCompleted},
		{"a proxy that no probe reaches", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.proxies[0].hidden = true
			m.play(t, 60)
			m.proxies[0].hidden = false
		}, v1alpha1.OutcomeCompleted},
		{"a proxy that no probe reaches is waived", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.proxies[0].hidden = true
			m.play(t, 30)
			m.waive("shop/p1", 24*time.Hour)
		}, v1alpha1.OutcomeCompleted},
		{"a revocation does without a proxy at once", v1alpha1.RotationRevoke, false, func(t *testing.T, m *model) {
			m.proxies[0].hidden = true
			m.play(t, 30)
			m.waive("shop/p1", 24*time.Hour)
		}, v1alpha1.OutcomeCompleted},
		{"a virtual machine goes out of sight with a leaf of the old root", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.proxies[0].elsewhere = true
			m.until(t, v1alpha1.PhaseTrust)
			m.play(t, 30)
			m.waive(ElsewhereProxies, time.Hour)
			m.until(t, v1alpha1.PhaseSign)
			m.proxies[0].stuck, m.proxies[0].gone = true, true
			m.play(t, 9000) // a day, for nobody sees what it asks for
		}, v1alpha1.OutcomeCompleted},
		{"a proxy that nobody reaches has leaves that live longer", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.until(t, v1alpha1.PhaseSign)
			p := m.proxies[3]
			p.life, p.born, p.hidden, p.stuck = 3*time.Hour, m.now, true, true
			m.until(t, v1alpha1.PhaseDrop)
			m.waive("shop/p4", time.Hour)
		}, v1alpha1.OutcomeCompleted},
		{"an intermediate under istiod's own root", v1alpha1.RotationPlugIn, true, func(_ *testing.T, m *model) {
			m.plan.To = v1alpha1.RotationAuthority{Root: string(rootA), Issuer: string(secondUnderA)}
			m.plan.Phases = PhasesOf(v1alpha1.RotationPlugIn, true, true)
		}, v1alpha1.OutcomeCompleted},
		{"an older plan for an intermediate under istiod's own root", v1alpha1.RotationPlugIn, true, func(_ *testing.T, m *model) {
			m.plan.To = v1alpha1.RotationAuthority{Root: string(rootA), Issuer: string(secondUnderA)}
		}, v1alpha1.OutcomeCompleted},
		{"and back to istiod's own root under it", v1alpha1.RotationSelfSign, false, func(_ *testing.T, m *model) {
			m.plan.To = v1alpha1.RotationAuthority{Root: string(rootA), Issuer: string(rootA)}
			m.plan.Phases = PhasesOf(v1alpha1.RotationSelfSign, false, true)
		}, v1alpha1.OutcomeCompleted},
		{"it is aborted before istiod's own root signs alone", v1alpha1.RotationSelfSign, false, func(t *testing.T, m *model) {
			m.plan.To = v1alpha1.RotationAuthority{Root: string(rootA), Issuer: string(rootA)}
			m.plan.Phases = PhasesOf(v1alpha1.RotationSelfSign, false, true)
			m.until(t, v1alpha1.PhaseSign)
			m.verbs.Goal = v1alpha1.GoalAbort
			m.play(t, 20)
			m.verbs.Goal = v1alpha1.GoalRollBack
		}, v1alpha1.OutcomeRolledBack},
		{"what signs expires before the next window", v1alpha1.RotationRoot, false, func(_ *testing.T, m *model) {
			m.plan.Windows = []v1alpha1.Window{{Schedule: "0 2 * * 6", DurationSeconds: 3600, TimeZone: "UTC"}}
			m.urgent = true
		}, v1alpha1.OutcomeCompleted},
		{"a change by somebody else on the way back is left as it is", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.until(t, v1alpha1.PhaseDrain)
			m.verbs.Goal = v1alpha1.GoalRollBack
			m.play(t, 3)
			m.foreign = "kubectl-edit"
			m.play(t, 2)
			m.verbs.Goal = v1alpha1.GoalAbort
		}, v1alpha1.OutcomeAborted},
		{"a waiver that expires holds again", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.proxies[0].hidden = true
			m.waive("shop/p1", time.Minute)
			m.play(t, 60)
			m.proxies[0].hidden = false
		}, v1alpha1.OutcomeCompleted},
		{"agents that react to no push take their time", v1alpha1.RotationRoot, false, func(_ *testing.T, m *model) {
			for _, p := range m.proxies {
				p.pushed = false
			}
		}, v1alpha1.OutcomeCompleted},
		{"a proxy whose agent stops while leaves change", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.until(t, v1alpha1.PhaseSign)
			m.proxies[2].stuck = true
			m.play(t, 60)
			m.proxies[2].stuck = false
		}, v1alpha1.OutcomeCompleted},
		{"a replica of istiod that does not answer", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.istiods[1].deaf = true
			m.play(t, 20)
			m.istiods[1].deaf = false
		}, v1alpha1.OutcomeCompleted},
		{"cacerts is changed by somebody else", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.play(t, 5)
			m.foreign = "kubectl-edit"
			m.play(t, 10)
			m.foreign = ""
		}, v1alpha1.OutcomeCompleted},
		{"a change by somebody else is left as it is", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.play(t, 5)
			m.foreign = "kubectl-edit"
			m.play(t, 2)
			m.verbs.Goal = v1alpha1.GoalAbort
		}, v1alpha1.OutcomeAborted},
		{"istiods that have never read cacerts", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			for _, i := range m.istiods {
				i.issuer, i.roots, i.stuck = rootB, []Fingerprint{rootB}, true
			}
			for _, p := range m.proxies {
				p.trusts, p.leaf = []Fingerprint{rootB}, rootB
			}
			m.maps = []Fingerprint{rootB}
			m.play(t, 10)
			m.verbs.Goal = v1alpha1.GoalAbort
		}, v1alpha1.OutcomeAborted},
		{"an istiod that takes no second root", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.istiods[1].stuck = true
			m.play(t, 30)
			m.verbs.Goal = v1alpha1.GoalRollBack
		}, v1alpha1.OutcomeRolledBack},
		{"it is paused", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.play(t, 5)
			m.verbs.Paused = true
			m.play(t, 10)
			m.verbs.Paused = false
		}, v1alpha1.OutcomeCompleted},
		{"it is aborted before it begins", v1alpha1.RotationRoot, false, func(_ *testing.T, m *model) { m.verbs.Goal = v1alpha1.GoalAbort }, v1alpha1.OutcomeAborted},
		{"it is aborted while both are trusted", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.play(t, 5)
			m.verbs.Goal = v1alpha1.GoalAbort
		}, v1alpha1.OutcomeRolledBack},
		{"it is aborted while leaves change", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.until(t, v1alpha1.PhaseDrain)
			m.verbs.Goal = v1alpha1.GoalAbort
			m.play(t, 20)
			m.verbs.Goal = v1alpha1.GoalRollBack
		}, v1alpha1.OutcomeRolledBack},
		{"an abort comes too late", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.until(t, v1alpha1.PhaseDrop)
			m.verbs.Goal = v1alpha1.GoalAbort
		}, v1alpha1.OutcomeCompleted},
		{"it is rolled back while leaves change", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.until(t, v1alpha1.PhaseDrain)
			m.verbs.Goal = v1alpha1.GoalRollBack
		}, v1alpha1.OutcomeRolledBack},
		{"a rollback comes too late", v1alpha1.RotationRoot, false, func(t *testing.T, m *model) {
			m.until(t, v1alpha1.PhaseDrop)
			m.verbs.Goal = v1alpha1.GoalRollBack
		}, v1alpha1.OutcomeCompleted},
		{"back to istiod's own root in the middle", v1alpha1.RotationPlugIn, true, func(t *testing.T, m *model) {
			m.until(t, v1alpha1.PhaseDrain)
			m.verbs.Goal = v1alpha1.GoalRollBack
		}, v1alpha1.OutcomeRolledBack},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newModel(tc.kind, tc.selfSigned, 4)
			if tc.play != nil {
				tc.play(t, m)
			}
			m.play(t, 2000)
			if m.p.Outcome != tc.want {
				t.Errorf("it ends %q, want %q\n%s", m.p.Outcome, tc.want, m.trace.String())
			}
			file := filepath.Join("testdata", strings.ReplaceAll(strings.ReplaceAll(tc.name, " ", "-"), "'", "")+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(m.trace.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), m.trace.String()); diff != "" {
				t.Errorf("another trace (-want +got; run with -update to accept it):\n%s", diff)
			}
		})
	}
}

// Whatever happens, in whatever order: no proxy ever lacks the root of a peer's leaf, no agent its istiod's, the bytes of the roots are such
// that an istiod of any version takes them, and when what holds it is gone, the rotation ends.
func TestNoHandshakeIsEverBroken(t *testing.T) {
	kinds := []v1alpha1.RotationKind{
		v1alpha1.RotationIntermediate, v1alpha1.RotationRoot, v1alpha1.RotationPlugIn, v1alpha1.RotationSelfSign, v1alpha1.RotationRevoke,
	}
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom(kinds).Draw(t, "kind")
		m := newModel(kind, kind == v1alpha1.RotationPlugIn, rapid.IntRange(1, 6).Draw(t, "proxies"))
		for _, p := range m.proxies {
			p.pushed = rapid.Bool().Draw(t, "pushed")
		}
		crashes := rapid.IntRange(0, 20).Draw(t, "crashes")
		m.dies = func() bool {
			if crashes > 0 && rapid.IntRange(0, 3).Draw(t, "dies") == 0 {
				crashes--
				return true
			}
			return false
		}
		check := func() {
			if wrong := m.wrong(); wrong != "" {
				t.Fatalf("%s\n%s", wrong, m.trace.String())
			}
		}
		for range rapid.IntRange(0, 40).Draw(t, "events") {
			p := m.proxies[rapid.IntRange(0, len(m.proxies)-1).Draw(t, "proxy")]
			i := m.istiods[rapid.IntRange(0, len(m.istiods)-1).Draw(t, "istiod")]
			switch rapid.IntRange(0, 8).Draw(t, "event") {
			case 0:
				p.stuck = !p.stuck
			case 1:
				p.hidden = !p.hidden
			case 2:
				i.deaf = !i.deaf
			case 3:
				i.readsAfter = time.Duration(rapid.IntRange(0, 120).Draw(t, "reads")) * time.Second
			case 4:
				m.verbs.Paused = !m.verbs.Paused
			case 5:
				m.verbs.Goal = v1alpha1.GoalRollBack
			case 6: // a pod is made anew
				p.trusts, p.leaf, p.born, p.stuck = i.roots, rootOf(i.issuer), m.now, false
			default:
			}
			for range rapid.IntRange(1, 30).Draw(t, "turns") {
				m.turn()
				check()
			}
		}
		m.verbs.Paused = false
		for _, p := range m.proxies {
			p.stuck, p.hidden = false, false
		}
		for _, i := range m.istiods {
			i.deaf = false
		}
		for range 3000 {
			if m.turn(); m.p.Outcome != "" {
				break
			}
			check()
		}
		if m.p.Outcome == "" {
			t.Fatalf("it does not end\n%s", m.trace.String())
		}
		for n := 1; n < len(m.written); n++ {
			before, after := bytesOf(m.written[n-1]), bytesOf(m.written[n])
			if m.written[n-1].None || m.written[n].None {
				continue
			}
			if !bytes.Contains(before, after) && !bytes.Contains(after, before) {
				t.Fatalf("an istiod up to 1.29 does not take %+v after %+v", m.written[n], m.written[n-1])
			}
		}
	})
}
