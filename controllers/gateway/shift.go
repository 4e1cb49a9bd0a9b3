// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/controllers"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/metrics"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/rollout"
	"github.com/meshwright/meshwright/operator/traffic"
	"github.com/meshwright/meshwright/operator/validate"
)

// The kinds that say where traffic goes.
var (
	serviceKind    = corev1.SchemeGroupVersion.WithKind("Service")
	deploymentKind = appsv1.SchemeGroupVersion.WithKind("Deployment")
	routeKind      = schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "HTTPRoute"}
)

// settles is how long it takes until every node and every proxy sends new connections where a changed Service points.
const settles = 3 * time.Second

// world is what there is of a gateway.
type world struct {
	// versions there are, by revision.
	versions map[string]traffic.Version
	pointer  string // the revision that the Service selects; empty: all
	route    int32  // the weight of the wanted version in the route
	// pointed is when Service and route were last told where to send traffic.
	pointed time.Time
	service bool
}

// look reads what there is from the cache.
func (r *Reconciler) look(ctx context.Context, s *scope) (world, error) {
	out := world{versions: map[string]traffic.Version{}}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(deploymentKind.GroupVersion().WithKind("DeploymentList"))
	err := r.Owned.Client.List(ctx, list, client.InNamespace(s.gateway.Namespace), client.MatchingLabels{v1alpha1.LabelGateway: s.gateway.Name})
	if err != nil {
		return out, err
	}
	for i := range list.Items {
		var d appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &d); err != nil {
			return out, err
		}
		if d.DeletionTimestamp != nil {
			continue
		}
		// Available is ready for minReadySeconds, in which every node learns of a pod.
		v := traffic.Version{Exists: true, Replicas: 1, Ready: d.Status.AvailableReplicas}
		if d.Spec.Replicas != nil {
			v.Replicas = *d.Spec.Replicas
		}
		if d.Status.ObservedGeneration < d.Generation {
			v.Problem = "its Deployment has just changed"
		}
		out.versions[render.RevisionOf(&list.Items[i], s.gateway.Name)] = v
	}
	service, err := r.Owned.Get(ctx, serviceKind, client.ObjectKeyFromObject(s.gateway))
	if err != nil {
		return out, err
	}
	if service != nil {
		selector, _, _ := unstructured.NestedStringMap(service.Object, "spec", "selector")
		out.service, out.pointer, out.pointed = true, selector[v1alpha1.IstioRevision], appliedAt(service)
	}
	if s.gateway.Spec.Shift.Type != v1alpha1.ShiftHTTPRoute {
		return out, nil
	}
	route, err := r.Owned.Get(ctx, routeKind, client.ObjectKeyFromObject(s.gateway))
	if err != nil || route == nil {
		return out, err
	}
	out.route = render.RouteWeight(route, render.GatewayRequest{Request: render.Request{Revision: s.want.New}, Name: s.gateway.Name}.WorkloadName())
	if at := appliedAt(route); at.After(out.pointed) {
		out.pointed = at
	}
	return out, nil
}

// appliedAt is when this controller last changed an object, by the API server's own record.
func appliedAt(o *unstructured.Unstructured) time.Time {
	for _, entry := range o.GetManagedFields() {
		if entry.Manager == v1alpha1.ManagerGateway && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Time != nil {
			return entry.Time.Time
		}
	}
	return time.Time{}
}

// wants says which versions the gateway is to have: what the active rollout wants of it, else the stable one of its mesh.
func (r *Reconciler) wants(ctx context.Context, s *scope) error {
	s.want = rollout.Shift{New: s.mesh.Status.StableRevision, Weight: 100, Wanted: true, Final: true}
	o, err := dataplane.ActiveRollout(ctx, r.Client, s.mesh)
	if err != nil || o == nil || o.Status.Progress.Outcome != "" {
		return err
	}
	namespace := &metav1.PartialObjectMetadata{}
	namespace.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := r.Client.Get(ctx, client.ObjectKey{Name: s.gateway.Namespace}, namespace); err != nil {
		return err
	}
	wave := rollout.NewSorter(&o.Spec.Plan).WaveOf(namespace.Labels, false)
	s.rollout = o
	s.want = rollout.ShiftOf(&o.Spec.Plan, o.Status.Progress, validate.Listed(s.gateway, s.mesh), wave)
	return nil
}

