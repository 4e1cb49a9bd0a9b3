// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/config/policy"
	"github.com/meshwright/meshwright/hack/packaging"
)

func loadChart(t *testing.T, path string) *chart.Chart {
	t.Helper()
	c, err := loader.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// rendered are the files that Helm makes of a chart.
func rendered(c *chart.Chart, namespace string, values map[string]any) (map[string]string, error) {
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.KubeVersion = chartutil.KubeVersion{Version: "v1.34.4", Major: "1", Minor: "34"}
	all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "release", Namespace: namespace, IsInstall: true}, capabilities)
	if err != nil {
		return nil, err
	}
	return engine.Engine{Strict: true}.Render(c, all)
}

func renderChart(t *testing.T, c *chart.Chart, namespace string, values map[string]any) []*unstructured.Unstructured {
	t.Helper()
	files, err := rendered(c, namespace, values)
	if err != nil {
		t.Fatal(err)
	}
	var out []*unstructured.Unstructured
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if filepath.Ext(name) == ".yaml" {
			out = append(out, parse(t, []byte(files[name]))...)
		}
	}
	return out
}

// TestAnyNamespace says that nothing speaks of the namespace of config/default when the operator is installed into another one.
func TestAnyNamespace(t *testing.T) {
	const other = "operators"
	on := map[string]any{"enabled": true, "labels": map[string]any{"release": "prometheus"}}
	files, err := rendered(loadChart(t, filepath.Join("chart", "meshwright")), other, map[string]any{
		"namespace": map[string]any{"create": true}, "serviceMonitor": on, "prometheusRule": on,
	})
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string][]*unstructured.Unstructured{}
	for name, content := range files {
		if strings.Contains(content, policy.Namespace) {
			t.Errorf("%s speaks of %s", name, policy.Namespace)
		}
		if filepath.Ext(name) == ".yaml" {
			objects["the chart"] = append(objects["the chart"], parse(t, []byte(content))...)
		}
	}
	if objects["OLM"], err = packaging.AsOLM(filepath.Join("..", "bundles", "olm", "bundle"), other); err != nil {
		t.Fatal(err)
	}
	for way, all := range objects {
		if len(all) < 20 {
			t.Errorf("%s: %d objects", way, len(all))
		}
		for _, o := range all {
			if n := o.GetNamespace(); n != "" && n != other && n != "kube-system" {
				t.Errorf("%s: %s", way, key(o))
			}
			// It is a suggestion in the CSV's annotations, which OLM copies.
			unstructured.RemoveNestedField(o.Object, "spec", "template", "metadata", "annotations")
			raw, err := json.Marshal(o.Object)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(raw, []byte(policy.Namespace)) {
				t.Errorf("%s: %s speaks of %s", way, key(o), policy.Namespace)
			}
		}
	}
}

