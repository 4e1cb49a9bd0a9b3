// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// managed is the label of what OLM makes.
const managed = "olm.managed"

// order in which the objects can be applied.
var order = []string{
	"Namespace", "CustomResourceDefinition", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding", "Secret", "Service",
	"NetworkPolicy", "PodDisruptionBudget", "Deployment", "ValidatingWebhookConfiguration",
}

// AsOLM gives the objects that OLM makes of a bundle, installed into a namespace for all namespaces, in an order in which they can be applied.
// It does what OLM's catalog and olm operators do (operator-lifecycle-manager v0.45: pkg/controller/operators/catalog, pkg/controller/install),
// but for owners and their labels: there is no ClusterServiceVersion that could own anything. The certificate of webhooks is made anew.
func AsOLM(bundleDir string, namespace string) ([]*unstructured.Unstructured, error) {
	version, objects, err := readBundle(bundleDir)
	if err != nil {
		return nil, err
	}
	o := &olm{namespace: namespace, version: version}
	for _, object := range objects {
		if err := o.place(object); err != nil {
			return nil, err
		}
	}
	for _, step := range []func() error{o.suggestedNamespace, o.permissions, o.deployments} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(o.made, func(a, b *unstructured.Unstructured) int {
		return slices.Index(order, a.GetKind()) - slices.Index(order, b.GetKind())
	})
	return o.made, nil
}

// readBundle reads the manifests of a bundle as it is on disk.
func readBundle(dir string) (*csv, []*unstructured.Unstructured, error) {
	files, err := filepath.Glob(filepath.Join(dir, "manifests", "*.yaml"))
	if err != nil {
		return nil, nil, err
	}
	var version *csv
	var objects []*unstructured.Unstructured
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, err
		}
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(raw, &object.Object); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
		if object.GetKind() != "ClusterServiceVersion" {
			objects = append(objects, object)
			continue
		}
		version = &csv{}
		if err := yaml.UnmarshalStrict(raw, version); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	if version == nil {
		return nil, nil, fmt.Errorf("%s holds no ClusterServiceVersion", dir)
	}
	return version, objects, nil
}

// olm plays OLM for one bundle.
type olm struct {
	namespace string
	version   *csv
	made      []*unstructured.Unstructured
}

// place puts an object of the bundle where OLM puts it.
func (o *olm) place(object *unstructured.Unstructured) error {
	switch kind := object.GetKind(); kind {
	case "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding":
	case "Role", "RoleBinding", "Service", "PodDisruptionBudget", "NetworkPolicy":
		object.SetNamespace(o.namespace)
	default:
		return fmt.Errorf("%s %s: no kind that this bundle should hold", kind, object.GetName())
	}
	o.add(object)
	return nil
}

func (o *olm) add(object *unstructured.Unstructured) {
	labels := object.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[managed] = "true"
	object.SetLabels(labels)
	o.made = append(o.made, object)
}

// make adds an object that OLM writes itself.
func (o *olm) make(kind, apiVersion, name, namespace string, object any) error {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return fmt.Errorf("%s %s: %w", kind, name, err)
	}
	unstructured.RemoveNestedField(m, "metadata", "creationTimestamp")
	for _, field := range []string{"spec", "status"} { // those that are empty
		if part, ok := m[field].(map[string]any); ok && (field == "status" || len(part) == 0) {
			delete(m, field)
		}
	}
	u := &unstructured.Unstructured{Object: m}
	u.SetKind(kind)
	u.SetAPIVersion(apiVersion)
	u.SetName(name)
	u.SetNamespace(namespace)
	o.add(u)
	return nil
}

// suggestedNamespace is the Namespace that OpenShift's console and OLM v1 make.
func (o *olm) suggestedNamespace() error {
	var template corev1.Namespace
	if err := json.Unmarshal([]byte(o.version.Metadata.Annotations["operatorframework.io/suggested-namespace-template"]), &template); err != nil {
		return fmt.Errorf("the template of the namespace: %w", err)
	}
	return o.make("Namespace", "v1", o.namespace, "", &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Labels: template.Labels, Annotations: template.Annotations},
	})
}

const rbacVersion = rbacv1.GroupName + "/v1"

// permissions are service accounts, and a role and a binding for each entry of the CSV.
func (o *olm) permissions() error {
	accounts := map[string]bool{}
	for i, permission := range o.version.Spec.Install.Spec.ClusterPermissions {
		account := permission.ServiceAccountName
		if !accounts[account] {
			accounts[account] = true
			if err := o.make("ServiceAccount", "v1", account, o.namespace, &corev1.ServiceAccount{}); err != nil {
				return err
			}
		}
		raw, err := json.Marshal(permission)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(raw)
		name := fmt.Sprintf("%s-%d-%s", o.version.Metadata.Name, i, hex.EncodeToString(sum[:8])) // OLM's is another hash
		if err := o.make("ClusterRole", rbacVersion, name, "", &rbacv1.ClusterRole{Rules: permission.Rules}); err != nil {
			return err
		}
		if err := o.bind("ClusterRoleBinding", name, "", "ClusterRole", name, account); err != nil {
			return err
		}
	}
	return nil
}

