// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/meshwright/meshwright/e2e/cluster/artifact"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Where config/default puts the operator.
const (
	OperatorNamespace    = "meshwright-system"
	OperatorDeployment   = "meshwright"
	WebhookConfiguration = "meshwright-validating-webhook"
	// OperatorProgram is what its container runs.
	OperatorProgram = "/usr/local/bin/meshwright"
)

// InstallOperator applies config/default as a user would, and waits until every replica is ready.
func (e *Env) InstallOperator(ctx context.Context) (err error) {
	end := e.Progress.Begin("installing the operator from config/default", 15*time.Second)
	defer func() { end(err) }()
	objects, err := Manifests(filepath.Join(e.Root, "config", "default"))
	if err != nil {
		return err
	}
	images, err := e.Store.Ensure(ctx, e.Progress, artifact.OperatorImage())
	if err != nil {
		return err
	}
	for _, o := range objects {
		if o.GetKind() == "Deployment" {
			// The name of the image is always the same, its content is not: this starts new pods when it changed.
			content := filepath.Base(filepath.Dir(images[artifact.OperatorImage()]))
			if err := unstructured.SetNestedField(o.Object, content, "spec", "template", "metadata", "annotations", "meshwright-e2e/image"); err != nil {
				return err
			}
		}
		err := e.WaitFor(ctx, o.GetKind()+" "+o.GetName()+" to be accepted", func(ctx context.Context) (bool, string, error) {
			err := e.apply(ctx, o.DeepCopy())
			// A policy over a CRD of the same manifests is accepted once the CRD is served.
			return err == nil, "", err
		})
		if err != nil {
			return err
		}
	}
	if err := e.WaitDeployment(ctx, client.ObjectKey{Namespace: OperatorNamespace, Name: OperatorDeployment}); err != nil {
		return err
	}
	return e.WaitWebhook(ctx)
}

// unknownVersion is what nothing but the webhook refuses.
func unknownVersion() *v1alpha1.MeshInstallation { return Mesh("probe", "1.29.99") }

// Manifests are the objects of a kustomization, in the order in which they can be applied.
func Manifests(dir string) ([]*unstructured.Unstructured, error) {
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionLegacy
	built, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("building %s: %w", dir, err)
	}
	var out []*unstructured.Unstructured
	for _, r := range built.Resources() {
		raw, err := r.MarshalJSON()
		if err != nil {
			return nil, err
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(raw); err != nil {
			return nil, err
		}
		out = append(out, object)
	}
	return out, nil
}

// WaitDeployment waits until a Deployment's newest template has all its replicas available.
func (e *Env) WaitDeployment(ctx context.Context, key client.ObjectKey) error {
	return e.WaitFor(ctx, "Deployment "+key.String(), func(ctx context.Context) (bool, string, error) {
		var d appsv1.Deployment
		if err := e.Client.Get(ctx, key, &d); err != nil {
			return false, "", err
		}
		wanted := int32(1)
		if d.Spec.Replicas != nil {
			wanted = *d.Spec.Replicas
		}
		s := d.Status
		ready := s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == wanted && s.AvailableReplicas == wanted && s.Replicas == wanted
		return ready, fmt.Sprintf("%d of %d replicas available", s.AvailableReplicas, wanted), nil
	})
}

// WaitReady waits until a mesh is Ready for the generation of its spec that the API server holds.
func (e *Env) WaitReady(ctx context.Context, name string) (*v1alpha1.MeshInstallation, error) {
	return e.WaitCondition(ctx, name, v1alpha1.ConditionReady, metav1.ConditionTrue, "")
}

// WaitCondition waits for a condition of a mesh, observed for the newest generation; an empty reason means any.
func (e *Env) WaitCondition(
	ctx context.Context, name, condition string, status metav1.ConditionStatus, reason string,
) (*v1alpha1.MeshInstallation, error) {
	var mesh v1alpha1.MeshInstallation
	err := e.WaitFor(ctx, fmt.Sprintf("mesh %s to be %s=%s %s", name, condition, status, reason),
		func(ctx context.Context) (bool, string, error) {
			if err := e.Client.Get(ctx, client.ObjectKey{Name: name}, &mesh); err != nil {
				return false, "", err
			}
			c := apimeta.FindStatusCondition(mesh.Status.Conditions, condition)
			if c == nil {
				return false, "no such condition yet", nil
			}
			ok := c.ObservedGeneration == mesh.Generation && c.Status == status && (reason == "" || c.Reason == reason)
			return ok, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message), nil
		})
	return &mesh, err
}

// ConditionSays is a wait for a condition whose message contains a text; the message is kept.
func (e *Env) ConditionSays(name, condition, text string, message *string) func(context.Context) (bool, string, error) {
	return func(ctx context.Context) (bool, string, error) {
		var mesh v1alpha1.MeshInstallation
		if err := e.Client.Get(ctx, client.ObjectKey{Name: name}, &mesh); err != nil {
			return false, "", err
		}
		c := apimeta.FindStatusCondition(mesh.Status.Conditions, condition)
		if c == nil {
			return false, "no such condition yet", nil
		}
		*message = c.Message
		return strings.Contains(c.Message, text), c.Message, nil
	}
}

// KillOperator kills every process of the operator, which has no time to give its lease back. Its pods are deleted, so that new
// ones come at once instead of after the kubelet's growing pauses between restarts, and so is the lease: nobody learns anything
// from waiting fifteen seconds until it has expired.
func (e *Env) KillOperator(ctx context.Context) error {
	if err := e.Cluster.Kill(ctx, OperatorProgram); err != nil {
		return err
	}
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: OperatorNamespace, Name: OperatorDeployment}}
	if err := e.Client.Delete(ctx, lease); client.IgnoreNotFound(err) != nil {
		return err
	}
	return e.Client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(OperatorNamespace),
		client.MatchingLabels{"app.kubernetes.io/name": "meshwright"}, client.GracePeriodSeconds(atOnce))
}

// ClientWithWarnings is a client whose admission warnings go to a handler.
func (e *Env) ClientWithWarnings(handler rest.WarningHandler) (client.Client, error) {
	config := rest.CopyConfig(e.Config)
	config.WarningHandler = handler
	return client.New(config, client.Options{Scheme: e.Client.Scheme(), Mapper: e.Client.RESTMapper()})
}

// WithoutWebhook takes the operator's admission webhook away, as it is when no replica answers, until restore.
func (e *Env) WithoutWebhook(ctx context.Context) (restore func() error, err error) {
	var webhook admissionv1.ValidatingWebhookConfiguration
	if err := e.Client.Get(ctx, client.ObjectKey{Name: WebhookConfiguration}, &webhook); err != nil {
		return nil, err
	}
	if err := e.Client.Delete(ctx, &webhook); err != nil {
		return nil, err
	}
	// The API server learns of it a moment later: what only the webhook refuses must pass first.
	err = e.WaitFor(ctx, "the webhook not to be asked any more", func(ctx context.Context) (bool, string, error) {
		err := e.Client.Create(ctx, unknownVersion(), client.DryRunAll)
		return err == nil, "", err
	})
	if err != nil {
		return nil, err
	}
	//nolint:contextcheck // it is called when the test's own context has ended
	return func() error { return e.InstallOperator(context.Background()) }, nil
}
