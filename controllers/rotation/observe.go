// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/authority"
	"github.com/meshwright/meshwright/operator/facts"
	"github.com/meshwright/meshwright/operator/pki"
	"github.com/meshwright/meshwright/operator/probe"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/rollout"
)

// grantedTo says whether a rotation may act on its mesh, and what it waits for otherwise. Another intermediate under the same root restarts nothing
// and is waited for by nobody: it needs no grant.
func grantedTo(o *v1alpha1.MeshRotation, m *v1alpha1.MeshInstallation) (bool, string) {
	active := m.Status.ActiveOperation
	switch {
	case o.Status.Plan.Kind == v1alpha1.RotationIntermediate, active != nil && active.UID == o.UID:
		return true, ""
	case active == nil:
		return false, "it is planned, and waits to be granted"
	}
	return false, fmt.Sprintf("%s %s is active on the mesh, and goes first", active.Kind, active.Name)
}

// observe gathers what the cluster looks like. What has to be asked for is asked beside the reconciles; the last answers are taken.
func (r *Reconciler) observe(ctx context.Context, s *scope, made *sides) pki.Observation {
	o, p := s.rotation, s.rotation.Status.Progress
	out := pki.Observation{Paused: s.mesh.Spec.Paused, Secret: secretOf(s, made), Urgent: pki.Urgent(s.state.Present, s.now)}
	out.Granted, out.Waits = grantedTo(o, s.mesh)
	still := !out.Granted || out.Paused || o.Spec.Paused || !out.Secret.Known || out.Secret.Foreign != "" ||
		p.Phase != "" && !out.Secret.Equal(pki.Wanted(o.Status.Plan, p))
	if still {
		r.Witness.Forget(o.UID)
		return out
	}
	said := r.Witness.ask(question{rotation: o, mesh: s.mesh, cacerts: s.state.CACerts, made: made})
	out.Istiods, out.IstiodsKnown, out.Places = said.istiods, said.known, said.places
	// Who came since the plan was made may ask for longer leaves.
	longest, err := r.Witness.longestLeaf(ctx, s.mesh)
	out.LeafSeconds = max(longest, authority.LeafSeconds(s.mesh))
	if err != nil || !said.known || !counts(p.Phase) {
		return out
	}
	counter := pki.NewCounter(o.Status.Plan, o.Spec.RotationVerbs, p, s.now)
	for _, f := range said.proxies {
		counter.Add(proxyOf(f, o.Status.Plan, p))
	}
	if said.counted {
		out.Proxies = counter.Tally()
	}
	return out
}

// counts says whether a phase is proven at proxies.
func counts(phase v1alpha1.RotationPhase) bool {
	return phase == v1alpha1.PhaseTrust || phase == v1alpha1.PhaseDrain || phase == v1alpha1.PhaseDrop
}

// nothing stands for a Secret that is not there, where others have a digest.
const nothing = "none"

// digestOf is a digest of what cacerts holds.
func digestOf(s *scope) string {
	if s.state.CACerts == nil {
		return nothing
	}
	return authority.Digest(s.state.CACerts.Data)
}

// secretOf is what cacerts holds, and whether somebody else has changed it: it holds neither what this rotation last saw there, nor what it has written or
// was about to write.
func secretOf(s *scope, made *sides) pki.Secret {
	p := s.rotation.Status.Progress
	if !s.state.Known {
		return pki.Secret{}
	}
	out := pki.Secret{Known: true, Material: s.state.Material.Beyond(made.from, made.to)}
	there := digestOf(s)
	switch {
	case there == p.Holds, there == p.Gets:
	case s.state.CACerts == nil:
		out.Foreign = "somebody who removed it"
	case len(s.state.Problems) > 0:
		out.Foreign = s.state.By + ", and " + s.state.Problems[0].String()
	default:
		out.Foreign = s.state.By
	}
	return out
}

// seeWritten notes that what was to be written is there. From then on what was there before is somebody else's, too.
func seeWritten(s *scope) {
	p := &s.rotation.Status.Progress
	if p.Gets != "" && s.state.Known && digestOf(s) == p.Gets {
		p.Holds, p.Gets = p.Gets, ""
	}
}

