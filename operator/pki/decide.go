// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

// Observation is what the cluster looks like.
type Observation struct {
	// Granted says that the rotation may act; Waits names what it waits for where it may not.
	Granted bool
	Waits   string
	// Paused is spec.paused of the installation.
	Paused bool
	// Secret is what cacerts holds.
	Secret Secret
	// Istiods are all replicas of all revisions; they are not known before IstiodsKnown.
	IstiodsKnown bool
	Istiods      []Istiod
	// Places are where roots are read from besides istiod: ConfigMaps of namespaces and bundles of webhooks.
	Places Places
	// Proxies are counted for the phase.
	Proxies Tally
	// LeafSeconds is the longest life of a leaf that some proxy asks for.
	LeafSeconds int32
	// Urgent says that what signs expires before a window may come.
	Urgent bool
}

// Secret is what cacerts holds.
type Secret struct {
	// Known says that it was read, or that it is not there.
	Known bool
	Material
	// Foreign says who changed it, where it was not us.
	Foreign string
}

// Istiod is a replica.
type Istiod struct {
	// Name of the pod.
	Name string
	// Known says that it answered; Why it did not, with a remedy.
	Known bool
	Why   string
	// Issuer of the leaves that it issues, and the roots that it makes proxies trust.
	Issuer Fingerprint
	Roots  []Fingerprint
	// SelfSigned says that it started without cacerts, and does not see when that comes.
	SelfSigned bool
}

// Places are counted by whether they hold the roots that the phase wants.
type Places struct {
	// Known says that all were read. Of them all, Lacking have not what is wanted, of which Example is one.
	Known   bool
	Lacking int32
	Example string
}

// Act is what a rotation does: one of a closed set.
type Act string

// The values of Act.
const (
	// ActWrite: cacerts gets what the phase wants.
	ActWrite Act = "Write"
	// ActRestart: the istiods that are named start anew, for they don't see cacerts.
	ActRestart Act = "Restart"
	// ActWait: nothing is done until something changes, or until a time.
	ActWait Act = "Wait"
	// ActAwaitApproval: nothing is done until a person approves the phase.
	ActAwaitApproval Act = "AwaitApproval"
	// ActHalt: nothing is done until a person has mended something.
	ActHalt Act = "Halt"
	// ActDone: the rotation has ended.
	ActDone Act = "Done"
)

// Decision is what is to be done now.
type Decision struct {
	Act Act
	// Reason of the closed list, and a sentence for people.
	Reason, Note string
	// Material that cacerts is to hold; for ActWrite.
	Material Material
	// Restart names pods of istiod; for ActRestart.
	Restart []string
	// Until is when a wait ends by itself; zero where that is not known.
	Until time.Time
	// Overdue says that nothing has moved for longer than the plan allows.
	Overdue bool
	// Progress to keep, before anything is done.
	Progress v1alpha1.RotationProgress
}

// Decide decides what a rotation does now.
func Decide(plan *v1alpha1.RotationPlan, verbs v1alpha1.RotationVerbs, p v1alpha1.RotationProgress, seen Observation, now time.Time) Decision {
	w := &walker{plan: plan, verbs: verbs, p: p, seen: seen, now: now}
	d := w.decide()
	d.Progress = w.p
	if w.p.Entered != nil && !slices.Contains(lawful, d.Reason) && d.Act != ActDone && d.Until.IsZero() {
		d.Overdue = now.Sub(w.p.Entered.Time) > time.Duration(plan.ProgressDeadlineSeconds)*time.Second
	}
	return d
}

// lawful are the reasons for which a rotation stands still as it should: people, times or other operations are waited for.
var lawful = []string{v1alpha1.ReasonPaused, v1alpha1.ReasonNotGranted, v1alpha1.ReasonOutsideWindow, v1alpha1.ReasonAwaitingApproval, v1alpha1.ReasonSettling, v1alpha1.ReasonAborted}

type walker struct {
	plan  *v1alpha1.RotationPlan
	verbs v1alpha1.RotationVerbs
	p     v1alpha1.RotationProgress
	seen  Observation
	now   time.Time
}

func halt(reason, note string) Decision { return Decision{Act: ActHalt, Reason: reason, Note: note} }

func wait(reason, note string) Decision { return Decision{Act: ActWait, Reason: reason, Note: note} }

