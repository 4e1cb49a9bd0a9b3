// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/cluster/artifact"
)

// CertManagerNamespace is where cert-manager's controllers are, and the Secrets of ClusterIssuers.
const CertManagerNamespace = "cert-manager"

const (
	certManagerName = "cert-manager"
	// certManagerModule holds the controllers and the CRDs, in the version of the go.mod of certManagerNested.
	certManagerModule = "github.com/cert-manager/cert-manager"
	certManagerNested = "e2e/cluster/modules/cert-manager"
)

var certManagerGroup = schema.GroupVersion{Group: "cert-manager.io", Version: "v1"}

// InstallCertManager runs cert-manager's controllers for issuers of the types CA and SelfSigned, which approve every request, without its
// webhook. It removes them, and every Issuer, ClusterIssuer and CertificateRequest with their CRDs, when the test ends.
func (e *Env) InstallCertManager(t *testing.T) {
	t.Helper()
	crds, err := e.certManagerCRDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	image := artifact.CertManagerImage()
	made, err := e.Store.Ensure(t.Context(), e.Progress, image)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Cluster.Load(t.Context(), made[image]); err != nil {
		t.Fatal(err)
	}
	wide := certManagerAccess()
	for _, crd := range crds {
		wide = append(wide, crd)
	}
	t.Cleanup(func() {
		for _, o := range wide {
			if err := e.Client.Delete(context.Background(), o); client.IgnoreNotFound(err) != nil {
				t.Errorf("removing %s: %v", o.GetName(), err)
			}
		}
		for _, o := range wide {
			if err := e.WaitGone(context.Background(), o); err != nil {
				t.Error(err)
			}
		}
	})
	e.TemporaryNamespace(t, CertManagerNamespace, nil) // it goes before the cleanup above: nobody watches what is removed then
	if err := e.apply(t.Context(), wide...); err != nil {
		t.Fatal(err)
	}
	if err := e.WaitFor(t.Context(), "cert-manager's API to be served", e.certManagerServed(crds)); err != nil {
		t.Fatal(err)
	}
	if err := e.apply(t.Context(), certManagerPods()...); err != nil {
		t.Fatal(err)
	}
	if err := e.WaitDeployment(t.Context(), client.ObjectKey{Namespace: CertManagerNamespace, Name: certManagerName}); err != nil {
		t.Fatal(err)
	}
}

// certManagerCRDs reads the CRDs of what the controllers watch, as they are before cert-manager's chart adds labels to them.
func (e *Env) certManagerCRDs(ctx context.Context) ([]*unstructured.Unstructured, error) {
	download := exec.CommandContext(ctx, "go", "mod", "download", "-json", certManagerModule)
	download.Dir = filepath.Join(e.Root, certManagerNested)
	out, err := download.Output()
	if err != nil {
		return nil, fmt.Errorf("go mod download %s: %w\n%s", certManagerModule, err, out)
	}
	var module struct {
		Dir string `json:"Dir"`
	}
	if err := json.Unmarshal(out, &module); err != nil {
		return nil, fmt.Errorf("output of go mod download %s: %w", certManagerModule, err)
	}
	var crds []*unstructured.Unstructured
	for _, resource := range []string{"certificaterequests", "clusterissuers", "issuers"} {
		raw, err := os.ReadFile(filepath.Join(module.Dir, "deploy", "crds", certManagerGroup.Group+"_"+resource+".yaml"))
		if err != nil {
			return nil, err
		}
		crd := &unstructured.Unstructured{}
		if err := utilyaml.Unmarshal(raw, &crd.Object); err != nil {
			return nil, fmt.Errorf("CRD of %s: %w", resource, err)
		}
		crds = append(crds, crd)
	}
	return crds, nil
}

