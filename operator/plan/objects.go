// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/aymanbagabas/go-udiff"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/rollout"
	"github.com/meshwright/meshwright/operator/version"
)

// Action is what happens to an object.
type Action string

// The actions.
const (
	Create Action = "Create"
	Change Action = "Change"
	// Remove comes last: when nothing uses the old revision any more.
	Remove Action = "Remove"
)

// Object is an object that is created, changed or removed.
type Object struct {
	Action                Action
	Kind, Namespace, Name string
	// Beside is the object of the old revision that it was compared with; empty where it is the same object, or there is none.
	Beside string
	// Added and Removed count lines; Diff is the unified diff. Objects of two revisions are compared as if these and their
	// versions had one name. CRDs, which are long, have no diff.
	Added, Removed int
	Diff           string
}

// refusedError is what a chart refuses.
type refusedError struct {
	field string
	err   error
}

func (e *refusedError) Error() string { return e.field + ": " + e.err.Error() }

func (e *refusedError) Unwrap() error { return e.err }

// comparison collects what differs.
type comparison struct {
	objects  []Object
	warnings []string
}

// compare finds what differs between what there is and what is wanted.
func (w World) compare(ctx context.Context, wanted *v1alpha1.MeshInstallation, next render.Request, move rollout.Move) (*comparison, error) {
	out := &comparison{}
	if err := out.installation(w.Mesh, wanted); err != nil {
		return nil, err
	}
	stays := func(g v1alpha1.Gateway) bool {
		return move == rollout.MoveRollOut && g.VersionPolicy == v1alpha1.VersionHold
	}
	before, err := w.before(ctx, out, stays)
	if err != nil {
		return nil, err
	}
	after, err := wantedObjects(wanted, next, stays)
	if err != nil {
		return nil, err
	}
	if before.once == nil && w.Stable != nil { // nothing to compare with
		after.once = nil
	}
	if err := out.pairs(before.once, after.once, side{}, side{}); err != nil {
		return nil, err
	}
	old, now := side{}, side{next.Revision, next.Bundle.Version()}
	if w.Stable != nil {
		old = side{w.Stable.Name, w.Stable.Spec.Version}
	}
	if move == rollout.MoveNone {
		before.controlPlane, after.controlPlane = nil, nil // kept as it was rendered, whatever the charts of this build are
	}
	if err := out.pairs(before.controlPlane, after.controlPlane, old, now); err != nil {
		return nil, err
	}
	return out, out.pairs(before.gateways, after.gateways, old, now)
}

// sets are the objects of a mesh.
type sets struct {
	// once are CRDs, base, default revision and tags; controlPlane is istiod's; gateways are those of spec.gateways.
	once, controlPlane, gateways []*unstructured.Unstructured
}

// before is what there is: the control plane as it was kept, the rest as the installation has it now.
func (w World) before(ctx context.Context, out *comparison, stays func(v1alpha1.Gateway) bool) (sets, error) {
	if w.Stable == nil || w.Mesh == nil {
		return sets{}, nil
	}
	kept, err := render.Unpack(w.Stable.Spec.Objects)
	if err != nil {
		return sets{}, err
	}
	v, err := semver.NewVersion(w.Stable.Spec.Version)
	if err != nil {
		return sets{}, err
	}
	request, err := w.request(ctx, w.Mesh, v, w.Stable.Name)
	if err != nil {
		out.warnings = append(out.warnings, fmt.Sprintf("only the control plane is compared: %v", err))
		return sets{controlPlane: kept}, nil
	}
	was, err := wantedObjects(w.Mesh, request, stays)
	if err != nil {
		return sets{}, err
	}
	was.controlPlane = kept
	return was, nil
}

// wantedObjects renders all of a mesh but the gateways that stay what they are.
func wantedObjects(m *v1alpha1.MeshInstallation, request render.Request, stays func(v1alpha1.Gateway) bool) (out sets, err error) {
	refused := func(field string, err error) error { return &refusedError{field, err} }
	crds, err := render.CRDs(request)
	if err != nil {
		return out, err
	}
	base, err := render.Base(request)
	if err != nil {
		return out, err
	}
	out.once = slices.Concat(crds, base)
	if m.Spec.DefaultRevision == v1alpha1.DefaultRevisionClaim {
		pointer, err := render.DefaultRevision(request)
		if err != nil {
			return out, refused("spec.controlPlane.values", err)
		}
		out.once = append(out.once, pointer...)
	}
	for _, t := range m.Spec.Tags {
		tag, err := render.Tag(request, t.Name)
		if err != nil {
			return out, refused("spec.controlPlane.values", err)
		}
		out.once = append(out.once, tag...)
	}
	if out.controlPlane, _, err = render.ControlPlane(request); err != nil {
		return out, refused("spec.controlPlane.values", err)
	}
	for i, g := range m.Spec.Gateways {
		if stays(g) {
			continue
		}
		values, err := v1alpha1.DecodeMap(g.Values)
		if err != nil {
			return out, refused(fmt.Sprintf("spec.gateways[%d].values", i), err)
		}
		rendered, err := render.Gateway(render.GatewayRequest{
			Request: request, Name: g.Name, GatewayNamespace: g.Namespace, GatewayValues: values, Shift: g.Shift,
		})
		if err != nil {
			return out, refused(fmt.Sprintf("spec.gateways[%d].values", i), err)
		}
		out.gateways = append(append(out.gateways, rendered.Shared...), rendered.Workload...)
	}
	return out, nil
}