// hold keeps the version that a gateway has and that does not move: its own policy says so, the control plane that it would move to
// does not serve, or it is not there (any more).
func (r *Reconciler) hold(s *scope, w world) {
	if !s.want.Wanted && !w.versions[s.want.New].Exists {
		s.want = rollout.Shift{New: s.want.Old, Weight: 100, Wanted: true, Final: true} // nothing has begun
	}
	if len(w.versions) == 0 {
		return
	}
	last := s.gateway.Status.Shift
	serves := func(revision string) bool {
		known := s.revisions[revision]
		return known != nil && known.DeletionTimestamp == nil &&
			apimeta.IsStatusConditionTrue(known.Status.Conditions, v1alpha1.ConditionReady)
	}
	switch {
	case s.gateway.Spec.VersionPolicy == v1alpha1.VersionHold && last == nil && !w.versions[s.want.New].Exists:
		for revision := range w.versions {
			if s.revisions[revision] != nil {
				s.want, s.rollout = rollout.Shift{New: revision, Weight: 100, Wanted: true, Final: true}, nil
			}
		}
	case serves(s.want.New):
	case last != nil:
		s.want.Old, s.want.New, s.want.Weight, s.want.Wanted, s.want.Final = last.From, last.To, last.Weight, true, false
		s.held = "the control plane of the revision that it moves to does not serve"
	case s.want.Old == "" && len(w.versions) == 1 && !w.versions[s.want.New].Exists:
		for revision := range w.versions {
			s.want.New = revision
		}
	case s.want.Old != "" && !w.versions[s.want.New].Exists:
		s.want.New, s.want.Old, s.want.Weight, s.want.Final = s.want.Old, "", 100, true
	}
}

// other is the version that the gateway has besides the wanted one; empty for none. More than two can't share a Service: what is
// neither from nor to goes first.
func other(want rollout.Shift, w world) (revision string, more bool) {
	if want.Old != "" && w.versions[want.Old].Exists {
		revision = want.Old
	}
	var rest []string
	for name := range w.versions {
		if name != want.New && name != revision {
			rest = append(rest, name)
		}
	}
	slices.Sort(rest)
	if revision == "" && len(rest) > 0 {
		revision, rest = rest[0], rest[1:]
	}
	return revision, len(rest) > 0
}

// plan decides what each version, the Service and the route are to be.
func (r *Reconciler) plan(s *scope, w world) traffic.Decision {
	s.old, _ = other(s.want, w)
	in := traffic.Input{
		Type: s.gateway.Spec.Shift.Type, Wanted: s.want.Wanted, Final: s.want.Final,
		Old: w.versions[s.old], New: w.versions[s.want.New],
		Base: s.base(w), Max: s.bound, Pointer: pointerOf(w, s.old, s.want.New), Route: w.route, Loose: s.old == render.Unrevisioned,
	}
	in.Back = s.rollout != nil && s.rollout.Status.Progress.Back
	in.Weight = traffic.Effective(in.Type, in.Base, s.want.Weight)
	in.Settled = w.service && !r.Clock.Now().Before(w.pointed.Add(settles))
	s.weight = in.Weight
	in.New.Configured, in.New.Problem = r.configured(s, in)
	if s.held != "" {
		return traffic.Decision{Old: size(in.Old), New: size(in.New), Pointer: in.Pointer, Route: in.Route, Note: s.held}
	}
	return traffic.Decide(in)
}

// size is how many pods a version has; negative when it is not there.
func size(v traffic.Version) int32 {
	if !v.Exists {
		return -1
	}
	return v.Replicas
}

// pointerOf says whose pods a Service selects.
func pointerOf(w world, old, next string) traffic.Pointer {
	switch {
	case w.pointer == next && next != "":
		return traffic.ToNew
	case w.pointer == old && old != "":
		return traffic.ToOld
	}
	return traffic.ToBoth
}

// base is how many pods the versions share: those there were when the shift began.
func (s *scope) base(w world) int32 {
	switch {
	case s.gateway.Status.Base > 0:
		return s.gateway.Status.Base
	case w.versions[s.old].Exists:
		return max(1, s.declared, w.versions[s.old].Replicas)
	}
	return max(1, s.declared)
}

// configured says whether the pods of the new version are configured like those of the old one. A version that serves, or has served
// before, has shown that.
func (r *Reconciler) configured(s *scope, in traffic.Input) (yes bool, problem string) {
	serves := in.Pointer != traffic.ToOld || in.Type == v1alpha1.ShiftHTTPRoute && in.Route > 0
	if s.old == "" || s.rollout == nil || s.want.New != s.rollout.Spec.Plan.To.Revision || in.Loose || serves {
		return true, ""
	}
	if in.New.Ready == 0 {
		return false, ""
	}
	key := client.ObjectKeyFromObject(s.gateway)
	sample, known := r.Meter.Since(key, traffic.Whole)
	switch {
	case !known || sample.New.Pods < sample.New.Wanted || sample.Old.Pods < sample.Old.Wanted:
		return false, "the statistics of its pods can't be read at port 15090: a NetworkPolicy may keep the operator out"
	case sample.Rejects():
		return false, "its proxies have rejected configuration"
	}
	for _, listener := range sample.Old.Listeners {
		if !slices.Contains(sample.New.Listeners, listener) {
			return false, "its proxies do not listen at " + listener + " yet"
		}
	}
	return true, ""
}

