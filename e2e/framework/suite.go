// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Main is the TestMain of a suite: it brings up the cluster of the suites, runs the tests and leaves the cluster up for
// the next suite. When a test fails, the logs of the cluster are collected and their place is said.
func Main(m *testing.M, set func(*Env)) {
	os.Exit(mainWithCluster(m, set))
}

func mainWithCluster(m *testing.M, set func(*Env)) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	kubernetes := os.Getenv("MESHWRIGHT_KUBERNETES")
	supported, err := SupportedIstio(kubernetes)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	env, err := Start(ctx, Options{Kubernetes: kubernetes, Istio: supported})
	if err != nil {
		fmt.Fprintln(os.Stderr, "the cluster of this suite:", err)
		return 1
	}
	if err := env.RemoveLeftovers(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	set(env)
	stop() // from here on a signal ends the process, as it does with any test
	code := m.Run()
	if code != 0 {
		dir := filepath.Join(os.TempDir(), "meshwright-e2e-logs")
		if err := env.Cluster.Logs(context.WithoutCancel(ctx), dir); err != nil {
			fmt.Fprintln(os.Stderr, "collecting logs:", err)
		}
		fmt.Fprintln(os.Stderr, "logs of the cluster:", dir)
	}
	return code
}

// RemoveLeftovers removes the meshes that an interrupted run left in a cluster which is used again.
func (e *Env) RemoveLeftovers(ctx context.Context) error {
	var meshes v1alpha1.MeshInstallationList
	if err := e.Client.List(ctx, &meshes); err != nil {
		return err
	}
	for _, mesh := range meshes.Items {
		e.Progress.Say("removing mesh " + mesh.Name + ", which an earlier run left")
		if err := e.Remove(ctx, mesh.Name); err != nil {
			return err
		}
	}
	return nil
}

