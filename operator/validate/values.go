// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package validate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/agext/levenshtein"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// owned are values that Meshwright sets, with the field to use instead.
type owned map[string]string

// everywhere are keys by which a chart's own defaults, or another chart's, could be reached around the rules.
var everywhere = owned{
	"_internal_defaults_do_not_set": "write the values themselves",
	"defaults":                      "write the values themselves",
	"_original":                     "it belongs to the chart",
}

// istiodOwned are the values of the istiod chart that decide names, or that have a field of their own.
var istiodOwned = owned{
	"revision":                      "it follows from spec.version and spec.upgrade.type",
	"revisionTags":                  "use spec.tags",
	"defaultRevision":               "use spec.defaultRevision",
	"meshConfig":                    "use spec.controlPlane.meshConfig",
	"hub":                           "use spec.images.hub",
	"tag":                           "it follows from spec.version",
	"image":                         "use spec.images",
	"global.istioNamespace":         "use spec.namespace",
	"global.hub":                    "use spec.images.hub",
	"global.tag":                    "it follows from spec.version",
	"global.imagePullSecrets":       "use spec.images.pullSecrets",
	"global.revision":               "it follows from spec.version and spec.upgrade.type",
	"global.resourceScope":          "an installation always holds all of its objects",
	"global.proxy.image":            "use spec.images.digests",
	"global.proxy_init.image":       "use spec.images.digests",
	"istiodRemote.enabled":          "an installation always runs its own istiod",
	"global.operatorManageWebhooks": "Meshwright manages the webhooks",
}

// gatewayOwned are the values of the gateway chart that decide names.
var gatewayOwned = owned{
	"name":                  "it is the name of the gateway",
	"revision":              "it follows the mesh",
	"serviceAccount.name":   "it is the name of the gateway",
	"serviceAccount.create": "a gateway always has a service account of its own",
	"imagePullSecrets":      "use spec.images.pullSecrets of the MeshInstallation",
	"kind":                  "a gateway is a Deployment",
}

func values(m *v1alpha1.MeshInstallation, target *semver.Version, f Facts) (errs field.ErrorList, warnings []string) {
	known := func(chart string) map[string]any {
		if target == nil || f.KnownValues == nil {
			return nil
		}
		return f.KnownValues(target, chart)
	}
	check := func(path *field.Path, raw *apiextensionsv1.JSON, ours owned, chart string) {
		decoded, err := v1alpha1.DecodeMap(raw)
		if err != nil {
			errs = append(errs, field.Invalid(path, string(raw.Raw), "has to be a map of Helm values"))
			return
		}
		tree := known(chart)
		for _, s := range scopesOf(chart, path, decoded) {
			errs = append(errs, forbidden(s.path, s.values, ours)...)
			if tree != nil {
				warnings = append(warnings, unknown(s.path, s.values, tree)...)
			}
		}
	}
	controlPlane := field.NewPath("spec", "controlPlane")
	check(controlPlane.Child("values"), m.Spec.ControlPlane.Values, istiodOwned, istiodChart)
	for i, g := range m.Spec.Gateways {
		path := field.NewPath("spec", "gateways").Index(i).Child("values")
		check(path, g.Values, gatewayOwned, gatewayChart)
		errs = append(errs, gatewayService(path, g.Values)...)
	}
	return append(errs, meshConfig(controlPlane.Child("meshConfig"), m.Spec.ControlPlane.MeshConfig)...), warnings
}

// scope is a map of values that a chart reads as its own.
type scope struct {
	path   *field.Path
	values map[string]any
}

// pilot is the key of which the istiod chart lays what is below it over all its values.
//
// Source: Istio, manifests/charts/istio-control/istio-discovery/templates/zzy_descope_legacy.yaml, the same in 1.26 to 1.31.
const pilot = "pilot"

// scopesOf are the values themselves and, of the istiod chart, those below pilot, which are the same once more.
func scopesOf(chart string, path *field.Path, values map[string]any) []scope {
	below, isMap := values[pilot].(map[string]any)
	if chart != istiodChart || !isMap {
		return []scope{{path, values}}
	}
	rest := maps.Clone(values)
	delete(rest, pilot)
	return []scope{{path, rest}, {path.Child(pilot), below}}
}

// gatewayService refuses a gateway without a Service: it could not be reached.
func gatewayService(path *field.Path, raw *apiextensionsv1.JSON) field.ErrorList {
	decoded, err := v1alpha1.DecodeMap(raw)
	if err != nil {
		return nil // said already
	}
	service, _ := decoded["service"].(map[string]any)
	if service["type"] == "None" {
		return field.ErrorList{field.Invalid(path.Child("service", "type"), "None", "a gateway needs its Service: use ClusterIP, NodePort or LoadBalancer")}
	}
	return nil
}

func forbidden(path *field.Path, values map[string]any, ours owned) (errs field.ErrorList) {
	for _, list := range []owned{everywhere, ours} {
		for _, key := range slices.Sorted(maps.Keys(list)) {
			if value, set := lookup(values, strings.Split(key, ".")); set {
				errs = append(errs, field.Forbidden(path.Child(key), fmt.Sprintf("%v is set by Meshwright: %s", summary(value), list[key])))
			}
		}
	}
	return errs
}

func lookup(values map[string]any, keys []string) (value any, set bool) {
	for i, key := range keys {
		if value, set = values[key]; !set || i == len(keys)-1 {
			break
		}
		if values, set = value.(map[string]any); !set {
			return nil, false
		}
	}
	return value, set
}

// summary keeps an error short, whatever the value.
func summary(value any) string {
	text := fmt.Sprintf("%q", fmt.Sprint(value))
	if len(text) > 40 {
		return text[:37] + "..."
	}
	return text
}

// extra are values that Istio's charts read although their defaults don't list them.
var extra = []string{"global", "profile", "compatibilityVersion", "platform", "enabled", "ownerName"}

// unknown warns of keys that a chart's defaults don't have, with the nearest one that they do. Below an empty map of the
// defaults everything is allowed.
func unknown(path *field.Path, values, known map[string]any) (warnings []string) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		below, listed := known[key]
		if !listed {
			if slices.Contains(extra, key) {
				continue
			}
			warning := fmt.Sprintf("%s: the chart does not know this value", path.Child(key))
			if near := nearest(key, slices.Sorted(maps.Keys(known))); near != "" {
				warning += fmt.Sprintf("; did you mean %q?", near)
			}
			warnings = append(warnings, warning)
			continue
		}
		inner, isMap := values[key].(map[string]any)
		tree, hasTree := below.(map[string]any)
		if isMap && hasTree && len(tree) > 0 && key != "labels" && !strings.HasSuffix(strings.ToLower(key), "annotations") {
			warnings = append(warnings, unknown(path.Child(key), inner, tree)...)
		}
	}
	return warnings
}

// nearest is the most similar of the candidates, empty when none is similar. Of equally similar ones, one of the same letters
// wins: swapped letters are the commonest slip.
func nearest(word string, candidates []string) string {
	best, score := "", 0.6
	for _, c := range candidates {
		s := levenshtein.Similarity(strings.ToLower(word), strings.ToLower(c), nil)
		if letters(word) == letters(c) {
			s += 0.1
		}
		if s > score {
			best, score = c, s
		}
	}
	return best
}

func letters(word string) string {
	all := strings.Split(strings.ToLower(word), "")
	slices.Sort(all)
	return strings.Join(all, "")
}
