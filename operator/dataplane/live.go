// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Read makes an index of the pods that have not ended, and of the workloads, that there are at this moment: for a look that is not repeated,
// such as that of kubectl mesh.
func Read(ctx context.Context, live client.Reader) (*Index, error) {
	now := NewIndex(0, func() {})
	for _, source := range []struct {
		fresh  func() client.ObjectList
		fields string
		keep   func([]any, string) error
	}{
		{func() client.ObjectList { return &corev1.PodList{} }, running, now.Replace},
		{func() client.ObjectList { return &appsv1.DeploymentList{} }, "", now.workloadsOf(kindDeployment).Replace},
		{func() client.ObjectList { return &appsv1.StatefulSetList{} }, "", now.workloadsOf(kindStatefulSet).Replace},
		{func() client.ObjectList { return &appsv1.DaemonSetList{} }, "", now.workloadsOf(kindDaemonSet).Replace},
	} {
		var all []any
		for token := ""; ; {
			list := source.fresh()
			err := live.List(ctx, list, client.Limit(page), client.Continue(token), &client.ListOptions{Raw: &metav1.ListOptions{FieldSelector: source.fields}})
			if err != nil {
				return nil, err
			}
			err = apimeta.EachListItem(list, func(o runtime.Object) error {
				all = append(all, o)
				return nil
			})
			if err != nil {
				return nil, err
			}
			if token = list.GetContinue(); token == "" {
				break
			}
		}
		if err := source.keep(all, ""); err != nil {
			return nil, err
		}
	}
	return now, nil
}

// OwnerOf names what would have to be restarted to make a pod anew, as kind/name.
func OwnerOf(pod metav1.Object) string {
	owner, _ := ownerOf(pod)
	return owner
}

// OptedOut says whether a pod wants no proxy, or can't have one.
func OptedOut(pod *corev1.Pod) bool { return podOf(pod).optedOut }