func (w *walker) decide() Decision {
	if w.p.Outcome != "" {
		return w.ended()
	}
	if w.p.Phase == "" && w.verbs.Goal != v1alpha1.GoalComplete { // whatever it waits for
		w.p.Outcome, w.p.Entered = v1alpha1.OutcomeAborted, w.stamp()
		return w.ended()
	}
	if d, still := w.still(); still {
		return d
	}
	w.p.LeafSeconds = max(w.p.LeafSeconds, w.seen.LeafSeconds)
	w.p.Elsewhere = w.p.Elsewhere || w.seen.Proxies.Elsewhere || w.knownElsewhere()
	switch {
	case w.steer():
		return wait(v1alpha1.ReasonBegins, "everything goes back: what was observed was counted for the other direction")
	case w.p.Phase == "":
		if d, not := w.sound(); not {
			return d
		}
		return w.enter(phases(w.plan, false)[0])
	}
	wanted := Wanted(w.plan, w.p)
	if !w.seen.Secret.Equal(wanted) {
		return w.write(wanted)
	}
	if d, unproven := w.prove(wanted); unproven {
		return d
	}
	if next := after(w.plan, w.p.Back, w.p.Phase); next != "" {
		return w.enter(next)
	}
	w.p.Outcome = v1alpha1.OutcomeCompleted
	if w.p.Back {
		w.p.Outcome = v1alpha1.OutcomeRolledBack
	}
	return w.ended()
}

// still is what keeps a rotation from doing anything.
func (w *walker) still() (Decision, bool) {
	switch {
	case !w.seen.Secret.Known:
		return wait(v1alpha1.ReasonUnknown, "the Secret cacerts has not been read yet"), true
	case w.seen.Secret.Foreign != "" && w.verbs.Goal == v1alpha1.GoalAbort:
		w.p.Outcome = v1alpha1.OutcomeAborted
		d := w.ended()
		d.Note = "the Secret cacerts is as " + w.seen.Secret.Foreign + " left it, and nothing was overwritten: leave one root in it, that which signs, and create another MeshRotation, which begins from there"
		return d, true
	case w.seen.Secret.Foreign != "":
		return halt(v1alpha1.ReasonForeignChange, "the Secret cacerts was changed by "+w.seen.Secret.Foreign+", and nothing is overwritten: put back what it held, "+
			"to the byte, or set spec.goal to Abort, which ends this rotation and leaves cacerts as it is"), true
	case w.seen.Paused:
		return wait(v1alpha1.ReasonPaused, "the MeshInstallation is paused"), true
	case w.verbs.Paused:
		return wait(v1alpha1.ReasonPaused, "the rotation is paused: set spec.paused to false"), true
	case !w.seen.Granted:
		return wait(v1alpha1.ReasonNotGranted, w.seen.Waits), true
	}
	return Decision{}, false
}

// sound wants every istiod to sign with what the rotation comes from, before anything of it begins: where one has not read cacerts, no proxy trusts what
// that holds, and whatever is written on top of it breaks them.
func (w *walker) sound() (Decision, bool) {
	if w.plan.From == w.plan.To { // the first CA of a mesh: there is no istiod yet
		return Decision{}, false
	}
	if !w.seen.IstiodsKnown || len(w.seen.Istiods) == 0 {
		return wait(v1alpha1.ReasonUnknown, "the replicas of istiod are not known yet"), true
	}
	for _, i := range w.seen.Istiods {
		switch {
		case !i.Known:
			return wait(v1alpha1.ReasonUnknown, "istiod "+i.Name+" has not shown what it signs with: "+i.Why), true
		case i.Issuer == Fingerprint(w.plan.From.Issuer) && !slices.Equal(i.Roots, []Fingerprint{Fingerprint(w.plan.From.Root)}):
			return wait(v1alpha1.ReasonReloading, "istiod "+i.Name+" makes proxies trust other roots than cacerts holds: it has not read that anew yet"), true
		case i.Issuer != Fingerprint(w.plan.From.Issuer):
			return halt(v1alpha1.ReasonForeignChange, fmt.Sprintf("istiod %s signs with %s, and the rotation would begin from %s: it has not taken what cacerts holds. "+
				"Put back what it signs with, or take cacerts away; then set spec.goal to Abort, and create another MeshRotation", i.Name, short(i.Issuer), short(Fingerprint(w.plan.From.Issuer)))), true
		}
	}
	return Decision{}, false
}

