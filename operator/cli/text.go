// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// says writes a status as a tree.
func (m *MeshStatus) says(p *page, now time.Time, wide bool) {
	ready := cell{"not Ready", bad}
	reason := ""
	for _, c := range m.Conditions {
		switch {
		case c.Type == v1alpha1.ConditionReady && c.Status == metav1.ConditionTrue:
			ready = cell{"Ready", good}
		case c.Type == v1alpha1.ConditionUpToDate:
			reason = c.Reason
		}
	}
	version := "Istio " + cmp.Or(m.ResolvedVersion, "?")
	if m.Version != m.ResolvedVersion {
		version += " (spec.version " + m.Version + ")"
	}
	if m.PendingVersion != "" {
		version += ", then " + m.PendingVersion
	}
	p.line(cell{m.Name, bold}, say("  "+version+"  "), ready, cell{"  " + reason, styleOf(reason)})
	root := &branch{}
	m.conditionsBranch(root.add(cell{"conditions", bold}), now)
	revisionsBranch(root.add(cell{"revisions", bold}), m.Revisions)
	if len(m.Gateways) > 0 {
		gatewaysBranch(root.add(cell{"gateways", bold}), m.Gateways, wide)
	}
	m.dataPlaneBranch(root.add(cell{"proxies", bold}))
	if m.Rollout != nil {
		r := m.Rollout
		b := root.add(cell{"rollout " + r.Name, bold}, say(r.move()), cell{r.State, styleOf(r.State)}, say(r.Message))
		r.branches(b, now)
	}
	m.Certificates.branches(root.add(cell{"certificates", bold}, say("from "+m.Certificates.Source), say(m.Certificates.signing())), now)
	targets := strings.Join(m.UpgradeTargets, ", ")
	root.add(cell{"upgrade targets", bold}, say(cmp.Or(targets, "none")))
	p.tree(root.below, "")
	saysAwaiting(p, m.Awaiting)
	saysUnreadable(p, m.Unreadable)
}

func saysAwaiting(p *page, all []AwaitedView) {
	if len(all) == 0 {
		return
	}
	p.line()
	p.line(cell{"Waiting for a person:", bold})
	for _, a := range all {
		p.row("  ", "  ", nil, []cell{{a.What, warn}})
		if a.Command != "" {
			p.line(say("    "), cell{a.Command, bold})
		}
	}
}

func saysUnreadable(p *page, all []string) {
	for _, what := range all {
		p.row("", "", nil, []cell{{"not shown: " + what, dim}})
	}
}

func (m *MeshStatus) conditionsBranch(b *branch, now time.Time) {
	for _, c := range m.Conditions {
		b.add(say(c.Type), cell{string(c.Status), conditionStyle(c)}, say(c.Reason), say(ago(c.Since, now)), say(c.Message))
	}
}

// conditionStyle colours a status by whether it is what one wants to see.
func conditionStyle(c ConditionView) style {
	wanted := metav1.ConditionTrue
	if c.Type == v1alpha1.ConditionStalled || c.Type == v1alpha1.ConditionReconciling || c.Type == v1alpha1.ConditionUpgradeAvailable {
		wanted = metav1.ConditionFalse
	}
	switch {
	case c.Status == wanted:
		return good
	case c.Type == v1alpha1.ConditionUpgradeAvailable:
		return plain
	case c.Type == v1alpha1.ConditionUpToDate || c.Type == v1alpha1.ConditionReconciling || c.Status == metav1.ConditionUnknown:
		return warn
	}
	return bad
}

func revisionsBranch(b *branch, all []RevisionView) {
	if len(all) == 0 {
		b.cells = append(b.cells, say("none"))
	}
	for _, r := range all {
		ready, message := cell{"ready", good}, ""
		if r.Ready != metav1.ConditionTrue {
			ready, message = cell{"not ready", bad}, r.Message
		}
		tags := ""
		if len(r.Tags) > 0 {
			tags = "tags " + strings.Join(r.Tags, ", ")
		}
		cells := []cell{say(r.Name), say(r.Version), say(strings.ToLower(string(r.Role))), ready, say(count(r.Proxies, "proxy", "proxies")), say(tags)}
		if message != "" {
			cells = append(cells, say(message))
		}
		b.add(cells...)
	}
}