// RemoveIstioCRDs removes the CRDs that a mesh or helm kept.
func (e *Env) RemoveIstioCRDs(ctx context.Context) error {
	var all apiextensionsv1.CustomResourceDefinitionList
	if err := e.Client.List(ctx, &all); err != nil {
		return err
	}
	for i := range all.Items {
		if !strings.HasSuffix(all.Items[i].Name, ".istio.io") {
			continue
		}
		if err := e.Client.Delete(ctx, &all.Items[i]); err != nil {
			return err
		}
		if err := e.WaitGone(ctx, &all.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

// Install creates a mesh, waits until it is Ready, and removes it with all that belongs to it when the test ends.
func (e *Env) Install(t *testing.T, mesh *v1alpha1.MeshInstallation) *v1alpha1.MeshInstallation {
	t.Helper()
	e.Create(t, mesh)
	ready, err := e.WaitReady(t.Context(), mesh.Name)
	if err != nil {
		t.Fatal(err)
	}
	return ready
}

// Create creates a mesh and removes it with all that belongs to it when the test ends.
func (e *Env) Create(t *testing.T, mesh *v1alpha1.MeshInstallation) {
	t.Helper()
	if err := e.Client.Create(t.Context(), mesh); err != nil {
		t.Fatalf("creating mesh %s: %v", mesh.Name, err)
	}
	t.Cleanup(func() {
		if err := e.Remove(context.Background(), mesh.Name); err != nil {
			t.Errorf("removing mesh %s: %v", mesh.Name, err)
		}
	})
}

// Remove deletes a mesh with everything that deletionPolicy could keep, used or not, and waits until it is gone.
func (e *Env) Remove(ctx context.Context, name string) error {
	mesh := &v1alpha1.MeshInstallation{ObjectMeta: metav1.ObjectMeta{Name: name}}
	everything := []byte(`{"spec":{"paused":false,"deletionPolicy":{"inUse":"Proceed","crds":"Delete","caSecret":"Delete","namespaces":"Delete"}}}`)
	if err := e.Client.Patch(ctx, mesh, client.RawPatch("application/merge-patch+json", everything)); err != nil {
		return client.IgnoreNotFound(err)
	}
	if err := e.Client.Delete(ctx, mesh); client.IgnoreNotFound(err) != nil {
		return err
	}
	return e.WaitFor(ctx, "mesh "+name+" to be gone", func(ctx context.Context) (bool, string, error) {
		err := e.Client.Get(ctx, client.ObjectKeyFromObject(mesh), mesh)
		if apierrors.IsNotFound(err) {
			return true, "", nil
		}
		ready := apimeta.FindStatusCondition(mesh.Status.Conditions, v1alpha1.ConditionReady)
		return false, fmt.Sprintf("finalizers %v, Ready: %v", mesh.Finalizers, ready), err
	})
}

// WaitGone waits until an object does not exist.
func (e *Env) WaitGone(ctx context.Context, o client.Object) error {
	return e.WaitFor(ctx, fmt.Sprintf("%T %s to be gone", o, client.ObjectKeyFromObject(o)), func(ctx context.Context) (bool, string, error) {
		err := e.Client.Get(ctx, client.ObjectKeyFromObject(o), o)
		if apierrors.IsNotFound(err) {
			return true, "", nil
		}
		return false, "still there", err
	})
}

// atOnce is the grace of pods that need none, in seconds. With 0 they would be forgotten before the kubelet has ended them, which it then
// does as best it can.
const atOnce = 1

// RemoveNamespaces deletes namespaces that an earlier run may have left, all at a time, and waits until they are gone.
func (e *Env) RemoveNamespaces(ctx context.Context, names ...string) error {
	for _, name := range names {
		if err := e.Client.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); client.IgnoreNotFound(err) != nil {
			return err
		}
		// Nobody sends requests to its pods any more: they need not leave gracefully.
		err := e.Client.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(name), client.GracePeriodSeconds(atOnce))
		if client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	for _, name := range names {
		if err := e.WaitGone(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			return err
		}
	}
	return nil
}

// TemporaryNamespace creates a namespace, anew when an interrupted run left it, and deletes it when the test ends.
func (e *Env) TemporaryNamespace(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	e.TemporaryNamespaces(t, labels, name)
}

// TemporaryNamespaces creates namespaces as TemporaryNamespace does. Many go as fast as one.
func (e *Env) TemporaryNamespaces(t *testing.T, labels map[string]string, names ...string) {
	t.Helper()
	if err := e.RemoveNamespaces(t.Context(), names...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.RemoveNamespaces(context.Background(), names...); err != nil {
			t.Errorf("deleting namespaces %v: %v", names, err)
		}
	})
	for _, name := range names {
		if err := e.Namespace(t.Context(), name, labels); err != nil {
			t.Fatal(err)
		}
	}
}

// Owned lists the objects of a mesh, by the label that each of them carries, sorted. Pods and what Kubernetes derives
// from objects (ReplicaSets, Endpoints) are left out: their names are random.
func (e *Env) Owned(ctx context.Context, mesh string) ([]string, error) {
	out, err := e.Kubectl(ctx, "get", "-A", "-l", v1alpha1.LabelMesh+"="+mesh, "--no-headers",
		"-o", "custom-columns=K:.kind,N:.metadata.namespace,NAME:.metadata.name",
		"crd,clusterrole,clusterrolebinding,mutatingwebhookconfiguration,validatingwebhookconfiguration,namespace,"+
			"deployment,service,configmap,serviceaccount,role,rolebinding,hpa,pdb,networkpolicy,meshgateway,meshrevision")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.SplitSeq(strings.TrimSpace(out), "\n") {
		names = append(names, strings.Join(strings.Fields(line), " "))
	}
	slices.Sort(names)
	return names, nil
}

// NamespaceHasLabel is a wait for a label of a namespace.
func (e *Env) NamespaceHasLabel(name, label, value string) func(context.Context) (bool, string, error) {
	return func(ctx context.Context) (bool, string, error) {
		var ns corev1.Namespace
		if err := e.Client.Get(ctx, client.ObjectKey{Name: name}, &ns); err != nil {
			return false, "", err
		}
		return ns.Labels[label] == value, fmt.Sprintf("labels %v", ns.Labels), nil
	}
}
