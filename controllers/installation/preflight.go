// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"context"

	"github.com/Masterminds/semver/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/dataplane"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/rollout"
	"github.com/meshwright/meshwright/operator/validate"
)

// preflight checks the cluster before a rollout to what a request makes is granted. It is the one time that the whole cluster is
// read.
func (r *Reconciler) preflight(
	ctx context.Context, s *scope, from *semver.Version, request render.Request,
) (findings, blocking []v1alpha1.Finding, err error) {
	target, err := semver.NewVersion(request.Bundle.Version())
	if err != nil {
		return nil, nil, err
	}
	wants, err := istiodWants(request)
	if err != nil {
		return nil, nil, err
	}
	namespaces := map[string]bool{}
	meshes, err := dataplane.Gather(ctx, r.Client, r.Namespace)
	if err != nil {
		return nil, nil, err
	}
	for _, m := range meshes {
		for i := range s.namespaces {
			if m.Name == s.mesh.Name && dataplane.Judge(m.Mesh, &s.namespaces[i]).Member {
				namespaces[s.namespaces[i].Name] = true
			}
		}
	}
	seen, err := r.Facts.Preflight(ctx, r.Live, namespaces, wants)
	if err != nil {
		return nil, nil, err
	}
	upgrade := s.mesh.Spec.Upgrade
	findings, blocking = validate.Findings(from, target, seen, s.mesh.Spec.DataPlane.Restart.Type, upgrade.Acknowledged)
	return append(findings, r.unmovable(s, meshes, request.Revision, maxFindings-len(findings))...), blocking, nil
}

// maxFindings is what the API allows in a plan.
const maxFindings = 100

// unmovable are findings about workloads that the rollout will not be able to move: no cause to hold it back, but worth knowing.
func (r *Reconciler) unmovable(s *scope, meshes []dataplane.Named, revision string, room int) (out []v1alpha1.Finding) {
	towards := dataplane.Towards{Revision: revision, Type: s.mesh.Spec.DataPlane.Restart.Type, Now: r.Clock.Now()}
	for _, m := range meshes {
		if m.Name != s.mesh.Name {
			continue
		}
		for i := range s.namespaces {
			member, is := dataplane.MemberOf(m, &s.namespaces[i])
			if !is {
				continue
			}
			for _, held := range rollout.Count(towards.Type, r.Index.Workloads(member, towards)).Held {
				if len(out) < room {
					out = append(out, v1alpha1.Finding{Name: "Unmovable/" + held.Workload, Message: held.Reason + ": " + held.Message})
				}
			}
		}
	}
	return out
}

// istiodWants are the requests of one pod of istiod.
func istiodWants(request render.Request) (corev1.ResourceList, error) {
	objects, _, err := render.ControlPlane(request)
	if err != nil {
		return nil, &chartError{err}
	}
	wants := corev1.ResourceList{}
	for _, o := range objects {
		if o.GetKind() != "Deployment" {
			continue
		}
		var istiod appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &istiod); err != nil {
			return nil, err
		}
		for _, c := range istiod.Spec.Template.Spec.Containers {
			for name, quantity := range c.Resources.Requests {
				sum := wants[name]
				sum.Add(quantity)
				wants[name] = sum
			}
		}
	}
	return wants, nil
}