func (o *olm) bind(kind, name, namespace, roleKind, role, account string) error {
	return o.make(kind, rbacVersion, name, namespace, &rbacv1.ClusterRoleBinding{ // a RoleBinding has the same fields
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: roleKind, Name: role},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: o.namespace, Name: account}},
	})
}

// deployments are made with a Service, a certificate and a configuration for the webhooks of each.
func (o *olm) deployments() error {
	for _, d := range o.version.Spec.Install.Spec.Deployments {
		object := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apps/v1", "kind": "Deployment", "metadata": map[string]any{"name": d.Name, "namespace": o.namespace}, "spec": d.Spec,
		}}
		object.SetLabels(d.Label)
		served := slices.DeleteFunc(slices.Clone(o.version.Spec.Webhooks), func(w csvWebhook) bool { return w.DeploymentName != d.Name })
		annotations := map[string]string{}
		if len(served) > 0 {
			ca, err := o.serve(object, served)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(ca)
			annotations["olmcahash"] = hex.EncodeToString(sum[:])
		}
		if err := o.mutate(object, annotations); err != nil {
			return err
		}
		o.add(object)
	}
	return nil
}

// mutate does to a Deployment what OLM does to each: annotations of the CSV and of the OperatorGroup on its pods, a variable, one old ReplicaSet.
func (o *olm) mutate(deployment *unstructured.Unstructured, annotations map[string]string) error {
	there, _, err := unstructured.NestedStringMap(deployment.Object, "spec", "template", "metadata", "annotations")
	if err != nil {
		return err
	}
	for _, more := range []map[string]string{there, o.version.Metadata.Annotations, {
		"olm.targetNamespaces": "", "olm.operatorNamespace": o.namespace, "olm.operatorGroup": "global-operators",
	}} {
		maps.Copy(annotations, more)
	}
	if err := unstructured.SetNestedStringMap(deployment.Object, annotations, "spec", "template", "metadata", "annotations"); err != nil {
		return err
	}
	if err := unstructured.SetNestedField(deployment.Object, int64(1), "spec", "revisionHistoryLimit"); err != nil {
		return err
	}
	variable := map[string]any{"name": "OPERATOR_CONDITION_NAME", "value": o.version.Metadata.Name}
	return eachContainer(deployment, func(c map[string]any) error { return appendTo(c, variable, "env") })
}

// serve makes what the webhooks of a Deployment need, and returns the CA that they are known by.
func (o *olm) serve(deployment *unstructured.Unstructured, webhooks []csvWebhook) ([]byte, error) {
	service := deployment.GetName() + "-service"
	secret := service + "-cert"
	selector, _, err := unstructured.NestedStringMap(deployment.Object, "spec", "selector", "matchLabels")
	if err != nil {
		return nil, err
	}
	var ports []corev1.ServicePort
	for _, w := range webhooks {
		port := corev1.ServicePort{Name: strconv.FormatInt(w.ContainerPort, 10), Port: int32(w.ContainerPort), TargetPort: intstr.Parse(fmt.Sprint(w.TargetPort))} //nolint:gosec // a port
		if !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	if err := o.make("Service", "v1", service, o.namespace, &corev1.Service{Spec: corev1.ServiceSpec{Ports: ports, Selector: selector}}); err != nil {
		return nil, err
	}
	certificate, err := issue(service, o.namespace)
	if err != nil {
		return nil, err
	}
	if err := o.make("Secret", "v1", secret, o.namespace, &corev1.Secret{Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		corev1.TLSCertKey: certificate.leaf, corev1.TLSPrivateKeyKey: certificate.key, "olmCAKey": certificate.ca,
	}}); err != nil {
		return nil, err
	}
	account, _, err := unstructured.NestedString(deployment.Object, "spec", "template", "spec", "serviceAccountName")
	if err != nil {
		return nil, err
	}
	if err := o.rightsOfServers(service, secret, account); err != nil {
		return nil, err
	}
	if err := mountCertificate(deployment, secret); err != nil {
		return nil, err
	}
	for _, w := range webhooks {
		if err := o.configure(w, service, certificate.ca); err != nil {
			return nil, err
		}
	}
	return certificate.ca, nil
}

