// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

type itemKey struct{ group, kind, namespace, name string }

func keyOf(i v1alpha1.InventoryItem) itemKey { return itemKey{i.Group, i.Kind, i.Namespace, i.Name} }

func (k itemKey) object() client.ObjectKey {
	return client.ObjectKey{Namespace: k.namespace, Name: k.name}
}

func kindOf(i v1alpha1.InventoryItem) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: i.Group, Version: i.Version, Kind: i.Kind}
}

func itemOf(o *unstructured.Unstructured) v1alpha1.InventoryItem {
	kind := o.GroupVersionKind()
	return v1alpha1.InventoryItem{Group: kind.Group, Version: kind.Version, Kind: kind.Kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

func index(items []v1alpha1.InventoryItem) map[itemKey]v1alpha1.InventoryItem {
	out := make(map[itemKey]v1alpha1.InventoryItem, len(items))
	for _, item := range items {
		out[keyOf(item)] = item
	}
	return out
}

// podKind is watched with every Deployment: its pods say why it is not ready.
var podKind = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}

func kindsOf(r Request) []schema.GroupVersionKind {
	var out []schema.GroupVersionKind
	add := func(kind schema.GroupVersionKind) {
		if !slices.Contains(out, kind) {
			out = append(out, kind)
		}
	}
	for _, phase := range r.Phases {
		for _, o := range phase.Objects {
			add(kindOf(o.item))
			if o.item.Kind == "Deployment" {
				add(podKind)
			}
		}
	}
	for _, item := range r.Inventory {
		add(kindOf(item))
	}
	return out
}

func unwantedOf(todo []*task, inventory []v1alpha1.InventoryItem) []v1alpha1.InventoryItem {
	wanted := map[itemKey]bool{}
	for _, t := range todo {
		wanted[keyOf(t.record)] = true
	}
	return slices.DeleteFunc(slices.Clone(inventory), func(i v1alpha1.InventoryItem) bool { return wanted[keyOf(i)] })
}

// intentsOf is the inventory with everything that is wanted in it; nil when nothing is new.
func intentsOf(todo []*task, inventory []v1alpha1.InventoryItem) []v1alpha1.InventoryItem {
	known := index(inventory)
	out := slices.Clone(inventory)
	for _, t := range todo {
		if _, ok := known[keyOf(t.record)]; !ok {
			out = append(out, t.record)
		}
	}
	if len(out) == len(inventory) {
		return nil
	}
	return ordered(out)
}

func inventoryOf(todo []*task, unwanted []v1alpha1.InventoryItem) []v1alpha1.InventoryItem {
	out := slices.Clone(unwanted)
	for _, t := range todo {
		out = append(out, t.record)
	}
	return ordered(out)
}

func ordered(items []v1alpha1.InventoryItem) []v1alpha1.InventoryItem {
	slices.SortFunc(items, func(a, b v1alpha1.InventoryItem) int {
		return strings.Compare(a.Group+"/"+a.Kind+"/"+a.Namespace+"/"+a.Name, b.Group+"/"+b.Kind+"/"+b.Namespace+"/"+b.Name)
	})
	return items
}

// prune removes one object that is not wanted any more; CRDs and namespaces, on which other things stand, stay.
func (a *Applier) prune(ctx context.Context, mesh string, item v1alpha1.InventoryItem) (gone bool, err error) {
	if item.Kind == crdKind.Kind || item.Kind == "Namespace" {
		return true, nil
	}
	return a.remove(ctx, mesh, item)
}

// remove deletes an object that is in the owned cache, exactly as it was seen there, and says whether it is gone. What was
// only intended, and came to be somebody else's, counts as gone.
func (a *Applier) remove(ctx context.Context, mesh string, item v1alpha1.InventoryItem) (gone bool, err error) {
	current, err := a.owned.Get(ctx, kindOf(item), keyOf(item).object())
	if err != nil || current == nil {
		return current == nil && err == nil, err
	}
	if !ours(current, mesh) {
		return true, nil
	}
	if current.GetDeletionTimestamp() != nil {
		return false, nil
	}
	uid := current.GetUID()
	err = a.owned.Client.Delete(ctx, current,
		client.Preconditions{UID: &uid}, client.PropagationPolicy(metav1.DeletePropagationBackground))
	return false, client.IgnoreNotFound(err)
}

// managedBy is the label that says who looks after an object; render sets it on everything.
const managedBy = "app.kubernetes.io/managed-by"

// ours says whether an object of the owned cache may be deleted for a mesh. CRDs belong to every mesh; one that only carries
// our label, because it is newer than what we would have applied, is somebody else's.
func ours(current *unstructured.Unstructured, mesh string) bool {
	if current.GetKind() == crdKind.Kind {
		return current.GetLabels()[managedBy] == "meshwright"
	}
	return current.GetLabels()[v1alpha1.LabelMesh] == mesh
}

// Remove deletes everything of a mesh's inventory: webhooks first, so that nothing is refused by a server that is going,
// then workloads, then the rest, CRDs last. Each group goes when the one before is gone. It returns what is still there;
// callers try again until nothing is.
func (a *Applier) Remove(ctx context.Context, mesh string, inventory []v1alpha1.InventoryItem) ([]v1alpha1.InventoryItem, error) {
	var kinds []schema.GroupVersionKind
	for _, item := range inventory {
		kinds = append(kinds, kindOf(item))
	}
	slices.SortFunc(kinds, func(a, b schema.GroupVersionKind) int { return strings.Compare(a.String(), b.String()) })
	if err := a.owned.Watch(ctx, slices.Compact(kinds)...); err != nil {
		return inventory, err
	}
	left := slices.Clone(inventory)
	slices.SortStableFunc(left, func(x, y v1alpha1.InventoryItem) int { return removalRank(x) - removalRank(y) })
	for len(left) > 0 {
		rank := removalRank(left[0])
		var remaining []v1alpha1.InventoryItem
		for _, item := range left {
			if removalRank(item) != rank {
				remaining = append(remaining, item)
				continue
			}
			gone, err := a.remove(ctx, mesh, item)
			if err != nil {
				return left, err
			}
			if !gone {
				remaining = append(remaining, item)
			}
		}
		if len(remaining) > 0 && removalRank(remaining[0]) == rank {
			return ordered(remaining), nil
		}
		left = remaining
	}
	return nil, nil
}

// removalRank orders kinds for removal.
func removalRank(i v1alpha1.InventoryItem) int {
	switch i.Kind {
	case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
		return 0
	case "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget":
		return 1
	case crdKind.Kind:
		return 3
	default:
		return 2
	}
}
