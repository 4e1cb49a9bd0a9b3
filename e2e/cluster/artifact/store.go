// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Store keeps artifacts by content:
//
//	<dir>/artifacts/<artifact>/<key>/<file>   the finished artifact; the folder appears at once, by a rename
//	<dir>/artifacts/<artifact>/.making        what the holder of the lock is making, or what was left when it died
//	<dir>/artifacts/<artifact>/.lock          held while one process makes the artifact: others wait and then find it
//	<dir>/artifacts/<artifact>/.took          how long the last making took
//
// The key is the hash of everything that decides the content, so that a changed source, version, flag, compiler or
// host library makes another artifact and an unchanged one is found again.
type Store struct {
	dir string
	// recipes looks up how to make an artifact.
	recipes func(Artifact) (recipe, error)
}

const (
	makingName = ".making"
	lockName   = ".lock"
	// keptKeys is how many contents of one artifact are kept, the most recently used ones: whoever edits a source over
	// and over would fill the disk otherwise.
	keptKeys = 4
)

// Open opens the store in dir, which need not exist yet; an empty dir means $XDG_CACHE_HOME/meshwright, else
// ~/.cache/meshwright. The working directory must be inside a checkout of Meshwright: the recipes are files of it.
func Open(dir string) (*Store, error) {
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("no folder to keep built artifacts in: %w; set XDG_CACHE_HOME", err)
		}
		dir = filepath.Join(cache, "meshwright")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	tree, err := sourceTree()
	if err != nil {
		return nil, err
	}
	s := &Store{dir: filepath.Join(dir, "artifacts")}
	s.recipes = newWorkshop(tree, s.identity).recipe
	return s, nil
}

// sourceTree finds the root of the checkout that the working directory is in.
func sourceTree() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		gomod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(gomod), "module github.com/meshwright/meshwright\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside a checkout of Meshwright: run this from one, its sources are needed", start)
		}
	}
}

// Preflight says, before anything is built, what the host lacks to make the artifacts, each with its remedy. What the
// store already holds needs nothing.
func (s *Store) Preflight(ctx context.Context, want ...Artifact) error {
	steps, err := s.plan(want)
	if err != nil {
		return err
	}
	if err := unmet(steps, func(r recipe) []need { return r.reads }); err != nil {
		return err
	}
	_, missing, err := s.survey(ctx, steps)
	if err != nil {
		return err
	}
	return unmet(missing, func(r recipe) []need { return r.tools })
}

// Ensure makes what is missing of the artifacts and returns the path of each: an executable for a binary, a
// docker-archive tarball for an image, a folder for sources. They are never changed afterwards and must not be changed by callers.
// When ctx ends, what was finished stays and the next call goes on from there.
func (s *Store) Ensure(ctx context.Context, progress Progress, want ...Artifact) (map[Artifact]string, error) {
	steps, err := s.plan(want)
	if err != nil {
		return nil, err
	}
	if err := unmet(steps, func(r recipe) []need { return r.reads }); err != nil {
		return nil, err
	}
	paths, missing, err := s.survey(ctx, steps)
	if err != nil {
		return nil, err
	}
	if err := unmet(missing, func(r recipe) []need { return r.tools }); err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		progress.Say(s.announcement(missing))
	}
	for i, step := range missing {
		what := fmt.Sprintf("building %s (%d of %d)", step.artifact, i+1, len(missing))
		if paths[step.artifact], err = s.make(ctx, progress, what, step, paths); err != nil {
			return nil, fmt.Errorf("build %s: %w", step.artifact, err)
		}
	}
	out := map[Artifact]string{}
	for _, a := range want {
		out[a] = paths[a]
	}
	return out, nil
}

// step is one artifact of a plan with its recipe.
type step struct {
	artifact Artifact
	recipe   recipe
}

// plan orders artifacts and all that goes into them, inputs first, each once.
func (s *Store) plan(want []Artifact) ([]step, error) {
	var steps []step
	seen := map[Artifact]bool{}
	var add func(Artifact) error
	add = func(a Artifact) error {
		if seen[a] {
			return nil
		}
		seen[a] = true
		r, err := s.recipes(a)
		if err != nil {
			return err
		}
		for _, in := range r.inputs {
			if err := add(in); err != nil {
				return err
			}
		}
		steps = append(steps, step{a, r})
		return nil
	}
	for _, a := range want {
		if err := add(a); err != nil {
			return nil, err
		}
	}
	return steps, nil
}

// survey finds what the store holds. An artifact whose input is missing counts as missing: its key is not known before.
func (s *Store) survey(ctx context.Context, steps []step) (paths map[Artifact]string, missing []step, err error) {
	paths = map[Artifact]string{}
	for _, step := range steps {
		if slices.ContainsFunc(step.recipe.inputs, func(in Artifact) bool { return paths[in] == "" }) {
			missing = append(missing, step)
			continue
		}
		_, key, err := s.prepare(ctx, step, paths)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", step.artifact, err)
		}
		if path, ok := s.find(step, key); ok {
			paths[step.artifact] = path
			continue
		}
		missing = append(missing, step)
	}
	return paths, missing, nil
}

