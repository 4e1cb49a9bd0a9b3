// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// allowed says which values a team may set: each key with the keys below it that it may set, or nil for all of them. The
// operator applies a gateway with its own rights, so whatever could reach beyond the gateway's own pods, name another
// identity or mount something is left out.
type allowed map[string]allowed

var teamValues = allowed{
	"autoscaling":         nil,
	"replicaCount":        nil,
	"resources":           nil,
	"labels":              nil, // with the prefixes of reservedLabels left out
	"annotations":         nil,
	"podDisruptionBudget": nil,
	"service": {
		"type": nil, "ports": nil, "annotations": nil, "externalTrafficPolicy": nil, "internalTrafficPolicy": nil,
		"ipFamilies": nil, "ipFamilyPolicy": nil, "loadBalancerClass": nil, "loadBalancerSourceRanges": nil,
		"allocateLoadBalancerNodePorts": nil,
	},
	"topologySpreadConstraints":     nil,
	"affinity":                      nil,
	"terminationGracePeriodSeconds": nil,
	"minReadySeconds":               nil,
	"strategy":                      nil,
	"imagePullPolicy":               nil,
}

// TeamValues lists the top-level values that a team may set, in order.
func TeamValues() []string { return slices.Sorted(maps.Keys(teamValues)) }

// reservedLabels are prefixes of labels that decide who selects, injects or owns a pod.
var reservedLabels = []string{"meshwright.io/", "istio.io/", "sidecar.istio.io/", "inject.istio.io/", "service.istio.io/", "topology.istio.io/"}

// Gateway checks a MeshGateway. A team's own is one that its mesh does not list in spec.gateways; mesh is nil when the mesh
// does not exist (yet).
func Gateway(g *v1alpha1.MeshGateway, mesh *v1alpha1.MeshInstallation, f Facts) (errs field.ErrorList, warnings []string) {
	path := field.NewPath("spec", "values")
	decoded, err := v1alpha1.DecodeMap(g.Spec.Values)
	if err != nil {
		return field.ErrorList{field.Invalid(path, string(g.Spec.Values.Raw), "has to be a map of Helm values")}, nil
	}
	if mesh == nil {
		warnings = append(warnings, fmt.Sprintf("spec.mesh: there is no MeshInstallation %s: the gateway waits for it", g.Spec.Mesh))
	}
	for _, tag := range slices.Sorted(maps.Keys(f.TagUsers)) {
		if slices.Contains(f.TagUsers[tag], g.Namespace) {
			warnings = append(warnings, fmt.Sprintf("metadata.namespace: namespace %s is labelled for injection (%s), which beats the gateway's own revision: "+
				"move the gateway into a namespace of its own", g.Namespace, tag))
		}
	}
	errs = append(errs, forbidden(path, decoded, gatewayOwned)...)
	errs = append(errs, gatewayService(path, g.Spec.Values)...)
	moreErrs, moreWarnings := shiftRules(shifted{field.NewPath("spec", "shift"), path, g.Spec.Shift, decoded, g.Namespace}, f)
	errs, warnings = append(errs, moreErrs...), append(warnings, moreWarnings...)
	if mesh != nil && mesh.Spec.Namespace == g.Namespace {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "namespace"), g.Namespace, "is that of the control plane: choose a namespace of the gateway's own"))
	}
	if !Listed(g, mesh) {
		errs = append(errs, notAllowed(path, decoded, teamValues)...)
		errs = append(errs, labelRules(path, decoded)...)
		errs = append(errs, plain(path, decoded)...)
		errs = append(errs, reachable(path.Child("service"), decoded)...)
		if g.Spec.Adoption == v1alpha1.AdoptionAdopt {
			detail := "a gateway is taken over with the operator's rights: ask an administrator to list it in spec.gateways of the MeshInstallation, with adoption Adopt there"
			errs = append(errs, field.Forbidden(field.NewPath("spec", "adoption"), detail))
		}
	}
	if f.KnownValues != nil && f.Installed != nil {
		if tree := f.KnownValues(f.Installed, gatewayChart); tree != nil {
			warnings = append(warnings, unknown(path, decoded, tree)...)
		}
	}
	return errs, warnings
}

