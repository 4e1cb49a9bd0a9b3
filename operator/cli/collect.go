// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// collected is a kind of which objects are collected.
type collected struct {
	schema.GroupVersionKind

	// where the objects are: all of the kind, those of a mesh by label, or those of the operator's namespace.
	options []client.ListOption
	// folder in the archive.
	folder string
	// keep says which of them are; nil stands for all.
	keep func(*unstructured.Unstructured) bool
}

func (b *bundle) kinds() []collected {
	var out []collected
	for _, kind := range []string{"MeshInstallation", "MeshRevision", "MeshGateway", "MeshRollout", "MeshRotation"} {
		out = append(out, collected{v1alpha1.GroupVersion.WithKind(kind), nil, "meshwright", nil})
	}
	ofMesh := []client.ListOption{client.HasLabels{v1alpha1.LabelMesh}}
	ofOperator := []client.ListOption{client.InNamespace(b.operator)}
	for _, kind := range []schema.GroupVersionKind{
		{Group: "apps", Version: "v1", Kind: "Deployment"},
		{Version: "v1", Kind: "Service"},
		{Version: "v1", Kind: "Pod"},
		{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"},
		{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"},
	} {
		out = append(out, collected{kind, ofMesh, "istio", nil}, collected{kind, ofOperator, "operator", operators})
	}
	for _, kind := range []string{"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"} {
		out = append(out, collected{schema.GroupVersionKind{Group: "admissionregistration.k8s.io", Version: "v1", Kind: kind}, nil, "webhooks", nil})
	}
	return out
}

// operators says whether an object is the operator's, by its label or by that of the pods it is for: others may live in its namespace.
func operators(o *unstructured.Unstructured) bool {
	for _, fields := range [][]string{{"metadata", "labels"}, {"spec", "selector"}, {"spec", "selector", "matchLabels"}} {
		if labels, _, _ := unstructured.NestedMap(o.Object, fields...); labels[nameLabel] == operatorName {
			return true
		}
	}
	return false
}

const nameLabel = "app.kubernetes.io/name"

// about says whether an event is about something that is collected, what that made, something of the project's or something without a namespace.
func about(event *unstructured.Unstructured, names []string) bool {
	regarding, _, _ := unstructured.NestedStringMap(event.Object, "regarding")
	if regarding["namespace"] == "" || strings.HasPrefix(regarding["apiVersion"], v1alpha1.GroupVersion.Group+"/") {
		return true
	}
	return slices.ContainsFunc(names, func(n string) bool { return regarding["name"] == n || strings.HasPrefix(regarding["name"], n+"-") })
}

// collect reads and writes everything. What can't be read is noted; the error is that of an archive that can't be written, or of an interruption.
func (b *bundle) collect(ctx context.Context) error {
	if err := b.find(ctx); err != nil {
		return err
	}
	namespaces := map[string][]string{metav1.NamespaceDefault: nil, b.operator: nil} // events of what has no namespace are in default
	var pods []unstructured.Unstructured
	found := false
	for _, kind := range b.kinds() {
		if kind.folder != "operator" {
			b.progress(kind.Kind + "s")
		}
		read := b.read
		items, err := b.list(ctx, kind)
		if err != nil {
			return err
		}
		if kind.folder == "operator" && (kind.Kind == "Deployment" || kind.Kind == "Pod") {
			found = found || len(items) > 0 || b.read == read // what could not be read is noted already
		}
		for i := range items {
			o := &items[i]
			if n := namespaceOf(o); n != "" {
				namespaces[n] = append(namespaces[n], o.GetName())
			}
			if kind.Kind == "Pod" {
				pods = append(pods, *o.DeepCopy())
			}
			name := path.Join(kind.folder, strings.ToLower(kind.Kind)+"s", strings.TrimPrefix(o.GetNamespace()+"_"+o.GetName(), "_")+".yaml")
			if err := b.writeObject(name, o.Object); err != nil {
				return err
			}
		}
	}
	if !found {
		b.omit("operator", fmt.Errorf("none was found, neither by its label nor in namespace %s: --%s says where it runs", b.operator, operatorNamespaceFlag))
	}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"events", func(ctx context.Context) error { return b.events(ctx, namespaces) }},
		{"namespaces and counts", b.counts},
		{"versions", b.versions},
		{"logs", func(ctx context.Context) error { return b.allLogs(ctx, pods) }},
	} {
		b.progress(step.what)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	if b.read == 0 {
		return fmt.Errorf("nothing could be read: %w", b.unread)
	}
	return b.finish()
}

// find looks for the operator.
func (b *bundle) find(ctx context.Context) (err error) {
	b.operator, err = b.whereOperator(ctx, b.client)
	if err != nil {
		return b.missed(ctx, "operator: its namespace", err)
	}
	return nil
}

// missed notes that something could not be read. It is an error where the collection was interrupted, or can't begin as the server is out of reach.
func (b *bundle) missed(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	explained := explain(err)
	var unreachable *url.Error
	if b.read == 0 && errors.As(err, &unreachable) {
		return explained
	}
	if b.unread == nil {
		b.unread = explained
	}
	b.omit(what, explained)
	return nil
}

// namespaceOf is where an object is, or what it makes is.
func namespaceOf(o *unstructured.Unstructured) string {
	if o.GetNamespace() != "" {
		return o.GetNamespace()
	}
	namespace, _, _ := unstructured.NestedString(o.Object, "spec", "namespace") // of a mesh and a revision
	return namespace
}

// pageOf is how many objects are read at a time.
const pageOf = 500

// list reads objects; what can't be read is noted, and the error is that of an interruption.
func (b *bundle) list(ctx context.Context, kind collected) ([]unstructured.Unstructured, error) {
	var out []unstructured.Unstructured
	page := &unstructured.UnstructuredList{}
	page.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	for {
		options := append([]client.ListOption{client.Limit(pageOf), client.Continue(page.GetContinue())}, kind.options...)
		if err := b.client.List(ctx, page, options...); err != nil {
			return out, b.missed(ctx, kind.folder+": "+kind.Kind+"s", err)
		}
		b.read++
		for i := range page.Items {
			if kind.keep == nil || kind.keep(&page.Items[i]) {
				out = append(out, page.Items[i])
			}
		}
		if page.GetContinue() == "" {
			return out, nil
		}
	}
}

// events reads those of the namespaces that are about what was collected there, of which the names are given.
func (b *bundle) events(ctx context.Context, namespaces map[string][]string) error {
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		items, err := b.list(ctx, collected{
			schema.GroupVersionKind{Group: "events.k8s.io", Version: "v1", Kind: "Event"},
			[]client.ListOption{client.InNamespace(namespace)},
			"events of namespace " + namespace,
			func(event *unstructured.Unstructured) bool { return about(event, namespaces[namespace]) },
		})
		if err != nil {
			return err
		}
		all := []any{}
		for i := range items {
			all = append(all, b.redactor.object(items[i].Object))
		}
		if len(all) == 0 {
			continue
		}
		if err := b.writeObject(path.Join("events", namespace+".yaml"), map[string]any{"apiVersion": "v1", "kind": "List", "items": all}); err != nil {
			return err
		}
	}
	return nil
}

