// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/config/policy"
	"github.com/meshwright/meshwright/hack/packaging"
)

// set holds objects by kind, namespace and name.
type set map[string]*unstructured.Unstructured

func key(o *unstructured.Unstructured) string {
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

// setOf normalizes numbers and leaves out what is null.
func setOf(t *testing.T, objects []*unstructured.Unstructured) set {
	t.Helper()
	out := set{}
	for _, o := range objects {
		raw, err := json.Marshal(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		copied := &unstructured.Unstructured{}
		if err := copied.UnmarshalJSON(raw); err != nil {
			t.Fatal(err)
		}
		if _, twice := out[key(copied)]; twice {
			t.Errorf("%s is there twice", key(copied))
		}
		out[key(copied)] = copied
	}
	return out
}

func expectSame(t *testing.T, want, got set) {
	t.Helper()
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("objects (-config/default +package):\n%s", diff)
	}
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if other, ok := got[k]; ok {
			if diff := cmp.Diff(want[k].Object, other.Object); diff != "" {
				t.Errorf("%s (-config/default +package):\n%s", k, diff)
			}
		}
	}
}

// packages writes all ways of installing into a folder.
func packages(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := packaging.Write(t.Context(), dir, packaging.Options{Root: "..", Version: packaging.Version(), Image: packaging.DevelopmentImage}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// difference is one that a way of installing can't be without. It makes the objects of that way the ones of config/default.
type difference struct {
	reason string
	undo   func(set)
}

// TestAllWaysInstallTheSame says that config/default, the plain file, the chart and OLM's bundle are the same objects. A difference that is not
// there any more has to leave the lists.
func TestAllWaysInstallTheSame(t *testing.T) {
	dir := packages(t)
	want := setOf(t, build(t, "default"))
	raw, err := os.ReadFile(filepath.Join(dir, "meshwright.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	fromOLM, err := packaging.AsOLM(filepath.Join(dir, "olm", "bundle"), policy.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{"namespace": map[string]any{"create": true}} // Helm's own --create-namespace makes one without labels
	for way, tc := range map[string]struct {
		objects     []*unstructured.Unstructured
		differences []difference
	}{
		"the plain file":      {objects: parse(t, raw)},
		"the packed chart":    {renderChart(t, loadChart(t, filepath.Join(dir, "meshwright-"+packaging.Version()+".tgz")), policy.Namespace, values), ofHelm},
		"the committed chart": {renderChart(t, loadChart(t, filepath.Join("chart", "meshwright")), policy.Namespace, values), ofHelm},
		"OLM":                 {fromOLM, ofOLM(t, want)},
	} {
		t.Run(way, func(t *testing.T) {
			got := setOf(t, tc.objects)
			for _, d := range tc.differences {
				before := map[string]*unstructured.Unstructured{}
				for k, o := range got {
					before[k] = o.DeepCopy()
				}
				d.undo(got)
				if reflect.DeepEqual(before, map[string]*unstructured.Unstructured(got)) {
					t.Errorf("there is no difference any more: %s", d.reason)
				}
			}
			expectSame(t, want, got)
		})
	}
}

var ofHelm = []difference{
	{"a CRD stays when the release is removed, and with it the meshes", func(s set) {
		for k, o := range s {
			if strings.HasPrefix(k, "CustomResourceDefinition ") {
				unstructured.RemoveNestedField(o.Object, "metadata", "annotations", "helm.sh/resource-policy")
			}
		}
	}},
}

// ofOLM are the differences of OLM. What OLM itself makes is as packaging.AsOLM plays it.
func ofOLM(t *testing.T, want set) []difference {
	t.Helper()
	deployment := "Deployment " + policy.Namespace + "/meshwright"
	return []difference{
		{"OLM labels what it makes", func(s set) {
			for _, o := range s {
				labels := o.GetLabels()
				delete(labels, "olm.managed")
				if len(labels) == 0 {
					labels = nil
				}
				o.SetLabels(labels)
			}
		}},
		{"OLM names the ClusterRoles of a CSV", func(s set) { renameRoles(t, s, want) }},
		{"a RoleBinding of a bundle binds an account of its own namespace, whichever that is", func(s set) {
			subject(t, s["RoleBinding "+policy.Namespace+"/meshwright"])["namespace"] = policy.Namespace
		}},
		{"a bundle can't hold policies: the operator applies the same when it is told to", func(s set) {
			args := field[[]any](t, container(t, s[deployment]), "args")
			if !slices.Contains(args, any("--keep-policies")) {
				t.Errorf("arguments %v of the operator", args)
			}
			objects, err := policy.Objects(policy.Namespace)
			if err != nil {
				t.Fatal(err)
			}
			maps.Copy(s, setOf(t, objects))
		}},
		{"OLM makes a Service for webhooks, with names of its own", func(s set) {
			service := s["Service "+policy.Namespace+"/meshwright-service"]
			delete(s, key(service))
			service.SetName("meshwright-webhook")
			field[map[string]any](t, field[[]any](t, field[map[string]any](t, service.Object, "spec"), "ports")[0], "")["name"] = "https-webhook"
			s[key(service)] = service
		}},
		{"OLM makes a configuration for each webhook, with its CA and without match conditions, which the operator stands for", func(s set) {
			joinWebhooks(t, s, want)
		}},
		{"OLM makes a certificate for webhooks, and rights with it", func(s set) {
			for _, k := range []string{
				"Secret " + policy.Namespace + "/meshwright-service-cert", "Role " + policy.Namespace + "/meshwright-service-cert",
				"RoleBinding " + policy.Namespace + "/meshwright-service-cert", "ClusterRoleBinding /meshwright-service-system:auth-delegator",
				"RoleBinding kube-system/meshwright-service-auth-reader",
			} {
				if _, ok := s[k]; !ok {
					t.Errorf("no %s", k)
				}
				delete(s, k)
			}
		}},
		{"OLM mounts that certificate, and the operator is told where", func(s set) {
			c := container(t, s[deployment])
			delete(c, "args")
			pod := field[map[string]any](t, field[map[string]any](t, field[map[string]any](t, s[deployment].Object, "spec"), "template"), "spec")
			ofOLM := func(v any) bool {
				return slices.Contains([]any{"apiservice-cert", "webhook-cert", "OPERATOR_CONDITION_NAME"}, v.(map[string]any)["name"])
			}
			for _, list := range []struct {
				in   map[string]any
				name string
			}{{c, "volumeMounts"}, {c, "env"}, {pod, "volumes"}} {
				list.in[list.name] = slices.DeleteFunc(field[[]any](t, list.in, list.name), ofOLM)
			}
		}},
		{"OLM keeps one old ReplicaSet, and annotates the pods with the CSV's annotations", func(s set) {
			unstructured.RemoveNestedField(s[deployment].Object, "spec", "revisionHistoryLimit")
			unstructured.RemoveNestedField(s[deployment].Object, "spec", "template", "metadata", "annotations")
		}},
	}
}

// field is a value of a map, or the value itself for no name.
func field[T any](t *testing.T, from any, name string) T {
	t.Helper()
	value := from
	if name != "" {
		value = from.(map[string]any)[name]
	}
	out, ok := value.(T)
	if !ok {
		t.Fatalf("%q is a %T", name, value)
	}
	return out
}

func container(t *testing.T, deployment *unstructured.Unstructured) map[string]any {
	t.Helper()
	pod := field[map[string]any](t, field[map[string]any](t, field[map[string]any](t, deployment.Object, "spec"), "template"), "spec")
	return field[map[string]any](t, field[[]any](t, pod, "containers")[0], "")
}

func subject(t *testing.T, binding *unstructured.Unstructured) map[string]any {
	t.Helper()
	return field[map[string]any](t, field[[]any](t, binding.Object, "subjects")[0], "")
}

// renameRoles gives ClusterRoles that OLM has named, and their bindings, the names of those with the same rules.
func renameRoles(t *testing.T, s, want set) {
	t.Helper()
	for _, k := range slices.Sorted(maps.Keys(s)) {
		role := s[k]
		if role == nil || role.GetKind() != "ClusterRole" || !strings.HasPrefix(role.GetName(), "meshwright.v") {
			continue
		}
		binding := s["ClusterRoleBinding /"+role.GetName()]
		for _, other := range want {
			if other.GetKind() != "ClusterRole" || !reflect.DeepEqual(other.Object["rules"], role.Object["rules"]) {
				continue
			}
			for _, o := range []*unstructured.Unstructured{role, binding} {
				delete(s, key(o))
				o.SetName(other.GetName())
				s[key(o)] = o
			}
			field[map[string]any](t, binding.Object, "roleRef")["name"] = other.GetName()
		}
	}
}

// joinWebhooks makes one configuration of those that OLM makes.
func joinWebhooks(t *testing.T, s, want set) {
	t.Helper()
	joined := want["ValidatingWebhookConfiguration /meshwright-validating-webhook"].DeepCopy()
	var webhooks []any
	for _, w := range field[[]any](t, joined.Object, "webhooks") {
		name := field[string](t, w, "name")
		k := "ValidatingWebhookConfiguration /" + name + "-olm"
		if s[k] == nil {
			t.Errorf("no %s", k)
			continue
		}
		webhook := field[map[string]any](t, field[[]any](t, s[k].Object, "webhooks")[0], "")
		delete(s, k)
		webhook["matchConditions"] = field[[]any](t, w, "matchConditions")
		delete(webhook, "namespaceSelector") // {}: all of them
		config := field[map[string]any](t, webhook, "clientConfig")
		delete(config, "caBundle")
		field[map[string]any](t, config, "service")["name"] = "meshwright-webhook"
		webhooks = append(webhooks, webhook)
	}
	joined.Object["webhooks"] = webhooks
	s[key(joined)] = joined
}

func parse(t *testing.T, raw []byte) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), len(raw)+1); ; {
		o := &unstructured.Unstructured{}
		if err := decoder.Decode(&o.Object); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		if len(o.Object) > 0 {
			out = append(out, o)
		}
	}
}

// TestVersionIsALabel says that the Deployment and its pods carry the version, for kubectl mesh version and for people, and that no selector does:
// that of a Deployment can't change.
func TestVersionIsALabel(t *testing.T) {
	const label = "app.kubernetes.io/version"
	objects := map[string][]*unstructured.Unstructured{"config/default": build(t, "default")}
	wants := map[string]string{"config/default": packaging.Version(), "the plain file": "9.8.7", "the chart": "9.8.7", "OLM": "9.8.7"}
	dir := t.TempDir()
	if err := packaging.Write(t.Context(), dir, packaging.Options{Root: "..", Version: "9.8.7", Image: packaging.DevelopmentImage}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "meshwright.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	objects["the plain file"] = parse(t, raw)
	objects["the chart"] = renderChart(t, loadChart(t, filepath.Join(dir, "meshwright-9.8.7.tgz")), policy.Namespace, nil)
	if objects["OLM"], err = packaging.AsOLM(filepath.Join(dir, "olm", "bundle"), policy.Namespace); err != nil {
		t.Fatal(err)
	}
	for way, want := range wants {
		deployment := find(t, objects[way], "Deployment", "meshwright").Object
		got := map[string]any{}
		for _, path := range []string{"metadata.labels", "spec.template.metadata.labels", "spec.selector.matchLabels"} {
			got[path] = field[map[string]any](t, at(t, deployment, path), "")[label]
		}
		if diff := cmp.Diff(map[string]any{"metadata.labels": want, "spec.template.metadata.labels": want, "spec.selector.matchLabels": nil}, got); diff != "" {
			t.Errorf("%s: %s (-want +got):\n%s", way, label, diff)
		}
	}
}

// TestCommittedPackagesAreFresh says that the chart, OLM's folders and the version's patch are what make generate writes, and nothing that it wrote once.
func TestCommittedPackagesAreFresh(t *testing.T) {
	want, err := packaging.Generate("..", nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]byte{}
	for _, dir := range []string{filepath.Join("config", "chart"), filepath.Join("config", "manager"), filepath.Join("bundles", "olm")} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			raw, err := os.ReadFile(path)
			if err != nil || !bytes.HasPrefix(raw, []byte("# Generated by make generate")) {
				return err
			}
			got[strings.TrimPrefix(path, "../")] = raw
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got))); diff != "" {
		t.Errorf("files, run make generate (-generated +committed):\n%s", diff)
	}
	for path, content := range want {
		if diff := cmp.Diff(string(content), string(got[path])); diff != "" {
			t.Errorf("%s is stale, run make generate (-generated +committed):\n%s", path, diff)
		}
	}
}

// TestExamplesAreTheSamples compares what a console offers with config/samples. Only full.yaml is no example: it shows each field, and
// names a registry and servers that do not exist.
func TestExamplesAreTheSamples(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "bundles", "olm", "bundle", "manifests", "meshwright.clusterserviceversion.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var csv unstructured.Unstructured
	if err := yaml.Unmarshal(raw, &csv.Object); err != nil {
		t.Fatal(err)
	}
	var examples []any
	if err := json.Unmarshal([]byte(csv.GetAnnotations()["alm-examples"]), &examples); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("samples", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var want []any
	for _, file := range files {
		if filepath.Base(file) == "full.yaml" {
			continue
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var sample any
		strict(t, raw, &sample)
		want = append(want, sample)
	}
	if diff := cmp.Diff(want, examples); diff != "" {
		t.Errorf("alm-examples (-config/samples +bundle):\n%s", diff)
	}
}
