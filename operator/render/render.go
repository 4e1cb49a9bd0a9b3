// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

// Package render turns a bundle of Istio's charts and a user's values into Kubernetes objects.
//
// It is the only importer of Helm's engine. There is no Helm release: objects are rendered here, kept by callers and
// applied elsewhere. Users' values go to the charts unchanged, ours last; what the charts can't say (the mesh's labels,
// a gateway's revision in its selector) is set on the rendered objects. Nothing here talks to a cluster.
package render

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/bundles/istio"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/pki"
	"github.com/meshwright/meshwright/operator/version"
)

// Request is what a control plane is rendered from.
type Request struct {
	Bundle *istio.Bundle
	// KubeVersion is the cluster's version, such as v1.34.4: charts choose by it.
	KubeVersion string
	// Mesh is the name of the MeshInstallation; Revision that of the MeshRevision; Namespace that of istiod.
	Mesh, Revision, Namespace string
	Images                    v1alpha1.Images
	// Values of the istiod chart and MeshConfig, as the user wrote them.
	Values, MeshConfig map[string]any
	// LeafSeconds is how long the certificates of proxies live, in seconds; 0: as Istio has it.
	LeafSeconds int32
}

// RequestOf is what a revision is rendered from, with the values that an installation has now.
func RequestOf(m *v1alpha1.MeshInstallation, bundle *istio.Bundle, kubeVersion, revision string) (Request, error) {
	values, err := v1alpha1.DecodeMap(m.Spec.ControlPlane.Values)
	if err != nil {
		return Request{}, fmt.Errorf("spec.controlPlane.values: %w", err)
	}
	meshConfig, err := v1alpha1.DecodeMap(m.Spec.ControlPlane.MeshConfig)
	if err != nil {
		return Request{}, fmt.Errorf("spec.controlPlane.meshConfig: %w", err)
	}
	out := Request{
		Bundle: bundle, KubeVersion: kubeVersion, Mesh: m.Name, Revision: revision,
		Namespace: m.Spec.Namespace, Images: m.Spec.Images, Values: values, MeshConfig: meshConfig,
	}
	if m.Spec.Certificates.LeafSeconds != pki.IstioLeafSeconds {
		out.LeafSeconds = m.Spec.Certificates.LeafSeconds
	}
	return out, nil
}

// inPlace says whether the revision is the one that Istio itself calls default, whose objects have no suffix.
func (r Request) inPlace() bool { return r.Revision == version.DefaultRevisionName }

// chartRevision is the revision as the charts take it.
func (r Request) chartRevision() string {
	if r.inPlace() {
		return ""
	}
	return r.Revision
}

// objects renders one chart: its objects in the order of its files, without hooks.
func objects(r Request, chartName, release, namespace string, values map[string]any) ([]*unstructured.Unstructured, error) {
	rendered, err := files(r, chartName, release, namespace, values)
	if err != nil {
		return nil, fmt.Errorf("chart %s of Istio %s: %w", chartName, r.Bundle.Version(), err)
	}
	var out []*unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if path.Ext(name) == ".txt" || strings.HasPrefix(path.Base(name), "_") {
			continue
		}
		parsed, err := parse(rendered[name])
		if err != nil {
			return nil, fmt.Errorf("chart %s of Istio %s: %s: %w", chartName, r.Bundle.Version(), name, err)
		}
		out = append(out, parsed...)
	}
	return out, nil
}

// parse reads the objects of a YAML text; empty documents are none.
func parse(text string) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	docs := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		raw, err := yaml.YAMLToJSON(doc)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(raw, []byte("null")) {
			continue
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(raw); err != nil {
			return nil, err
		}
		out = append(out, object)
	}
}

func files(r Request, chartName, release, namespace string, values map[string]any) (map[string]string, error) {
	loaded, err := load(r.Bundle, chartName)
	if err != nil {
		return nil, err
	}
	capabilities := chartutil.DefaultCapabilities.Copy()
	if r.KubeVersion != "" {
		kube, err := chartutil.ParseKubeVersion(r.KubeVersion)
		if err != nil {
			return nil, fmt.Errorf("version of Kubernetes %q: %w", r.KubeVersion, err)
		}
		capabilities.KubeVersion = *kube
	}
	options := chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValuesWithSchemaValidation(loaded, values, options, capabilities, !saneSchema(loaded))
	if err != nil {
		return nil, err
	}
	loaded.Templates = slices.DeleteFunc(loaded.Templates, func(f *chart.File) bool { return f.Name == "templates/crds.yaml" })
	return engine.Render(loaded, all)
}

// saneSchema says whether a chart's schema allows the chart's own defaults. That of the gateway chart up to 1.26 does not,
// by the letter of JSON Schema, and would refuse every value.
func saneSchema(c *chart.Chart) bool {
	return len(c.Schema) == 0 || chartutil.ValidateAgainstSingleSchema(c.Values, c.Schema) == nil
}

func load(b *istio.Bundle, chartName string) (*chart.Chart, error) {
	unpacked, err := b.Chart(chartName)
	if err != nil {
		return nil, err
	}
	buffered := make([]*loader.BufferedFile, len(unpacked))
	for i, f := range unpacked {
		buffered[i] = &loader.BufferedFile{Name: f.Name, Data: f.Data}
	}
	return loader.LoadFiles(buffered)
}

// merge lays over on base and returns the result; neither is changed. Maps are merged, all else is replaced.
func merge(base, over map[string]any) map[string]any {
	out := maps.Clone(base)
	if out == nil {
		out = map[string]any{}
	}
	for key, value := range over {
		inner, isMap := value.(map[string]any)
		below, hadMap := out[key].(map[string]any)
		if isMap && hadMap {
			out[key] = merge(below, inner)
			continue
		}
		out[key] = value
	}
	return out
}

// own marks objects as a mesh's: the labels are on them and, for workloads, on their pods.
func own(objects []*unstructured.Unstructured, labels map[string]string) {
	for _, o := range objects {
		all := o.GetLabels()
		if all == nil {
			all = map[string]string{}
		}
		maps.Copy(all, labels)
		all["app.kubernetes.io/managed-by"] = "meshwright" // the charts say Helm, which looks after nothing here
		o.SetLabels(all)
		if o.GetKind() != "Deployment" {
			continue
		}
		pods, _, _ := unstructured.NestedStringMap(o.Object, "spec", "template", "metadata", "labels")
		if pods == nil {
			pods = map[string]string{}
		}
		maps.Copy(pods, labels)
		if _, said := pods["app.kubernetes.io/managed-by"]; said {
			pods["app.kubernetes.io/managed-by"] = "meshwright"
		}
		_ = unstructured.SetNestedStringMap(o.Object, pods, "spec", "template", "metadata", "labels")
	}
}
