// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/pki"
)

// rootConfigMap is what istiod writes into each namespace: by its roots agents know istiod.
//
// Source: istio pilot/pkg/serviceregistry/kube/controller/namespacecontroller.go, 1.26 to 1.31.
const (
	rootConfigMap = "istio-ca-root-cert"
	rootKey       = "root-cert.pem"
)

// places are where roots are read from besides istiod.
func (w *Witness) places(ctx context.Context, q question, wanted pki.Material) pki.Places {
	out, m := pki.Places{}, q.mesh
	note := func(example string, raw []byte) {
		if !holds(raw, wanted) {
			if out.Lacking++; out.Lacking == 1 {
				out.Example = example
			}
		}
	}
	var maps corev1.ConfigMapList
	if err := w.Live.List(ctx, &maps, client.MatchingFields{"metadata.name": rootConfigMap}); err != nil {
		return out
	}
	for _, c := range maps.Items {
		if foreign([]byte(c.Data[rootKey]), q.rotation.Status.Plan) {
			continue
		}
		note("ConfigMap "+c.Namespace+"/"+rootConfigMap+" (istiod writes it; where it no longer does, delete it)", []byte(c.Data[rootKey]))
	}
	for _, kind := range []string{"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(admissionregistrationv1.SchemeGroupVersion.WithKind(kind + "List"))
		if err := w.Owned.List(ctx, list, client.MatchingLabels{v1alpha1.LabelMesh: m.Name}); err != nil {
			return out
		}
		for i := range list.Items {
			for _, bundle := range bundlesOf(&list.Items[i]) {
				note(kind+" "+list.Items[i].GetName(), bundle)
			}
		}
	}
	out.Known = true
	return out
}

// bundlesOf are the roots by which the API server knows a webhook's server; those that have none yet say nothing.
func bundlesOf(o *unstructured.Unstructured) (out [][]byte) {
	webhooks, _, _ := unstructured.NestedSlice(o.Object, "webhooks")
	for _, entry := range webhooks {
		webhook, is := entry.(map[string]any)
		if !is {
			continue
		}
		text, _, _ := unstructured.NestedString(webhook, "clientConfig", "caBundle")
		if raw, err := base64.StdEncoding.DecodeString(text); err == nil && len(raw) > 0 {
			out = append(out, raw)
		}
	}
	return out
}

// foreign says whether a bundle has neither root of a plan: it is of another mesh, with namespaces of its own.
func foreign(raw []byte, plan *v1alpha1.RotationPlan) bool {
	certificates, err := pki.ParseCertificates(raw)
	return err == nil && len(certificates) > 0 && !slices.ContainsFunc(certificates, func(c *x509.Certificate) bool {
		f := string(pki.FingerprintOf(c))
		return f == plan.From.Root || f == plan.To.Root
	})
}

// holds says whether a bundle has the roots that are wanted, and no others.
func holds(raw []byte, wanted pki.Material) bool {
	certificates, err := pki.ParseCertificates(raw)
	if err != nil || len(certificates) != len(wanted.Roots) {
		return false
	}
	return !slices.ContainsFunc(certificates, func(c *x509.Certificate) bool { return !slices.Contains(wanted.Roots, pki.FingerprintOf(c)) })
}
