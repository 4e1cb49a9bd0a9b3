// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// webhooks are the webhook definitions of OLM, which makes configuration, Service and certificate of them.
func (p *pack) webhooks(out *csv) error {
	for _, o := range only(p.source.objects, "ValidatingWebhookConfiguration") {
		var configuration admissionregistrationv1.ValidatingWebhookConfiguration
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &configuration); err != nil {
			return fmt.Errorf("%s: %w", o.GetName(), err)
		}
		for _, w := range configuration.Webhooks {
			port, err := p.servicePort(w.ClientConfig.Service.Name)
			if err != nil {
				return err
			}
			definition := csvWebhook{
				Type: "ValidatingAdmissionWebhook", GenerateName: w.Name, DeploymentName: out.Spec.Install.Spec.Deployments[0].Name,
				ContainerPort: int64(port.Port), TargetPort: port.TargetPort.String(), WebhookPath: *w.ClientConfig.Service.Path,
				AdmissionReviewVersions: w.AdmissionReviewVersions, FailurePolicy: string(*w.FailurePolicy), SideEffects: string(*w.SideEffects),
				TimeoutSeconds: int64(*w.TimeoutSeconds),
			}
			for _, rule := range w.Rules {
				m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&rule)
				if err != nil {
					return err
				}
				definition.Rules = append(definition.Rules, m)
			}
			out.Spec.Webhooks = append(out.Spec.Webhooks, definition)
		}
	}
	return nil
}

// servicePort is the one port of a Service.
func (p *pack) servicePort(name string) (corev1.ServicePort, error) {
	for _, o := range only(p.source.objects, "Service") {
		if o.GetName() != name {
			continue
		}
		var service corev1.Service
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &service); err != nil {
			return corev1.ServicePort{}, fmt.Errorf("the Service %s: %w", name, err)
		}
		if len(service.Spec.Ports) == 1 {
			return service.Spec.Ports[0], nil
		}
	}
	return corev1.ServicePort{}, fmt.Errorf("no Service %s with one port", name)
}
