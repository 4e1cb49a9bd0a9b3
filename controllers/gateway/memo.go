// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"maps"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/meshwright/meshwright/operator/render"
)

// memo keeps what each gateway was last rendered to: rendering takes milliseconds, and every event of a pod of the gateway
// asks for it.
type memo struct {
	mu   sync.Mutex
	last map[memoKey]rendering
}

// memoKey is a version of a gateway.
type memoKey struct {
	gateway  types.NamespacedName
	revision string
}

type rendering struct {
	digest  string
	objects render.GatewayObjects
}

func (m *memo) gateway(name types.NamespacedName, request render.GatewayRequest) (render.GatewayObjects, error) {
	key := memoKey{name, request.Revision}
	digest, err := request.InputsDigest()
	if err != nil {
		return render.GatewayObjects{}, err
	}
	m.mu.Lock()
	last, ok := m.last[key]
	m.mu.Unlock()
	if ok && last.digest == digest {
		return last.objects, nil
	}
	objects, err := render.Gateway(request)
	if err != nil {
		return render.GatewayObjects{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last == nil {
		m.last = map[memoKey]rendering{}
	}
	m.last[key] = rendering{digest: digest, objects: objects}
	return objects, nil
}

func (m *memo) forget(name types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.last, func(key memoKey, _ rendering) bool { return key.gateway == name })
}
