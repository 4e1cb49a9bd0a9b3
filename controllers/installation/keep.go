// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/Masterminds/semver/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/apply"
	"github.com/meshwright/meshwright/operator/conditions"
	"github.com/meshwright/meshwright/operator/metrics"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/validate"
	"github.com/meshwright/meshwright/operator/version"
)

// outcome is how far a reconcile came.
type outcome struct {
	// problem stands in the way of the newest spec; nil when there is none.
	problem *conditions.Verdict
	// singletons is the verdict over CRDs, base, default revision and tags.
	singletons conditions.Verdict
	// behind says why the mesh is not where the spec wants it; nil when it is.
	behind *conditions.Verdict
	// again is when to look again; 0 for never.
	again time.Duration
}

func stalled(reason, message string) outcome {
	return outcome{problem: &conditions.Verdict{Ready: metav1.ConditionFalse, Reason: reason, Message: message, Stalled: true}}
}

func failed(err error) outcome {
	verdict := conditions.OfApply(apply.Result{}, err)
	return outcome{problem: &verdict}
}

// keep walks from the spec to the gateways and stops where something has to be waited for or mended.
func (r *Reconciler) keep(ctx context.Context, s *scope, known validate.Facts) (outcome, error) {
	if errs, _ := validate.Installation(s.mesh, known); len(errs) > 0 {
		target, err := validate.Target(s.mesh, known)
		out := stalled(reasonOf(s.mesh, target, err, known), errs.ToAggregate().Error())
		if s.active != nil {
			if _, err := r.carry(ctx, s, nil); err != nil {
				return out, err
			}
		}
		return out, r.keepAccepted(ctx, s, errs)
	}
	target, err := validate.Target(s.mesh, known)
	if err != nil {
		return failed(err), err
	}
	request, err := r.request(ctx, s.mesh, target, validate.RevisionName(s.mesh, target))
	if err != nil {
		return stalled(v1alpha1.ReasonVersionUnavailable, err.Error()), err // a registry may answer again
	}
	if s.mesh.Spec.Paused {
		return r.observe(ctx, s, request)
	}
	if err := r.ensureNamespaces(ctx, s); err != nil {
		return failed(err), err
	}
	// The revision comes first: its controller works while this one applies the CRDs, for which istiod waits. A canary comes after
	// the CRDs of its version.
	moved, err := r.move(ctx, s, known, request)
	if err != nil || moved.problem != nil {
		return moved, err
	}
	result, err := r.applySingletons(ctx, s, request)
	if err != nil {
		return failed(err), err
	}
	moved.singletons = conditions.OfApply(result, nil)
	if s.active != nil {
		out, err := r.carry(ctx, s, &request)
		if err != nil || out.problem != nil {
			return out, err
		}
		moved.behind, moved.again = out.behind, out.again
	}
	return moved, r.writeGateways(ctx, s)
}

// observe looks at a paused mesh. Ready speaks of the newest spec: what that wants anew is not there.
func (r *Reconciler) observe(ctx context.Context, s *scope, request render.Request) (outcome, error) {
	same, err := request.Made(s.revision)
	if err != nil {
		return failed(err), err
	}
	if s.active == nil && !same {
		return outcome{problem: &conditions.Verdict{
			Ready: metav1.ConditionFalse, Reason: v1alpha1.ReasonPaused, Stalled: true,
			Message: "spec.paused keeps what the newest spec wants from being applied: set it to false",
		}}, nil
	}
	result, err := r.applySingletons(ctx, s, request)
	if err != nil {
		return failed(err), err
	}
	return outcome{singletons: conditions.OfApply(result, nil)}, nil
}

// keepAccepted keeps what exists once as the last spec that was accepted wants it, while the newest one is refused: the mesh
// serves on. A new process that finds a refused spec knows no accepted one, unless only the version is refused.
func (r *Reconciler) keepAccepted(ctx context.Context, s *scope, errs field.ErrorList) error {
	if s.revision == nil {
		return nil
	}
	if phases := r.rendered.accepted(s.mesh.Name); phases != nil {
		_, err := r.applyPhases(ctx, s, phases)
		return err
	}
	if slices.ContainsFunc(errs, func(e *field.Error) bool { return e.Field != "spec.version" }) {
		return nil
	}
	request, err := r.requestOf(ctx, s.mesh, s.revision)
	if err != nil {
		return err
	}
	_, err = r.applySingletons(ctx, s, request)
	return err
}

// reasonOf names the cause of a spec that is refused; err is why there is no target.
func reasonOf(m *v1alpha1.MeshInstallation, target *semver.Version, err error, known validate.Facts) string {
	var unavailable *version.UnavailableError
	switch {
	case errors.As(err, &unavailable):
		return v1alpha1.ReasonVersionUnavailable
	case err == nil && validate.Supported(m, known) != nil:
		return v1alpha1.ReasonUnsupportedKubernetes
	case err == nil && validate.Move(m, target, known) != nil:
		return v1alpha1.ReasonSkew
	}
	return v1alpha1.ReasonInvalidSpec
}

// serving says whether the control plane is ready as its newest spec wants it.
func (s *scope) serving() bool {
	return s.revision != nil && conditions.Current(s.revision.Status.Conditions, s.revision.Generation, v1alpha1.ConditionReady)
}

