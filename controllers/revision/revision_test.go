// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package revision

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// A revision that was retired is in the cache for a moment longer than in the cluster, while the rollout that retired it has ended: nothing of it
// is applied again. An Applier would be needed for that, and there is none.
func TestARetiredRevisionStaysAway(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	mesh := &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	mesh.Status.StableRevision = "1-31-0"
	retired := &v1alpha1.MeshRevision{ObjectMeta: metav1.ObjectMeta{
		Name: "1-29-1", UID: "1", Finalizers: []string{v1alpha1.Finalizer}, DeletionTimestamp: &metav1.Time{Time: time.Unix(1000, 0)},
	}}
	retired.Spec.Mesh = "default"
	cached := fake.NewClientBuilder().WithScheme(scheme).WithObjects(mesh, retired).Build()
	r := &Reconciler{Client: cached, Live: fake.NewClientBuilder().WithScheme(scheme).Build()}
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(retired)}); err != nil {
		t.Error(err)
	}
}
