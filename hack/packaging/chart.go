// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/config/policy"
)

// generatedInChart tells the files of the chart that are made from those that are written by hand.
func generatedInChart(file string) bool {
	return file == "Chart.yaml" || strings.HasPrefix(path.Base(file), "zz_generated_")
}

// templates are the files of the chart that follow from config/: each holds objects as they are there, but for the namespace. Deployment and
// ServiceAccount are written by hand, for nearly every value is about them.
func (p *pack) templates() map[string][]part {
	find := func(kind, name string) []*unstructured.Unstructured {
		var out []*unstructured.Unstructured
		for _, o := range only(p.source.objects, kind) {
			if o.GetName() == name {
				out = append(out, o)
			}
		}
		return out
	}
	return map[string][]part{
		"namespace": {{when: ".Values.namespace.create", objects: only(p.source.objects, "Namespace")}},
		"crds":      {{when: ".Values.crds.install", objects: kept(only(p.source.objects, "CustomResourceDefinition"))}},
		"rbac":      {{objects: only(p.source.objects, "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")}},
		"policies":  {{objects: only(p.source.objects, "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")}},
		"webhook":   {{objects: append(find("Service", "meshwright-webhook"), only(p.source.objects, "ValidatingWebhookConfiguration")...)}},
		"manager":   {{objects: append(find("Service", "meshwright-metrics"), only(p.source.objects, "PodDisruptionBudget")...)}},
		"network_policy": {
			{when: ".Values.networkPolicy.enabled", objects: only(p.source.objects, "NetworkPolicy")},
		},
		"prometheus": {
			{when: ".Values.serviceMonitor.enabled", labels: ".Values.serviceMonitor.labels", objects: only(p.source.prometheus, "ServiceMonitor")},
			{when: ".Values.prometheusRule.enabled", labels: ".Values.prometheusRule.labels", objects: only(p.source.prometheus, "PrometheusRule")},
		},
	}
}

// byHand are the kinds that the chart's own templates hold.
var byHand = []string{"Deployment", "ServiceAccount"}

// part is a run of objects in a template; when is the value that it depends on, labels the value with more of them.
type part struct {
	when, labels string
	objects      []*unstructured.Unstructured
}

// kept are CRDs that stay when the release is removed: with a CRD goes each object of its kind, and so a mesh.
func kept(crds []*unstructured.Unstructured) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, crd := range crds {
		crd = crd.DeepCopy()
		annotations := crd.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations["helm.sh/resource-policy"] = "keep"
		crd.SetAnnotations(annotations)
		out = append(out, crd)
	}
	return out
}

// chartGenerated are Chart.yaml and the templates that follow from config/.
func (p *pack) chartGenerated() (map[string][]byte, error) {
	out := map[string][]byte{}
	held := 0
	for name, parts := range p.templates() {
		text := bytes.NewBufferString(header)
		for _, part := range parts {
			if len(part.objects) == 0 {
				return nil, fmt.Errorf("template %s holds nothing", name)
			}
			held += len(part.objects)
			if err := part.write(text); err != nil {
				return nil, err
			}
		}
		out["templates/zz_generated_"+name+".yaml"] = text.Bytes()
	}
	if all := len(p.source.objects) + len(p.source.prometheus); held+len(only(p.source.objects, byHand...)) != all {
		return nil, fmt.Errorf("the templates of the chart hold %d objects and those by hand %v, config/ has %d: add the new kind", held, byHand, all)
	}
	metadata, err := yaml.Marshal(map[string]any{
		"apiVersion": "v2", "type": "application", "name": Name, "version": p.Version, "appVersion": p.Version,
		"description": summary, "kubeVersion": ">=" + minKubernetes + "-0", "home": homepage, "sources": []string{repository},
		"keywords": []string{"istio", "service mesh", "operator"}, "maintainers": []any{map[string]any{"name": maintainer}},
	})
	out["Chart.yaml"] = append([]byte(header), metadata...)
	return out, err
}

var namespaceValue = regexp.MustCompile(`(?m): ` + policy.Namespace + `$`)

func (t part) write(out *bytes.Buffer) error {
	var objects bytes.Buffer
	if err := writeObjects(&objects, t.objects); err != nil {
		return err
	}
	// Braces of alerts and descriptions are not for Helm.
	text := strings.ReplaceAll(objects.String(), "{{", `{{ "{{" }}`)
	text = namespaceValue.ReplaceAllString(text, ": {{ .Release.Namespace | quote }}")
	text = strings.ReplaceAll(text, policy.Namespace, "{{ .Release.Namespace }}")
	if t.labels != "" {
		text = strings.Replace(text, "\nmetadata:\n", "\nmetadata:\n  {{- with "+t.labels+" }}\n  labels: {{- toYaml . | nindent 4 }}\n  {{- end }}\n", 1)
	}
	if t.when != "" {
		text = "{{- if " + t.when + " }}\n" + text + "{{- end }}\n"
	}
	out.WriteString(text)
	return nil
}

// chartAll is the whole chart, by paths in it, with the image in its values.
func (p *pack) chartAll() (map[string][]byte, error) {
	out, err := p.chartGenerated()
	if err != nil {
		return nil, err
	}
	maps.Copy(out, p.source.chart)
	values := string(out["values.yaml"])
	for key, value := range map[string]string{"repository": p.image.repository, "tag": p.image.tag, "digest": p.image.digest} {
		line := regexp.MustCompile(`(?m)^  ` + key + `: .*$`)
		if n := len(line.FindAllString(values, -1)); n != 1 {
			return nil, fmt.Errorf("values.yaml has %d lines for %s of the image, want one", n, key)
		}
		values = line.ReplaceAllLiteralString(values, fmt.Sprintf("  %s: %q", key, value))
	}
	out["values.yaml"] = []byte(values)
	return out, nil
}

// chartArchive is the chart as Helm packs it. It holds no times, so that the same chart is the same archive.
func (p *pack) chartArchive() ([]byte, error) {
	files, err := p.chartAll()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	archive := tar.NewWriter(zipped)
	for _, file := range slices.Sorted(maps.Keys(files)) {
		entry := &tar.Header{Typeflag: tar.TypeReg, Name: Name + "/" + file, Mode: 0o644, Size: int64(len(files[file]))}
		if err := archive.WriteHeader(entry); err != nil {
			return nil, err
		}
		if _, err := archive.Write(files[file]); err != nil {
			return nil, err
		}
	}
	err = errors.Join(archive.Close(), zipped.Close())
	return out.Bytes(), err
}
