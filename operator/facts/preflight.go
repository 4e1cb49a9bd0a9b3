// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"slices"

	"github.com/Masterminds/semver/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/preflight"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/validate"
	"github.com/meshwright/meshwright/operator/version"
)

// Inquiry is what preflight is asked: what a move would meet.
type Inquiry struct {
	// Mesh as it is wanted, with the status that it has. Nil where Meshwright keeps none: then Namespace is that of the control plane.
	Mesh      *v1alpha1.MeshInstallation
	Namespace string
	// From and To are versions of Istio.
	From, To *semver.Version
	// Grants says that a rollout is granted on the answer.
	Grants bool
	// Index of the pods, where somebody keeps one; otherwise they are read.
	Index *dataplane.Index
	// Reviewer asks the API server for the rights of who installs Istio; nil where nobody has to ask.
	Reviewer client.Writer
}

// Check gathers what a move would meet, and judges it. What can't be read is a finding, not an error. Findings that the mesh
// acknowledges are marked so.
func (g *Gatherer) Check(ctx context.Context, live client.Reader, q Inquiry) ([]preflight.Finding, error) {
	known, err := g.Preflight(ctx, live, q)
	if err != nil {
		return nil, err
	}
	all := preflight.Check(known)
	if q.Mesh != nil {
		preflight.Acknowledge(all, q.Mesh.Spec.Upgrade.Acknowledged)
	}
	return all, nil
}

// Preflight gathers what has to be known before a rollout is granted. It asks the API server itself, page by page: this is once a
// rollout, and no reason to cache every pod in full.
func (g *Gatherer) Preflight(ctx context.Context, live client.Reader, q Inquiry) (*preflight.Facts, error) {
	r := &reading{
		live: live, gatherer: g, inquiry: q, relevant: map[string]bool{}, sizes: map[types.NamespacedName]int32{},
		out: &preflight.Facts{Now: g.Clock.Now(), Grants: q.Grants, Mesh: q.Mesh, Kubernetes: g.Kubernetes, Move: g.move(q)},
	}
	for _, section := range []func(context.Context) error{
		r.charts, r.namespaces, r.extensions, r.crds, r.webhooks, r.injection, r.pods, r.annotated, r.gateways, r.unmovable, r.budgets, r.bounds, r.network, r.permissions,
	} {
		if err := section(ctx); err != nil {
			return nil, err
		}
	}
	return r.out, nil
}

// reading is the state of one gathering.
type reading struct {
	live     client.Reader
	gatherer *Gatherer
	inquiry  Inquiry
	out      *preflight.Facts

	// meta are the namespaces of the cluster; relevant those of the mesh, its gateways and its control plane.
	meta     []metav1.PartialObjectMetadata
	relevant map[string]bool
	// mesh as enrollment knows it; nil where Meshwright keeps none.
	mesh *dataplane.Named
	// sizes are how many pods the Deployments of each gateway ask for.
	sizes map[types.NamespacedName]int32
}

func (g *Gatherer) move(q Inquiry) preflight.Move {
	out := preflight.Move{From: q.From, To: q.To, Namespace: q.Namespace, Revision: version.RevisionName(q.To), Restart: v1alpha1.RestartRollout}
	out.Line, _ = g.Catalogue.Line(q.To)
	if m := q.Mesh; m != nil {
		out.Namespace, out.Revision = m.Spec.Namespace, validate.RevisionName(m, q.To)
		out.Restarts = out.Revision == m.Status.StableRevision && q.From.Equal(q.To)
		out.InPlace = m.Spec.Upgrade.Type == v1alpha1.UpgradeInPlace
		out.Restart = m.Spec.DataPlane.Restart.Type
		out.AnySkew = m.Spec.Upgrade.VersionSkew == v1alpha1.VersionSkewAccept
		out.AnyKubernetes = m.Spec.Upgrade.UnsupportedKubernetes == v1alpha1.UnsupportedKubernetesAccept
	}
	if g.Namespace != "" {
		out.Operator = preflight.Peer{Namespace: g.Namespace, Labels: map[string]string{operatorLabel: operatorName}}
	}
	return out
}

// operatorLabel is on the pods of the operator, with this value.
const operatorLabel, operatorName = "app.kubernetes.io/name", "meshwright"

