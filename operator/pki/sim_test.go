// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

// model is a mesh in which a rotation goes on: istiods that read cacerts late and refuse what they can't take, ConfigMaps that come late, agents
// that learn roots by a push, by their next leaf, or not at all, and probes that don't always get an answer.
type model struct {
	plan  v1alpha1.RotationPlan
	verbs v1alpha1.RotationVerbs
	p     v1alpha1.RotationProgress

	start, now time.Time
	secret     Material
	// written is the material of each moment at which cacerts was written.
	written []Material
	istiods []*simIstiod
	maps    []Fingerprint // of all namespaces
	mapsDue time.Time
	mounted []Fingerprint // what agents read, which comes later still
	proxies []*simProxy
	foreign string
	granted bool
	urgent  bool
	trace   strings.Builder
	last    string
	overdue bool
	// dies loses what was decided before it was done; the progress is kept.
	dies func() bool
}

// simIstiod is a replica.
type simIstiod struct {
	name       string
	old        bool // up to 1.29: it compares bytes
	selfSigned bool
	issuer     Fingerprint
	roots      []Fingerprint
	padding    int32
	// readsAfter is how long the kubelet takes to bring the Secret.
	readsAfter time.Duration
	changed    time.Time
	deaf       bool
	// stuck ones take nothing of what cacerts gets.
	stuck bool
}

// simProxy is a proxy with its agent.
type simProxy struct {
	name   string
	trusts []Fingerprint
	leaf   Fingerprint // its root
	born   time.Time   // of the leaf
	pushed bool        // its agent reacts to pushes
	stuck  bool        // its agent is stopped
	hidden bool        // a NetworkPolicy keeps the probe out
	// elsewhere is one that is no pod, and can't be asked: that it is there is seen as long as it is connected.
	elsewhere, gone bool
	// lives is how long its leaves do; zero: as the plan has it.
	life time.Duration
}

const zeros = "00000000000000000000000000000000000000000000000000000000000000"

var (
	rootA, rootB = Fingerprint("a0" + zeros), Fingerprint("b0" + zeros)
	underA       = Fingerprint("a1" + zeros)
	underB       = Fingerprint("b1" + zeros)
	secondUnderA = Fingerprint("a2" + zeros)
)

func bytesOf(m Material) []byte {
	var out bytes.Buffer
	for _, r := range m.Roots {
		out.WriteString("<" + string(r) + ">\n")
	}
	out.WriteString(strings.Repeat("\n", int(m.Padding)))
	return out.Bytes()
}

func newModel(kind v1alpha1.RotationKind, selfSigned bool, proxies int) *model {
	from := v1alpha1.RotationAuthority{Root: string(rootA), Issuer: string(underA)}
	to := v1alpha1.RotationAuthority{Root: string(rootB), Issuer: string(underB)}
	if selfSigned {
		from.Issuer = from.Root
	}
	if kind == v1alpha1.RotationIntermediate {
		to = v1alpha1.RotationAuthority{Root: from.Root, Issuer: string(secondUnderA)}
	}
	if kind == v1alpha1.RotationSelfSign {
		to.Issuer = to.Root
	}
	m := &model{
		plan: v1alpha1.RotationPlan{
			Kind: kind, From: from, To: to, Phases: PhasesOf(kind, selfSigned, from.Root == to.Root), LeafSeconds: 3600, SettleSeconds: 120, ProgressDeadlineSeconds: 1800,
		},
		verbs: v1alpha1.RotationVerbs{Goal: v1alpha1.GoalComplete}, start: noon, now: noon, granted: true, dies: func() bool { return false },
		maps: []Fingerprint{rootA}, mounted: []Fingerprint{rootA}, secret: Material{Issuer: Fingerprint(from.Issuer), Roots: []Fingerprint{rootA}},
	}
	if selfSigned {
		m.secret = Material{None: true}
	}
	for i, old := range []bool{false, true} {
		m.istiods = append(m.istiods, &simIstiod{
			name: fmt.Sprintf("istiod-%d", i+1), old: old, selfSigned: selfSigned, issuer: Fingerprint(from.Issuer), roots: []Fingerprint{rootA},
			readsAfter: time.Duration(10+10*i) * time.Second, changed: noon.Add(-time.Hour),
		})
	}
	for i := range proxies {
		m.proxies = append(m.proxies, &simProxy{
			name: fmt.Sprintf("shop/p%d", i+1), trusts: []Fingerprint{rootA}, leaf: rootA, born: noon.Add(-time.Duration(i) * time.Minute), pushed: true,
		})
	}
	return m
}

