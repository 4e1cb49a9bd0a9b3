// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package authority

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/pki"
)

// holding is a watcher that has read some Secrets of istio-system, and knows that others are not there.
func holding(t *testing.T, secrets ...*corev1.Secret) *Watcher {
	t.Helper()
	w := &Watcher{watched: map[types.NamespacedName]*watched{}, ctx: context.Background()}
	for _, name := range []string{CACerts, SelfSigned, "mesh-ca"} {
		store := cache.NewStore(cache.MetaNamespaceKeyFunc)
		for _, s := range secrets {
			if s.Name == name {
				if err := store.Add(s); err != nil {
					t.Fatal(err)
				}
			}
		}
		w.watched[types.NamespacedName{Namespace: "istio-system", Name: name}] = &watched{store: store, synced: func() bool { return true }}
	}
	return w
}

func secret(name string, data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: name}, Data: data}
}

func root(t *testing.T) *pki.Bundle {
	t.Helper()
	key, err := pki.NewKey(rand.Reader, v1alpha1.ECDSAP256)
	if err != nil {
		t.Fatal(err)
	}
	c, err := pki.NewRoot(rand.Reader, key, pki.AuthorityRequest{CommonName: "root", Now: time.Now(), Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return &pki.Bundle{Signing: c, Signer: key, Roots: []*x509.Certificate{c}}
}

func filesOf(t *testing.T, b *pki.Bundle, tls bool) map[string][]byte {
	t.Helper()
	data, err := pki.Material{Issuer: b.Issuer(), Roots: b.RootPrints()}.Files(tls, b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// What istiod signs with follows from the Secrets that it reads: cacerts, in either layout, beats what it made for itself.
func TestOf(t *testing.T) {
	own, plugged := root(t), root(t)
	mesh := &v1alpha1.MeshInstallation{Spec: v1alpha1.MeshInstallationSpec{Namespace: "istio-system"}}
	for reason, tc := range map[string]struct {
		secrets []*corev1.Secret
		signing v1alpha1.Signing
		present *pki.Bundle
		broken  bool
	}{
		"there is no CA yet":          {signing: v1alpha1.SigningUnknown},
		"istiod made one for itself":  {secrets: []*corev1.Secret{secret(SelfSigned, filesOf(t, own, false))}, signing: v1alpha1.SigningSelfSigned, present: own},
		"one is plugged in":           {secrets: []*corev1.Secret{secret(CACerts, filesOf(t, plugged, false))}, signing: v1alpha1.SigningPluggedIn, present: plugged},
		"one of type kubernetes.io":   {secrets: []*corev1.Secret{secret(CACerts, filesOf(t, plugged, true))}, signing: v1alpha1.SigningPluggedIn, present: plugged},
		"both are there":              {secrets: []*corev1.Secret{secret(CACerts, filesOf(t, plugged, false)), secret(SelfSigned, filesOf(t, own, false))}, signing: v1alpha1.SigningPluggedIn, present: plugged},
		"what is there can't be read": {secrets: []*corev1.Secret{secret(CACerts, map[string][]byte{pki.KeyRoots: []byte("x")})}, signing: v1alpha1.SigningPluggedIn, broken: true},
	} {
		t.Run(reason, func(t *testing.T) {
			s := holding(t, tc.secrets...).Of(mesh)
			if !s.Known || s.Signing != tc.signing || (len(s.Problems) > 0) != tc.broken {
				t.Fatalf("known %t, signing %s, problems %v", s.Known, s.Signing, s.Problems)
			}
			if (s.Present == nil) != (tc.present == nil) || tc.present != nil && s.Present.Issuer() != tc.present.Issuer() {
				t.Errorf("another CA is present than %v", tc.present)
			}
		})
	}
}

// Who changed cacerts is told by the managers of its fields; what Meshwright wrote itself is known by its digest.
func TestWhoWrote(t *testing.T) {
	mesh := &v1alpha1.MeshInstallation{Spec: v1alpha1.MeshInstallationSpec{Namespace: "istio-system"}}
	ours := secret(CACerts, filesOf(t, root(t), false))
	ours.Annotations = map[string]string{v1alpha1.AnnotationWritten: Digest(ours.Data)}
	entry := func(manager, fields string, minute int) metav1.ManagedFieldsEntry {
		at := metav1.NewTime(time.Date(2026, 3, 1, 12, minute, 0, 0, time.UTC))
		f := &metav1.FieldsV1{}
		f.SetRawBytes([]byte(fields))
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, Time: &at, FieldsV1: f}
	}
	ours.ManagedFields = []metav1.ManagedFieldsEntry{entry("meshwright-rotation", `{"f:data":{}}`, 1), entry("labeller", `{"f:metadata":{}}`, 3)}
	if s := holding(t, ours).Of(mesh); !s.Written || s.By != "meshwright-rotation (update)" {
		t.Errorf("written %t by %s", s.Written, s.By)
	}
	theirs := ours.DeepCopy()
	theirs.Data = filesOf(t, root(t), false)
	theirs.ManagedFields = append(theirs.ManagedFields, entry("kubectl-edit", `{"f:data":{}}`, 2))
	if s := holding(t, theirs).Of(mesh); s.Written || s.By != "kubectl-edit (update)" {
		t.Errorf("written %t by %s", s.Written, s.By)
	}
}
