// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/rollout"
)

// Towards is what workloads are counted towards.
type Towards struct {
	// Revision, and digest of what it injects now; an empty digest is not compared.
	Revision, Injection string
	// Stamp of the restarts of this direction, and of the other one.
	Stamp, Other string
	// Back says that what is broken is moved all the same: it is the rollout that broke it.
	Back bool
	// Type of the restarts.
	Type v1alpha1.RestartType
	// Now is the time.
	Now time.Time
}

// Member is a namespace whose workloads are counted.
type Member struct {
	Name string
	// Excluded says that the namespace opted out of restarts.
	Excluded bool
	// Blocked says why the namespace can't be moved; empty when it can.
	Blocked string
	// Label is the revision that our label names, since when; empty where the namespace follows a tag.
	Label string
	Since time.Time
	// Tag is the tag that it follows, that of the default revision being "default"; empty where it has a label of ours.
	Tag string
}

// settles is how long the API server may take to know the label of a namespace, or the webhook of a tag, when it asks the injector for
// a pod.
const settles = 2 * time.Second

// Settled says whether new pods get the sidecar of a revision, of which the tags that point to it are given, each with the time since
// when it does.
func (m Member) Settled(revision string, tags map[string]time.Time, now time.Time) bool {
	since, there := m.Since, m.Label == revision
	if m.Tag != "" {
		since, there = tags[m.Tag]
	}
	return m.Blocked != "" || there && now.Sub(since) >= settles
}

// Workloads are the workloads of a namespace, as they are. It is not known before the index has seen the cluster.
func (i *Index) Workloads(n Member, to Towards) []rollout.Workload {
	i.mu.RLock()
	defer i.mu.RUnlock()
	byOwner := map[string][]string{}
	for name, p := range i.namespaces[n.Name] {
		if !p.optedOut && p.gateway == nothing {
			byOwner[p.owner.Value()] = append(byOwner[p.owner.Value()], name)
		}
	}
	for owner, w := range i.workloads[n.Name] {
		if _, has := byOwner[owner]; !has && !w.optedOut && w.desired > 0 {
			byOwner[owner] = nil // its pods are about to come
		}
	}
	out := make([]rollout.Workload, 0, len(byOwner))
	for owner, names := range byOwner {
		out = append(out, i.workload(n, owner, names, to))
	}
	return out
}

// workload is one of them; the lock is held.
func (i *Index) workload(n Member, owner string, names []string, to Towards) rollout.Workload {
	kind, name, _ := strings.Cut(owner, "/")
	pods := i.namespaces[n.Name]
	object, known := i.workloads[n.Name][owner]
	if !known {
		object = unknownWorkload
	}
	newest, alike := newestTemplate(pods, names, object)
	out := rollout.Workload{Name: kind + "/" + n.Name + "/" + name}
	slices.Sort(names)
	for _, name := range names {
		if p := pods[name]; !p.ending {
			i.tally(&out, types.NamespacedName{Namespace: n.Name, Name: name}, p, newest, to)
		}
	}
	out.Desired, out.Settled = out.Pods, alike
	if known {
		out.Desired, out.Settled = object.desired, object.settled
		out.Started = object.startedFor.Value() == to.Stamp
		out.Astray = to.Other != "" && object.startedFor.Value() == to.Other && !object.settled
	}
	out.Held, out.Remedy = i.held(n, kind, object, known, to)
	if at, stamped := i.memory.stampedAt(to.Stamp, out.Name); stamped && !out.Started {
		out.Started = true // the watch is behind, or somebody took it back
		if out.Held == "" && known && to.Now.Sub(at) > watchBehind {
			out.Held, out.Remedy = rollout.HeldReverted, reverted
		}
	}
	if to.Type == v1alpha1.RestartEvict {
		out.Started, out.Astray, out.Settled, out.Behind, out.Missed = false, false, true, 0, 0 // pods go one by one, their template stays
	}
	return out
}

// tally counts one pod of a workload.
func (i *Index) tally(out *rollout.Workload, name types.NamespacedName, p pod, newest string, to Towards) {
	out.Pods++
	moved := p.revision.Value() == to.Revision && (to.Injection == "" || p.injection.Value() == to.Injection)
	if !moved && p.template.Value() == newest {
		out.Behind++
	}
	if !moved && p.startedFor.Value() == to.Stamp {
		out.Missed++
	}
	switch {
	case moved && p.ready:
		out.Moved, out.Ready = out.Moved+1, out.Ready+1
	case moved:
		out.Moved++
		if p.trouble != nothing {
			out.Failing = fmt.Sprintf("new pod %s is not ready: %s", name.Name, p.trouble.Value())
		}
	case !p.ready && to.Back:
		out.Down = append(out.Down, name.Name)
	case p.ready:
		why, alone := i.memory.refusedOf(name, to.Now)
		if why != "" {
			out.Refused = "pod " + name.Name + ": " + why
		}
		if alone {
			out.Resting++
		} else {
			out.Waiting = append(out.Waiting, name.Name)
		}
	default:
		out.Broken++
	}
}

// unknownWorkload stands for one that is not watched.
var unknownWorkload = workload{template: nothing, startedFor: nothing, stampedFor: nothing, pins: nothing}

// reverted is what to do about a restart that somebody else took back.
const reverted = "its restart was taken back by somebody else (a GitOps tool?): restart it there"