// issuedLater is how much later than now a leaf may seem to have been issued: times are whole seconds.
const issuedLater = 2 * time.Second

// proxyOf is what was seen of a proxy, as it is counted.
func proxyOf(f probe.Finding, plan *v1alpha1.RotationPlan, p v1alpha1.RotationProgress) pki.Proxy {
	out := pki.Proxy{Name: f.Target.Name, Accepts: f.Seen.Accepts, Leaf: f.Seen.Leaf, Elsewhere: f.Target.Elsewhere}
	switch {
	case f.Err != nil:
		out.Why = f.Err.Error()
	case !f.Handshook && f.Seen.Issued.After(f.At.Add(issuedLater)):
		out.Why = "its leaf lives longer than its environment says (SECRET_TTL): when it was issued can't be told; restart it, or waive it"
	case !f.Handshook:
		pki.ByAge(&out, plan, p, f.Seen.Issued)
	}
	return out
}

// istiodPods are all pods of a mesh's istiods that have not gone, by name.
func istiodPods(ctx context.Context, owned client.Reader, m *v1alpha1.MeshInstallation) ([]corev1.Pod, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	err := owned.List(ctx, list, client.InNamespace(m.Spec.Namespace), client.MatchingLabels{v1alpha1.LabelMesh: m.Name, "app": "istiod"})
	if err != nil {
		return nil, err
	}
	var out []corev1.Pod
	for i := range list.Items {
		var p corev1.Pod
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list.Items[i].Object, &p); err != nil {
			return nil, err
		}
		if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// markedWith says whether the pods of a Deployment are to carry a mark.
func markedWith(d *unstructured.Unstructured, mark string) bool {
	value, _, _ := unstructured.NestedString(d.Object, "spec", "template", "metadata", "annotations", v1alpha1.AnnotationRestartedFor)
	return value == mark
}

// incapable says why the root of a mesh can't change; empty where it can.
func (r *Reconciler) incapable(ctx context.Context, m *v1alpha1.MeshInstallation) (string, error) {
	all, err := facts.RevisionsOf(ctx, r.Client, m.Name)
	if err != nil {
		return "", err
	}
	for _, revision := range all {
		key := client.ObjectKey{Namespace: revision.Spec.Namespace, Name: render.IstiodName(revision.Name)}
		found, err := r.Owned.Get(ctx, appsv1.SchemeGroupVersion.WithKind("Deployment"), key)
		if err != nil {
			return "", err
		}
		if found == nil {
			return "istiod of revision " + revision.Name + " is not there yet", nil
		}
		var istiod appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found.Object, &istiod); err != nil {
			return "", err
		}
		if !multiRoot(&istiod) {
			return fmt.Sprintf("istiod of revision %s takes no second root: set spec.controlPlane.values.env.%s to \"true\", which restarts it, or upgrade", revision.Name, render.MultiRoot), nil
		}
	}
	return "", nil
}

func multiRoot(d *appsv1.Deployment) bool {
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, e := range c.Env {
			if e.Name == render.MultiRoot && e.Value == "true" {
				return true
			}
		}
	}
	return false
}

// settled says whether a proxy has shown what the phase wants of it, so that it is not asked again.
func settled(plan *v1alpha1.RotationPlan, p v1alpha1.RotationProgress) func(probe.Finding) bool {
	from, to := pki.Sides(plan, p.Back)
	return func(f probe.Finding) bool {
		if f.Err != nil {
			return false
		}
		proxy := proxyOf(f, plan, p)
		switch p.Phase {
		case v1alpha1.PhaseTrust:
			return proxy.Accepts[pki.Fingerprint(to.Root)] == rollout.Yes
		case v1alpha1.PhaseDrain:
			return proxy.Leaf == pki.Fingerprint(to.Root)
		case v1alpha1.PhaseDrop:
			return proxy.Accepts[pki.Fingerprint(from.Root)] == rollout.No
		case v1alpha1.PhasePlugIn, v1alpha1.PhaseSign, v1alpha1.PhaseHandOver:
		}
		return true
	}
}
