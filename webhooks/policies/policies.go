// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package policies keeps the operator's own admission policies where the installer can't apply them: OLM's bundles hold none. They are
// the files of config/policy, and the operator holds the rights that this takes anyway, for Istio's charts contain policies.
package policies

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/config/policy"
)

// How often the leader looks again, and how soon after an error.
const (
	interval = 10 * time.Minute
	retry    = 5 * time.Second
)

// manager is the field manager of the policies.
const manager = "meshwright-policies"

// Label and Kept mark the policies that the operator keeps: a newer one removes by it what it no longer has.
const (
	Label = "meshwright.io/policies"
	Kept  = "kept"
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
	log := ctrl.LoggerFrom(ctx).WithName("policies")
	for {
		wait := interval
		if err := k.Ensure(ctx); err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the operator ends
			}
			log.Error(err, "keeping the admission policies; trying again", "after", retry)
			wait = retry
		}
		timer := k.Clock.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C():
		}
	}
}

// Ensure applies each policy and removes what an older version kept and this one does not.
func (k *Keeper) Ensure(ctx context.Context) error {
	wanted, err := policy.Objects(k.Namespace)
	if err != nil {
		return err
	}
	type key struct {
		kind schema.GroupVersionKind
		name string
	}
	names := map[key]bool{}
	for _, o := range wanted {
		names[key{o.GroupVersionKind(), o.GetName()}] = true
		o.SetLabels(map[string]string{Label: Kept})
		intent := client.ApplyConfigurationFromUnstructured(o)
		if err := k.Client.Apply(ctx, intent, client.FieldOwner(manager), client.ForceOwnership); err != nil {
			return fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	for _, kind := range []string{"ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"} {
		there := &unstructured.UnstructuredList{}
		there.SetGroupVersionKind(schema.GroupVersionKind{Group: "admissionregistration.k8s.io", Version: "v1", Kind: kind + "List"})
		if err := k.Client.List(ctx, there, client.MatchingLabels{Label: Kept}); err != nil {
			return fmt.Errorf("listing %s: %w", kind, err)
		}
		for i := range there.Items {
			o := &there.Items[i]
			if names[key{o.GroupVersionKind(), o.GetName()}] {
				continue
			}
			if err := client.IgnoreNotFound(k.Client.Delete(ctx, o)); err != nil {
				return fmt.Errorf("removing %s %s: %w", kind, o.GetName(), err)
			}
		}
	}
	return nil
}