// watchBehind is how long a watch may be behind a write of our own.
const watchBehind = 10 * time.Second

// newestTemplate is the template that new pods of a workload are made from: what its object says, else that of the pods that
// came last as a generation. Alike says that all pods have one template.
func newestTemplate(pods namespacePods, names []string, object workload) (newest string, alike bool) {
	type generation struct {
		template unique.Handle[string]
		born     int64
	}
	var room [2]generation // there are seldom more
	all := room[:0]
	for _, name := range names {
		p := pods[name]
		if p.ending {
			continue
		}
		n := slices.IndexFunc(all, func(g generation) bool { return g.template == p.template })
		if n < 0 {
			all = append(all, generation{p.template, p.born})
		} else {
			all[n].born = min(all[n].born, p.born)
		}
	}
	youngest := int64(-1)
	for _, g := range all {
		if template := g.template.Value(); g.born > youngest || g.born == youngest && template > newest {
			newest, youngest = template, g.born
		}
	}
	if object.template != nothing {
		newest = object.template.Value()
	}
	return newest, len(all) <= 1
}

// held says why a workload can't be moved.
func (i *Index) held(n Member, kind string, object workload, known bool, to Towards) (reason, remedy string) {
	evict := to.Type == v1alpha1.RestartEvict
	switch {
	case n.Blocked != "":
		return rollout.HeldBlocked, n.Blocked
	case n.Excluded || object.excluded:
		return rollout.HeldExcluded, "it opted out by the annotation " + v1alpha1.AnnotationRestart + ": restart it yourself"
	case kind == kindPod:
		return rollout.HeldBarePod, "no controller would make it anew: recreate it yourself"
	case kind == kindJob:
		return rollout.HeldRunningJob, "it ends by itself"
	case kind == kindReplicaSet && evict:
		return "", ""
	case !slices.Contains([]string{kindDeployment, kindStatefulSet, kindDaemonSet, kindArgoRollout}, kind):
		return rollout.HeldUnknownOwner, "how a " + kind + " is restarted is not known: restart it yourself"
	case to.Type == v1alpha1.RestartManual || evict || !known:
		return "", ""
	case object.startedFor.Value() == to.Stamp && object.stampedFor.Value() != to.Stamp:
		return rollout.HeldReverted, reverted
	case object.onDelete:
		return rollout.HeldOnDelete, "its update strategy keeps pods (OnDelete, or a partition): delete them yourself"
	case object.paused:
		return rollout.HeldPaused, "its rollouts are paused (spec.paused): resume them"
	}
	return "", ""
}

// StaleOwners are the workloads, as kind/namespace/name, that have pods with the sidecar of a revision, but not as it injects it now.
func (i *Index) StaleOwners(revision, injection string) map[string]bool {
	i.mu.RLock()
	defer i.mu.RUnlock()
	out := map[string]bool{}
	for namespace, pods := range i.namespaces {
		for _, p := range pods {
			if p.revision.Value() == revision && p.injection.Value() != injection && p.gateway == nothing && !p.ending {
				kind, name, _ := strings.Cut(p.owner.Value(), "/")
				out[kind+"/"+namespace+"/"+name] = true
			}
		}
	}
	return out
}

// Recent counts the pods of namespaces that were born after a moment with the proxy of a revision.
func (i *Index) Recent(namespaces []string, revision string, after time.Time) int32 {
	i.mu.RLock()
	defer i.mu.RUnlock()
	n := int32(0)
	for _, namespace := range namespaces {
		for _, p := range i.namespaces[namespace] {
			if p.revision.Value() == revision && p.born > after.Unix() {
				n++
			}
		}
	}
	return n
}

// Pinning names workloads whose pod template names a revision, as kind/namespace/name, in order.
func (i *Index) Pinning(revision string) []string {
	i.mu.RLock()
	defer i.mu.RUnlock()
	var out []string
	for namespace, all := range i.workloads {
		for key, w := range all {
			if w.pins.Value() == revision && revision != "" {
				kind, name, _ := strings.Cut(key, "/")
				out = append(out, kind+"/"+namespace+"/"+name)
			}
		}
	}
	slices.Sort(out)
	return out
}

// MembersOf are the namespaces of a mesh whose workloads its active rollout counts, by wave; nil when it has none.
func MembersOf(ctx context.Context, reader client.Reader, operator, mesh string) (map[string][]Member, error) {
	meshes, err := Gather(ctx, reader, operator)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(meshes, func(m Named) bool { return m.Name == mesh })
	if i < 0 || meshes[i].Course == nil {
		return nil, nil
	}
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := reader.List(ctx, all, client.UnsafeDisableDeepCopy); err != nil { // they are read, and there are many
		return nil, err
	}
	return Members(meshes[i], all.Items), nil
}

// TowardsOf is what the workloads of a rollout are counted towards.
func TowardsOf(o *v1alpha1.MeshRollout, to *v1alpha1.MeshRevision, now time.Time) Towards {
	plan, p := &o.Spec.Plan, o.Status.Progress
	out := Towards{
		Revision: rollout.Target(plan, p).Revision, Stamp: Stamp(o, p.Back), Back: p.Back, Type: plan.Restart.Type,
		Now: now,
	}
	if p.Back {
		out.Other = Stamp(o, false)
	}
	if plan.From.Revision == plan.To.Revision && to != nil {
		out.Injection = to.Spec.Injection // which follows the way back in place
	}
	return out
}