// Listed says whether a mesh lists a gateway in spec.gateways: whoever writes a MeshInstallation may give it any value.
func Listed(g *v1alpha1.MeshGateway, mesh *v1alpha1.MeshInstallation) bool {
	return mesh != nil && mesh.Name == g.Spec.Mesh && slices.ContainsFunc(mesh.Spec.Gateways, func(entry v1alpha1.Gateway) bool {
		return entry.Name == g.Name && entry.Namespace == g.Namespace
	})
}

// Same says whether a gateway is as its entry in spec.gateways has it. It is not while an edit by others waits to be put back:
// what it says then has not been checked by anybody.
func Same(g *v1alpha1.MeshGateway, entry v1alpha1.Gateway) bool {
	if g.Spec.VersionPolicy != entry.VersionPolicy || g.Spec.Adoption != entry.Adoption ||
		!apiequality.Semantic.DeepEqual(g.Spec.Shift, entry.Shift) {
		return false
	}
	there, err := v1alpha1.DecodeMap(g.Spec.Values)
	if err != nil {
		return false
	}
	wanted, err := v1alpha1.DecodeMap(entry.Values)
	return err == nil && apiequality.Semantic.DeepEqual(there, wanted)
}

func notAllowed(path *field.Path, values map[string]any, list allowed) (errs field.ErrorList) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		below, ok := list[key]
		if !ok {
			detail := fmt.Sprintf("a team's gateway may set %s only: ask an administrator to list the gateway in spec.gateways of the MeshInstallation",
				strings.Join(slices.Sorted(maps.Keys(list)), ", "))
			errs = append(errs, field.Forbidden(path.Child(key), detail))
			continue
		}
		if below == nil {
			continue
		}
		inner, isMap := values[key].(map[string]any)
		if !isMap {
			errs = append(errs, field.Invalid(path.Child(key), summary(values[key]), "has to be a map"))
			continue
		}
		errs = append(errs, notAllowed(path.Child(key), inner, below)...)
	}
	return errs
}

// plain refuses control characters and line breaks of any kind: charts print some values as they are, and what stands on a
// line of its own is a field or an object of its own.
func plain(path *field.Path, value any) (errs field.ErrorList) {
	breaks := func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
	switch v := value.(type) {
	case string:
		if strings.ContainsFunc(v, breaks) {
			errs = append(errs, field.Invalid(path, summary(v), "has to be one line without control characters"))
		}
	case []any:
		for i, item := range v {
			errs = append(errs, plain(path.Index(i), item)...)
		}
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(v)) {
			if strings.ContainsFunc(key, breaks) {
				errs = append(errs, field.Invalid(path, summary(key), "a key has to be one line without control characters"))
				continue
			}
			errs = append(errs, plain(path.Child(key), v[key])...)
		}
	}
	return errs
}

// serviceTypes are those that make a Service of the gateway's own pods.
var serviceTypes = []string{"ClusterIP", "NodePort", "LoadBalancer"}

// reachable keeps the Service what it is: one over the gateway's own pods.
func reachable(path *field.Path, values map[string]any) field.ErrorList {
	service, _ := values["service"].(map[string]any)
	if kind, set := service["type"]; set && !isString(kind, func(s string) bool { return slices.Contains(serviceTypes, s) }) {
		return field.ErrorList{field.NotSupported(path.Child("type"), summary(kind), serviceTypes)}
	}
	if class, set := service["loadBalancerClass"]; set && !isString(class, func(s string) bool { return len(validation.IsQualifiedName(s)) == 0 }) {
		return field.ErrorList{field.Invalid(path.Child("loadBalancerClass"), summary(class), "has to be a label-style name, such as example.com/internal")}
	}
	return nil
}

func isString(v any, good func(string) bool) bool {
	s, ok := v.(string)
	return ok && good(s)
}

// labelRules keeps a team's pods out of other Services and out of other meshes.
func labelRules(path *field.Path, values map[string]any) (errs field.ErrorList) {
	labels, ok := values["labels"].(map[string]any)
	if !ok {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if key == "app" || key == "istio" {
			errs = append(errs, field.Forbidden(path.Child("labels", key), "it follows from the gateway's name, which its Service selects by"))
		}
		for _, prefix := range reservedLabels {
			if strings.HasPrefix(key, prefix) {
				errs = append(errs, field.Forbidden(path.Child("labels", key), "labels of Istio and Meshwright decide who injects and owns a pod"))
			}
		}
	}
	return errs
}
