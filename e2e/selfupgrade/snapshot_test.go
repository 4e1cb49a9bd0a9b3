// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package selfupgrade

import (
	"encoding/json"
	"fmt"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/e2e/framework"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// snapshot is all that an exchange of the operator has to leave as it is, by names that say what it is.
type snapshot map[string]string

// look takes a snapshot, without the operator's own namespace and the probes.
func look(t *testing.T, probes []probe) snapshot {
	t.Helper()
	out := snapshot{}
	out.pods(t)
	out.deployments(t)
	out.namespaces(t)
	out.ours(t)
	out.istios(t)
	for _, p := range probes {
		delete(out, nameOf(p.object()))
	}
	return out
}

// list reads all objects of a kind.
func list(t *testing.T, into client.ObjectList, options ...client.ListOption) {
	t.Helper()
	if err := env.Client.List(t.Context(), into, options...); err != nil {
		t.Fatal(err)
	}
}

// pods that stay: those that leave do so anyway.
func (s snapshot) pods(t *testing.T) {
	t.Helper()
	var pods corev1.PodList
	list(t, &pods)
	for _, p := range pods.Items {
		if p.Namespace == framework.OperatorNamespace || p.DeletionTimestamp != nil {
			continue
		}
		restarts := int32(0)
		for _, c := range p.Status.ContainerStatuses {
			restarts += c.RestartCount
		}
		s["Pod "+p.Namespace+"/"+p.Name] = fmt.Sprintf("uid %s, %d restarts", p.UID, restarts)
	}
}

func (s snapshot) deployments(t *testing.T) {
	t.Helper()
	var deployments appsv1.DeploymentList
	list(t, &deployments)
	for _, d := range deployments.Items {
		if d.Namespace != framework.OperatorNamespace {
			s["Deployment "+d.Namespace+"/"+d.Name] = fmt.Sprintf("uid %s, generation %d", d.UID, d.Generation)
		}
	}
}

// namespaces by their labels, which enroll them.
func (s snapshot) namespaces(t *testing.T) {
	t.Helper()
	var namespaces corev1.NamespaceList
	list(t, &namespaces)
	for _, n := range namespaces.Items {
		if n.Name != framework.OperatorNamespace && n.Name != probeNamespace {
			s["Namespace "+n.Name] = text(t, n.Labels)
		}
	}
}

// ours are the specs of the operator's own kinds, to the byte, and what it has written down of each revision's objects.
func (s snapshot) ours(t *testing.T) {
	t.Helper()
	for _, kind := range []string{"MeshInstallation", "MeshRevision", "MeshGateway", "MeshRollout", "MeshRotation"} {
		var all unstructured.UnstructuredList
		all.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind + "List"))
		list(t, &all)
		for _, o := range all.Items {
			name := kind + " " + o.GetName()
			s[name] = fmt.Sprintf("uid %s, generation %d, finalizers %v, spec %s", o.GetUID(), o.GetGeneration(), o.GetFinalizers(), text(t, o.Object["spec"]))
			inventory, _, err := unstructured.NestedFieldNoCopy(o.Object, "status", "inventory")
			if err != nil {
				t.Fatal(err)
			}
			s[name+", inventory"] = text(t, inventory)
		}
	}
}

// istioKinds are what Istio's charts consist of, beside Deployments, that nobody else writes to while nothing moves. Of those that carry a
// status, which others do write, the generation tells.
var istioKinds = map[schema.GroupVersionKind]bool{
	{Version: "v1", Kind: "Service"}:                                                               false,
	{Version: "v1", Kind: "ServiceAccount"}:                                                        false,
	{Version: "v1", Kind: "ConfigMap"}:                                                             false,
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "Role"}:                              false,
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "RoleBinding"}:                       false,
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"}:                       false,
	{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRoleBinding"}:                false,
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingWebhookConfiguration"}:   false,
	{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "ValidatingWebhookConfiguration"}: false,
	{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}:               true,
	{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"}:                         true,
	{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"}:                                  true,
	{Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy"}:                             false,
}

// istios are the objects of Istio that the operator keeps.
func (s snapshot) istios(t *testing.T) {
	t.Helper()
	for kind, hasStatus := range istioKinds {
		var all unstructured.UnstructuredList
		all.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		list(t, &all, client.HasLabels{v1alpha1.LabelMesh})
		for _, o := range all.Items {
			name := nameOf(&o)
			s[name] = fmt.Sprintf("uid %s, version %s", o.GetUID(), o.GetResourceVersion())
			if hasStatus {
				s[name] = fmt.Sprintf("uid %s, generation %d", o.GetUID(), o.GetGeneration())
			}
		}
	}
}

func nameOf(o *unstructured.Unstructured) string {
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

// text is a value as JSON, whose maps are sorted.
func text(t *testing.T, value any) string {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
