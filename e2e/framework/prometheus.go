// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/cluster/artifact"
)

// Where the Prometheus server is.
const (
	PrometheusNamespace = "monitoring"
	PrometheusAddress   = "http://prometheus.monitoring:9090"

	prometheusName = "prometheus"
	prometheusPort = 9090
)

// prometheusConfig scrapes Envoy itself in every pod that has it, each second, under the labels namespace and pod.
const prometheusConfig = `
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
- job_name: envoy
  metrics_path: /stats/prometheus
  kubernetes_sd_configs: [{role: pod}]
  relabel_configs:
  - {action: keep, source_labels: [__meta_kubernetes_pod_container_port_name], regex: http-envoy-prom}
  - {action: drop, source_labels: [__meta_kubernetes_pod_phase], regex: Pending|Succeeded|Failed}
  - {source_labels: [__meta_kubernetes_namespace], target_label: namespace}
  - {source_labels: [__meta_kubernetes_pod_name], target_label: pod}
`

var prometheusKey = client.ObjectKey{Namespace: PrometheusNamespace, Name: prometheusName}

// DeployPrometheus runs a real Prometheus server in a namespace of its own, which has to be there, and waits until it answers.
func (e *Env) DeployPrometheus(ctx context.Context) error {
	image := artifact.PrometheusImage()
	made, err := e.Store.Ensure(ctx, e.Progress, image)
	if err != nil {
		return err
	}
	if err := e.Cluster.Load(ctx, made[image]); err != nil {
		return err
	}
	meta := metav1.ObjectMeta{Namespace: PrometheusNamespace, Name: prometheusName}
	role := metav1.ObjectMeta{Name: "meshwright-e2e-" + prometheusName}
	labels := map[string]string{"app": prometheusName}
	err = e.apply(ctx,
		&corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: meta},
		&rbacv1.ClusterRole{
			TypeMeta: metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"}, ObjectMeta: role,
			Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch"}}},
		},
		&rbacv1.ClusterRoleBinding{
			TypeMeta: metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"}, ObjectMeta: role,
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: meta.Namespace, Name: meta.Name}},
		},
		&corev1.ConfigMap{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: meta,
			Data: map[string]string{"prometheus.yml": prometheusConfig},
		},
		&corev1.Service{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: meta,
			Spec: corev1.ServiceSpec{Selector: labels, Ports: []corev1.ServicePort{{Name: "http", Port: prometheusPort}}},
		},
		&appsv1.Deployment{
			TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: meta,
			Spec: appsv1.DeploymentSpec{
				Selector: &metav1.LabelSelector{MatchLabels: labels},
				Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: prometheusPod(meta)},
			},
		})
	if err != nil {
		return err
	}
	return e.StartPrometheus(ctx)
}

// prometheusPod keeps what it has measured for as long as it lives: a server that was away knows nothing of before.
func prometheusPod(meta metav1.ObjectMeta) corev1.PodSpec {
	return corev1.PodSpec{
		ServiceAccountName:            meta.Name,
		TerminationGracePeriodSeconds: new(int64(atOnce)),
		Containers: []corev1.Container{{
			Name: prometheusName, Image: artifact.PrometheusImageName, ImagePullPolicy: corev1.PullIfNotPresent,
			Args:  []string{"--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/data", "--log.level=warn"},
			Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: prometheusPort}},
			ReadinessProbe: &corev1.Probe{
				PeriodSeconds: 1,
				ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/-/ready", Port: intstr.FromInt32(prometheusPort)}},
			},
			VolumeMounts: []corev1.VolumeMount{{Name: "config", MountPath: "/etc/prometheus"}, {Name: "data", MountPath: "/data"}},
		}},
		Volumes: []corev1.Volume{
			{Name: "config", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: meta.Name},
			}}},
			{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		},
	}
}

// StopPrometheus kills the server, so that nobody answers at its address.
func (e *Env) StopPrometheus(ctx context.Context) error {
	if err := e.scalePrometheus(ctx, 0); err != nil {
		return err
	}
	return e.WaitFor(ctx, "Prometheus to be gone", func(ctx context.Context) (bool, string, error) {
		var pods corev1.PodList
		err := e.Client.List(ctx, &pods, client.InNamespace(PrometheusNamespace), client.MatchingLabels{"app": prometheusName})
		return err == nil && len(pods.Items) == 0, fmt.Sprintf("%d pods", len(pods.Items)), err
	})
}

// StartPrometheus starts the server, with nothing measured, and waits until it answers.
func (e *Env) StartPrometheus(ctx context.Context) error {
	if err := e.scalePrometheus(ctx, 1); err != nil {
		return err
	}
	return e.WaitFor(ctx, "Prometheus to answer", func(ctx context.Context) (bool, string, error) {
		_, err := e.Query(ctx, "vector(1)")
		return err == nil, "", err
	})
}

func (e *Env) scalePrometheus(ctx context.Context, replicas int) error {
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: prometheusKey.Namespace, Name: prometheusKey.Name}}
	return e.Client.Patch(ctx, deployment, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)))
}

// WaitPrometheus waits until a query has a result.
func (e *Env) WaitPrometheus(ctx context.Context, query string) error {
	return e.WaitFor(ctx, "Prometheus to have a result of "+query, func(ctx context.Context) (bool, string, error) {
		results, err := e.Query(ctx, query)
		return len(results) > 0, "no result yet", err
	})
}

// Series is one result of a query: its labels, and its value as Prometheus writes it.
type Series struct {
	Labels map[string]string
	Value  string
}

// Query asks the server, through the API server, for the present value of an expression that is a vector.
func (e *Env) Query(ctx context.Context, query string) ([]Series, error) {
	raw, err := e.Kube.CoreV1().Services(prometheusKey.Namespace).
		ProxyGet("http", prometheusKey.Name, "http", "/api/v1/query", map[string]string{"query": query}).DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking Prometheus for %s: %w", query, err)
	}
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Value  []any             `json:"value"` // a time and a text
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("answer of Prometheus %q: %w", raw, err)
	}
	out := make([]Series, 0, len(answer.Data.Result))
	for _, r := range answer.Data.Result {
		if len(r.Value) != 2 {
			return nil, fmt.Errorf("answer of Prometheus %q: it is no vector", raw)
		}
		out = append(out, Series{Labels: r.Metric, Value: fmt.Sprint(r.Value[1])})
	}
	return out, nil
}
