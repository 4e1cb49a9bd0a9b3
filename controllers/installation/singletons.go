// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/apply"
	"github.com/meshwright/meshwright/operator/render"
)

// singletons keeps what each mesh's CRDs, base, default revision and tags were rendered to. Of the CRDs, which are most of
// the bytes, only digests stay.
type singletons struct {
	mu   sync.Mutex
	last map[string]*rendering
}

type rendering struct {
	key        string
	crds, base []apply.Wanted
	// pointers are the default revision and the tags, rendered when they are needed first: when istiod serves.
	pointers func() ([]apply.Wanted, error)

	mu      sync.Mutex
	request render.Request
	content []*unstructured.Unstructured
}

// of returns what is wanted; done lets go of the CRDs' content, should it have been needed.
func (c *singletons) of(request render.Request, mesh *v1alpha1.MeshInstallation) (wanted *rendering, done func(), err error) {
	tags := tagsOf(mesh)
	inputs, err := request.InputsDigest()
	if err != nil {
		return nil, nil, err
	}
	key := fmt.Sprint(inputs, request.Bundle.Digest(), request.KubeVersion, mesh.Spec.DefaultRevision, tags)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last = map[string]*rendering{}
	}
	kept := c.last[mesh.Name]
	if kept == nil || kept.key != key {
		if kept, err = renderAll(request, mesh, tags); err != nil {
			return nil, nil, err
		}
		kept.key = key
		c.last[mesh.Name] = kept
	}
	return kept, kept.drop, nil
}

// accepted is what the last accepted spec of a mesh wanted; nil when this process has seen none.
func (c *singletons) accepted(mesh string) (wanted *rendering, done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.last[mesh]
	if kept == nil {
		return nil, nil
	}
	return kept, kept.drop
}

func (c *singletons) forget(mesh string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, mesh)
}

func tagsOf(mesh *v1alpha1.MeshInstallation) []string {
	var tags []string
	for _, t := range mesh.Spec.Tags {
		tags = append(tags, t.Name)
	}
	slices.Sort(tags)
	return tags
}

func renderAll(request render.Request, mesh *v1alpha1.MeshInstallation, tags []string) (*rendering, error) {
	out := &rendering{request: request}
	crds, err := render.CRDs(request)
	if err != nil {
		return nil, err
	}
	out.content = crds
	if out.crds, err = apply.WantLater(crds, out.crd); err != nil {
		return nil, err
	}
	base, err := render.Base(request)
	if err != nil {
		return nil, err
	}
	out.base, err = apply.Want(base)
	leave := mesh.Spec.DefaultRevision == v1alpha1.DefaultRevisionLeave
	out.pointers = sync.OnceValues(func() ([]apply.Wanted, error) { return renderPointers(request, leave, tags) })
	return out, err
}

func renderPointers(request render.Request, leave bool, tags []string) ([]apply.Wanted, error) {
	var pointers []*unstructured.Unstructured
	if !leave {
		objects, err := render.DefaultRevision(request)
		if err != nil {
			return nil, err
		}
		pointers = objects
	}
	for _, tag := range tags {
		objects, err := render.Tag(request, tag)
		if err != nil {
			return nil, err
		}
		pointers = append(pointers, objects...)
	}
	slices.SortStableFunc(pointers, func(a, b *unstructured.Unstructured) int { return strings.Compare(a.GetKind(), b.GetKind()) })
	return apply.Want(pointers)
}

// crd is the content of one CRD, rendered again when it was let go.
func (w *rendering) crd(i int) (*unstructured.Unstructured, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.content == nil {
		crds, err := render.CRDs(w.request)
		if err != nil {
			return nil, err
		}
		w.content = crds
	}
	return w.content[i], nil
}

func (w *rendering) drop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.content = nil
}
