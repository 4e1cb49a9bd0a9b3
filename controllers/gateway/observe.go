// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/apply"
	"github.com/meshwright/meshwright/operator/traffic"
)

// serving leaves out of a result what does not keep the gateway from serving: the workload of a version that gets no traffic, or of one
// of two that do while the other is ready.
func serving(s *scope, d traffic.Decision, result apply.Result) apply.Result {
	if s.old == "" {
		return result
	}
	isOf := func(revision string) func(apply.NotReady) bool {
		name := request(s, revision).WorkloadName()
		return func(n apply.NotReady) bool {
			return n.Name == name && (n.Kind == deploymentKind.Kind || n.Kind == "HorizontalPodAutoscaler")
		}
	}
	old, next := isOf(s.old), isOf(s.want.New)
	ready := func(is func(apply.NotReady) bool) bool { return !slices.ContainsFunc(result.NotReady, is) }
	switch {
	case d.Pointer == traffic.ToOld, d.Pointer == traffic.ToBoth && ready(old):
		result.NotReady = slices.DeleteFunc(slices.Clone(result.NotReady), next)
	case d.Pointer == traffic.ToNew, d.Pointer == traffic.ToBoth && ready(next):
		result.NotReady = slices.DeleteFunc(slices.Clone(result.NotReady), old)
	}
	return result
}

// observe reads addresses and replicas back from the world, and says how far a shift is.
func (r *Reconciler) observe(ctx context.Context, s *scope, d traffic.Decision, result apply.Result) error {
	service, err := r.Owned.Get(ctx, serviceKind, client.ObjectKeyFromObject(s.gateway))
	if err != nil {
		return err
	}
	s.gateway.Status.Addresses = nil
	if service != nil {
		var typed corev1.Service
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(service.Object, &typed); err != nil {
			return err
		}
		s.gateway.Status.Addresses = addresses(&typed)
	}
	w, err := r.look(ctx, s)
	if err != nil {
		return err
	}
	s.gateway.Status.Versions, s.gateway.Status.Summary = s.versionsOf(w)
	r.measure(s, w, d, failing(s, result))
	return nil
}

// broken are the reasons of pods that time alone hardly mends.
var broken = []string{"CrashLoopBackOff", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError"}

// failing says why the pods of the wanted version don't get ready, where time alone will hardly help.
func failing(s *scope, result apply.Result) string {
	for _, n := range result.NotReady {
		if n.Name == request(s, s.want.New).WorkloadName() && slices.Contains(broken, n.Reason) {
			return n.Message
		}
	}
	return ""
}

// addresses are where a Service is reached from outside the cluster, else its address inside.
func addresses(service *corev1.Service) []string {
	var out []string
	for _, ingress := range service.Status.LoadBalancer.Ingress {
		if ingress.Hostname != "" {
			out = append(out, ingress.Hostname)
		} else if ingress.IP != "" {
			out = append(out, ingress.IP)
		}
	}
	out = append(out, service.Spec.ExternalIPs...)
	if len(out) == 0 && service.Spec.ClusterIP != "" && service.Spec.ClusterIP != corev1.ClusterIPNone {
		out = append(out, service.Spec.ClusterIP)
	}
	return out[:min(len(out), maxAddresses)]
}

// maxAddresses is what the API allows in status.
const maxAddresses = 20
