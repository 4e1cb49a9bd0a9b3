// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshwright/meshwright/operator/render"
)

// memo keeps what each gateway was last rendered to: rendering takes milliseconds, and every event of a pod of the gateway
// asks for it.
type memo struct {
	mu   sync.Mutex
	last map[types.NamespacedName]rendering
}

type rendering struct {
	digest  string
	objects []*unstructured.Unstructured
}

func (m *memo) gateway(name types.NamespacedName, request render.GatewayRequest) ([]*unstructured.Unstructured, error) {
	digest, err := request.InputsDigest()
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	last, ok := m.last[name]
	m.mu.Unlock()
	if ok && last.digest == digest {
		return last.objects, nil
	}
	objects, err := render.Gateway(request)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == nil {
		m.last = map[types.NamespacedName]rendering{}
	}
	m.last[name] = rendering{digest: digest, objects: objects}
	return objects, nil
}

func (m *memo) forget(name types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.last, name)
}
