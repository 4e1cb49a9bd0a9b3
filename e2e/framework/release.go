// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/meshwright/meshwright/e2e/cluster/artifact"
)

// Release is one build of the operator with the manifests that belong to it.
type Release struct {
	// Image of the operator.
	Image   string
	objects []*unstructured.Unstructured
}

// ReleaseOf is the operator of a commit, whose image the cluster is given, or that of this tree for an empty commit.
func (e *Env) ReleaseOf(ctx context.Context, commit string) (*Release, error) {
	out, root := &Release{Image: artifact.OperatorImageName}, e.Root
	if commit != "" {
		out.Image = artifact.OperatorImageNameOf(commit)
		sources, image := artifact.Sources(commit), artifact.OperatorImageOf(commit)
		made, err := e.Store.Ensure(ctx, e.Progress, sources, image)
		if err != nil {
			return nil, err
		}
		if err := e.Cluster.Load(ctx, made[image]); err != nil {
			return nil, err
		}
		root = made[sources]
	}
	objects, err := Manifests(filepath.Join(root, "config", "default"))
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		if o.GetKind() != "Deployment" {
			continue
		}
		containers, _, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		if err != nil {
			return nil, err
		}
		operator, ok := containers[0].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("the Deployment %s has no container", o.GetName())
		}
		operator["image"] = out.Image
		if err := unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers"); err != nil {
			return nil, err
		}
	}
	out.objects = objects
	return out, nil
}

// ReleaseAs is the operator of this tree with other manifests.
func ReleaseAs(objects []*unstructured.Unstructured) *Release {
	return &Release{Image: artifact.OperatorImageName, objects: objects}
}

// Without is the release without its objects of some kinds.
func (r *Release) Without(kinds ...string) *Release {
	out := &Release{Image: r.Image}
	for _, o := range r.objects {
		if !slices.Contains(kinds, o.GetKind()) {
			out.objects = append(out.objects, o)
		}
	}
	return out
}

// manifest is the text that a user has of a release.
func (r *Release) manifest() (string, error) {
	var out strings.Builder
	for _, o := range r.objects {
		raw, err := yaml.Marshal(o.Object)
		if err != nil {
			return "", err
		}
		out.WriteString("---\n" + string(raw))
	}
	return out.String(), nil
}

// ApplyRelease applies the manifests of a release as docs/install.md says, and waits until all replicas are of it, one of them leads and
// the webhook is asked.
func (e *Env) ApplyRelease(ctx context.Context, r *Release) error {
	manifest, err := r.manifest()
	if err != nil {
		return err
	}
	err = e.WaitFor(ctx, "the manifests of "+r.Image+" to be accepted", func(ctx context.Context) (bool, string, error) {
		// A policy over a CRD of the same manifests is accepted once the CRD is served. The name is that of InstallOperator, which comes
		// before and after: what only one of the manifests has must not stay.
		_, err := e.KubectlApply(ctx, manifest, "--server-side", "--force-conflicts", "--field-manager="+fieldManager)
		return err == nil, "", err
	})
	if err != nil {
		return err
	}
	if err := e.WaitDeployment(ctx, client.ObjectKey{Namespace: OperatorNamespace, Name: OperatorDeployment}); err != nil {
		return err
	}
	err = e.WaitFor(ctx, r.Image+" to lead", func(ctx context.Context) (bool, string, error) {
		image, err := e.leadingImage(ctx)
		return image == r.Image, "the leader is of " + image, err
	})
	if err != nil {
		return err
	}
	return e.WaitWebhook(ctx)
}

// leadingImage is the image of the replica that leads; empty when there is none.
func (e *Env) leadingImage(ctx context.Context) (string, error) {
	var lease coordinationv1.Lease
	err := e.Client.Get(ctx, client.ObjectKey{Namespace: OperatorNamespace, Name: LeaderElectionID}, &lease)
	if err != nil || lease.Spec.HolderIdentity == nil {
		return "", client.IgnoreNotFound(err)
	}
	name, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	var pod corev1.Pod
	err = e.Client.Get(ctx, client.ObjectKey{Namespace: OperatorNamespace, Name: name}, &pod)
	if err != nil || len(pod.Spec.Containers) == 0 {
		return "", client.IgnoreNotFound(err)
	}
	return pod.Spec.Containers[0].Image, nil
}

// RemoveRelease deletes all that the manifests of a release made, the last first, and waits until it is gone.
func (e *Env) RemoveRelease(ctx context.Context, r *Release) error {
	for _, o := range slices.Backward(r.objects) {
		if err := e.Client.Delete(ctx, o.DeepCopy()); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	for _, o := range r.objects {
		if err := e.WaitGone(ctx, o.DeepCopy()); err != nil {
			return err
		}
	}
	return nil
}

// WaitWebhook waits until the API server asks the webhook, which fails open: until it reaches the pods, it accepts what the webhook would
// refuse.
func (e *Env) WaitWebhook(ctx context.Context) error {
	return e.WaitFor(ctx, "the webhook to be asked", func(ctx context.Context) (bool, string, error) {
		err := e.Client.Create(ctx, unknownVersion(), client.DryRunAll)
		return apierrors.IsInvalid(err), fmt.Sprintf("a mesh of an unknown version: %v", err), nil
	})
}