// certManagerServed is a wait for the API server to serve what CRDs define.
func (e *Env) certManagerServed(crds []*unstructured.Unstructured) func(context.Context) (bool, string, error) {
	return func(ctx context.Context) (bool, string, error) {
		for _, crd := range crds {
			kind, _, err := unstructured.NestedString(crd.Object, "spec", "names", "listKind")
			if err != nil {
				return false, "", err
			}
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(certManagerGroup.WithKind(kind))
			if err := e.Client.List(ctx, list); err != nil {
				return false, "", err
			}
		}
		return true, "", nil
	}
}

// certManagerAccess is what the controllers may do, which is no more than they need.
func certManagerAccess() []client.Object {
	read := []string{"get", "list", "watch"}
	meta := metav1.ObjectMeta{Name: "meshwright-e2e-" + certManagerName}
	return []client.Object{
		&rbacv1.ClusterRole{
			TypeMeta: metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"}, ObjectMeta: meta,
			Rules: []rbacv1.PolicyRule{
				{
					APIGroups: []string{certManagerGroup.Group}, Verbs: read,
					Resources: []string{"certificaterequests", "clusterissuers", "issuers"},
				},
				{
					APIGroups: []string{certManagerGroup.Group}, Verbs: []string{"update"},
					Resources: []string{"certificaterequests/status", "clusterissuers/status", "issuers/status"},
				},
				{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: read},
				{APIGroups: []string{""}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
			},
		},
		&rbacv1.ClusterRoleBinding{
			TypeMeta: metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"}, ObjectMeta: meta,
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: CertManagerNamespace, Name: certManagerName}},
		},
	}
}

// certManagerPods are the controllers. They elect no leader: one replica, which ends before the next one starts.
func certManagerPods() []client.Object {
	meta := metav1.ObjectMeta{Namespace: CertManagerNamespace, Name: certManagerName}
	labels := map[string]string{"app": certManagerName}
	return []client.Object{
		&corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: meta},
		&appsv1.Deployment{
			TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: meta,
			Spec: appsv1.DeploymentSpec{
				Selector: &metav1.LabelSelector{MatchLabels: labels},
				Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
				Template: corev1.PodTemplateSpec{
					ObjectMeta: metav1.ObjectMeta{Labels: labels},
					Spec: corev1.PodSpec{
						ServiceAccountName: meta.Name,
						Containers: []corev1.Container{{
							Name: certManagerName, Image: artifact.CertManagerImageName,
							ImagePullPolicy: corev1.PullIfNotPresent,
							Args:            []string{"--cluster-resource-namespace=" + CertManagerNamespace},
						}},
					},
				},
			},
		},
	}
}

// CAIssuer makes an Issuer, and a Secret of the same name, that signs with the certificate and the key of a CA, both in PEM, and waits
// until cert-manager says that it is Ready.
func (e *Env) CAIssuer(ctx context.Context, namespace, name string, cert, key []byte) error {
	secret := &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key},
	}
	issuer := &unstructured.Unstructured{Object: map[string]any{
		"spec": map[string]any{"ca": map[string]any{"secretName": name}},
	}}
	issuer.SetGroupVersionKind(certManagerGroup.WithKind("Issuer"))
	issuer.SetNamespace(namespace)
	issuer.SetName(name)
	if err := e.apply(ctx, secret, issuer); err != nil {
		return err
	}
	return e.WaitFor(ctx, "Issuer "+namespace+"/"+name+" to be Ready", func(ctx context.Context) (bool, string, error) {
		if err := e.Client.Get(ctx, client.ObjectKeyFromObject(issuer), issuer); err != nil {
			return false, "", err
		}
		var is struct {
			Status struct {
				Conditions []metav1.Condition `json:"conditions"`
			} `json:"status"`
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(issuer.Object, &is); err != nil {
			return false, "", err
		}
		ready := apimeta.FindStatusCondition(is.Status.Conditions, "Ready")
		if ready == nil {
			return false, "no condition Ready yet", nil
		}
		ok := ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == issuer.GetGeneration()
		return ok, ready.Reason + ": " + ready.Message, nil
	})
}
