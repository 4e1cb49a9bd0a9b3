// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	networkingv1alpha3 "istio.io/api/networking/v1alpha3"
	securityv1beta1 "istio.io/api/security/v1beta1"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// EchoPort is the port of every echo Service and container.
const EchoPort = 8080

// Echo is a well-behaved application: it gets ready, answers with what it knows of itself and of its peer, and
// leaves gracefully.
type Echo struct {
	Namespace, Name string
	// Version it reports.
	Version  string
	Replicas int32
	// PodLabels beside app and version.
	PodLabels map[string]string
	// CrashOn is a revision with whose sidecar its pods crash.
	CrashOn string
}

// Deploy creates or updates the Deployment and Service of an echo application.
func (e *Env) Deploy(ctx context.Context, app Echo) error {
	labels := map[string]string{"app": app.Name, "version": app.Version}
	maps.Copy(labels, app.PodLabels)
	selector := map[string]string{"app": app.Name}
	deployment := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Namespace: app.Namespace, Name: app.Name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &app.Replicas,
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name:            "echo",
					Image:           EchoImage,
					ImagePullPolicy: corev1.PullIfNotPresent,
					Ports:           []corev1.ContainerPort{{Name: "http", ContainerPort: EchoPort}},
					Env: []corev1.EnvVar{
						{Name: "VERSION", Value: app.Version},
						{Name: "CRASH_ON", Value: app.CrashOn},
						{Name: "POD_NAME", ValueFrom: fieldRef("metadata.name")},
						{Name: "REVISION", ValueFrom: fieldRef("metadata.annotations['istio.io/rev']")},
					},
					ReadinessProbe: &corev1.Probe{
						PeriodSeconds: 1,
						ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt32(EchoPort)}},
					},
				}}},
			},
		},
	}
	service := &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: app.Namespace, Name: app.Name},
		Spec: corev1.ServiceSpec{
			Selector: selector,
			Ports:    []corev1.ServicePort{{Name: "http", Port: EchoPort, TargetPort: intstr.FromInt32(EchoPort)}},
		},
	}
	return e.apply(ctx, deployment, service)
}

func fieldRef(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
}

// Namespace creates a namespace with labels, or sets them.
func (e *Env) Namespace(ctx context.Context, name string, labels map[string]string) error {
	return e.apply(ctx, &corev1.Namespace{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
	})
}

// Expose routes every host of a gateway's port 80 to an echo application.
func (e *Env) Expose(ctx context.Context, gateway client.ObjectKey, app Echo) error {
	istioGateway := &networkingv1.Gateway{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "Gateway"},
		ObjectMeta: metav1.ObjectMeta{Namespace: gateway.Namespace, Name: gateway.Name},
		Spec: networkingv1alpha3.Gateway{
			Selector: map[string]string{"istio": gateway.Name},
			Servers: []*networkingv1alpha3.Server{{
				Hosts: []string{"*"},
				Port:  &networkingv1alpha3.Port{Name: "http", Number: 80, Protocol: "HTTP"},
			}},
		},
	}
	route := &networkingv1.VirtualService{
		TypeMeta:   metav1.TypeMeta{APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "VirtualService"},
		ObjectMeta: metav1.ObjectMeta{Namespace: app.Namespace, Name: app.Name},
		Spec: networkingv1alpha3.VirtualService{
			Hosts:    []string{"*"},
			Gateways: []string{gateway.String()},
			Http: []*networkingv1alpha3.HTTPRoute{{
				Route: []*networkingv1alpha3.HTTPRouteDestination{{
					Destination: &networkingv1alpha3.Destination{
						Host: fmt.Sprintf("%s.%s.svc.cluster.local", app.Name, app.Namespace),
						Port: &networkingv1alpha3.PortSelector{Number: EchoPort},
					},
				}},
			}},
		},
	}
	return e.apply(ctx, istioGateway, route)
}

// RequireMTLS makes every workload of a namespace refuse plain text.
func (e *Env) RequireMTLS(ctx context.Context, namespace string) error {
	return e.apply(ctx, &securityv1.PeerAuthentication{
		TypeMeta:   metav1.TypeMeta{APIVersion: securityv1.SchemeGroupVersion.String(), Kind: "PeerAuthentication"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "default"},
		Spec: securityv1beta1.PeerAuthentication{
			Mtls: &securityv1beta1.PeerAuthentication_MutualTLS{Mode: securityv1beta1.PeerAuthentication_MutualTLS_STRICT},
		},
	})
}

// ServiceURL is the address of a Service inside the cluster.
func ServiceURL(service client.ObjectKey, port int) string {
	return "http://" + service.Name + "." + service.Namespace + ".svc.cluster.local:" + strconv.Itoa(port) + "/"
}