// steer does what people ask for, where that is possible still, and says whether the rotation turns back for it.
func (w *walker) steer() (turned bool) {
	if w.verbs.Goal == v1alpha1.GoalComplete || !CanTurn(w.plan, w.p) {
		return false
	}
	signs := w.p.Phase == v1alpha1.PhaseSign || w.p.Phase == v1alpha1.PhaseDrain
	if w.verbs.Goal == v1alpha1.GoalAbort && signs {
		return false // both are trusted, and it goes no further than that
	}
	w.p.Back = true
	first := v1alpha1.PhaseSign
	switch w.p.Phase {
	case v1alpha1.PhasePlugIn:
		first = v1alpha1.PhaseHandOver
	case v1alpha1.PhaseTrust: // nothing was ever signed with the new one, and an istiod may not have taken its root
		first = v1alpha1.PhaseDrop
	default:
	}
	w.begin(first)
	return true
}

// enter begins a phase, unless something holds it. Nothing is done in it yet: what was observed was counted for the one before.
func (w *walker) enter(phase v1alpha1.RotationPhase) Decision {
	if !w.p.Back && w.verbs.Goal != v1alpha1.GoalComplete && (phase == v1alpha1.PhaseDrop || phase == v1alpha1.PhaseHandOver && CanTurn(w.plan, w.p)) {
		return wait(v1alpha1.ReasonAborted, "spec.goal is Abort, and the new CA signs already: phase "+string(phase)+" does not begin; set spec.goal to RollBack, which goes back")
	}
	if !w.p.Back && w.plan.Kind != v1alpha1.RotationRevoke {
		if slices.Contains(w.plan.Approve, phase) && !w.approved(phase) {
			return Decision{
				Act: ActAwaitApproval, Reason: v1alpha1.ReasonAwaitingApproval,
				Note: fmt.Sprintf("phase %s waits for an approval: add {step: %s, by: <you>} to spec.approvals", phase, phase),
			}
		}
		if open, until := rollout.Open(w.plan.Windows, w.now); !open && !w.seen.Urgent {
			d := wait(v1alpha1.ReasonOutsideWindow, fmt.Sprintf("phase %s begins in the next window", phase))
			d.Until = until
			return d
		}
	}
	w.begin(phase)
	return wait(v1alpha1.ReasonBegins, fmt.Sprintf("phase %s begins", phase))
}

func (w *walker) approved(phase v1alpha1.RotationPhase) bool {
	return slices.ContainsFunc(w.verbs.Approvals, func(a v1alpha1.Approval) bool { return a.Step == string(phase) })
}

// begin begins a phase. What a phase before it has proven everywhere is proven again, except for the leaves of the old root: they are
// counted from when nobody signed with it any more.
func (w *walker) begin(phase v1alpha1.RotationPhase) {
	if phase == v1alpha1.PhaseSign {
		w.p.Signs++
	}
	if phase != v1alpha1.PhaseDrain {
		w.p.Everywhere = nil
	}
	w.p.Nudged = nil
	w.p.Phase, w.p.Entered = phase, w.stamp()
}

func (w *walker) stamp() *metav1.Time { return &metav1.Time{Time: w.now.Truncate(time.Second)} }

// write makes the Secret what the phase wants.
func (w *walker) write(wanted Material) Decision {
	note := "cacerts is taken away: istiod's own root is the same by now"
	if !wanted.None {
		roots := make([]string, len(wanted.Roots))
		for i, r := range wanted.Roots {
			roots[i] = short(r)
		}
		note = "cacerts gets issuer " + short(wanted.Issuer) + ", roots " + strings.Join(roots, " and ")
	}
	return Decision{Act: ActWrite, Reason: v1alpha1.ReasonWriting, Note: note, Material: wanted}
}

// short is the beginning of a fingerprint.
func short(f Fingerprint) string {
	const digits = 8
	return string(f[:min(len(f), digits)])
}