// request is what a revision of a version is rendered from, with the values that the installation has now.
func (r *Reconciler) request(ctx context.Context, m *v1alpha1.MeshInstallation, v *semver.Version, revision string) (render.Request, error) {
	bundle, err := r.Library.Get(ctx, v.String())
	if err != nil {
		return render.Request{}, err
	}
	return render.RequestOf(m, bundle, r.KubeVersion, revision)
}

// requestOf is the same for a revision that exists.
func (r *Reconciler) requestOf(ctx context.Context, m *v1alpha1.MeshInstallation, revision *v1alpha1.MeshRevision) (render.Request, error) {
	v, err := semver.NewVersion(revision.Spec.Version)
	if err != nil {
		return render.Request{}, err
	}
	return r.request(ctx, m, v, revision.Name)
}

// applySingletons applies what exists once in a cluster, or looks at it when the mesh is paused. CRDs and base are those of the
// newest version that the mesh has or moves to. The default revision and the tags point to istiod, so that they come when it
// serves; those that are there already are kept in any case.
func (r *Reconciler) applySingletons(ctx context.Context, s *scope, request render.Request) (apply.Result, error) {
	newest, err := r.newest(ctx, s, request)
	if err != nil {
		return apply.Result{Inventory: s.mesh.Status.Inventory}, err
	}
	wanted, done, err := r.rendered.of(newest)
	if err != nil {
		return apply.Result{Inventory: s.mesh.Status.Inventory}, err
	}
	defer done()
	phases := []apply.Phase{{Objects: wanted.crds, Shared: true}, {Objects: wanted.base}}
	pointed := slices.ContainsFunc(s.mesh.Status.Inventory, func(i v1alpha1.InventoryItem) bool {
		return i.Kind == "MutatingWebhookConfiguration" || i.Kind == "ValidatingWebhookConfiguration"
	})
	if s.serving() || pointed {
		pointers, err := r.pointers(ctx, s)
		if err != nil {
			return apply.Result{Inventory: s.mesh.Status.Inventory}, err
		}
		phases = append(phases, apply.Phase{Objects: pointers})
	}
	r.rendered.accept(s.mesh.Name, phases)
	return r.applyPhases(ctx, s, phases)
}

func (r *Reconciler) applyPhases(ctx context.Context, s *scope, phases []apply.Phase) (apply.Result, error) {
	result, err := r.Applier.Apply(ctx, apply.Request{
		Manager: v1alpha1.ManagerInstallation, Mesh: s.mesh.Name, Phases: phases, Inventory: s.mesh.Status.Inventory,
		Observe: s.mesh.Spec.Paused,
		Record: func(ctx context.Context, intents []v1alpha1.InventoryItem) error {
			s.mesh.Status.Inventory = intents
			if err := conditions.Write(ctx, r.Client, s.before, s.mesh); err != nil {
				return err
			}
			s.before = s.mesh.DeepCopy()
			return nil
		},
	})
	metrics.Corrected("installation", result.Corrected)
	s.mesh.Status.Inventory = result.Inventory
	return result, err
}

// writeGateways writes a MeshGateway for each entry of spec.gateways and deletes those that are no entry any more. New ones
// come when istiod serves, which their pods need.
func (r *Reconciler) writeGateways(ctx context.Context, s *scope) error {
	for _, entry := range s.mesh.Spec.Gateways {
		i := slices.IndexFunc(s.gateways, func(g v1alpha1.MeshGateway) bool {
			return g.Name == entry.Name && g.Namespace == entry.Namespace
		})
		if i >= 0 && validate.Same(&s.gateways[i], entry) {
			continue
		}
		if i < 0 && !s.serving() {
			continue
		}
		intent, err := gatewayIntent(s.mesh.Name, entry)
		if err != nil {
			return err
		}
		err = r.Client.Apply(ctx, client.ApplyConfigurationFromUnstructured(intent), client.FieldOwner(v1alpha1.ManagerInstallation), client.ForceOwnership)
		if err != nil {
			return fmt.Errorf("MeshGateway %s/%s: %w", entry.Namespace, entry.Name, err)
		}
	}
	for i := range s.gateways {
		g := &s.gateways[i]
		if validate.Listed(g, s.mesh) || g.DeletionTimestamp != nil {
			continue
		}
		if err := r.Client.Delete(ctx, g, client.Preconditions{UID: &g.UID}); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

func gatewayIntent(mesh string, entry v1alpha1.Gateway) (*unstructured.Unstructured, error) {
	values, err := v1alpha1.DecodeMap(entry.Values)
	if err != nil {
		return nil, fmt.Errorf("values of gateway %s/%s: %w", entry.Namespace, entry.Name, err)
	}
	shift, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&entry.Shift)
	if err != nil {
		return nil, fmt.Errorf("shift of gateway %s/%s: %w", entry.Namespace, entry.Name, err)
	}
	intent := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"mesh": mesh, "values": values, "versionPolicy": string(entry.VersionPolicy), "shift": shift, "adoption": string(entry.Adoption),
	}}}
	intent.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("MeshGateway"))
	intent.SetName(entry.Name)
	intent.SetNamespace(entry.Namespace)
	intent.SetLabels(map[string]string{v1alpha1.LabelMesh: mesh})
	intent.SetFinalizers([]string{v1alpha1.Finalizer})
	return intent, nil
}
