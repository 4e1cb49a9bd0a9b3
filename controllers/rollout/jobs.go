// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/analysis"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Jobs runs Jobs that are gates. A Job has a name that follows from what it is run for, so that it is run once, whatever is restarted
// meanwhile.
type Jobs struct {
	Client client.Client
	Live   client.Reader
}

const (
	// labelRollout is on the Jobs that are run for a rollout.
	labelRollout = "meshwright.io/rollout"
	// instantiated is the annotation by which kubectl marks Jobs made from a CronJob.
	instantiated = "cronjob.kubernetes.io/instantiate"
	// maxJobName leaves room for the suffixes of its pods.
	maxJobName = 52
)

// Outcome is what a Job came to; nil while it runs. The first call runs it. Attempt tells runs for one rollout apart.
func (j *Jobs) Outcome(ctx context.Context, o *v1alpha1.MeshRollout, hook v1alpha1.Hook, attempt string, now time.Time) (*analysis.Measurement, error) {
	spec := hook.Job
	key := client.ObjectKey{Namespace: spec.Namespace, Name: jobName(o, hook, attempt)}
	var job batchv1.Job
	err := j.Live.Get(ctx, key, &job)
	if apierrors.IsNotFound(err) {
		return nil, j.run(ctx, o, hook, key)
	}
	if err != nil {
		return nil, fmt.Errorf("the Job %s: %w", key, err)
	}
	for _, c := range job.Status.Conditions {
		switch {
		case c.Status != corev1.ConditionTrue:
		case c.Type == batchv1.JobComplete:
			return &analysis.Measurement{Outcome: analysis.Success, Note: fmt.Sprintf("Job %s completed", key)}, nil
		case c.Type == batchv1.JobFailed:
			return &analysis.Measurement{Outcome: analysis.Failure, Note: fmt.Sprintf("Job %s failed: %s: %s", key, c.Reason, c.Message)}, nil
		}
	}
	if limit := time.Duration(spec.TimeoutSeconds) * time.Second; now.Sub(job.CreationTimestamp.Time) > limit {
		return nil, fmt.Errorf("the Job %s has not ended after %s: look at its pods, or raise job.timeoutSeconds", key, limit)
	}
	return nil, nil
}

// run makes the Job from the template of its CronJob. The rollout owns it, so that it goes with the history.
func (j *Jobs) run(ctx context.Context, o *v1alpha1.MeshRollout, hook v1alpha1.Hook, key client.ObjectKey) error {
	var from batchv1.CronJob
	err := j.Live.Get(ctx, client.ObjectKey{Namespace: hook.Job.Namespace, Name: hook.Job.CronJob}, &from)
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("job.cronJob: there is no CronJob %s in namespace %s: create it, suspended if it is to run here only", hook.Job.CronJob, hook.Job.Namespace)
	}
	if err != nil {
		return fmt.Errorf("the CronJob %s/%s: %w", hook.Job.Namespace, hook.Job.CronJob, err)
	}
	template := from.Spec.JobTemplate.DeepCopy()
	job := &batchv1.Job{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	job.Namespace, job.Name = key.Namespace, key.Name
	job.Spec.TTLSecondsAfterFinished = nil // one that is gone would be run again; it goes with the rollout
	if job.Labels == nil {
		job.Labels = map[string]string{}
	}
	if job.Annotations == nil {
		job.Annotations = map[string]string{}
	}
	job.Labels[labelRollout], job.Annotations[instantiated] = o.Name, "manual"
	job.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "MeshRollout", Name: o.Name, UID: o.UID,
	}}
	if err := j.Client.Create(ctx, job); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("the Job %s: %w", key, err)
	}
	return nil
}

// jobName is the name of the CronJob, as far as there is room, and a digest of what the Job is run for.
func jobName(o *v1alpha1.MeshRollout, hook v1alpha1.Hook, attempt string) string {
	sum := sha256.Sum256([]byte(string(o.UID) + "/" + hook.Name + "/" + attempt))
	suffix := "-" + hex.EncodeToString(sum[:5])
	name := hook.Job.CronJob
	return name[:min(len(name), maxJobName-len(suffix))] + suffix
}