// TestValuesOfTheChart sets each value once, and says what comes of it.
func TestValuesOfTheChart(t *testing.T) {
	c := loadChart(t, filepath.Join("chart", "meshwright"))
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	deployment := []string{"Deployment", "meshwright"}
	pod := "spec.template.spec."
	for _, tc := range []struct {
		reason, values string
		object         []string // kind and name
		path           string   // of the object; empty: it is not there
		want           string   // as JSON
	}{
		{"a registry of one's own", `{image: {repository: registry.example.com/mw, tag: v9}}`, deployment, pod + "containers.0.image", `"registry.example.com/mw:v9"`},
		{"a digest wins over the tag", `{image: {digest: "` + digest + `"}}`, deployment, pod + "containers.0.image", `"local.test/meshwright@` + digest + `"`},
		{"no tag is that of the chart", `{image: {tag: ""}}`, deployment, pod + "containers.0.image", `"local.test/meshwright:v` + packaging.Version() + `"`},
		{"when it is pulled", `{image: {pullPolicy: Always}}`, deployment, pod + "containers.0.imagePullPolicy", `"Always"`},
		{"with what it is pulled", `{imagePullSecrets: [{name: regcred}]}`, deployment, pod + "imagePullSecrets", `[{"name":"regcred"}]`},
		{"one replica", `{replicas: 1}`, deployment, "spec.replicas", `1`},
		{"none", `{replicas: 0}`, deployment, "spec.replicas", `0`},
		{"more memory", `{resources: {limits: {memory: 1Gi}}}`, deployment, pod + "containers.0.resources.limits.memory", `"1Gi"`},
		{"and for Go", `{goMemLimit: 920MiB}`, deployment, pod + "containers.0.env.2.value", `"920MiB"`},
		{
			"flags in their order", `{bundleFolders: [/a, /b], bundleRegistries: [r.example.com/i], extraArgs: ["--zap-log-level=debug"]}`, deployment,
			pod + "containers.0.args", `["--bundle-folder=/a","--bundle-folder=/b","--bundle-registry=r.example.com/i","--zap-log-level=debug"]`,
		},
		{"a proxy", `{extraEnv: [{name: HTTPS_PROXY, value: "http://p:8080"}]}`, deployment, pod + "containers.0.env.3.value", `"http://p:8080"`},
		{"a volume", `{extraVolumes: [{name: a, configMap: {name: a}}]}`, deployment, pod + "volumes.1.name", `"a"`},
		{"its mount", `{extraVolumeMounts: [{name: a, mountPath: /a}]}`, deployment, pod + "containers.0.volumeMounts.1.mountPath", `"/a"`},
		{"an account of a cloud", `{serviceAccount: {annotations: {cloud: role}}}`, []string{"ServiceAccount", "meshwright"}, "metadata.annotations", `{"cloud":"role"}`},
		{"annotations of pods", `{podAnnotations: {a: b}}`, deployment, "spec.template.metadata.annotations", `{"a":"b"}`},
		{
			"labels of pods, but not ours", `{podLabels: {a: b}}`, deployment, "spec.template.metadata.labels",
			`{"a":"b","app.kubernetes.io/name":"meshwright","app.kubernetes.io/version":"` + packaging.Version() + `","sidecar.istio.io/inject":"false"}`,
		},
		{"a priority", `{priorityClassName: system-cluster-critical}`, deployment, pod + "priorityClassName", `"system-cluster-critical"`},
		{"a priority that YAML would read as a number", `{priorityClassName: "1e3"}`, deployment, pod + "priorityClassName", `"1e3"`},
		{"nodes", `{nodeSelector: {a: b}}`, deployment, pod + "nodeSelector", `{"a":"b"}`},
		{"taints", `{tolerations: [{operator: Exists}]}`, deployment, pod + "tolerations", `[{"operator":"Exists"}]`},
		{"affinity", `{affinity: {nodeAffinity: {}}}`, deployment, pod + "affinity", `{"nodeAffinity":{}}`},
		{
			"another spread", `{topologySpreadConstraints: [{maxSkew: 2, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]}`, deployment,
			pod + "topologySpreadConstraints.0.maxSkew", `2`,
		},
		{"the CRDs are somebody else's", `{crds: {install: false}}`, []string{"CustomResourceDefinition", "meshinstallations.meshwright.io"}, "", ""},
		{"Helm makes the namespace", `{}`, []string{"Namespace", "operators"}, "", ""},
		{"no NetworkPolicy", `{networkPolicy: {enabled: false}}`, []string{"NetworkPolicy", "meshwright"}, "", ""},
		{"no Prometheus", `{}`, []string{"ServiceMonitor", "meshwright"}, "", ""},
		{"metrics are scraped", `{serviceMonitor: {enabled: true, labels: {p: q}}}`, []string{"ServiceMonitor", "meshwright"}, "metadata.labels", `{"p":"q"}`},
		{"alerts", `{prometheusRule: {enabled: true}}`, []string{"PrometheusRule", "meshwright"}, "spec.groups.0.rules.0.labels.severity", `"info"`},
		{"part of another chart", `{global: {theirs: 1}}`, deployment, "metadata.name", `"meshwright"`},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			values := map[string]any{}
			if err := yaml.Unmarshal([]byte(tc.values), &values); err != nil {
				t.Fatal(err)
			}
			objects := renderChart(t, c, "operators", values)
			i := slices.IndexFunc(objects, func(o *unstructured.Unstructured) bool {
				return o.GetKind() == tc.object[0] && o.GetName() == tc.object[1]
			})
			if (i >= 0) != (tc.path != "") {
				t.Fatalf("%v is there: %v", tc.object, i >= 0)
			}
			if tc.path == "" {
				return
			}
			got, err := json.Marshal(at(t, objects[i].Object, tc.path))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.path, diff)
			}
		})
	}
}

