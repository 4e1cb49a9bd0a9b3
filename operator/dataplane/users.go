// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// ErrUnknown says that the index has not seen all pods yet: what it does not hold may exist.
var ErrUnknown = errors.New("the pods of the cluster are not known yet")

// UsersOf names who uses a mesh: pods with a proxy of it that are no gateways of spec.gateways, namespaces that people have
// labelled for it, and gateways of teams. The error is [ErrUnknown] where that can't be known: unknown counts as in use.
func UsersOf(ctx context.Context, reader client.Reader, index *Index, m *v1alpha1.MeshInstallation) ([]string, error) {
	if !index.Synced() {
		return nil, ErrUnknown
	}
	var gateways v1alpha1.MeshGatewayList
	if err := reader.List(ctx, &gateways); err != nil {
		return nil, err
	}
	own := map[string]bool{}
	for _, g := range m.Spec.Gateways {
		own[g.Namespace+"/"+g.Name] = true
	}
	var users []string
	revisions, err := revisionsOf(ctx, reader, m)
	if err != nil {
		return nil, err
	}
	for _, pod := range index.Users(revisions, own) {
		users = append(users, "pod "+pod)
	}
	for _, g := range gateways.Items {
		if g.Spec.Mesh == m.Name && !own[g.Namespace+"/"+g.Name] {
			users = append(users, "gateway "+g.Namespace+"/"+g.Name)
		}
	}
	mesh, _ := MeshOf(m, Around{}) // a selector that does not parse selects nothing; who uses the mesh does not hang on it
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := reader.List(ctx, all); err != nil {
		return nil, err
	}
	for i := range all.Items {
		n := &all.Items[i]
		names := revisions[n.Labels[RevisionLabel]] && n.Labels[InjectionLabel] == ""
		if n.DeletionTimestamp == nil && (names || mesh.member(n.Labels)) && !OwnsLabel(n) {
			users = append(users, "namespace "+n.Name)
		}
	}
	slices.Sort(users)
	return users, nil
}

// revisionsOf are the revisions of a mesh.
func revisionsOf(ctx context.Context, reader client.Reader, m *v1alpha1.MeshInstallation) (map[string]bool, error) {
	var all v1alpha1.MeshRevisionList
	if err := reader.List(ctx, &all); err != nil {
		return nil, err
	}
	out := map[string]bool{m.Status.StableRevision: m.Status.StableRevision != ""}
	for _, r := range all.Items {
		if r.Spec.Mesh == m.Name {
			out[r.Name] = true
		}
	}
	return out, nil
}

// InjectorKind is the kind of Istio's injectors and revision tags.
var InjectorKind = schema.GroupVersionKind{Group: "admissionregistration.k8s.io", Version: "v1", Kind: "MutatingWebhookConfiguration"}

// tagLabel is on a revision tag.
const tagLabel = "istio.io/tag"

// page is how many pods are read at a time.
const page = 1000

// LiveUsersOf names who uses a mesh as the API server knows it at this moment, also the tags that others (istioctl) have set on
// its revisions. It reads the metadata of every pod: for what can't be taken back, not for every day.
func LiveUsersOf(ctx context.Context, live client.Reader, m *v1alpha1.MeshInstallation) ([]string, error) {
	now, err := liveIndex(ctx, live)
	if err != nil {
		return nil, err
	}
	users, err := UsersOf(ctx, live, now, m)
	if err != nil {
		return nil, err
	}
	revisions, err := revisionsOf(ctx, live, m)
	if err != nil {
		return nil, err
	}
	for _, revision := range slices.Sorted(maps.Keys(revisions)) {
		tags, err := TagsOf(ctx, live, revision)
		if err != nil {
			return nil, err
		}
		for _, tag := range tags {
			if tag.Labels[v1alpha1.LabelMesh] != m.Name {
				users = append(users, "tag "+tag.Labels[tagLabel])
			}
		}
	}
	return users, nil
}

// liveIndex is an index of the pods that there are at this moment.
func liveIndex(ctx context.Context, live client.Reader) (*Index, error) {
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	var all []any
	for {
		err := live.List(ctx, pods, client.Limit(page), client.Continue(pods.Continue), &client.ListOptions{
			Raw: &metav1.ListOptions{FieldSelector: running},
		})
		if err != nil {
			return nil, err
		}
		for i := range pods.Items {
			all = append(all, pods.Items[i].DeepCopy())
		}
		if pods.Continue == "" {
			break
		}
	}
	now := NewIndex(0, func() {})
	return now, now.Replace(all, "")
}

// TagsOf are the revision tags that point to a revision, whoever set them.
func TagsOf(ctx context.Context, live client.Reader, revision string) ([]metav1.PartialObjectMetadata, error) {
	if revision == "" {
		return nil, nil
	}
	tags := &metav1.PartialObjectMetadataList{}
	tags.SetGroupVersionKind(InjectorKind)
	err := live.List(ctx, tags, client.HasLabels{tagLabel}, client.MatchingLabels{RevisionLabel: revision})
	return tags.Items, err
}

// PointedAt are the names of the tags that point to a revision, each with the time at which its webhook was written last.
func PointedAt(ctx context.Context, live client.Reader, revision string) (map[string]time.Time, error) {
	tags, err := TagsOf(ctx, live, revision)
	out := map[string]time.Time{}
	for i := range tags {
		last := tags[i].CreationTimestamp.Time
		for _, entry := range tags[i].ManagedFields {
			if entry.Time != nil && entry.Time.After(last) {
				last = entry.Time.Time
			}
		}
		out[tags[i].Labels[tagLabel]] = last
	}
	return out, err
}

// UsersOfRevision names what refers to one revision: pods, gateways included, namespaces and pod templates. The error is
// [ErrUnknown] where that can't be known: unknown counts as in use.
func UsersOfRevision(ctx context.Context, reader client.Reader, index *Index, revision string) ([]string, error) {
	if !index.Synced() {
		return nil, ErrUnknown
	}
	var users []string
	for _, pod := range index.Users(map[string]bool{revision: true}, nil) {
		users = append(users, "pod "+pod)
	}
	for _, workload := range index.Pinning(revision) {
		users = append(users, "the pod template of "+workload)
	}
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := reader.List(ctx, all); err != nil {
		return nil, err
	}
	for i := range all.Items {
		if n := &all.Items[i]; n.DeletionTimestamp == nil && n.Labels[RevisionLabel] == revision {
			users = append(users, "namespace "+n.Name)
		}
	}
	return users, nil
}

// LiveUsersOfRevision names what refers to one revision as the API server knows it at this moment, tags included. The pod templates
// are those of the index.
func LiveUsersOfRevision(ctx context.Context, live client.Reader, revision string) ([]string, error) {
	now, err := liveIndex(ctx, live)
	if err != nil {
		return nil, err
	}
	users, err := UsersOfRevision(ctx, live, now, revision)
	if err != nil {
		return nil, err
	}
	tags, err := TagsOf(ctx, live, revision)
	for _, tag := range tags {
		users = append(users, "tag "+tag.Labels[tagLabel])
	}
	return users, err
}

// maxNamed is how many users a sentence names.
const maxNamed = 5

// Sentence names users for people, the first few of many.
func Sentence(users []string) string {
	if len(users) <= maxNamed {
		return strings.Join(users, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(users[:maxNamed], ", "), len(users)-maxNamed)
}
