// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// source is what config/ holds.
type source struct {
	// objects are those of config/default, prometheus those of config/prometheus, in their order.
	objects, prometheus []*unstructured.Unstructured
	// samples are those that work as they stand.
	samples []map[string]any
	// chart are the files of the chart that are written by hand, by their path in it.
	chart map[string][]byte
}

// samples that are examples. The other one, full.yaml, shows each field, and names a registry and servers that do not exist.
var samples = []string{"least.yaml", "team-gateway.yaml"}

// readSource builds config/ below a root with kustomize. Fresh files, by their path below root, stand for those on disk.
func readSource(root string, fresh map[string][]byte) (*source, error) {
	all, err := configFiles(root)
	if err != nil {
		return nil, err
	}
	maps.Copy(all, fresh)
	files, out := filesys.MakeFsInMemory(), &source{chart: map[string][]byte{}}
	for path, content := range all {
		inChart, isChart := strings.CutPrefix(path, chartDir+"/")
		switch {
		case isChart && !generatedInChart(inChart):
			out.chart[inChart] = content
		case !isChart && strings.HasPrefix(path, "config/"):
			if err := files.WriteFile(path, content); err != nil {
				return nil, err
			}
		}
	}
	if out.objects, err = build(files, "config/default"); err != nil {
		return nil, err
	}
	if out.prometheus, err = build(files, "config/prometheus"); err != nil {
		return nil, err
	}
	for _, name := range samples {
		raw, err := files.ReadFile("config/samples/" + name)
		if err != nil {
			return nil, err
		}
		sample := map[string]any{}
		if err := yaml.UnmarshalStrict(raw, &sample); err != nil {
			return nil, fmt.Errorf("sample %s: %w", name, err)
		}
		out.samples = append(out.samples, sample)
	}
	return out, nil
}

// configFiles are the files below config/ of a root, but for Go's, by their path below the root.
func configFiles(root string) (map[string][]byte, error) {
	out, tree := map[string][]byte{}, os.DirFS(root)
	err := fs.WalkDir(tree, "config", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) == ".go" {
			return err
		}
		out[path], err = fs.ReadFile(tree, path)
		return err
	})
	return out, err
}

func build(files filesys.FileSystem, dir string) ([]*unstructured.Unstructured, error) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, dir)
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, r := range built.Resources() {
		raw, err := r.MarshalJSON()
		if err != nil {
			return nil, err
		}
		o := &unstructured.Unstructured{}
		if err := o.UnmarshalJSON(raw); err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// only are the objects of some kinds.
func only(objects []*unstructured.Unstructured, kinds ...string) []*unstructured.Unstructured {
	var out []*unstructured.Unstructured
	for _, o := range objects {
		if slices.Contains(kinds, o.GetKind()) {
			out = append(out, o)
		}
	}
	return out
}
