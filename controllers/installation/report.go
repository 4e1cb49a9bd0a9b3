// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/meshwright/meshwright/controllers"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/metrics"
	"github.com/meshwright/meshwright/operator/validate"
)

// countTimes remembers when the counts of each mesh were last written.
type countTimes struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// due says whether counts may be written at a time, and if not, when.
func (c *countTimes) due(mesh string, now time.Time) (bool, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last = map[string]time.Time{}
	}
	if wait := c.last[mesh].Add(controllers.CountEvery).Sub(now); wait > 0 {
		return false, wait
	}
	c.last[mesh] = now
	return true, 0
}

func (c *countTimes) forget(mesh string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, mesh)
}

// report writes all that is known into the status, and says after which time counts that may not be written yet are due.
func (r *Reconciler) report(ctx context.Context, s *scope, out outcome) time.Duration {
	status, generation := &s.mesh.Status, s.mesh.Generation
	status.ObservedGeneration = generation
	if s.revision != nil {
		status.StableRevision, status.ResolvedVersion = s.revision.Name, s.revision.Spec.Version
	}
	controlPlane := r.controlPlane(s, out)
	conditions.Set(&status.Conditions, generation, v1alpha1.ConditionControlPlaneReady, controlPlane.Ready, controlPlane.Reason, controlPlane.Message)
	gateways := gatewaysOf(s)
	conditions.Set(&status.Conditions, generation, v1alpha1.ConditionGatewaysReady, gateways.Ready, gateways.Reason, gateways.Message)
	certificates := r.authority(s)
	conditions.Set(&status.Conditions, generation, v1alpha1.ConditionCertificatesReady, certificates.Ready, certificates.Reason, certificates.Message)
	conditions.Summarise(&status.Conditions, generation, readyVerdict(s, out, controlPlane, gateways))
	wait := r.counts(ctx, s)
	upToDate(s, out)
	r.upgrades(s)
	status.Step = ""
	if s.active != nil {
		status.Step = s.active.Status.Summary
	} else if s.rotating != nil {
		status.Step = s.rotating.Status.Summary
	}
	wait = controllers.Shorter(controllers.Shorter(wait, r.untilUrgent(s)), out.again)
	metrics.Mesh(s.mesh.Name, status.ResolvedVersion, status.StableRevision, map[string]bool{
		v1alpha1.ConditionReady:    apimeta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionReady),
		v1alpha1.ConditionUpToDate: apimeta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionUpToDate),

		v1alpha1.ConditionCertificatesReady: apimeta.IsStatusConditionTrue(status.Conditions, v1alpha1.ConditionCertificatesReady),
	})
	return wait
}

// controlPlane is the verdict over istiod and what exists once.
func (r *Reconciler) controlPlane(s *scope, out outcome) conditions.Verdict {
	switch {
	case s.revision == nil && out.problem != nil:
		return conditions.Verdict{Ready: metav1.ConditionFalse, Reason: out.problem.Reason, Message: out.problem.Message}
	case s.serving() && out.singletons.Ready == metav1.ConditionFalse:
		return out.singletons
	case s.serving():
		return conditions.Verdict{Ready: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady, Message: "istiod of revision " + s.revision.Name + " serves"}
	case s.revision == nil:
		return conditions.Verdict{Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonProgressing, Message: "the control plane is being created", Reconciling: true}
	}
	ready := apimeta.FindStatusCondition(s.revision.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil || ready.ObservedGeneration != s.revision.Generation {
		return conditions.Verdict{Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonProgressing, Message: "the control plane is being applied", Reconciling: true}
	}
	stalled := apimeta.IsStatusConditionTrue(s.revision.Status.Conditions, v1alpha1.ConditionStalled)
	return conditions.Verdict{Ready: metav1.ConditionFalse, Reason: ready.Reason, Message: ready.Message, Stalled: stalled, Reconciling: !stalled}
}

// gatewaysOf is the verdict over the gateways of spec.gateways, and writes their summaries.
func gatewaysOf(s *scope) conditions.Verdict {
	ready := 0
	var problems []string
	reason := v1alpha1.ReasonProgressing // as long as all that is needed is time
	summaries := []v1alpha1.GatewaySummary{}
	for _, entry := range s.mesh.Spec.Gateways {
		summary := v1alpha1.GatewaySummary{Name: entry.Name, Namespace: entry.Namespace, Ready: metav1.ConditionFalse}
		problem := "not created yet"
		for i := range s.gateways {
			g := &s.gateways[i]
			if g.Name != entry.Name || g.Namespace != entry.Namespace {
				continue
			}
			summary.Addresses = g.Status.Addresses
			if c := apimeta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionReady); c != nil {
				problem = c.Message
				if c.Status != metav1.ConditionTrue && c.Reason != v1alpha1.ReasonProgressing {
					reason = v1alpha1.ReasonGatewaysNotReady
				}
			}
			if conditions.Current(g.Status.Conditions, g.Generation, v1alpha1.ConditionReady) && validate.Same(g, entry) {
				summary.Ready = metav1.ConditionTrue
			}
		}
		if summary.Ready == metav1.ConditionTrue {
			ready++
		} else {
			problems = append(problems, fmt.Sprintf("%s/%s: %s", entry.Namespace, entry.Name, problem))
		}
		summaries = append(summaries, summary)
	}
	s.mesh.Status.Gateways = summaries
	s.mesh.Status.GatewaySummary = fmt.Sprintf("%d/%d", ready, len(summaries))
	switch {
	case len(summaries) == 0:
		return conditions.Verdict{Ready: metav1.ConditionTrue, Reason: v1alpha1.ReasonNoGateways, Message: "spec.gateways lists none"}
	case len(problems) > 0:
		message := strings.Join(problems, "; ")
		return conditions.Verdict{Ready: metav1.ConditionFalse, Reason: reason, Message: message, Reconciling: true}
	}
	return conditions.Verdict{Ready: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady, Message: "all gateways of spec.gateways are ready"}
}

