// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// PointAt makes a Service, which it changes, select the pods of one revision; all pods of the gateway when that is empty, or a version
// that was adopted, whose pods have no label of their own.
func PointAt(service *unstructured.Unstructured, revision string) {
	if revision == "" || revision == Unrevisioned {
		unstructured.RemoveNestedField(service.Object, "spec", "selector", revisionLabel)
		return
	}
	_ = unstructured.SetNestedField(service.Object, revision, "spec", "selector", revisionLabel)
}

// Scale gives a workload a number of pods: exactly without an autoscaler, at least with one, whose bound is lowered to limit unless that
// is 0. It never asks for more than the user's own bound. The objects that were given are left as they are. Negative replicas change
// nothing.
func Scale(workload []*unstructured.Unstructured, replicas, limit int32) ([]*unstructured.Unstructured, error) {
	if replicas < 0 {
		return workload, nil
	}
	scaler := slices.IndexFunc(workload, func(o *unstructured.Unstructured) bool { return o.GetKind() == "HorizontalPodAutoscaler" })
	out := slices.Clone(workload)
	for i, o := range out {
		var err error
		switch {
		case i == scaler:
			out[i], err = bounded(o, int64(replicas), int64(limit))
		case scaler < 0 && o.GetKind() == "Deployment":
			out[i] = o.DeepCopy()
			err = unstructured.SetNestedField(out[i].Object, int64(replicas), "spec", "replicas")
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// bounded is an autoscaler with more pods at least, and fewer at most.
func bounded(scaler *unstructured.Unstructured, replicas, limit int64) (*unstructured.Unstructured, error) {
	most, err := bound(scaler, "maxReplicas")
	if err != nil {
		return nil, err
	}
	least, err := bound(scaler, "minReplicas")
	if err != nil {
		return nil, err
	}
	if limit > 0 {
		most = min(most, limit)
	}
	out := scaler.DeepCopy()
	if err := unstructured.SetNestedField(out.Object, min(max(least, replicas), most), "spec", "minReplicas"); err != nil {
		return nil, err
	}
	return out, unstructured.SetNestedField(out.Object, most, "spec", "maxReplicas")
}

// bound is one of an autoscaler's, as the user's values have it. Schemas of charts up to 1.26 take anything.
func bound(scaler *unstructured.Unstructured, name string) (int64, error) {
	value, _, err := unstructured.NestedFieldNoCopy(scaler.Object, "spec", name)
	if err != nil {
		return 0, err
	}
	n, whole := value.(int64)
	if !whole || n < 1 {
		return 0, fmt.Errorf("values.autoscaling.%s has to be a whole number from 1", name)
	}
	return n, nil
}
