// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// write applies what needs it. One object that fails holds back no other of its phase.
func (a *Applier) write(ctx context.Context, r Request, tasks []*task) {
	// The API server refuses a binding whose role is not there yet.
	binding := func(t *task) bool { return strings.HasSuffix(t.record.Kind, "RoleBinding") }
	a.writeAtOnce(ctx, r, slices.DeleteFunc(slices.Clone(tasks), binding))
	a.writeAtOnce(ctx, r, slices.DeleteFunc(slices.Clone(tasks), func(t *task) bool { return !binding(t) }))
}

func (a *Applier) writeAtOnce(ctx context.Context, r Request, tasks []*task) {
	var group errgroup.Group
	group.SetLimit(parallel)
	if slices.ContainsFunc(tasks, func(t *task) bool { return t.record.Kind == crdKind.Kind }) {
		group.SetLimit(parallelCRDs)
	}
	for _, t := range tasks {
		if !t.needed || t.err != nil {
			continue
		}
		group.Go(func() error {
			t.err = a.apply(ctx, r, t)
			return nil
		})
	}
	_ = group.Wait() // each task holds its own error
}

// firstError is the first error in the order of tasks, so that the same trouble always has the same words. One that may
// pass goes before one that will not: it has to be tried again soon.
func firstError(tasks []*task) error {
	var terminal error
	for _, t := range tasks {
		switch {
		case t.err == nil:
		case !IsTerminal(t.err):
			return t.err
		case terminal == nil:
			terminal = t.err
		}
	}
	return terminal
}

// foreignCRDs looks once at all CRDs of the cluster when one of ours is not in the cache: somebody else may have brought a
// newer one.
func (a *Applier) foreignCRDs(ctx context.Context, tasks []*task) error {
	if !slices.ContainsFunc(tasks, func(t *task) bool { return t.needed && t.current == nil && t.record.Kind == crdKind.Kind }) {
		return nil
	}
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(crdKind)
	if err := a.live.List(ctx, all); err != nil {
		return fmt.Errorf("looking for CRDs: %w", err)
	}
	for _, t := range tasks {
		for _, there := range all.Items {
			if there.Name == t.record.Name && newer(there.Labels, t.wanted) {
				t.left = true
			}
		}
	}
	return nil
}

// mark puts our label on a newer CRD of somebody else and changes nothing else: from then on it is in the owned cache.
func (a *Applier) mark(ctx context.Context, r Request, t *task) error {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(crdKind)
	o.SetName(t.record.Name)
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{%q:""}}}`, v1alpha1.LabelMesh))
	return refused(o, a.owned.Client.Patch(ctx, o, patch, client.FieldOwner(r.Manager)))
}

// apply writes one object and records what it wrote.
func (a *Applier) apply(ctx context.Context, r Request, t *task) error {
	if t.left {
		return a.mark(ctx, r, t)
	}
	if err := a.free(ctx, r, t); err != nil {
		return err
	}
	if t.theirs != nil {
		if err := a.takeOver(ctx, r.Manager, t.theirs); err != nil {
			return err
		}
	}
	loaded, err := t.wanted.load()
	if err != nil {
		return err
	}
	o := loaded.DeepCopy()
	if isWebhook(o) && t.current != nil {
		if err := yieldFailurePolicy(o, t.current, r.Manager); err != nil {
			return err
		}
	}
	if err := a.handOver(ctx, r.Manager, t, o); err != nil {
		return err
	}
	if err := a.patch(ctx, r.Manager, o); err != nil {
		return err
	}
	fields, err := fieldsOf(o, r.Manager)
	if err != nil {
		return err
	}
	t.record.Applied, t.record.Fields = t.wanted.digest, fields
	return nil
}

// managerReplicas holds the number of replicas of a Deployment between us and an autoscaler.
const managerReplicas = "meshwright-replicas"

// handOver keeps the number of replicas when it is not wanted any more, because an autoscaler decides from now on: a field that
// its last owner lets go of falls back to its default, which is one pod.
func (a *Applier) handOver(ctx context.Context, manager string, t *task, wanted *unstructured.Unstructured) error {
	if t.current == nil || wanted.GetKind() != "Deployment" {
		return nil
	}
	if _, fixed, err := unstructured.NestedFieldNoCopy(wanted.Object, "spec", "replicas"); fixed || err != nil {
		return err
	}
	replicas, there, err := unstructured.NestedInt64(t.current.Object, "spec", "replicas")
	if err != nil || !there {
		return err
	}
	ours, err := owns(t.current, manager, fieldpath.MakePathOrDie("spec", "replicas"))
	if err != nil || !ours {
		return err
	}
	intent := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"replicas": replicas}}}
	intent.SetGroupVersionKind(wanted.GroupVersionKind())
	intent.SetNamespace(wanted.GetNamespace())
	intent.SetName(wanted.GetName())
	err = a.owned.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(intent), client.FieldOwner(managerReplicas), client.ForceOwnership)
	return refused(intent, err)
}

// claim looks, before the first object of a request is written, whether one of them belongs to somebody else: nothing is
// written then.
func (a *Applier) claim(ctx context.Context, r Request, todo []*task) error {
	if r.Observe || slices.ContainsFunc(todo, func(t *task) bool { return t.record.Applied != "" }) {
		return nil
	}
	var group errgroup.Group
	group.SetLimit(parallel)
	for _, t := range todo {
		group.Go(func() error {
			if t.err == nil {
				t.err = a.free(ctx, r, t)
			}
			return nil
		})
	}
	_ = group.Wait() // each task holds its own error
	return firstError(todo)
}

// free looks whether an object that has to be ours alone exists outside the cache. It looks once. One of no mesh, where it is to be
// adopted, is kept for that.
func (a *Applier) free(ctx context.Context, r Request, t *task) error {
	if t.shared || t.current != nil || t.record.Applied != "" || t.looked {
		return nil
	}
	there := &metav1.PartialObjectMetadata{}
	there.SetGroupVersionKind(kindOf(t.record))
	err := a.live.Get(ctx, keyOf(t.record).object(), there)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if owner := there.Labels[v1alpha1.LabelMesh]; err == nil && owner != r.Mesh {
		if !t.adopt || owner != "" {
			return &TakenError{Kind: t.record.Kind, Namespace: t.record.Namespace, Name: t.record.Name, Owner: owner}
		}
		t.theirs = there
	}
	t.looked = true
	return nil
}

// patch applies an object, and leaves in o what the API server made of it. Where an earlier tool wrote the object, its
// fields become ours first, so that those we don't want go.
func (a *Applier) patch(ctx context.Context, manager string, o *unstructured.Unstructured) error {
	intent := o.DeepCopy()
	err := a.owned.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(manager), client.ForceOwnership)
	if err != nil {
		return refused(o, err)
	}
	if !isOf(o, previousManagers) {
		return nil
	}
	if err := a.upgrade(ctx, manager, o, previousManagers); err != nil {
		return err
	}
	o.Object = intent.Object
	err = a.owned.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(manager), client.ForceOwnership)
	return refused(o, err)
}