// readyVerdict is True only when the newest spec was accepted and all of the mesh serves.
func readyVerdict(s *scope, out outcome, controlPlane, gateways conditions.Verdict) conditions.Verdict {
	switch {
	case out.problem != nil:
		return *out.problem
	case controlPlane.Ready != metav1.ConditionTrue:
		return controlPlane
	case gateways.Ready != metav1.ConditionTrue:
		return gateways
	case s.mesh.Spec.Paused:
		return conditions.Verdict{Ready: metav1.ConditionTrue, Reason: v1alpha1.ReasonPaused, Message: "the mesh serves; spec.paused keeps Meshwright from acting on it"}
	}
	return conditions.Verdict{Ready: metav1.ConditionTrue, Reason: v1alpha1.ReasonReady, Message: fmt.Sprintf("Istio %s serves", s.mesh.Status.ResolvedVersion)}
}

// counts fills status.dataPlane. New counts are written when they are due; until then the last ones stay.
func (r *Reconciler) counts(ctx context.Context, s *scope) time.Duration {
	if !r.Index.Synced() || s.revision == nil {
		return 0
	}
	last := s.mesh.Status.DataPlane
	next, err := r.count(ctx, s)
	if err != nil || apiequality.Semantic.DeepEqual(last, next) {
		return 0
	}
	due, wait := r.counted.due(s.mesh.Name, r.Clock.Now())
	if !due {
		return wait
	}
	s.mesh.Status.DataPlane = next
	return 0
}

func (r *Reconciler) count(ctx context.Context, s *scope) (v1alpha1.DataPlaneStatus, error) {
	meshes, err := dataplane.Gather(ctx, r.Client, r.Namespace)
	if err != nil {
		return v1alpha1.DataPlaneStatus{}, err
	}
	self := slices.IndexFunc(meshes, func(m dataplane.Named) bool { return m.Name == s.mesh.Name })
	if self < 0 {
		return v1alpha1.DataPlaneStatus{}, nil // it is gone from the cache
	}
	out := v1alpha1.DataPlaneStatus{}
	members := map[string]bool{}
	for i := range s.namespaces {
		verdicts, _ := dataplane.Decide(meshes, &s.namespaces[i])
		v := verdicts[self]
		if v.Member {
			members[s.namespaces[i].Name] = true
		}
		if v.Blocked != "" && len(out.Blocked) < maxBlocked {
			out.Blocked = append(out.Blocked, v1alpha1.BlockedNamespace{Namespace: s.namespaces[i].Name, Reason: v.Blocked, Message: v.Message})
		}
	}
	slices.SortFunc(out.Blocked, func(a, b v1alpha1.BlockedNamespace) int { return strings.Compare(a.Namespace, b.Namespace) })
	counts := r.Index.Count(dataplane.Query{
		Stable: s.revision.Name, Namespaces: members, Revisions: s.injections(),
	})
	metrics.Proxies(s.mesh.Name, s.revision.Name, counts.Current, counts.Outdated, counts.ByRevision)
	for revision, count := range counts.ByRevision {
		out.Proxies = append(out.Proxies, v1alpha1.RevisionProxies{Revision: revision, Count: count})
	}
	slices.SortFunc(out.Proxies, func(a, b v1alpha1.RevisionProxies) int { return strings.Compare(a.Revision, b.Revision) })
	out.Namespaces = int32(len(members)) //nolint:gosec // a cluster has fewer
	out.Outdated, out.Stale, out.OutdatedExamples = counts.Outdated, counts.Stale, counts.Examples
	out.Summary = fmt.Sprintf("%d/%d", counts.Current, counts.Current+counts.Outdated)
	return out, nil
}

// maxBlocked is what the API allows in status.
const maxBlocked = 20

// upToDate says whether the wanted version serves and every proxy is of it.
func upToDate(s *scope, out outcome) {
	status, reason, message := metav1.ConditionTrue, v1alpha1.ReasonUpToDate, "the wanted version serves and every proxy is of it"
	plane := s.mesh.Status.DataPlane
	switch {
	case out.problem != nil:
		status, reason, message = metav1.ConditionFalse, out.problem.Reason, out.problem.Message
	case s.mesh.Spec.Paused:
		status, reason, message = metav1.ConditionFalse, v1alpha1.ReasonPaused, "spec.paused keeps Meshwright from acting: set it to false"
	case out.behind != nil:
		status, reason, message = metav1.ConditionFalse, out.behind.Reason, out.behind.Message
	case s.rotating != nil:
		status, reason, message = metav1.ConditionFalse, v1alpha1.ReasonRotating, underRotation(s.rotating)
	case !s.serving():
		status, reason, message = metav1.ConditionFalse, v1alpha1.ReasonProgressing, "the control plane does not serve yet"
	case plane.Outdated > 0:
		status, reason = metav1.ConditionFalse, v1alpha1.ReasonOutdatedProxies
		message = fmt.Sprintf("%d pods have no sidecar of revision %s: restart their workloads (kubectl rollout restart); first %s",
			plane.Outdated, s.mesh.Status.StableRevision, plane.OutdatedExamples[0])
	case len(plane.Blocked) > 0:
		status, reason = metav1.ConditionFalse, v1alpha1.ReasonEnrollmentBlocked
		message = fmt.Sprintf("namespace %s is not enrolled: %s", plane.Blocked[0].Namespace, plane.Blocked[0].Message)
	}
	conditions.Set(&s.mesh.Status.Conditions, s.mesh.Generation, v1alpha1.ConditionUpToDate, status, reason, message)
}