// installation compares the specs.
func (c *comparison) installation(before, after *v1alpha1.MeshInstallation) error {
	specOf := func(m *v1alpha1.MeshInstallation) (*unstructured.Unstructured, error) {
		spec, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&m.Spec)
		out := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
		out.SetKind("MeshInstallation")
		out.SetName(m.Name)
		return out, err
	}
	wanted, err := specOf(after)
	if err != nil {
		return err
	}
	if before == nil {
		return c.pairs(nil, []*unstructured.Unstructured{wanted}, side{}, side{})
	}
	was, err := specOf(before)
	if err != nil {
		return err
	}
	return c.pairs([]*unstructured.Unstructured{was}, []*unstructured.Unstructured{wanted}, side{}, side{})
}

// sameSpec says whether two installations want the same.
func sameSpec(a, b *v1alpha1.MeshInstallation) bool { return reflect.DeepEqual(a.Spec, b.Spec) }

// side are the names that two revisions differ by in any case.
type side struct{ revision, version string }

// neutral takes the name of the revision out of a text. That of a revision in place is a word that other things are called too.
func (s side) neutral(text string) string {
	if s.revision == "" || s.revision == version.DefaultRevisionName {
		return text
	}
	return strings.ReplaceAll(text, s.revision, "<revision>")
}

// text writes an object without the name of its revision, and without its version where it stands beside that of another one.
func (s side) text(o *unstructured.Unstructured, beside bool) (string, error) {
	raw, err := yaml.Marshal(o.Object)
	out := s.neutral(string(raw))
	if beside {
		out = strings.ReplaceAll(out, s.version, "<version>")
	}
	return out, err
}

// pairs compares objects of two revisions; those of one name, but for the revision in it, belong together.
func (c *comparison) pairs(before, after []*unstructured.Unstructured, old, next side) error {
	was := map[string]*unstructured.Unstructured{}
	for _, o := range before {
		was[old.neutral(nameOf(o))] = o
	}
	var found []Object
	for _, o := range after {
		key := next.neutral(nameOf(o))
		changed, err := difference(was[key], o, old, next)
		if err != nil {
			return err
		}
		if changed != nil {
			found = append(found, *changed)
		}
		if was[key] != nil && nameOf(was[key]) == nameOf(o) {
			delete(was, key) // it stays
		}
	}
	for _, o := range was {
		found = append(found, Object{Action: Remove, Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()})
	}
	slices.SortStableFunc(found, func(a, b Object) int {
		return cmp.Or(cmp.Compare(order(a.Action), order(b.Action)), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	c.objects = append(c.objects, found...)
	return nil
}

func order(a Action) int { return slices.Index([]Action{Create, Change, Remove}, a) }

func nameOf(o *unstructured.Unstructured) string {
	return o.GetKind() + "/" + o.GetNamespace() + "/" + o.GetName()
}

// difference is what happens to an object; nil for nothing.
func difference(before, after *unstructured.Unstructured, old, next side) (*Object, error) {
	out := &Object{Action: Create, Kind: after.GetKind(), Namespace: after.GetNamespace(), Name: after.GetName()}
	if before != nil {
		out.Action = Change
		if nameOf(before) != nameOf(after) {
			out.Action, out.Beside = Create, before.GetName()
		}
	}
	if out.Kind == "CustomResourceDefinition" {
		if before != nil && reflect.DeepEqual(before.Object, after.Object) {
			return nil, nil
		}
		return out, nil
	}
	if before == nil {
		return out, nil
	}
	was, err := old.text(before, out.Beside != "")
	if err != nil {
		return nil, err
	}
	wanted, err := next.text(after, out.Beside != "")
	if err != nil {
		return nil, err
	}
	if was == wanted && out.Action == Change {
		return nil, nil
	}
	out.Diff = udiff.Unified(before.GetName(), out.Name, was, wanted)
	for line := range strings.Lines(out.Diff) {
		switch {
		case strings.HasPrefix(line, "+++"), strings.HasPrefix(line, "---"):
		case line[0] == '+':
			out.Added++
		case line[0] == '-':
			out.Removed++
		}
	}
	return out, nil
}