// prove wants to see that what the phase is for is so everywhere.
func (w *walker) prove(wanted Material) (Decision, bool) {
	if d, not := w.istiods(wanted); not {
		return d, true
	}
	if d, not := w.places(); not {
		return d, true
	}
	if w.p.Everywhere == nil {
		w.p.Everywhere = w.stamp()
	}
	switch w.p.Phase {
	case v1alpha1.PhaseTrust, v1alpha1.PhaseDrop, v1alpha1.PhaseDrain:
		if w.plan.From.Root == w.plan.To.Root {
			break // there is no other one to accept, or to forget
		}
		if d, not := w.proxies(); not {
			return d, true
		}
	case v1alpha1.PhasePlugIn, v1alpha1.PhaseSign, v1alpha1.PhaseHandOver:
	}
	if until := w.p.Everywhere.Add(time.Duration(w.plan.SettleSeconds) * time.Second); w.p.Phase == v1alpha1.PhaseTrust && w.now.Before(until) {
		d := wait(v1alpha1.ReasonSettling, "agents read from a ConfigMap by which root they know istiod, and kubelets take their time to bring it")
		d.Until = until
		return d, true
	}
	return Decision{}, false
}

// istiods wants every replica to have what the phase wants.
func (w *walker) istiods(wanted Material) (Decision, bool) {
	if !w.seen.IstiodsKnown || len(w.seen.Istiods) == 0 && w.plan.From != w.plan.To { // a CA that is made first has no istiod yet
		return wait(v1alpha1.ReasonUnknown, "the replicas of istiod are not known yet"), true
	}
	var blind []string
	for _, i := range w.seen.Istiods {
		// In other phases every one has read cacerts before.
		if i.SelfSigned != wanted.None && (w.p.Phase == v1alpha1.PhasePlugIn || w.p.Phase == v1alpha1.PhaseHandOver) {
			blind = append(blind, i.Name)
		}
	}
	if len(blind) > 0 {
		return Decision{
			Act: ActRestart, Reason: v1alpha1.ReasonRestarting, Restart: blind,
			Note: fmt.Sprintf("%d of %d replicas of istiod start anew, for only then do they read what has become of cacerts", len(blind), len(w.seen.Istiods)),
		}, true
	}
	var behind []string
	unknown := ""
	for _, i := range w.seen.Istiods {
		switch {
		case !i.Known && unknown == "":
			unknown = "istiod " + i.Name + " has not shown what it signs with: " + i.Why
		case i.Known && (i.Issuer != wanted.Issuer || !slices.Equal(i.Roots, wanted.Roots)):
			behind = append(behind, i.Name)
		}
	}
	switch {
	case len(behind) > 0:
		w.p.Everywhere, w.p.Nudged = nil, nil // one that signs otherwise makes leaves of the other root
		return wait(v1alpha1.ReasonReloading, fmt.Sprintf("%d of %d replicas of istiod have not read cacerts anew yet, %s first", len(behind), len(w.seen.Istiods), behind[0])), true
	case unknown != "":
		return wait(v1alpha1.ReasonUnknown, unknown), true
	}
	return Decision{}, false
}

// places wants the roots to be where they are read from.
func (w *walker) places() (Decision, bool) {
	switch {
	case !w.seen.Places.Known:
		return wait(v1alpha1.ReasonUnknown, "the ConfigMaps istio-ca-root-cert and the webhooks of istiod are not known yet"), true
	case w.seen.Places.Lacking > 0:
		return wait(v1alpha1.ReasonPropagating, fmt.Sprintf("%d places do not hold the roots yet, %s first", w.seen.Places.Lacking, w.seen.Places.Example)), true
	}
	return Decision{}, false
}

// proxies wants every proxy to have proven what the phase is for.
func (w *walker) proxies() (Decision, bool) {
	t := w.seen.Proxies
	until, runs := expiry(w.plan, w.p)
	runs = runs && w.now.Before(until)
	switch {
	case !t.Known:
		return wait(v1alpha1.ReasonUnknown, "the proxies are not known yet"), true
	case t.Holding > 0 && w.nudge():
		return wait(v1alpha1.ReasonBegins, fmt.Sprintf("%d proxies have not proven the phase: the agents of all are made to fetch their leaf anew", t.Holding)), true
	case t.Holding > 0:
		d := wait(v1alpha1.ReasonProvingProxies, w.count(t)+fmt.Sprintf("; %s: %s", t.Holdouts[0].Proxy, t.Holdouts[0].Why))
		if runs && t.Unknown == t.Holding {
			d.Until = until // when they are let go
		}
		return d, true
	}
	if runs && w.p.Elsewhere && !w.withoutElsewhere() {
		d := wait(v1alpha1.ReasonProvingProxies, w.count(t)+"; proxies that are no pods of this cluster may present a leaf of the old root until all have expired")
		if spared(w.plan, w.p) {
			d.Note += "; waive " + ElsewhereProxies + ", and it is not waited for"
		}
		d.Until = until
		return d, true
	}
	return Decision{}, false
}