// charts renders the next control plane, for what it requests, what it injects, and whether it takes the values at all.
func (r *reading) charts(ctx context.Context) error {
	q := r.inquiry
	bundle, err := r.gatherer.Library.Get(ctx, q.To.String())
	if err != nil {
		return err
	}
	request, err := r.request(bundle)
	if err != nil {
		return err
	}
	crds, err := render.CRDs(request)
	if err != nil {
		return err
	}
	for _, o := range crds {
		r.out.TargetCRDs = append(r.out.TargetCRDs, crdOf(o))
	}
	if q.Mesh != nil {
		r.out.Charts.Unknown = validate.UnknownValues(q.Mesh, q.To, r.gatherer.KnownValues(ctx))
	}
	objects, _, err := render.ControlPlane(request)
	if err != nil {
		r.out.Charts.Failure = err.Error()
		return nil //nolint:nilerr // it is a finding
	}
	if q.Mesh != nil { // else they are the charts' own values, which say nothing of the mesh that is there
		if r.out.CNI, err = redirects(objects); err != nil {
			return err
		}
	}
	istiod, found, err := deploymentOf(objects)
	if found && err == nil {
		r.out.Istiod, r.out.Capacity.Containers = istiod.Spec.Template.Labels, requirements(istiod)
	}
	return err
}

func (r *reading) request(bundle *istio.Bundle) (render.Request, error) {
	kubernetes := "v" + r.gatherer.Kubernetes.String()
	if m := r.inquiry.Mesh; m != nil {
		return render.RequestOf(m, bundle, kubernetes, r.out.Move.Revision)
	}
	return render.Request{Bundle: bundle, KubeVersion: kubernetes, Mesh: "preflight", Revision: r.out.Move.Revision, Namespace: r.out.Move.Namespace}, nil
}

// namespaces are read first: the other sections ask which are of the mesh.
func (r *reading) namespaces(ctx context.Context) error {
	err := pages(ctx, r, "namespaces", "", func() *metav1.PartialObjectMetadataList {
		return metadata(corev1.SchemeGroupVersion.WithKind("Namespace"))
	},
		func(list *metav1.PartialObjectMetadataList) {
			for i := range list.Items {
				list.Items[i].ManagedFields = dataplane.LabelOwners(list.Items[i].ManagedFields) // they are kept to the end
			}
			r.meta = append(r.meta, list.Items...)
		})
	if err != nil {
		return err
	}
	gateways := map[string]bool{}
	if q := r.inquiry; q.Mesh != nil {
		if err := r.enrollment(ctx); err != nil {
			return err
		}
		for n := range r.mesh.Gateways {
			gateways[n] = true
		}
		for n := range r.mesh.Teams {
			gateways[n] = true
		}
	}
	if r.mesh != nil {
		r.out.Revisions = slices.Compact(slices.Sorted(slices.Values(append(r.mesh.Revisions(), r.out.Move.Revision))))
	}
	r.relevant[r.out.Move.Namespace] = true
	for i := range r.meta {
		n := &r.meta[i]
		member := n.Labels[v1alpha1.IstioInjection] == "enabled" || n.Labels[v1alpha1.IstioInjection] == "" && n.Labels[v1alpha1.IstioRevision] != ""
		if r.mesh != nil {
			member = dataplane.Judge(r.mesh.Mesh, n).Member
		}
		if n.Name == r.out.Move.Namespace || n.DeletionTimestamp != nil {
			member = false
		}
		r.out.Namespaces = append(r.out.Namespaces, preflight.Namespace{
			Name: n.Name, Labels: n.Labels, Annotations: n.Annotations, Member: member, Gateway: gateways[n.Name], Ours: n.Labels[v1alpha1.LabelMesh] != "",
		})
		if member || gateways[n.Name] {
			r.relevant[n.Name] = true
		}
	}
	return nil
}

// enrollment finds the mesh among all.
func (r *reading) enrollment(ctx context.Context) error {
	m := r.inquiry.Mesh
	all, err := dataplane.Gather(ctx, r.live, r.gatherer.Namespace)
	if err != nil {
		r.alone()
		return r.unless(err, "meshgateways.meshwright.io", "list", "")
	}
	if i := slices.IndexFunc(all, func(n dataplane.Named) bool { return n.Name == m.Name }); i >= 0 {
		r.mesh = &all[i]
		return nil
	}
	r.alone()
	return nil
}

// alone is the mesh as it is known without anything else.
func (r *reading) alone() {
	mesh, err := dataplane.MeshOf(r.inquiry.Mesh, dataplane.Around{})
	r.mesh = &dataplane.Named{Name: r.inquiry.Mesh.Name, Mesh: mesh, Still: err != nil}
}