func gatewaysBranch(b *branch, all []GatewayView, wide bool) {
	for _, g := range all {
		ready := cell{"ready", good}
		if g.Ready != metav1.ConditionTrue {
			ready = cell{"not ready", bad}
		}
		cells := []cell{say(g.Namespace + "/" + g.Name), ready, say(g.Replicas), {g.State, styleOf(g.State)}}
		if wide {
			cells = append(cells, say(strings.Join(g.Addresses, ", ")))
		}
		message := ""
		if g.Ready != metav1.ConditionTrue || g.State != "" {
			message = g.Message
		}
		of := b.add(append(cells, say(message))...)
		for _, v := range g.Versions {
			measured := "not measured"
			if v.Measured != "" {
				measured = "measured " + v.Measured
			}
			if len(g.Versions) == 1 {
				measured = ""
			}
			of.add(say(v.Revision), say(v.Version), say(fmt.Sprintf("%d%%", v.Weight)), say(measured), say(fmt.Sprintf("%d/%d pods", v.ReadyReplicas, v.Replicas)))
		}
	}
}

func (m *MeshStatus) dataPlaneBranch(b *branch) {
	d := m.DataPlane
	b.cells = append(b.cells, say(cmp.Or(d.Summary, "0/0")+" of the stable revision"), say(count(d.Namespaces, "namespace", "namespaces")))
	if d.Outdated > 0 {
		b.add(cell{count(d.Outdated, "pod", "pods") + " outdated", warn}, say(fmt.Sprintf("%d of them stale", d.Stale)), say("kubectl mesh proxies "+m.Name+" --outdated"))
	}
	for _, blocked := range d.Blocked {
		b.add(say("namespace "+blocked.Namespace), cell{blocked.Reason, warn}, say(blocked.Message))
	}
}

func (r *RolloutView) move() string {
	if r.From == r.To && r.FromVersion == r.ToVersion {
		return "refresh of " + r.To
	}
	return r.FromVersion + " -> " + r.ToVersion
}

func (r *RolloutView) branches(b *branch, now time.Time) {
	if r.Failure != "" {
		b.add(cell{"failed", bad}, say(r.Failure))
	}
	if r.Until != nil {
		b.add(say("until"), say(moment(*r.Until, now)))
	}
	steps := b.add(say("steps"))
	for i, s := range r.Steps {
		s.row(steps, i, now)
	}
	if len(r.Gates) > 0 {
		gates := b.add(say("gates"))
		for _, g := range r.Gates {
			gates.add(say(g.Name), cell{g.State, styleOf(g.State)}, say(g.Message))
		}
	}
	if len(r.Waves) > 0 {
		waves := b.add(say("waves"))
		there := "moved"
		if r.Back { // what had never left counts, too
			there = "at " + r.From
		}
		for _, w := range r.Waves {
			text := fmt.Sprintf("%d of %d %s", w.Moved, w.Total, there)
			if w.Moving > 0 {
				text += fmt.Sprintf(", %d moving", w.Moving)
			}
			if w.Unmovable > 0 {
				text += fmt.Sprintf(", %d unmovable", w.Unmovable)
			}
			waves.add(say(w.Name), say(text))
		}
	}
	if r.UnmovableCount > 0 || len(r.Unmovable) > 0 {
		unmovable := b.add(cell{"unmovable", warn}, say(strconv.Itoa(max(int(r.UnmovableCount), len(r.Unmovable)))))
		for _, u := range r.Unmovable {
			unmovable.add(say(u.Workload), say(u.Reason), say(u.Message))
		}
	}
}