// rightsOfServers are those that OLM gives to whatever serves webhooks or APIs.
func (o *olm) rightsOfServers(service, secret, account string) error {
	err := o.make("Role", rbacVersion, secret, o.namespace, &rbacv1.Role{Rules: []rbacv1.PolicyRule{{
		Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}, ResourceNames: []string{secret},
	}}})
	if err != nil {
		return err
	}
	if err := o.bind("RoleBinding", secret, o.namespace, "Role", secret, account); err != nil {
		return err
	}
	if err := o.bind("ClusterRoleBinding", service+"-system:auth-delegator", "", "ClusterRole", "system:auth-delegator", account); err != nil {
		return err
	}
	return o.bind("RoleBinding", service+"-auth-reader", metav1.NamespaceSystem, "Role", "extension-apiserver-authentication-reader", account)
}

// configure makes the configuration of one webhook, whose name OLM has the API server generate.
func (o *olm) configure(w csvWebhook, service string, ca []byte) error {
	failurePolicy, sideEffects := admissionregistrationv1.FailurePolicyType(w.FailurePolicy), admissionregistrationv1.SideEffectClass(w.SideEffects)
	timeout, port := int32(w.TimeoutSeconds), int32(w.ContainerPort) //nolint:gosec // seconds and a port
	var rules []admissionregistrationv1.RuleWithOperations
	for _, r := range w.Rules {
		var rule admissionregistrationv1.RuleWithOperations
		m, ok := r.(map[string]any)
		if !ok {
			return fmt.Errorf("webhook %s has a rule of type %T", w.GenerateName, r)
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(m, &rule); err != nil {
			return fmt.Errorf("webhook %s: %w", w.GenerateName, err)
		}
		rules = append(rules, rule)
	}
	return o.make("ValidatingWebhookConfiguration", "admissionregistration.k8s.io/v1", w.GenerateName+"-olm", "",
		&admissionregistrationv1.ValidatingWebhookConfiguration{Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: w.GenerateName, Rules: rules, FailurePolicy: &failurePolicy, SideEffects: &sideEffects, TimeoutSeconds: &timeout,
			AdmissionReviewVersions: w.AdmissionReviewVersions, NamespaceSelector: &metav1.LabelSelector{},
			ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: ca, Service: &admissionregistrationv1.ServiceReference{
				Namespace: o.namespace, Name: service, Path: &w.WebhookPath, Port: &port,
			}},
		}}})
}

// mountCertificate mounts the certificate where OLM mounts it: once for webhooks, once for servers of APIs.
func mountCertificate(deployment *unstructured.Unstructured, secret string) error {
	template, ok := deployment.Object["spec"].(map[string]any)["template"].(map[string]any)
	if !ok {
		return fmt.Errorf("the Deployment %s has no template", deployment.GetName())
	}
	spec, ok := template["spec"].(map[string]any)
	if !ok {
		return fmt.Errorf("the Deployment %s has no pod", deployment.GetName())
	}
	for _, at := range []struct{ volume, path, certificate, key string }{
		{"apiservice-cert", "/apiserver.local.config/certificates", "apiserver.crt", "apiserver.key"},
		{"webhook-cert", webhookCertDir, "tls.crt", "tls.key"},
	} {
		err := appendTo(spec, map[string]any{"name": at.volume, "secret": map[string]any{"secretName": secret, "items": []any{
			map[string]any{"key": "tls.crt", "path": at.certificate}, map[string]any{"key": "tls.key", "path": at.key},
		}}}, "volumes")
		if err != nil {
			return err
		}
		mount := map[string]any{"name": at.volume, "mountPath": at.path}
		if err := eachContainer(deployment, func(c map[string]any) error { return appendTo(c, mount, "volumeMounts") }); err != nil {
			return err
		}
	}
	return nil
}

// eachContainer changes the containers of a Deployment.
func eachContainer(deployment *unstructured.Unstructured, change func(map[string]any) error) error {
	path := []string{"spec", "template", "spec", "containers"}
	containers, _, err := unstructured.NestedSlice(deployment.Object, path...)
	if err != nil {
		return err
	}
	for _, c := range containers {
		container, ok := c.(map[string]any)
		if !ok {
			return fmt.Errorf("the Deployment %s has a container of type %T", deployment.GetName(), c)
		}
		if err := change(container); err != nil {
			return err
		}
	}
	return unstructured.SetNestedSlice(deployment.Object, containers, path...)
}

// appendTo adds to a list of an object, which may not be there yet.
func appendTo(object map[string]any, value any, field string) error {
	list, _, err := unstructured.NestedSlice(object, field)
	if err != nil {
		return err
	}
	return unstructured.SetNestedSlice(object, append(list, value), field)
}