// measure writes how far the shift is.
func (r *Reconciler) measure(s *scope, w world, d traffic.Decision, failing string) {
	status := &s.gateway.Status
	last := status.Shift
	if s.old == "" || !s.want.Wanted && !w.versions[s.want.New].Exists {
		status.Shift, status.Base = nil, 0
		metrics.ForgetGateway(s.gateway.Namespace, s.gateway.Name)
		return
	}
	next := &v1alpha1.ShiftStatus{
		From: s.old, To: s.want.New, Weight: s.weight, State: v1alpha1.ShiftProgressing, Message: conditions.Shorten(d.Note),
		Failing: conditions.Shorten(failing), Since: metav1.NewTime(r.Clock.Now().Truncate(time.Second)),
	}
	if s.rollout != nil {
		next.Rollout = s.rollout.Name
	}
	if last != nil && last.Rollout == next.Rollout && last.From == next.From && last.To == next.To && last.Weight == next.Weight {
		next.Since = last.Since
	}
	if last != nil {
		next.Streams = last.Streams
	}
	status.Base = s.base(w)
	share := traffic.Share{}
	key := client.ObjectKeyFromObject(s.gateway)
	if d.Done {
		sample, known := r.Meter.Since(key, mark(next))
		share = traffic.Measure(s.gateway.Spec.Shift, s.weight, sample)
		next.State, next.Message = share.State, conditions.Shorten(share.Note)
		if !known && share.State != v1alpha1.ShiftReached {
			next.State, next.Message = v1alpha1.ShiftMeasuring, "the counters of the proxies are read"
		}
	}
	if whole, known := r.Meter.Since(key, traffic.Whole); known {
		next.Streams = max(next.Streams, whole.Old.Cut+whole.New.Cut)
	}
	status.Shift = next
	wanted, measured := map[string]int32{s.old: 100 - s.weight, s.want.New: s.weight}, map[string]float64{}
	if share.Known {
		next.Measured = traffic.Percent(share.Percent)
		measured[s.old], measured[s.want.New] = 100-share.Percent, share.Percent
	}
	metrics.Shares(s.gateway.Namespace, s.gateway.Name, wanted, measured)
	for i := range status.Versions {
		v := &status.Versions[i]
		v.Weight, v.Measured = s.weight, ""
		percent := share.Percent
		if v.Revision != s.want.New {
			v.Weight, percent = 100-s.weight, 100-share.Percent
		}
		if share.Known {
			v.Measured = traffic.Percent(percent)
		}
	}
}

// calm keeps the numbers that were last written while nothing but numbers has changed.
func (r *Reconciler) calm(s *scope) {
	last, next := s.before.Status.Shift, s.gateway.Status.Shift
	if next == nil {
		return
	}
	now := metav1.NewTime(r.Clock.Now().Truncate(time.Second))
	same := last != nil && last.Rollout == next.Rollout && last.From == next.From && last.To == next.To && last.Weight == next.Weight &&
		last.State == next.State && last.Failing == next.Failing
	if !same || now.Sub(last.Counted.Time) >= controllers.CountEvery {
		next.Counted = now
		if same && last.Message == next.Message && last.Streams == next.Streams {
			next.Counted = last.Counted // nothing was counted
		}
		return
	}
	next.Counted, next.Message, next.Measured, next.Streams = last.Counted, last.Message, last.Measured, last.Streams
	for i := range s.gateway.Status.Versions {
		for _, before := range s.before.Status.Versions {
			if v := &s.gateway.Status.Versions[i]; v.Revision == before.Revision {
				v.Measured = before.Measured
			}
		}
	}
}

// mark names the time since when the share of a weight is measured.
func mark(s *v1alpha1.ShiftStatus) string {
	return fmt.Sprintf("%s %s %s %d", s.Rollout, s.From, s.To, s.Weight)
}

// versionsOf are the versions there are, for the status.
func (s *scope) versionsOf(w world) (out []v1alpha1.GatewayVersion, summary string) {
	var ready, wanted int32
	for revision, v := range w.versions {
		version := v1alpha1.GatewayVersion{Revision: revision, Replicas: v.Replicas, ReadyReplicas: v.Ready}
		if known := s.revisions[revision]; known != nil {
			version.Version = known.Spec.Version
		}
		if len(w.versions) == 1 {
			version.Weight = 100
		}
		out = append(out, version)
		ready, wanted = ready+v.Ready, wanted+v.Replicas
	}
	slices.SortFunc(out, func(a, b v1alpha1.GatewayVersion) int { return strings.Compare(a.Revision, b.Revision) })
	return out[:min(len(out), maxVersions)], fmt.Sprintf("%d/%d", ready, wanted)
}

// maxVersions is what the API allows in status.
const maxVersions = 2

// watched tells the meter whether both versions are to be counted.
func (r *Reconciler) watched(s *scope) {
	key := types.NamespacedName{Namespace: s.gateway.Namespace, Name: s.gateway.Name}
	if s.old != "" && (s.want.Wanted || s.gateway.Status.Shift != nil) {
		r.Meter.Watch(key, s.old, s.want.New)
		r.Meter.Since(key, traffic.Whole)
		return
	}
	r.Meter.Forget(key)
}
