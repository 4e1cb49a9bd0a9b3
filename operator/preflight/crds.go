// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
)

func crdObject(c CRD) Object { return Object{Kind: "CustomResourceDefinition", Name: c.Name} }

// istioCRDs compares the CRDs of Istio that are there with those of the target's chart.
func istioCRDs(f *Facts) (out []Finding) {
	for _, next := range f.TargetCRDs {
		i := slices.IndexFunc(f.CRDs, func(c CRD) bool { return c.Name == next.Name })
		if i < 0 {
			continue
		}
		c := f.CRDs[i]
		if there, err := semver.NewVersion(c.Version); err == nil && there.GreaterThan(f.Move.To) {
			out = append(out, found(NewerCRD, crdObject(c), fmt.Sprintf("it is of Istio %s, newer than %s, and is left as it is", c.Version, f.Move.To),
				"nothing has to be done: a CRD is never moved down, and serves both"))
			continue
		}
		// The API server refuses a CRD without a version that status.storedVersions names.
		//
		// Source: Kubernetes, "Versions in CustomResourceDefinitions", "Upgrade existing objects to a new stored version".
		if lost := without(c.Stored, next.Versions); len(lost) > 0 {
			out = append(out, found(RemovedVersion, crdObject(c),
				fmt.Sprintf("objects may be stored as %s, which Istio %s does not have: the API server will refuse the new CRD", strings.Join(lost, ", "), f.Move.To),
				"write each object of the kind once, as it is, then take the version out of status.storedVersions of the CRD"))
		}
		if lost := without(c.Served, append(slices.Clone(next.Served), c.Stored...)); len(lost) > 0 {
			out = append(out, found(RemovedVersion, crdObject(c),
				fmt.Sprintf("it serves %s, which Istio %s does not: what reads or writes that version will fail", strings.Join(lost, ", "), f.Move.To),
				"write manifests and clients for "+strings.Join(next.Served, " or ")))
		}
		if len(c.Writers) > 0 && f.Mesh != nil {
			out = append(out, found(ForeignCRD, crdObject(c), strings.Join(c.Writers, " and ")+" writes its versions, beside Meshwright",
				"let the other tool leave Istio's CRDs alone: it would take back what the new version needs"))
		}
	}
	return out
}

func without(all, those []string) (out []string) {
	for _, s := range all {
		if !slices.Contains(those, s) {
			out = append(out, s)
		}
	}
	return out
}

const gatewayGroup = "gateway.networking.k8s.io"

// gatewayVersion is the version in which an Istio reads a kind of the Gateway API; empty where it is not known, or where the kind is
// of the experimental channel.
//
// Source: pkg/config/schema/gvr/resources.gen.go of Istio 1.26.1, 1.27.9, 1.28.2, 1.29.1 and 1.31.0.
func (m Move) gatewayVersion(kind string) string {
	switch kind {
	case "GRPCRoute":
		return "v1"
	case "ReferenceGrant":
		return "v1beta1"
	case "Gateway", "GatewayClass", "HTTPRoute":
		if m.atLeast(29) {
			return "v1"
		}
		return "v1beta1"
	}
	return ""
}

// gatewayBundle is the least release of the Gateway API of which an Istio takes a CRD; nil for any.
//
// Source: MinimumCRDVersions in pkg/config/schema/gatewayapi (before 1.30: pkg/kube/kclient/crdwatcher.go) of the same versions.
func (m Move) gatewayBundle(crd string) *semver.Version {
	switch crd {
	case "grpcroutes." + gatewayGroup:
		return semver.New(1, 1, 0, "", "")
	case "backendtlspolicies." + gatewayGroup:
		if m.atLeast(28) {
			return semver.New(1, 4, 0, "", "")
		}
	case "tlsroutes." + gatewayGroup:
		if m.atLeast(30) {
			return semver.New(1, 5, 0, "", "")
		}
	case "tcproutes." + gatewayGroup:
		if m.atLeast(31) {
			return semver.New(1, 6, 0, "", "")
		}
	}
	return nil
}

// gatewayAPI judges the CRDs of the Gateway API, which Istio does not install.
func gatewayAPI(f *Facts) (out []Finding) {
	const remedy = "install a newer release of the Gateway API"
	for _, c := range f.CRDs {
		if c.Group != gatewayGroup {
			continue
		}
		if wanted := f.Move.gatewayVersion(c.Kind); wanted != "" && !slices.Contains(c.Served, wanted) {
			out = append(out, found(GatewayAPIVersion, crdObject(c),
				fmt.Sprintf("it serves %s, and Istio %s reads %s", strings.Join(c.Served, ", "), f.Move.To, wanted), remedy))
		}
		least := f.Move.gatewayBundle(c.Name)
		there, err := semver.NewVersion(c.Bundle)
		if least == nil || err != nil {
			continue
		}
		released, err := there.SetPrerelease("") // as Istio does: a candidate counts as its release
		if err == nil && released.LessThan(least) {
			out = append(out, found(GatewayAPIBundle, crdObject(c),
				fmt.Sprintf("it is of the Gateway API %s, and Istio %s ignores the kind before %s", c.Bundle, f.Move.To, least), remedy))
		}
	}
	return out
}
