// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package istio

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/Masterminds/semver/v3"
)

// Library finds the bundle of a version in several sources. It can be used from several goroutines.
type Library struct {
	versions []*semver.Version
	loads    map[string]load

	mu     sync.Mutex
	loaded map[string]*Bundle
}

// Open indexes sources; where two hold one version, the later source wins. Bundles are loaded when they are asked for.
func Open(ctx context.Context, sources ...Source) (*Library, error) {
	l := &Library{loads: map[string]load{}, loaded: map[string]*Bundle{}}
	for _, source := range sources {
		index, err := source.index(ctx)
		if err != nil {
			return nil, err
		}
		maps.Copy(l.loads, index)
	}
	for version := range l.loads {
		v, err := semver.StrictNewVersion(version)
		if err != nil {
			return nil, fmt.Errorf("bundle of Istio %q: %w", version, err)
		}
		l.versions = append(l.versions, v)
	}
	slices.SortFunc(l.versions, func(a, b *semver.Version) int { return a.Compare(b) })
	return l, nil
}

// Versions lists what the library holds, oldest first. It makes no request.
func (l *Library) Versions() []*semver.Version { return l.versions }

// Get loads the bundle of an exact version; a second Get of it is free.
func (l *Library) Get(ctx context.Context, version string) (*Bundle, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b, ok := l.loaded[version]; ok {
		return b, nil
	}
	load, ok := l.loads[version]
	if !ok {
		if len(l.loads) == 0 {
			return nil, errors.New("this build holds no charts at all: run make bundles before building")
		}
		return nil, fmt.Errorf("no bundle of Istio %s", version)
	}
	b, err := load(ctx)
	if err != nil {
		return nil, err
	}
	l.loaded[version] = b
	return b, nil
}
