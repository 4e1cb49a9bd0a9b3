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
	"golang.org/x/sync/singleflight"
)

// Library finds the bundle of a version in several sources. It can be used from several goroutines.
type Library struct {
	sources []Source
	loading singleflight.Group

	mu sync.Mutex
	// indexes of the sources, in their order; nil for one that could not be read yet.
	indexes []map[string]load
	loaded  map[string]*Bundle
}

// Open indexes sources; where two hold one version, the later source wins. Bundles are loaded when they are asked for. With
// an error, which names the sources that could not be read, the library holds what the others have.
func Open(ctx context.Context, sources ...Source) (*Library, error) {
	l := &Library{sources: sources, indexes: make([]map[string]load, len(sources)), loaded: map[string]*Bundle{}}
	return l, l.Retry(ctx)
}

// Retry reads the sources that could not be read before; those that could are left as they were.
func (l *Library) Retry(ctx context.Context) error {
	var failed []error
	for i, source := range l.sources {
		l.mu.Lock()
		known := l.indexes[i] != nil
		l.mu.Unlock()
		if known {
			continue
		}
		index, err := source.index(ctx)
		for version := range index {
			if _, notVersion := semver.StrictNewVersion(version); notVersion != nil {
				err = errors.Join(err, fmt.Errorf("bundle of Istio %q: %w", version, notVersion))
			}
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		l.mu.Lock()
		l.indexes[i] = index
		l.mu.Unlock()
	}
	return errors.Join(failed...)
}

func (l *Library) loads() map[string]load {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := map[string]load{}
	for _, index := range l.indexes {
		maps.Copy(all, index)
	}
	return all
}

// Versions lists what the library holds, oldest first. It makes no request.
func (l *Library) Versions() []*semver.Version {
	var out []*semver.Version
	for version := range l.loads() {
		out = append(out, semver.MustParse(version)) // each was checked when it was indexed
	}
	slices.SortFunc(out, func(a, b *semver.Version) int { return a.Compare(b) })
	return out
}

// Get loads the bundle of an exact version; a second Get of it is free.
func (l *Library) Get(ctx context.Context, version string) (*Bundle, error) {
	l.mu.Lock()
	known := l.loaded[version]
	l.mu.Unlock()
	if known != nil {
		return known, nil
	}
	all := l.loads()
	load, ok := all[version]
	if !ok {
		if len(all) == 0 {
			return nil, errors.New("this build holds no charts at all: run make bundles before building")
		}
		return nil, fmt.Errorf("no bundle of Istio %s", version)
	}
	// Who waits for another version is not held up by a slow registry.
	b, err, _ := l.loading.Do(version, func() (any, error) { return load(ctx) })
	if err != nil {
		return nil, err
	}
	bundle := b.(*Bundle) //nolint:forcetypeassert // load returns nothing else
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loaded[version] = bundle
	return bundle, nil
}
