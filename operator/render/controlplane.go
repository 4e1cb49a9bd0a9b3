// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/version"
)

// crdFile is where the base chart keeps the CRDs. Its own template only copies them from there, which takes Helm five
// times as long as reading them.
const crdFile = "files/crd-all.gen.yaml"

// CRDs are Istio's CustomResourceDefinitions. They exist once in a cluster, whatever the number of meshes: their mesh
// label is empty.
func CRDs(r Request) ([]*unstructured.Unstructured, error) {
	files, err := r.Bundle.Chart(istio.ChartBase)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(files, func(f istio.File) bool { return f.Name == crdFile })
	if i < 0 {
		return nil, fmt.Errorf("chart %s of Istio %s has no %s", istio.ChartBase, r.Bundle.Version(), crdFile)
	}
	crds, err := parse(string(files[i].Data))
	if err != nil {
		return nil, fmt.Errorf("chart %s of Istio %s: %s: %w", istio.ChartBase, r.Bundle.Version(), crdFile, err)
	}
	for _, crd := range crds {
		crd.SetLabels(map[string]string{VersionLabel: r.Bundle.Version(), "app.kubernetes.io/part-of": "istio"})
	}
	own(crds, map[string]string{v1alpha1.LabelMesh: ""})
	return crds, nil
}

// VersionLabel on an object of Istio's charts is the version of Istio that it comes from.
const VersionLabel = "app.kubernetes.io/version"

// Base are the other objects of Istio's base chart, without the default validator.
func Base(r Request) ([]*unstructured.Unstructured, error) {
	all, err := base(r)
	if err != nil {
		return nil, err
	}
	rest := slices.DeleteFunc(all, func(o *unstructured.Unstructured) bool { return o.GetName() == defaultValidator })
	own(rest, map[string]string{v1alpha1.LabelMesh: r.Mesh})
	return rest, nil
}

// defaultValidator validates Istio configuration that names no revision.
const defaultValidator = "istiod-default-validator"

func base(r Request) ([]*unstructured.Unstructured, error) {
	revision := r.Revision
	if r.inPlace() {
		revision = version.DefaultRevisionName
	}
	return objects(r, istio.ChartBase, "istio-base", r.Namespace, map[string]any{
		"defaultRevision": revision,
		"global":          map[string]any{"istioNamespace": r.Namespace},
	})
}

// DefaultRevision are the objects that make a revision the cluster's default: the default validator and, where the
// revision has a name of its own, the tag "default".
func DefaultRevision(r Request) ([]*unstructured.Unstructured, error) {
	all, err := base(r)
	if err != nil {
		return nil, err
	}
	validator := slices.DeleteFunc(all, func(o *unstructured.Unstructured) bool { return o.GetName() != defaultValidator })
	own(validator, map[string]string{v1alpha1.LabelMesh: r.Mesh})
	if r.inPlace() {
		return validator, nil
	}
	tag, err := Tag(r, version.DefaultRevisionName)
	return append(validator, tag...), err
}

// Tag are the objects of a revision tag, under the names that istioctl and Helm give them.
func Tag(r Request, name string) ([]*unstructured.Unstructured, error) {
	values, err := istiodValues(r)
	if err != nil {
		return nil, err
	}
	values["revisionTags"] = []any{name}
	all, err := objects(r, istio.ChartIstiod, releaseName(r), r.Namespace, values)
	if err != nil {
		return nil, err
	}
	tag := slices.DeleteFunc(all, func(o *unstructured.Unstructured) bool { return o.GetLabels()["istio.io/tag"] != name })
	if len(tag) == 0 {
		return nil, fmt.Errorf("chart %s of Istio %s has no object for revision tag %s", istio.ChartIstiod, r.Bundle.Version(), name)
	}
	own(tag, map[string]string{v1alpha1.LabelMesh: r.Mesh})
	return tag, nil
}