// row adds a step: number, name, state, when, and what was done.
func (s StepView) row(b *branch, i int, now time.Time) {
	when := cmp.Or(s.Ended, s.Started)
	text := s.Message
	if s.ApprovedBy != "" {
		by := "approved by " + s.ApprovedBy
		text = strings.TrimSuffix(by+"; "+text, "; ")
	}
	at := ""
	if when != nil {
		at = clockOf(*when, now)
	}
	b.add(say(strconv.Itoa(i+1)), say(s.Name), cell{strings.ToLower(s.State), styleOf(s.State)}, say(at), say(text))
}

func (c *CertificatesView) signing() string {
	switch v1alpha1.Signing(c.Signing) {
	case v1alpha1.SigningSelfSigned:
		return "istiod signs with a root that it made for itself"
	case v1alpha1.SigningPluggedIn:
		return "istiod signs with the Secret cacerts"
	case v1alpha1.SigningUnknown:
	}
	return "what istiod signs with is not known"
}

func (c *CertificatesView) branches(b *branch, now time.Time) {
	for _, r := range c.Roots {
		r.row(b, "root", now)
	}
	for _, i := range c.Intermediates {
		i.row(b, "intermediate", now)
	}
	if c.Next != nil {
		b.add(say("due"), say(moment(*c.Next, now)))
	}
	if c.Rotation == nil {
		return
	}
	r := c.Rotation
	of := b.add(cell{"rotation " + r.Name, bold}, say(cmp.Or(r.Kind, r.Change)), cell{r.State, styleOf(r.State)}, say(r.Message))
	for i, phase := range r.Phases {
		if phase.State == string(v1alpha1.StepRunning) && r.Proven != "" {
			phase.Message = r.Proven + " proxies proven"
		}
		phase.row(of, i, now)
	}
	if len(r.Holdouts) > 0 {
		holdouts := of.add(cell{"holdouts", warn})
		for _, h := range r.Holdouts {
			holdouts.add(say(h.Proxy), say(h.Why))
		}
	}
}

// fingerprintShown is how much of a fingerprint people are shown.
const fingerprintShown = 8

func short(fingerprint string) string { return fingerprint[:min(fingerprintShown, len(fingerprint))] }

func (c CertificateView) row(b *branch, what string, now time.Time) {
	expires := cell{"expires " + moment(c.NotAfter, now), plain}
	if c.Expired {
		expires = cell{"expired " + moment(c.NotAfter, now), bad}
	}
	b.add(say(what), say(short(c.Fingerprint)), say(c.Subject), expires)
}

// styleOf colours a reason or a state.
func styleOf(state string) style {
	switch {
	case slices.Contains([]string{v1alpha1.ReasonReady, v1alpha1.ReasonUpToDate, v1alpha1.ReasonCompleted, "Done", "Reached", "Passed", "Current"}, state):
		return good
	case strings.Contains(state, "Failed"), slices.Contains([]string{v1alpha1.ReasonDeadlineExceeded, v1alpha1.ReasonForeignChange, v1alpha1.ReasonInvalidCA}, state):
		return bad
	case slices.Contains([]string{"", "Waiting"}, state):
		return plain
	}
	return warn
}

func count(n int32, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// ago is how long something has been so.
func ago(since *metav1.Time, now time.Time) string {
	if since == nil {
		return ""
	}
	return duration.HumanDuration(now.Sub(since.Time))
}

// moment is a time, and how far it is away.
func moment(t metav1.Time, now time.Time) string {
	away := t.Sub(now)
	if away < 0 {
		return fmt.Sprintf("%s (%s ago)", t.UTC().Format(time.RFC3339), duration.HumanDuration(-away))
	}
	return fmt.Sprintf("%s (in %s)", t.UTC().Format(time.RFC3339), duration.HumanDuration(away))
}

// clockOf is a time of today, or a date; in the time zone of whoever looks.
func clockOf(t metav1.Time, now time.Time) string {
	if now.Sub(t.Time) < 24*time.Hour {
		return t.In(now.Location()).Format(time.TimeOnly)
	}
	return t.In(now.Location()).Format(time.DateTime)
}
