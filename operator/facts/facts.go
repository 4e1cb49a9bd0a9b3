// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package facts gathers what operator/validate needs to know of the world, the same way for the webhook and for the
// controllers.
package facts

import (
	"context"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/validate"
	"github.com/meshwright/meshwright/operator/version"
)

// Gatherer gathers facts.
type Gatherer struct {
	Library   *istio.Library
	Catalogue istio.Catalogue
	// Kubernetes is the cluster's version, as of the start of the operator.
	Kubernetes *semver.Version
	Clock      clock.PassiveClock
	// Namespace of the operator, where the Secrets are that an installation names.
	Namespace string
}

// Gather gathers the facts about the installation of a name, which need not exist, from a cache or from the API server.
func (g *Gatherer) Gather(ctx context.Context, reader client.Reader, mesh string) (validate.Facts, error) {
	var installations v1alpha1.MeshInstallationList
	if err := reader.List(ctx, &installations); err != nil {
		return validate.Facts{}, err
	}
	var gateways v1alpha1.MeshGatewayList
	err := reader.List(ctx, &gateways)
	if err != nil {
		return validate.Facts{}, err
	}
	out := validate.Facts{
		Now:           g.Clock.Now(),
		Kubernetes:    g.Kubernetes,
		Available:     g.Library.Versions(),
		Lines:         g.Catalogue,
		Installations: installations.Items,
		Gateways:      gateways.Items,
	}
	if out.TagUsers, err = tagUsers(ctx, reader); err != nil {
		return out, err
	}
	stable, installed := "", ""
	for _, m := range installations.Items {
		if m.Name == mesh {
			stable, installed = m.Status.StableRevision, m.Status.ResolvedVersion
		}
	}
	revisions, err := RevisionsOf(ctx, reader, mesh)
	if err != nil {
		return out, err
	}
	if revision := Stable(revisions, stable); revision != nil {
		installed = revision.Spec.Version // else the revision was lost; the version is not resolved anew for that
	}
	if installed != "" {
		out.Installed, err = semver.NewVersion(installed)
	}
	return out, err
}

// tagUsers are the namespaces that name a revision or tag, by what they name, in order. Those with istio-injection=enabled name
// the default.
func tagUsers(ctx context.Context, reader client.Reader) (map[string][]string, error) {
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := reader.List(ctx, all); err != nil {
		return nil, err
	}
	out := map[string][]string{}
	for _, n := range all.Items {
		tag := n.Labels[dataplane.RevisionLabel]
		if n.Labels[dataplane.InjectionLabel] == "enabled" {
			tag = version.DefaultRevisionName
		}
		if tag != "" && n.DeletionTimestamp == nil {
			out[tag] = append(out[tag], n.Name)
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out, nil
}

// RevisionsOf are the MeshRevisions of a mesh, in the order of their names.
func RevisionsOf(ctx context.Context, reader client.Reader, mesh string) ([]*v1alpha1.MeshRevision, error) {
	var all v1alpha1.MeshRevisionList
	if err := reader.List(ctx, &all); err != nil {
		return nil, err
	}
	var out []*v1alpha1.MeshRevision
	for i := range all.Items {
		if all.Items[i].Spec.Mesh == mesh {
			out = append(out, &all.Items[i])
		}
	}
	slices.SortFunc(out, func(a, b *v1alpha1.MeshRevision) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// RotationsOf are the MeshRotations of a mesh.
func RotationsOf(ctx context.Context, reader client.Reader, mesh string) ([]v1alpha1.MeshRotation, error) {
	var all v1alpha1.MeshRotationList
	if err := reader.List(ctx, &all); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all.Items, func(o v1alpha1.MeshRotation) bool { return o.Spec.Mesh != mesh }), nil
}

// Stable is the stable one of the revisions of a mesh, of which status.stableRevision is given: while that is not written yet,
// the only one there is. It is nil when there is none.
func Stable(revisions []*v1alpha1.MeshRevision, stable string) *v1alpha1.MeshRevision {
	for _, r := range revisions {
		if r.Name == stable {
			return r
		}
	}
	if stable == "" && len(revisions) > 0 {
		return revisions[0]
	}
	return nil
}

// KnownValues are the default values of a chart, nil where they can't be had: the rules that need them only warn.
func (g *Gatherer) KnownValues(ctx context.Context) func(v *semver.Version, chart string) map[string]any {
	return func(v *semver.Version, chart string) map[string]any {
		bundle, err := g.Library.Get(ctx, v.String())
		if err != nil {
			return nil
		}
		known, err := render.KnownValues(bundle, chart)
		if err != nil {
			return nil
		}
		return known
	}
}
