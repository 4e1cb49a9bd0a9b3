// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/pki"
)

// signedOffline reads what the keeper of an offline root has signed.
func (s *scope) signedOffline(key crypto.Signer) (chain, roots []*x509.Certificate, err error) {
	name := s.mesh.Spec.Namespace + "/" + s.mesh.Spec.Certificates.CA.Managed.Answer.Name
	sign := later(v1alpha1.ReasonAwaitingSignature, "sign the request in status.request with your root, as a CA, and put the certificate into tls.crt and your root into ca.crt of the Secret "+name)
	if s.state.Source == nil {
		return nil, nil, sign
	}
	if chain, err = pki.ParseCertificates(s.state.Source.Data["tls.crt"]); err != nil || len(chain) == 0 {
		return nil, nil, refuse(v1alpha1.ReasonInvalidCA, "the Secret "+name+": tls.crt holds no certificate that can be read: give the signed one as PEM")
	}
	if roots, err = pki.ParseCertificates(s.state.Source.Data["ca.crt"]); err != nil || len(roots) == 0 {
		return nil, nil, refuse(v1alpha1.ReasonInvalidCA, "the Secret "+name+": ca.crt holds no certificate that can be read: give the root as PEM")
	}
	if public, is := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !is || !public.Equal(chain[0].PublicKey) {
		return nil, nil, sign // it is the answer to an earlier request
	}
	return chain, roots, nil
}

// certificateRequest is the kind of cert-manager by which an issuer is asked.
var certificateRequest = schema.GroupVersionKind{Group: "cert-manager.io", Version: "v1", Kind: "CertificateRequest"}

// signedByIssuer asks an issuer of cert-manager, once, and reads its answer.
func (r *Reconciler) signedByIssuer(ctx context.Context, s *scope, asked []byte) (chain, roots []*x509.Certificate, err error) {
	ca := s.mesh.Spec.Certificates.CA.CertManager
	issuer := fmt.Sprintf("%s %s", ca.IssuerRef.Kind, ca.IssuerRef.Name)
	there := &unstructured.Unstructured{}
	there.SetGroupVersionKind(certificateRequest)
	key := client.ObjectKey{Namespace: s.mesh.Spec.Namespace, Name: "meshwright-" + s.rotation.Name}
	err = r.Live.Get(ctx, key, there)
	switch {
	case apimeta.IsNoMatchError(err):
		return nil, nil, refuse(v1alpha1.ReasonInvalidCA, "spec.certificates.ca.certManager: cert-manager is not installed: install it")
	case apierrors.IsNotFound(err):
		if err := r.Client.Create(ctx, requestFor(key, s, asked), client.FieldOwner(v1alpha1.ManagerRotation)); err != nil {
			return nil, nil, err
		}
		return nil, nil, later(v1alpha1.ReasonAwaitingSignature, issuer+" is asked to sign the intermediate: CertificateRequest "+key.String())
	case err != nil:
		return nil, nil, err
	}
	if sent, _, _ := unstructured.NestedString(there.Object, "spec", "request"); sent != base64.StdEncoding.EncodeToString(asked) {
		return nil, nil, refuse(v1alpha1.ReasonNameTaken, "CertificateRequest "+key.String()+" is not of this rotation: delete it")
	}
	all, _, _ := unstructured.NestedSlice(there.Object, "status", "conditions")
	for _, entry := range all {
		c, _ := entry.(map[string]any)
		if c["type"] == "Denied" && c["status"] == "True" || c["type"] == "Ready" && c["reason"] == "Failed" || c["type"] == "InvalidRequest" && c["status"] == "True" {
			return nil, nil, refuse(v1alpha1.ReasonInvalidCA, fmt.Sprintf("%s does not sign: %v: mend that, set spec.goal to Abort, and create another MeshRotation", issuer, c["message"]))
		}
	}
	chain = certificatesOf(there, "certificate")
	if len(chain) == 0 {
		return nil, nil, later(v1alpha1.ReasonAwaitingSignature, issuer+" has not signed yet: see CertificateRequest "+key.String())
	}
	// What issued the last of the chain is its root: the issuer itself, or the end of the chain.
	roots = slices.DeleteFunc(slices.Concat(certificatesOf(there, "ca"), chain[1:]), func(c *x509.Certificate) bool { return c.CheckSignatureFrom(c) != nil })
	if len(roots) == 0 {
		return nil, nil, refuse(v1alpha1.ReasonInvalidCA, issuer+" gives no root (status.ca): use an issuer that knows its own")
	}
	return chain, roots[:1], nil
}

func certificatesOf(o *unstructured.Unstructured, field string) []*x509.Certificate {
	text, _, _ := unstructured.NestedString(o.Object, "status", field)
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	out, err := pki.ParseCertificates(raw)
	if err != nil {
		return nil
	}
	return out
}

func requestFor(key client.ObjectKey, s *scope, asked []byte) *unstructured.Unstructured {
	ca := s.mesh.Spec.Certificates.CA.CertManager
	out := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"request": base64.StdEncoding.EncodeToString(asked), "isCA": true, "duration": seconds(ca.IntermediateSeconds).String(),
		"usages":    []any{"cert sign", "crl sign", "digital signature"},
		"issuerRef": map[string]any{"name": ca.IssuerRef.Name, "kind": ca.IssuerRef.Kind, "group": ca.IssuerRef.Group},
	}}}
	out.SetGroupVersionKind(certificateRequest)
	out.SetNamespace(key.Namespace)
	out.SetName(key.Name)
	out.SetLabels(map[string]string{v1alpha1.LabelMesh: s.mesh.Name})
	out.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "MeshRotation", Name: s.rotation.Name, UID: s.rotation.UID,
	}})
	return out
}