// counts says how large the cluster is, and how namespaces are labelled.
func (b *bundle) counts(ctx context.Context) error {
	counts := map[string]int{}
	labels := map[string]any{}
	for _, kind := range []string{"Namespace", "Node", "Pod"} {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind))
		for {
			if err := b.client.List(ctx, list, client.Limit(pageOf), client.Continue(list.Continue)); err != nil {
				if err := b.missed(ctx, "count of "+kind+"s", err); err != nil {
					return err
				}
				break
			}
			b.read++
			counts[strings.ToLower(kind)+"s"] += len(list.Items)
			for i := range list.Items {
				if kind == "Namespace" {
					labels[list.Items[i].Name] = b.redactor.labels(list.Items[i].Labels)
				}
			}
			if list.Continue == "" {
				break
			}
		}
	}
	if err := b.writeJSON("counts.json", counts); err != nil {
		return err
	}
	return b.writeJSON("namespaces.json", labels)
}

// versions says what is installed.
func (b *bundle) versions(ctx context.Context) error {
	view := &MeshVersion{TypeMeta: viewOf("MeshVersion"), Plugin: Version}
	if err := b.installed(ctx, b.client, view); err != nil {
		b.omit("versions", err)
	}
	var crds metav1.PartialObjectMetadataList
	crds.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinitionList"})
	names := map[string]string{}
	if err := b.client.List(ctx, &crds); err != nil {
		if err := b.missed(ctx, "names of CRDs", err); err != nil {
			return err
		}
	} else {
		b.read++
	}
	for i := range crds.Items {
		if name := crds.Items[i].Name; strings.HasSuffix(name, ".istio.io") || strings.HasSuffix(name, "meshwright.io") {
			names[name] = b.redactor.text(crds.Items[i].Labels["app.kubernetes.io/version"])
		}
	}
	if err := b.writeJSON("crds.json", names); err != nil {
		return err
	}
	return b.writeJSON("version.json", view)
}

// allLogs reads the logs of the operator's and of istiods' pods.
func (b *bundle) allLogs(ctx context.Context, pods []unstructured.Unstructured) error {
	for i := range pods {
		pod := &pods[i]
		labels := pod.GetLabels()
		if labels[nameLabel] != operatorName && labels["app"] != "istiod" {
			continue
		}
		containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "containers")
		for _, c := range containers {
			member, _ := c.(map[string]any)
			name, _ := member["name"].(string)
			if err := b.log(ctx, pod, name, false); err != nil {
				return err
			}
			if restarted(pod, name) {
				if err := b.log(ctx, pod, name, true); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func restarted(pod *unstructured.Unstructured, container string) bool {
	statuses, _, _ := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
	return slices.ContainsFunc(statuses, func(s any) bool {
		status, _ := s.(map[string]any)
		count, _ := status["restartCount"].(int64)
		return status["name"] == container && count > 0
	})
}

// log writes the end of one log.
func (b *bundle) log(ctx context.Context, pod metav1.Object, container string, previous bool) error {
	since := int64(b.since.Seconds())
	options := &corev1.PodLogOptions{Container: container, Previous: previous, SinceSeconds: &since, Timestamps: true}
	name := path.Join("logs", pod.GetNamespace(), pod.GetName(), container+".log")
	if previous {
		options.SinceSeconds = nil // it ended before that, perhaps
		name = path.Join("logs", pod.GetNamespace(), pod.GetName(), container+".previous.log")
	}
	in, err := b.logs(ctx, pod.GetNamespace(), pod.GetName(), options)
	if err == nil {
		var raw []byte
		raw, err = tail(in, b.maxBytes)
		_ = in.Close()
		if err == nil {
			return b.write(name, []byte(b.redactor.text(string(raw))))
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	b.omit(fmt.Sprintf("%s of pod %s/%s", name, pod.GetNamespace(), pod.GetName()), explain(err))
	return nil
}
