// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// digestOf is a digest of what is wanted of an object.
func digestOf(o *unstructured.Unstructured) (string, error) {
	raw, err := json.Marshal(o.Object)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return short(raw), nil
}

// fieldsOf is a digest of the set of fields that a manager owns in an object by server-side apply; empty when it owns none.
// The failurePolicy of webhooks is left out: istiod takes it over, as it should.
func fieldsOf(o *unstructured.Unstructured, manager string) (string, error) {
	for _, entry := range o.GetManagedFields() {
		if entry.Manager != manager || entry.Operation != metav1.ManagedFieldsOperationApply || entry.Subresource != "" || entry.FieldsV1 == nil {
			continue
		}
		raw := entry.FieldsV1.GetRawBytes()
		if !isWebhook(o) {
			return short(raw), nil
		}
		set := &fieldpath.Set{}
		if err := set.FromJSON(bytes.NewReader(raw)); err != nil {
			return "", fmt.Errorf("managed fields of %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		kept, err := withoutFailurePolicy(set).ToJSON()
		return short(kept), err
	}
	return "", nil
}

// owns says whether a manager owns a field of an object by server-side apply.
func owns(o *unstructured.Unstructured, manager string, field fieldpath.Path) (bool, error) {
	for _, entry := range o.GetManagedFields() {
		if entry.Manager != manager || entry.Operation != metav1.ManagedFieldsOperationApply || entry.Subresource != "" || entry.FieldsV1 == nil {
			continue
		}
		set := &fieldpath.Set{}
		if err := set.FromJSON(bytes.NewReader(entry.FieldsV1.GetRawBytes())); err != nil {
			return false, fmt.Errorf("managed fields of %s %s: %w", o.GetKind(), o.GetName(), err)
		}
		return set.Has(field), nil
	}
	return false, nil
}

func isWebhook(o *unstructured.Unstructured) bool {
	return o.GetKind() == "ValidatingWebhookConfiguration" || o.GetKind() == "MutatingWebhookConfiguration"
}

const failurePolicy = "failurePolicy"

func isFailurePolicy(p fieldpath.Path) bool {
	last := p[len(p)-1]
	return last.FieldName != nil && *last.FieldName == failurePolicy
}

func withoutFailurePolicy(set *fieldpath.Set) *fieldpath.Set {
	out := &fieldpath.Set{}
	set.Iterate(func(p fieldpath.Path) {
		if !isFailurePolicy(p) {
			out.Insert(p.Copy())
		}
	})
	return out
}

// yieldFailurePolicy leaves failurePolicy out of the webhooks of which another manager owns it in the live object. While
// nobody else does, ours has to stay: leaving out a field that one alone owns deletes it, and the default is Fail.
func yieldFailurePolicy(wanted, live *unstructured.Unstructured, manager string) error {
	taken, err := failurePoliciesOfOthers(live, manager)
	if err != nil || len(taken) == 0 {
		return err
	}
	webhooks, _, err := unstructured.NestedSlice(wanted.Object, "webhooks")
	if err != nil {
		return err
	}
	for _, w := range webhooks {
		if webhook, ok := w.(map[string]any); ok && taken.Has(fmt.Sprint(webhook["name"])) {
			delete(webhook, failurePolicy)
		}
	}
	return unstructured.SetNestedSlice(wanted.Object, webhooks, "webhooks")
}

// failurePoliciesOfOthers are the names of the webhooks whose failurePolicy another manager owns. In a set of fields, an
// element of the list of webhooks is known by its name.
func failurePoliciesOfOthers(live *unstructured.Unstructured, manager string) (sets.Set[string], error) {
	names := sets.New[string]()
	for _, entry := range live.GetManagedFields() {
		if entry.Manager == manager || entry.FieldsV1 == nil {
			continue
		}
		set := &fieldpath.Set{}
		if err := set.FromJSON(bytes.NewReader(entry.FieldsV1.GetRawBytes())); err != nil {
			return nil, fmt.Errorf("managed fields of %s %s: %w", live.GetKind(), live.GetName(), err)
		}
		set.Iterate(func(p fieldpath.Path) {
			if !isFailurePolicy(p) || len(p) < 2 || p[len(p)-2].Key == nil {
				return
			}
			for _, field := range *p[len(p)-2].Key {
				if field.Name == "name" {
					names.Insert(field.Value.AsString())
				}
			}
		})
	}
	return names, nil
}

// short is enough of a SHA-256 to tell what differs: 128 bits.
func short(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:16])
}
