// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// previousManagers wrote Istio's objects by other means than ours: what they wrote and we don't want would stay for ever.
var previousManagers = sets.New("helm", "Helm", "istioctl", "istio-operator")

// installers are the managers that may have installed an object which is adopted: those, and what people apply manifests with.
var installers = previousManagers.Union(sets.New(
	"kubectl", "kubectl-client-side-apply", "helm-controller", "kustomize-controller", "argocd-controller",
))

// marks are what tools write into an object that they install: Helm, in whatever program it is built in, and kubectl apply.
var marks = []fieldpath.Path{
	fieldpath.MakePathOrDie("metadata", "annotations", "meta.helm.sh/release-name"),
	fieldpath.MakePathOrDie("metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration"),
}

// takeOver makes the fields of an object ours that whoever installed it wrote. It goes before the first apply, which takes those away that
// we don't want: not all of them may stand beside ours, such as the two bounds of a disruption budget. Among them are Helm's marks, by
// which it knows what it may change. What controllers wrote stays theirs: finalizers and addresses of load balancers, node ports.
func (a *Applier) takeOver(ctx context.Context, manager string, there *metav1.PartialObjectMetadata) error {
	from := installers.Clone()
	for _, entry := range there.ManagedFields {
		marked, err := isMarked(entry)
		if err != nil {
			return fmt.Errorf("managed fields of %s %s: %w", there.Kind, join(there.Namespace, there.Name), err)
		}
		if marked {
			from.Insert(entry.Manager)
		}
	}
	return a.upgrade(ctx, manager, there, from)
}

func isMarked(entry metav1.ManagedFieldsEntry) (bool, error) {
	if entry.FieldsV1 == nil || entry.Subresource != "" {
		return false, nil
	}
	set := &fieldpath.Set{}
	if err := set.FromJSON(bytes.NewReader(entry.FieldsV1.GetRawBytes())); err != nil {
		return false, err
	}
	return slices.ContainsFunc(marks, set.Has), nil
}

// isOf says whether somebody among some managers owns fields of an object, its status aside.
func isOf(o client.Object, managers sets.Set[string]) bool {
	return slices.ContainsFunc(o.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool {
		return managers.Has(e.Manager) && e.Subresource == ""
	})
}

// appliedSuffix tells the entry of what a manager has applied from that of what it has updated.
const appliedSuffix = " (applied)"

// upgrade moves the fields that some managers own, by whatever operation, to ours. It changes nothing else of the object, and fails with
// a conflict when that has changed meanwhile.
func (a *Applier) upgrade(ctx context.Context, manager string, there client.Object, from sets.Set[string]) error {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(there.GetObjectKind().GroupVersionKind())
	o.SetNamespace(there.GetNamespace())
	o.SetName(there.GetName())
	o.SetResourceVersion(there.GetResourceVersion())
	entries, from := there.GetManagedFields(), from.Clone()
	for i := range entries {
		if e := &entries[i]; from.Has(e.Manager) && e.Operation == metav1.ManagedFieldsOperationApply {
			// What was applied, as by Helm from version 4, moves as what was updated does. One manager may have done both: under
			// one name, only one of the two would move.
			e.Operation, e.Manager = metav1.ManagedFieldsOperationUpdate, e.Manager+appliedSuffix
			from.Insert(e.Manager)
		}
	}
	o.SetManagedFields(entries)
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(o, from, manager)
	if err != nil {
		return fmt.Errorf("taking over the fields of %s %s: %w", o.GetKind(), join(o.GetNamespace(), o.GetName()), err)
	}
	if patch == nil {
		return nil
	}
	return refused(o, a.owned.Client.Patch(ctx, o, client.RawPatch(types.JSONPatchType, patch)))
}
