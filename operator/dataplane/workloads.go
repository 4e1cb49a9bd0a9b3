// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"strings"
	"unique"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// workload is what is kept of a Deployment, StatefulSet or DaemonSet.
type workload struct {
	desired int32
	// settled says that all its pods are of its newest template, which template tells where that is known.
	settled  bool
	template unique.Handle[string]
	// startedFor and stampedFor are the rollout that restarted it, as its own annotation and as that of its template.
	startedFor, stampedFor unique.Handle[string]
	// pins is the revision that its template names.
	pins unique.Handle[string]
	// onDelete, paused and excluded keep it from being restarted.
	onDelete, paused, excluded bool
	// optedOut says that its pods want no sidecar, or can't have one.
	optedOut bool
}

func workloadOf(object any) (workload, metav1.Object, error) {
	switch o := object.(type) {
	case *appsv1.Deployment:
		w := common(&o.ObjectMeta, &o.Spec.Template, o.Spec.Replicas)
		w.paused = o.Spec.Paused
		w.settled = o.Status.ObservedGeneration >= o.Generation && o.Status.UpdatedReplicas == o.Status.Replicas
		return w, o, nil
	case *appsv1.StatefulSet:
		w := common(&o.ObjectMeta, &o.Spec.Template, o.Spec.Replicas)
		update := o.Spec.UpdateStrategy
		w.onDelete = update.Type == appsv1.OnDeleteStatefulSetStrategyType ||
			update.RollingUpdate != nil && update.RollingUpdate.Partition != nil && *update.RollingUpdate.Partition > 0
		w.template = unique.Make(o.Status.UpdateRevision)
		w.settled = o.Status.ObservedGeneration >= o.Generation && o.Status.UpdateRevision == o.Status.CurrentRevision
		return w, o, nil
	case *appsv1.DaemonSet:
		w := common(&o.ObjectMeta, &o.Spec.Template, &o.Status.DesiredNumberScheduled)
		w.onDelete = o.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType
		w.settled = o.Status.ObservedGeneration >= o.Generation && o.Status.UpdatedNumberScheduled >= o.Status.DesiredNumberScheduled
		return w, o, nil
	}
	return workload{}, nil, fmt.Errorf("the index of workloads was given a %T", object)
}

func common(meta *metav1.ObjectMeta, template *corev1.PodTemplateSpec, replicas *int32) workload {
	w := workload{
		desired: 1, template: nothing, startedFor: unique.Make(meta.Annotations[v1alpha1.AnnotationRestartedFor]),
		stampedFor: unique.Make(template.Annotations[v1alpha1.AnnotationRestartedFor]), pins: nothing,
		excluded: meta.Annotations[v1alpha1.AnnotationRestart] == excluded,
		optedOut: template.Labels[injectKey] == "false" || template.Labels[injectKey] == "" && template.Annotations[injectKey] == "false" ||
			template.Spec.HostNetwork || template.Labels[v1alpha1.LabelGateway] != "",
	}
	if replicas != nil {
		w.desired = *replicas
	}
	if _, ours := template.Labels[v1alpha1.LabelMesh]; !ours { // istiod and gateways name theirs, and are seen otherwise
		w.pins = unique.Make(template.Labels[RevisionLabel])
	}
	return w
}

// excluded is the value of [v1alpha1.AnnotationRestart] that keeps a workload from being restarted.
const excluded = "exclude"

// kindStore is the part of an index that holds the workloads of one kind; a reflector fills it.
type kindStore struct {
	index *Index
	kind  string
}

func (i *Index) workloadsOf(kind string) *kindStore { return &kindStore{index: i, kind: kind} }

var _ cache.TransformingStore = (*kindStore)(nil)

// Add keeps a workload.
func (s *kindStore) Add(object any) error { return s.Update(object) }

// Update keeps a workload as it is now.
func (s *kindStore) Update(object any) error {
	next, meta, err := workloadOf(object)
	if err != nil {
		return err
	}
	i, key := s.index, s.key(meta)
	i.mu.Lock()
	defer i.mu.Unlock()
	all := i.workloads[meta.GetNamespace()]
	if all == nil {
		all = map[string]workload{}
		i.workloads[meta.GetNamespace()] = all
	}
	if last, known := all[key]; known && last == next {
		return nil
	}
	all[key] = next
	i.changed()
	return nil
}

