// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"slices"
	"time"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/version"
)

// charts judges what the target's charts, and its MeshConfig, say of the values of the mesh.
func charts(f *Facts) (out []Finding) {
	if f.Mesh == nil {
		return nil
	}
	object := f.mesh()
	if f.Charts.Failure != "" {
		out = append(out, found(ChartFails, object, clip(f.Charts.Failure, 500), "mend spec.controlPlane.values for Istio "+f.Move.To.String()))
	}
	for _, g := range f.Gateways {
		if g.Failure != "" {
			out = append(out, found(ChartFails, Object{"MeshGateway", g.Namespace, g.Name}, clip(g.Failure, 500), "mend the values of the gateway for Istio "+f.Move.To.String()))
		}
	}
	for _, u := range f.Charts.Unknown {
		out = append(out, found(UnknownValue, object, u, "remove it, or use the name that it has in Istio "+f.Move.To.String()))
	}
	for _, path := range deprecatedMeshConfig(f.Mesh) {
		out = append(out, found(DeprecatedMeshConfig, object, path+" is deprecated", "use what Istio's reference of MeshConfig names instead"))
	}
	return out
}

// mesh is the object that stands for the mesh.
func (f *Facts) mesh() Object {
	if f.Mesh == nil {
		return Object{Kind: "Namespace", Name: f.Move.Namespace}
	}
	return Object{Kind: meshKind, Name: f.Mesh.Name}
}

// versions judges the target against the cluster and against what is installed.
func versions(f *Facts) (out []Finding) {
	m := f.Move
	if m.Line.Name != "" && f.Kubernetes != nil {
		if err := version.CheckKubernetes(m.Line, f.Kubernetes); err != nil {
			v := found(KubernetesVersion, f.mesh(), err.Error(), "choose a version that supports it, or set spec.upgrade.unsupportedKubernetes to Accept")
			if m.AnyKubernetes {
				v = v.as(SeverityWarning)
			}
			out = append(out, v)
		}
	}
	if err := version.CheckMove(m.From, m.To, m.InPlace); err != nil {
		v := found(VersionSkew, f.mesh(), err.Error(), "or set spec.upgrade.versionSkew to Accept")
		if m.AnySkew {
			v = v.as(SeverityWarning)
		}
		out = append(out, v)
	}
	return out
}

// How long before the end of a certificate it is told, and holds a rollout back: one that ends while the mesh is moved would stop it
// half-way.
const (
	expiresSoon = 30 * 24 * time.Hour
	expiresNow  = 24 * time.Hour
)

// certificates judges the certificates of the mesh's CA, as its status has them.
func certificates(f *Facts) (out []Finding) {
	if f.Mesh == nil {
		return nil
	}
	status := f.Mesh.Status.Certificates
	for kind, all := range map[string][]v1alpha1.CertificateInfo{"root": status.Roots, "intermediate": status.Intermediates} {
		for _, c := range all {
			left, verb := c.NotAfter.Sub(f.Now), " expires at "
			if left > expiresSoon || status.Next != nil && status.Next.Time.Before(c.NotAfter.Time) {
				continue // the latter is renewed in time by itself
			}
			if left <= 0 {
				verb = " has expired at "
			}
			why := "the " + kind + " " + c.Subject + verb + c.NotAfter.UTC().Format(time.RFC3339)
			v := found(CertificateExpiry, f.mesh(), why, "rotate the CA before the upgrade")
			if left > expiresNow {
				v = v.as(SeverityWarning)
			}
			out = append(out, v)
		}
	}
	return out
}

// judgedBy are the codes for which something is read, by the right that it takes. What is not among them may be for any.
var judgedBy = map[string][]Code{
	"list virtualservices.networking.istio.io":           {DeprecatedField},
	"list destinationrules.networking.istio.io":          {DeprecatedField},
	"list gateways.networking.istio.io":                  {DeprecatedField},
	"list sidecars.networking.istio.io":                  {DeprecatedField},
	"list telemetries.telemetry.istio.io":                {DeprecatedField},
	"list configmaps":                                    {ProxyImage},
	"list services":                                      {DeprecatedAnnotation, AlphaAnnotation},
	"list nodes":                                         {NoRoom},
	"list horizontalpodautoscalers.autoscaling":          {AutoscalerAtLimit},
	"list networkpolicies.networking.k8s.io":             {NetworkToIstiod, NetworkToGateway, NetworkToXDS},
	"create subjectaccessreviews.authorization.k8s.io":   {MissingPermission},
	"list deployments, statefulsets and daemonsets.apps": {Unmovable},
}

// hides says whether what could not be read could have been an error.
func (u Unread) hides() bool {
	codes, known := judgedBy[u.Verb+" "+u.Resource]
	return !known || slices.ContainsFunc(codes, func(c Code) bool {
		info, _ := InfoOf(c)
		return info.Severity == SeverityError
	})
}

// notChecked says what could not be read. Where a rollout is granted on it, that is no pass; who only looks is told.
func notChecked(f *Facts) (out []Finding) {
	for _, u := range f.Unread {
		where, role := "of the whole cluster", "a ClusterRole"
		if u.Namespace != "" {
			where, role = "in namespace "+u.Namespace, "a Role"
		}
		v := found(NotChecked, Object{Kind: "Resource", Namespace: u.Namespace, Name: u.Resource},
			"not checked: the right to "+u.Verb+" "+u.Resource+" "+where+" is missing", "grant it by "+role+", or ask somebody who has it")
		if !f.Grants || !u.hides() {
			v = v.as(SeverityWarning)
		}
		out = append(out, v)
	}
	return out
}

// permissions says what who installs Istio lacks.
func permissions(f *Facts) (out []Finding) {
	for _, p := range f.Permissions {
		why := p.Who + " may not create " + p.Resource
		if p.Namespace != "" {
			why += " in namespace " + p.Namespace
		}
		out = append(out, found(MissingPermission, Object{Kind: "Resource", Namespace: p.Namespace, Name: p.Resource}, why,
			"install the ClusterRoles of Meshwright's release"))
	}
	return out
}