// turn lets ten seconds pass: first the mesh lives, then the operator looks, decides and acts.
func (m *model) turn() Decision {
	m.now = m.now.Add(10 * time.Second)
	for _, i := range m.istiods {
		m.reads(i)
	}
	if !slices.Equal(m.maps, m.istiods[0].roots) { // the leader writes them
		m.maps, m.mapsDue = m.istiods[0].roots, m.now.Add(100*time.Second)
	}
	if !m.now.Before(m.mapsDue) {
		m.mounted = m.maps
	}
	for n, p := range m.proxies {
		m.lives(p, m.istiods[n%len(m.istiods)])
	}
	seen := m.look()
	d := Decide(&m.plan, m.verbs, m.p, seen, m.now)
	m.say(d)
	m.p, m.overdue = d.Progress, d.Overdue // it is kept before anything is done
	if m.dies() {
		return d
	}
	switch d.Act {
	case ActWrite:
		m.secret = d.Material
		m.written = append(m.written, d.Material)
		for _, i := range m.istiods {
			i.changed = m.now
		}
	case ActRestart:
		i := m.istiods[slices.IndexFunc(m.istiods, func(i *simIstiod) bool { return i.name == d.Restart[0] })]
		i.selfSigned = m.secret.None
		if !i.selfSigned {
			i.issuer, i.roots, i.padding = m.secret.Issuer, m.secret.Roots, m.secret.Padding
		}
	case ActWait, ActAwaitApproval, ActHalt, ActDone:
	}
	return d
}

// reads lets a replica read cacerts, as istiod does.
func (m *model) reads(i *simIstiod) {
	if i.stuck || i.selfSigned || m.secret.None || m.now.Sub(i.changed) < i.readsAfter {
		return
	}
	have, want := bytesOf(Material{Roots: i.roots, Padding: i.padding}), bytesOf(m.secret)
	fits := bytes.Contains(have, want) || bytes.Contains(want, have)
	if !i.old { // sets are compared
		in := func(all []Fingerprint) func(Fingerprint) bool {
			return func(f Fingerprint) bool { return !slices.Contains(all, f) }
		}
		fits = !slices.ContainsFunc(i.roots, in(m.secret.Roots)) || !slices.ContainsFunc(m.secret.Roots, in(i.roots))
	}
	if fits {
		i.issuer, i.roots, i.padding = m.secret.Issuer, m.secret.Roots, m.secret.Padding
	}
}

// lives lets an agent fetch a leaf: at a push of other roots, or when half of the leaf's life has passed.
func (m *model) lives(p *simProxy, from *simIstiod) {
	if p.stuck {
		return
	}
	due := m.now.Sub(p.born) > m.life(p)/2
	if due || p.pushed && (!slices.Equal(p.trusts, from.roots) || p.leaf != rootOf(from.issuer)) {
		p.trusts, p.leaf, p.born = from.roots, rootOf(from.issuer), m.now
	}
}

func (m *model) life(p *simProxy) time.Duration {
	if p.life > 0 {
		return p.life
	}
	return time.Duration(m.plan.LeafSeconds) * time.Second
}

func rootOf(issuer Fingerprint) Fingerprint {
	if issuer[0] == 'a' {
		return rootA
	}
	return rootB
}