func (s *kindStore) key(meta metav1.Object) string { return s.kind + "/" + meta.GetName() }

// Delete forgets a workload.
func (s *kindStore) Delete(object any) error {
	meta, ok := object.(metav1.Object)
	if !ok {
		return fmt.Errorf("the index of workloads was given a %T", object)
	}
	i := s.index
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.workloads[meta.GetNamespace()], s.key(meta))
	if len(i.workloads[meta.GetNamespace()]) == 0 {
		delete(i.workloads, meta.GetNamespace())
	}
	i.changed()
	return nil
}

// Replace forgets all workloads of the kind and keeps the given ones.
func (s *kindStore) Replace(objects []any, _ string) error {
	i := s.index
	i.mu.Lock()
	defer i.mu.Unlock()
	for namespace, all := range i.workloads {
		for key := range all {
			if strings.HasPrefix(key, s.kind+"/") {
				delete(all, key)
			}
		}
		if len(all) == 0 {
			delete(i.workloads, namespace)
		}
	}
	for _, object := range objects {
		next, meta, err := workloadOf(object)
		if err != nil {
			return err
		}
		if i.workloads[meta.GetNamespace()] == nil {
			i.workloads[meta.GetNamespace()] = map[string]workload{}
		}
		i.workloads[meta.GetNamespace()][s.key(meta)] = next
	}
	i.kinds[s.kind] = true
	i.changed()
	return nil
}

// Resync does nothing.
func (s *kindStore) Resync() error { return nil }

// Transformer drops what the index does not keep, as soon as it is read.
func (s *kindStore) Transformer() cache.TransformFunc { return trimWorkload }

func trimWorkload(object any) (any, error) {
	meta := func(m metav1.ObjectMeta) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
			Annotations: keep(m.Annotations, v1alpha1.AnnotationRestart, v1alpha1.AnnotationRestartedFor),
		}
	}
	template := func(t corev1.PodTemplateSpec) corev1.PodTemplateSpec {
		return corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{
				Labels:      keep(t.Labels, RevisionLabel, injectKey, v1alpha1.LabelGateway, v1alpha1.LabelMesh),
				Annotations: keep(t.Annotations, v1alpha1.AnnotationRestartedFor, injectKey),
			},
			Spec: corev1.PodSpec{HostNetwork: t.Spec.HostNetwork},
		}
	}
	switch o := object.(type) {
	case *appsv1.Deployment:
		spec := appsv1.DeploymentSpec{Replicas: o.Spec.Replicas, Paused: o.Spec.Paused, Template: template(o.Spec.Template)}
		return &appsv1.Deployment{ObjectMeta: meta(o.ObjectMeta), Spec: spec, Status: o.Status}, nil
	case *appsv1.StatefulSet:
		spec := appsv1.StatefulSetSpec{Replicas: o.Spec.Replicas, UpdateStrategy: o.Spec.UpdateStrategy, Template: template(o.Spec.Template)}
		return &appsv1.StatefulSet{ObjectMeta: meta(o.ObjectMeta), Spec: spec, Status: o.Status}, nil
	case *appsv1.DaemonSet:
		spec := appsv1.DaemonSetSpec{UpdateStrategy: o.Spec.UpdateStrategy, Template: template(o.Spec.Template)}
		return &appsv1.DaemonSet{ObjectMeta: meta(o.ObjectMeta), Spec: spec, Status: o.Status}, nil
	}
	return object, nil
}

// Stamp is the value of [v1alpha1.AnnotationRestartedFor] that a rollout restarts workloads with. It is the same whenever it is
// computed, so that a repeated restart is no second one, and another one for each direction and each retry.
func Stamp(r *v1alpha1.MeshRollout, back bool) string {
	direction := "forward"
	if back {
		direction = "back"
	}
	return fmt.Sprintf("%s/%s/%s/%d", r.Name, r.UID, direction, r.Status.Progress.Retries)
}