// prepare settles the recipe of an artifact with the paths of its inputs, and the key of what it will make.
func (s *Store) prepare(ctx context.Context, step step, paths map[Artifact]string) (maker, string, error) {
	inputs := map[Artifact]string{}
	for _, in := range step.recipe.inputs {
		inputs[in] = paths[in]
	}
	m, err := step.recipe.maker(ctx, inputs)
	if err != nil {
		return nil, "", err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n", step.artifact, step.recipe.file)
	if err := m.fingerprint(ctx, h); err != nil {
		return nil, "", err
	}
	return m, hex.EncodeToString(h.Sum(nil))[:20], nil
}

// find looks a finished artifact up and marks it as used.
func (s *Store) find(step step, key string) (string, bool) {
	path := filepath.Join(s.folder(step.artifact), key, step.recipe.file)
	if _, err := os.Stat(path); err != nil {
		return "", false
	}
	now := time.Now()
	_ = os.Chtimes(filepath.Dir(path), now, now) // only decides what is dropped first
	return path, true
}

func (s *Store) folder(a Artifact) string { return filepath.Join(s.dir, a.String()) }

// make makes one artifact under its lock, or finds that another process has made it meanwhile.
func (s *Store) make(
	ctx context.Context, progress Progress, what string, step step, paths map[Artifact]string,
) (path string, err error) {
	folder := s.folder(step.artifact)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, filepath.Join(folder, lockName), func() {
		progress.Say(fmt.Sprintf("waiting for another process that builds %s", step.artifact))
	})
	if err != nil {
		return "", err
	}
	defer unlock()

	maker, key, err := s.prepare(ctx, step, paths)
	if err != nil {
		return "", err
	}
	if path, ok := s.find(step, key); ok {
		return path, nil
	}
	end := progress.Begin(what, s.expect(step))
	defer func() { end(err) }()

	started := time.Now()
	making := filepath.Join(folder, makingName)
	if err := os.RemoveAll(making); err != nil { // what an interrupted run left
		return "", err
	}
	if err := os.Mkdir(making, 0o755); err != nil {
		return "", err
	}
	if err := maker.make(ctx, filepath.Join(making, step.recipe.file)); err != nil {
		return "", errors.Join(err, os.RemoveAll(making))
	}
	// A source edited while it was compiled would be kept under the key of its former content.
	_, after, err := s.prepare(ctx, step, paths)
	if err != nil {
		return "", err
	}
	if after != key {
		return "", errors.New("its sources changed while it was built: run this again")
	}
	if err := s.commit(making, filepath.Join(folder, key), step.recipe.file); err != nil {
		return "", err
	}
	s.remember(step, time.Since(started))
	if err := dropOld(folder); err != nil {
		return "", err
	}
	return filepath.Join(folder, key, step.recipe.file), nil
}

// commit puts a finished folder in its place so that it is either there with all its content or not at all.
func (s *Store) commit(making, final, file string) error {
	for _, path := range []string{filepath.Join(making, file), making} {
		if err := fsync(path); err != nil {
			return err
		}
	}
	if err := os.Rename(making, final); err != nil {
		return err
	}
	return fsync(filepath.Dir(final))
}

func fsync(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// dropOld removes the contents of one artifact that were not used for longest, beyond those that are kept.
func dropOld(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	type content struct {
		path string
		used time.Time
	}
	var contents []content
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || e.Name() == makingName {
			continue
		}
		contents = append(contents, content{filepath.Join(folder, e.Name()), info.ModTime()})
	}
	slices.SortFunc(contents, func(a, b content) int { return cmp.Compare(b.used.UnixNano(), a.used.UnixNano()) })
	for _, c := range contents[min(keptKeys, len(contents)):] {
		if err := os.RemoveAll(c.path); err != nil {
			return err
		}
	}
	return nil
}

// lock takes the lock of a file, calling waiting once if another process holds it. The kernel releases the lock of a
// process that dies.
func lock(ctx context.Context, path string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	for first := true; ; first = false {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		if first {
			waiting()
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		case <-time.After(100 * time.Millisecond): // a blocking flock could not be cancelled
		}
	}
}

// identity says what decides the content of a file: its place for what the store holds, since that is named by
// content, and the hash of its bytes for anything else.
func (s *Store) identity(path string) (string, error) {
	if rel, err := filepath.Rel(s.dir, path); err == nil && filepath.IsLocal(rel) {
		return rel, nil
	}
	return contentHash(path)
}

func contentHash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