// look is what the operator sees.
func (m *model) look() Observation {
	seen := Observation{
		Granted: m.granted, Waits: "MeshRollout default-3 is active", Secret: Secret{Known: true, Material: m.secret, Foreign: m.foreign},
		IstiodsKnown: true, Places: Places{Known: true}, Urgent: m.urgent,
	}
	for _, i := range m.istiods {
		seen.Istiods = append(seen.Istiods, Istiod{
			Name: i.name, Known: !i.deaf, Why: "it does not answer at port 15012: look at its pod", Issuer: i.issuer, Roots: i.roots, SelfSigned: i.selfSigned,
		})
	}
	if wanted := Wanted(&m.plan, m.p); !wanted.None && m.p.Phase != "" && !slices.Equal(m.maps, wanted.Roots) {
		seen.Places.Lacking, seen.Places.Example = 3, "ConfigMap shop/istio-ca-root-cert"
	}
	c := NewCounter(&m.plan, m.verbs, m.p, m.now)
	for _, p := range m.proxies {
		seen.LeafSeconds = max(seen.LeafSeconds, int32(p.life.Seconds()))
		if p.elsewhere {
			if m.p.Phase == v1alpha1.PhaseTrust && !p.gone {
				c.Add(Proxy{Name: ElsewhereProxies, Why: "1 proxies are connected to istiod that are no pods of this cluster"})
			}
			continue
		}
		if p.hidden {
			c.Add(Proxy{Name: p.name, Why: "its port can't be reached: let the operator through the NetworkPolicies of its namespace"})
			continue
		}
		accepts := map[Fingerprint]rollout.Answer{rootA: rollout.No, rootB: rollout.No}
		for _, r := range p.trusts {
			accepts[r] = rollout.Yes
		}
		c.Add(Proxy{Name: p.name, Accepts: accepts, Leaf: p.leaf})
	}
	seen.Proxies = c.Tally()
	return seen
}

// wrong is what may never be: a proxy that lacks the root of a peer's leaf, or an agent that does not know istiod.
func (m *model) wrong() string {
	live := func(p *simProxy) bool { return m.now.Sub(p.born) < m.life(p) }
	for _, p := range m.proxies {
		for _, q := range m.proxies {
			// A waiver gives up what a proxy trusts. What it presents is accepted for as long as it lives, but in a revocation.
			if live(q) && !slices.Contains(p.trusts, q.leaf) && !m.waived(p) && (!m.waived(q) || m.plan.Kind != v1alpha1.RotationRevoke) {
				return fmt.Sprintf("%s does not accept the leaf of %s", p.name, q.name)
			}
		}
	}
	for _, i := range m.istiods {
		if !slices.Contains(m.mounted, rootOf(i.issuer)) {
			return "agents don't know " + i.name
		}
	}
	return ""
}

func (m *model) waived(p *simProxy) bool {
	name := p.name
	if p.elsewhere {
		name = ElsewhereProxies
	}
	return slices.ContainsFunc(m.verbs.Waivers, func(w v1alpha1.RotationWaiver) bool { return w.Proxy == name })
}

func (m *model) say(d Decision) {
	line := fmt.Sprintf("%-9s %-13s %-16s %s", d.Progress.Phase, d.Act, d.Reason, d.Note)
	if d.Progress.Back {
		line = strings.Replace(line, string(d.Progress.Phase), string(d.Progress.Phase)+"'", 1)
	}
	if !d.Until.IsZero() {
		line += " (until t+" + d.Until.Sub(m.start).String() + ")"
	}
	if d.Overdue {
		line += " OVERDUE"
	}
	if line != m.last {
		fmt.Fprintf(&m.trace, "t+%-8s %s\n", m.now.Sub(m.start), line)
		m.last = line
	}
}

// play plays until the rotation ends, or so many turns have passed.
func (m *model) play(t *testing.T, turns int) {
	t.Helper()
	for range turns {
		d := m.turn()
		if wrong := m.wrong(); wrong != "" {
			t.Fatalf("%s\n%s", wrong, m.trace.String())
		}
		if d.Act == ActDone {
			return
		}
	}
}

// until plays until a phase is reached.
func (m *model) until(t *testing.T, phase v1alpha1.RotationPhase) {
	t.Helper()
	for range 2000 {
		if m.p.Phase == phase {
			return
		}
		m.play(t, 1)
	}
	t.Fatalf("phase %s is not reached\n%s", phase, m.trace.String())
}

func (m *model) waive(proxy string, until time.Duration) {
	m.verbs.Waivers = append(m.verbs.Waivers, v1alpha1.RotationWaiver{Proxy: proxy, By: "oncall", Expires: metav1.Time{Time: m.now.Add(until)}})
}