// at walks a path through maps and lists.
func at(t *testing.T, value any, path string) any {
	t.Helper()
	for name := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[name]
		case []any:
			var i int
			if _, err := fmt.Sscan(name, &i); err != nil || i >= len(v) {
				t.Fatalf("%s: %q of a list of %d", path, name, len(v))
			}
			value = v[i]
		default:
			t.Fatalf("%s: %s of a %T", path, name, value)
		}
	}
	return value
}

// TestWrongValuesAreRefused says that a value which is not understood is named.
func TestWrongValuesAreRefused(t *testing.T) {
	c := loadChart(t, filepath.Join("chart", "meshwright"))
	for _, tc := range []struct{ reason, values, says string }{
		{"no such value", `{replicaCount: 3}`, "replicaCount"},
		{"no such value of the image", `{image: {hub: x}}`, "hub"},
		{"half a digest", `{image: {digest: sha256:12}}`, "/image/digest"},
		{"no such policy", `{image: {pullPolicy: Sometimes}}`, "/image/pullPolicy"},
		{"words for a number", `{replicas: two}`, "/replicas"},
		{"fewer than none", `{replicas: -1}`, "/replicas"},
		{"names for objects", `{imagePullSecrets: [regcred]}`, "/imagePullSecrets/0"},
		{"a number for an annotation", `{podAnnotations: {a: 1}}`, "/podAnnotations/a"},
		{"a label by which the pods are found", `{podLabels: {app.kubernetes.io/name: other}}`, "/podLabels/app.kubernetes.io~1name"},
		{"a label that says the version", `{podLabels: {app.kubernetes.io/version: v9}}`, "/podLabels/app.kubernetes.io~1version"},
		{"a label that puts the operator into the mesh", `{podLabels: {sidecar.istio.io/inject: "true"}}`, "/podLabels/sidecar.istio.io~1inject"},
		{"the annotation that does the same", `{podAnnotations: {sidecar.istio.io/inject: "true"}}`, "/podAnnotations/sidecar.istio.io~1inject"},
		{"no flag", `{extraArgs: [zap-log-level=debug]}`, "/extraArgs/0"},
		{"a limit that Go does not read", `{goMemLimit: 460Mi}`, "/goMemLimit"},
		{"words for a switch", `{networkPolicy: {enabled: "no"}}`, "/networkPolicy/enabled"},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			values := map[string]any{}
			if err := yaml.Unmarshal([]byte(tc.values), &values); err != nil {
				t.Fatal(err)
			}
			if _, err := rendered(c, "operators", values); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v, want an error that names %s", err, tc.says)
			}
		})
	}
}

// TestEachValueHasASchema compares the names in values.yaml with those of the schema, as deep as the schema is closed.
func TestEachValueHasASchema(t *testing.T) {
	c := loadChart(t, filepath.Join("chart", "meshwright"))
	var schema map[string]any
	if err := json.Unmarshal(c.Schema, &schema); err != nil {
		t.Fatal(err)
	}
	var compare func(path string, schema map[string]any, values any)
	compare = func(path string, schema map[string]any, values any) {
		properties, closed := schema["properties"].(map[string]any)
		if !closed {
			return
		}
		if schema["additionalProperties"] != false {
			t.Errorf("values%s lets any name pass", path)
		}
		there, _ := values.(map[string]any)
		for name := range properties {
			value, ok := there[name]
			if !ok && name != "global" && path != ".resources" && !strings.HasSuffix(path, "[]") {
				t.Errorf("values.yaml lacks %s.%s", path, name)
			}
			compare(path+"."+name, field[map[string]any](t, properties, name), value)
		}
	}
	compare("", schema, c.Values)
}
