// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package policies keeps the operator's own admission policies where the installer can't apply them: OLM's bundles hold none. They are
// the files of config/policy, and the operator holds the rights that this takes anyway, for Istio's charts contain policies.
package policies

import (
	"context"
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/config/policy"
	"github.com/meshwright/meshwright/webhooks/keep"
)

// How often the leader looks again, and how soon after an error.
const (
	interval = 10 * time.Minute
	retry    = 5 * time.Second
)

// manager is the field manager of the policies.
const manager = "meshwright-policies"

// Label and Kept mark the policies that the operator keeps: a newer one removes what it no longer has by it and by the beginning of the name.
const (
	Label  = "meshwright.io/policies"
	Kept   = "kept"
	prefix = "meshwright-"
)

// Keeper applies the policies, and puts back what others change.
type Keeper struct {
	// Client reads from the API server.
	Client client.Client
	// Namespace of the operator, by whose service account the policies know it.
	Namespace string
	Clock     clock.WithTicker
}

// NeedLeaderElection says that one replica keeps them: of two versions of the operator, the one that acts has its own in force.
func (k *Keeper) NeedLeaderElection() bool { return true }

// Start keeps the policies until the context ends.
func (k *Keeper) Start(ctx context.Context) error {
	return keep.Loop{
		Logger: "policies", Thing: "the admission policies", Interval: interval, Retry: retry, Clock: k.Clock, Ensure: k.Ensure,
	}.Run(ctx)
}

// Begin makes the policies that are not there. It changes none and removes none: each replica does it when it starts, also one of an older version
// that restarts while a newer one leads.
func (k *Keeper) Begin(ctx context.Context) error {
	wanted, err := k.wanted()
	if err != nil {
		return err
	}
	for _, o := range wanted {
		// Not by apply, which would overwrite the policy that another replica has made in the meantime.
		err := k.Client.Create(ctx, o, client.FieldOwner(manager))
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("making %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// Ensure applies each policy and removes what an older version kept and this one does not. It is for the leader only.
func (k *Keeper) Ensure(ctx context.Context) error {
	wanted, err := k.wanted()
	if err != nil {
		return err
	}
	names := map[key]bool{}
	for _, o := range wanted {
		names[keyOf(o)] = true
	}
	there, err := k.kept(ctx)
	if err != nil {
		return err
	}
	for _, o := range there {
		if names[keyOf(o)] {
			err = k.adopt(ctx, o)
		} else {
			err = k.remove(ctx, o)
		}
		if err != nil {
			return err
		}
	}
	for _, o := range wanted {
		intent := client.ApplyConfigurationFromUnstructured(o)
		if err := k.Client.Apply(ctx, intent, client.FieldOwner(manager), client.ForceOwnership); err != nil {
			return fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// key tells policies and bindings from each other.
type key struct{ kind, name string }

func keyOf(o *unstructured.Unstructured) key { return key{o.GetKind(), o.GetName()} }

// wanted are the policies of this version, with the label.
func (k *Keeper) wanted() ([]*unstructured.Unstructured, error) {
	out, err := policy.Objects(k.Namespace)
	for _, o := range out {
		o.SetLabels(map[string]string{Label: Kept})
	}
	return out, err
}

// kept are the policies in the cluster that an operator keeps, of this version or another; bindings first, for they go first. A label alone is
// soon copied: what has another name is somebody else's.
func (k *Keeper) kept(ctx context.Context) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, kind := range []string{"ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"} {
		there := &unstructured.UnstructuredList{}
		there.SetGroupVersionKind(schema.GroupVersionKind{Group: "admissionregistration.k8s.io", Version: "v1", Kind: kind + "List"})
		if err := k.Client.List(ctx, there, client.MatchingLabels{Label: Kept}); err != nil {
			return nil, fmt.Errorf("listing %s: %w", kind, err)
		}
		for i := range there.Items {
			if o := &there.Items[i]; strings.HasPrefix(o.GetName(), prefix) {
				out = append(out, o)
			}
		}
	}
	return out, nil
}

// adopt makes what Begin has created a thing that was applied: a field which this version leaves out would otherwise stay.
func (k *Keeper) adopt(ctx context.Context, o *unstructured.Unstructured) error {
	patch, err := csaupgrade.UpgradeManagedFieldsPatch(o, sets.New(manager), manager)
	if err != nil || patch == nil {
		return err
	}
	// It has the resource version in it: nothing is changed that was not seen.
	if err := k.Client.Patch(ctx, o, client.RawPatch(types.JSONPatchType, patch)); err != nil {
		return fmt.Errorf("adopting %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}

// remove deletes the very object that was seen.
func (k *Keeper) remove(ctx context.Context, o *unstructured.Unstructured) error {
	err := k.Client.Delete(ctx, o, client.Preconditions{UID: new(o.GetUID())})
	if err := client.IgnoreNotFound(err); err != nil {
		return fmt.Errorf("removing %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}
