// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/meshwright/meshwright/operator/analysis"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// A Job is run once from the template of its CronJob, whoever asks how often; what it comes to is the gate's measurement.
func TestJobs(t *testing.T) {
	template := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "tests", Name: "smoke-tests-of-the-whole-shop-and-of-all-that-it-sells"}}
	template.Spec.JobTemplate.Labels = map[string]string{"team": "shop"}
	template.Spec.JobTemplate.Spec.Template.Spec.Containers = []corev1.Container{{Name: "smoke", Image: "smoke"}}
	cl := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithObjects(template).WithStatusSubresource(&batchv1.Job{}).Build()
	jobs := &Jobs{Client: cl, Live: cl}
	o := &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: "default-1", UID: "u"}}
	hook := v1alpha1.Hook{Name: "smoke", Job: &v1alpha1.JobHook{Namespace: "tests", CronJob: template.Name, TimeoutSeconds: 60}}
	now := time.Time{}.Add(time.Second) // the fake API server gives no time of creation
	for range 2 {
		if m, err := jobs.Outcome(t.Context(), o, hook, "1/0", now); m != nil || err != nil {
			t.Fatalf("a Job that runs says %+v, %v", m, err)
		}
	}
	var all batchv1.JobList
	if err := cl.List(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	if len(all.Items) != 1 {
		t.Fatalf("%d Jobs were made, want one", len(all.Items))
	}
	job := &all.Items[0]
	if len(job.Name) > maxJobName || job.Labels["team"] != "shop" || job.Labels[labelRollout] != "default-1" || job.OwnerReferences[0].UID != o.UID ||
		job.Spec.Template.Spec.Containers[0].Image != "smoke" {
		t.Errorf("made %+v", job)
	}
	for condition, want := range map[batchv1.JobConditionType]analysis.Outcome{batchv1.JobComplete: analysis.Success, batchv1.JobFailed: analysis.Failure} {
		job.Status.Conditions = []batchv1.JobCondition{{Type: condition, Status: corev1.ConditionTrue, Reason: "BackoffLimitExceeded"}}
		if err := cl.Status().Update(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		if m, err := jobs.Outcome(t.Context(), o, hook, "1/0", now); err != nil || m == nil || m.Outcome != want {
			t.Errorf("a Job that is %s says %+v, %v, want %s", condition, m, err, want)
		}
	}
	if m, err := jobs.Outcome(t.Context(), o, hook, "1/1", now); m != nil || err != nil {
		t.Errorf("another attempt is another Job: got %+v, %v", m, err)
	}
}

func TestJobsThatSayNothing(t *testing.T) {
	cl := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).Build()
	jobs := &Jobs{Client: cl, Live: cl}
	o := &v1alpha1.MeshRollout{ObjectMeta: metav1.ObjectMeta{Name: "default-1", UID: "u"}}
	hook := v1alpha1.Hook{Name: "smoke", Job: &v1alpha1.JobHook{Namespace: "tests", CronJob: "smoke", TimeoutSeconds: 60}}
	if _, err := jobs.Outcome(t.Context(), o, hook, "1/0", time.Now()); err == nil || !strings.Contains(err.Error(), "there is no CronJob smoke in namespace tests") {
		t.Errorf("a CronJob that is not there: %v", err)
	}
	begun := metav1.NewTime(time.Now().Add(-time.Hour))
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "tests", Name: jobName(o, hook, "1/0"), CreationTimestamp: begun}}
	if err := cl.Create(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	if _, err := jobs.Outcome(t.Context(), o, hook, "1/0", time.Now()); err == nil || !strings.Contains(err.Error(), "has not ended after 1m0s") {
		t.Errorf("a Job that does not end: %v", err)
	}
}
