// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package installation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/apply"
	"github.com/meshwright/meshwright/operator/render"
	"github.com/meshwright/meshwright/operator/version"
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
	// pointed are the objects of the default revision and of tags, by name, with the key of what they were rendered from.
	pointed map[string]pointer
	// phases are what was last wanted of all that exists once.
	phases []apply.Phase

	mu      sync.Mutex
	request render.Request
	content []*unstructured.Unstructured
}

type pointer struct {
	key     string
	objects []*unstructured.Unstructured
}

// of returns what is wanted; done lets go of the CRDs' content, should it have been needed.
func (c *singletons) of(request render.Request) (wanted *rendering, done func(), err error) {
	key, err := keyOf(request)
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil {
		c.last = map[string]*rendering{}
	}
	kept := c.last[request.Mesh]
	if kept != nil && kept.key == key {
		return kept, kept.drop, nil
	}
	next, err := renderAll(request)
	if err != nil {
		return nil, nil, err
	}
	next.key, next.pointed = key, map[string]pointer{}
	if kept != nil {
		next.pointed, next.phases = kept.pointed, kept.phases
	}
	c.last[request.Mesh] = next
	return next, next.drop, nil
}

func keyOf(request render.Request) (string, error) {
	inputs, err := request.InputsDigest()
	return fmt.Sprint(inputs, request.Bundle.Digest(), request.KubeVersion), err
}

// accept keeps what is wanted of a mesh whose spec was accepted.
func (c *singletons) accept(mesh string, phases []apply.Phase) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kept := c.last[mesh]; kept != nil {
		kept.phases = phases
	}
}

// accepted is what the last accepted spec of a mesh wanted; nil when this process has seen none.
func (c *singletons) accepted(mesh string) []apply.Phase {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kept := c.last[mesh]; kept != nil {
		return kept.phases
	}
	return nil
}

func (c *singletons) forget(mesh string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, mesh)
}

func renderAll(request render.Request) (*rendering, error) {
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
	return out, err
}

// pointer are the objects of the default revision or of a tag, at the revision of a request.
func (c *singletons) pointer(request render.Request, name string) ([]*unstructured.Unstructured, error) {
	key, err := keyOf(request)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	kept := c.last[request.Mesh]
	if kept != nil && kept.pointed[name].key == key {
		return kept.pointed[name].objects, nil
	}
	var objects []*unstructured.Unstructured
	if name == version.DefaultRevisionName {
		objects, err = render.DefaultRevision(request)
	} else {
		objects, err = render.Tag(request, name)
	}
	if err == nil && kept != nil {
		kept.pointed[name] = pointer{key: key, objects: objects}
	}
	return objects, err
}

// pointers are the default revision, where the mesh claims it, and its tags, each at the revision where it belongs now.
func (r *Reconciler) pointers(ctx context.Context, s *scope) ([]apply.Wanted, error) {
	names := []string{}
	for _, t := range s.mesh.Spec.Tags {
		names = append(names, t.Name)
	}
	slices.Sort(names)
	if s.mesh.Spec.DefaultRevision != v1alpha1.DefaultRevisionLeave {
		names = append(names, version.DefaultRevisionName)
	}
	var all []*unstructured.Unstructured
	for _, name := range names {
		revision := s.pointsTo(name)
		if revision == nil {
			continue
		}
		request, err := r.requestOf(ctx, s.mesh, revision)
		if err != nil {
			return nil, err
		}
		objects, err := r.rendered.pointer(request, name)
		if err != nil {
			return nil, err
		}
		all = append(all, objects...)
	}
	slices.SortStableFunc(all, func(a, b *unstructured.Unstructured) int { return strings.Compare(a.GetKind(), b.GetKind()) })
	return apply.Want(all)
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