// ControlPlane are the objects of one revision: istiod and what it needs. Injection is the digest of what it injects, which
// injected pods carry as annotation; empty when there is no injector.
func ControlPlane(r Request) (all []*unstructured.Unstructured, injection string, err error) {
	values, err := istiodValues(r)
	if err != nil {
		return nil, "", err
	}
	all, err = objects(r, istio.ChartIstiod, releaseName(r), r.Namespace, merge(values, stampValues()))
	if err != nil {
		return nil, "", err
	}
	if injection, err = stamp(all, r.Revision); err != nil {
		return nil, "", err
	}
	own(all, map[string]string{v1alpha1.LabelMesh: r.Mesh, v1alpha1.LabelRevision: r.Revision})
	return all, injection, nil
}

// releaseName is what istioctl and Helm would call the release: as its istiod.
func releaseName(r Request) string { return IstiodName(r.Revision) }

// IstiodName is what the Deployment and the Service of a revision's istiod are called.
func IstiodName(revision string) string {
	if revision == version.DefaultRevisionName {
		return "istiod"
	}
	return "istiod-" + revision
}

// istiodValues are the user's values with ours laid over them.
func istiodValues(r Request) (map[string]any, error) {
	global := map[string]any{"istioNamespace": r.Namespace}
	ours := map[string]any{"revision": r.chartRevision(), "global": global}
	if r.Images.Hub != "" {
		global["hub"] = r.Images.Hub
	}
	if len(r.Images.PullSecrets) > 0 {
		global["imagePullSecrets"] = anySlice(r.Images.PullSecrets)
	}
	if len(r.Images.Digests) > 0 {
		hub, err := hub(r)
		if err != nil {
			return nil, err
		}
		if digest, ok := r.Images.Digests["pilot"]; ok {
			ours["image"] = hub + "/pilot@" + string(digest)
		}
		if digest, ok := r.Images.Digests["proxyv2"]; ok {
			image := map[string]any{"image": hub + "/proxyv2@" + string(digest)}
			global["proxy"], global["proxy_init"] = image, image
		}
	}
	if len(r.MeshConfig) > 0 {
		ours["meshConfig"] = r.MeshConfig
	}
	return merge(certificateValues(r), merge(r.Values, ours)), nil
}

// MultiRoot is the variable of istiod's environment without which it takes no other root than its first.
//
// Source: istio pilot/pkg/features/pilot.go, 1.26 to 1.31.
const MultiRoot = "ISTIO_MULTIROOT_MESH"

// certificateValues lie beneath the user's: istiod takes a second root, and agents learn of it at once instead of with their next leaf, which
// they do only when they were injected so.
//
// Source: istio pilot/cmd/pilot-agent/options/options.go (PROXY_CONFIG_XDS_AGENT, SECRET_TTL) and pilot/pkg/bootstrap/istio_ca.go
// (DEFAULT_WORKLOAD_CERT_TTL); the same in 1.26 to 1.31.
func certificateValues(r Request) map[string]any {
	environment, proxies := map[string]any{MultiRoot: "true"}, map[string]any{"PROXY_CONFIG_XDS_AGENT": "true"}
	if r.LeafSeconds != 0 {
		life := fmt.Sprintf("%ds", r.LeafSeconds)
		environment["DEFAULT_WORKLOAD_CERT_TTL"], proxies["SECRET_TTL"] = life, life
	}
	return map[string]any{
		"env":        environment,
		"meshConfig": map[string]any{"defaultConfig": map[string]any{"proxyMetadata": proxies}},
	}
}

// hub is the registry of the images: the user's, else the one that the charts of the release name.
func hub(r Request) (string, error) {
	if r.Images.Hub != "" {
		return r.Images.Hub, nil
	}
	loaded, err := load(r.Bundle, istio.ChartIstiod)
	if err != nil {
		return "", err
	}
	name, found, err := unstructured.NestedString(loaded.Values, internalDefaults, "global", "hub")
	if err != nil || !found {
		return "", fmt.Errorf("chart %s of Istio %s names no registry for images: set spec.images.hub", istio.ChartIstiod, r.Bundle.Version())
	}
	return name, nil
}

// internalDefaults is the key under which Istio's charts keep their own defaults.
const internalDefaults = "_internal_defaults_do_not_set"

func anySlice[T any](in []T) []any {
	out := make([]any, len(in))
	for i, v := range in {
		out[i] = v
	}
	return out
}