// ElsewhereProxies stands for proxies of which nothing is known but that they are connected.
const ElsewhereProxies = "elsewhere/proxies"

// withoutElsewhere says whether proxies that are no pods of this cluster are done without.
func (w *walker) withoutElsewhere() bool {
	return spared(w.plan, w.p) && Waived(w.verbs, w.now)[ElsewhereProxies]
}

// knownElsewhere says whether somebody ever waived proxies that are no pods of this cluster, and so knew that there are some.
func (w *walker) knownElsewhere() bool {
	return slices.ContainsFunc(w.verbs.Waivers, func(v v1alpha1.RotationWaiver) bool { return v.Proxy == ElsewhereProxies })
}

// nudgeAfter is how long the agents have that were told when their own istiod had read cacerts.
const nudgeAfter = 15 * time.Second

// nudge makes the bytes of the roots others, once in a phase, so that all agents fetch their leaf anew. What a proxy without a port that speaks mTLS
// has to show is a leaf that was issued when every istiod had what the phase wants; most fetched theirs before.
func (w *walker) nudge() bool {
	if w.p.Nudged != nil || w.p.Everywhere == nil || w.now.Before(w.p.Everywhere.Add(nudgeAfter)) {
		return false
	}
	w.p.Nudged = w.stamp()
	if w.p.Phase != v1alpha1.PhaseDrop { // there the roots are others themselves
		w.p.Signs++
	}
	return true
}

// ClocksApart is how far the clocks of istiods and the operator may be apart: by them it is told whether a leaf was issued late enough.
const ClocksApart = nudgeAfter / 3

// FreshFrom is the time from which on a leaf that was issued is one of what the present phase wants. It is zero
// where that is not known.
func FreshFrom(p v1alpha1.RotationProgress) time.Time {
	if p.Everywhere == nil {
		return time.Time{}
	}
	return p.Everywhere.Add(ClocksApart + time.Second) // which is less than agents are given; it was cut to the second
}

// count is how far the proxies are, in words.
func (w *walker) count(t Tally) string {
	switch w.p.Phase {
	case v1alpha1.PhaseTrust:
		return fmt.Sprintf("%d of %d proxies accept the root that is gone to", t.Trusting, t.Total)
	case v1alpha1.PhaseDrain:
		return fmt.Sprintf("%d of %d proxies present a leaf of the root that is gone to", t.Arrived, t.Total)
	default:
		return fmt.Sprintf("%d of %d proxies accept the root that is left", t.Lingering, t.Total)
	}
}

// expiry is when the last leaf of the root that is left expires, once nobody signs with it any more.
func expiry(plan *v1alpha1.RotationPlan, p v1alpha1.RotationProgress) (time.Time, bool) {
	if p.Everywhere == nil || p.Phase != v1alpha1.PhaseDrain {
		return time.Time{}, false
	}
	leaf := max(plan.LeafSeconds, p.LeafSeconds)
	if p.Elsewhere { // what they ask for, nobody sees
		leaf = max(leaf, IstioLeafSeconds)
	}
	return p.Everywhere.Add(time.Duration(leaf)*time.Second + clockSkew), true
}

// clockSkew is how far clocks may be apart.
const clockSkew = 5 * time.Minute

func (w *walker) ended() Decision {
	d := Decision{Act: ActDone, Reason: v1alpha1.ReasonCompleted, Note: "nothing has changed"}
	switch w.p.Outcome {
	case v1alpha1.OutcomeCompleted:
		d.Note = "leaves are issued with " + short(Fingerprint(w.plan.To.Issuer)) + ", under the root " + short(Fingerprint(w.plan.To.Root))
	case v1alpha1.OutcomeRolledBack:
		d.Reason, d.Note = v1alpha1.ReasonRolledBack, "everything is as it was: leaves are issued with "+short(Fingerprint(w.plan.From.Issuer))
	case v1alpha1.OutcomeAborted:
		d.Reason = v1alpha1.ReasonAborted
	}
	return d
}
