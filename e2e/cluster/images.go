// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/kind/pkg/cluster/nodeutils"

	"github.com/meshwright/meshwright/e2e/cluster/artifact"
)

// pullPatience is how long one waits for a registry to answer before images are built.
const pullPatience = 20 * time.Second

// officialNode is kind's own node image of a Kubernetes version.
func officialNode(kubernetes string) string { return "kindest/node:v" + kubernetes }

// chooseSource looks whether the node image can be pulled, unless a source is forced, and says what it found.
func (e *engine) chooseSource(ctx context.Context, o Options) (ImageSource, error) {
	if o.Source != ImagesAuto {
		return o.Source, nil
	}
	if e.mode == EnginePrivate {
		return ImagesBuild, nil
	}
	ctx, cancel := context.WithTimeout(ctx, pullPatience)
	defer cancel()
	image := officialNode(o.Kubernetes)
	if err := e.run(ctx, "image", "inspect", image); err == nil {
		return ImagesPull, nil
	}
	if err := e.run(ctx, "manifest", "inspect", image); err != nil {
		o.Progress.Say("images: " + image + " can't be pulled here, images are built")
		return ImagesBuild, nil
	}
	o.Progress.Say("images: " + image + " can be pulled, images are pulled")
	return ImagesPull, nil
}

// nodeImage makes the engine hold the node image and returns its name.
func (e *engine) nodeImage(ctx context.Context, o Options, source ImageSource, store *artifact.Store) (name string, err error) {
	if source == ImagesPull {
		return officialNode(o.Kubernetes), nil // kind pulls it
	}
	node := artifact.NodeImage(o.Kubernetes)
	if err := store.Preflight(ctx, node); err != nil {
		return "", err
	}
	made, err := store.Ensure(ctx, o.Progress, node)
	if err != nil {
		return "", err
	}
	// The name says which content it is, so that an engine which holds it already needs not read it again.
	name = artifact.NodeImageName(o.Kubernetes) + "-" + path.Base(path.Dir(made[node]))[:12]
	if err := e.run(ctx, "image", "inspect", name); err == nil {
		return name, nil
	}
	end := o.Progress.Begin("loading the node image", 6*time.Second)
	defer func() { end(err) }()
	if err := e.run(ctx, "load", "-q", "-i", made[node]); err != nil {
		return "", err
	}
	err = e.run(ctx, "tag", artifact.NodeImageName(o.Kubernetes), name)
	return name, err
}

// imagesOf are the images of Istio that are wanted, where they are built, and those that are built from this source tree.
func imagesOf(o Options, source ImageSource) []artifact.Artifact {
	wanted := slices.Clone(o.Images)
	if source == ImagesBuild {
		for _, v := range o.Istio {
			wanted = append(wanted, artifact.IstioImages(v)...)
		}
	}
	return wanted
}

// ensureImages makes the cluster hold the images of Istio and those that are built from this source tree.
func (c *Cluster) ensureImages(ctx context.Context, o Options, store *artifact.Store) error {
	wanted := imagesOf(o, c.record.Source)
	if err := store.Preflight(ctx, wanted...); err != nil {
		return err
	}
	made, err := store.Ensure(ctx, o.Progress, wanted...)
	if err != nil {
		return err
	}
	var archives []string
	for _, a := range wanted {
		archives = append(archives, made[a])
	}
	return c.Load(ctx, archives...)
}

// Load makes the cluster hold the images of docker-archive tarballs. What was loaded before is not read again.
func (c *Cluster) Load(ctx context.Context, archives ...string) (err error) {
	marks := filepath.Join(c.dir, "loaded")
	if err := os.MkdirAll(marks, 0o755); err != nil {
		return err
	}
	var todo []string
	for _, a := range archives {
		if _, err := os.Stat(filepath.Join(marks, mark(a))); err != nil {
			todo = append(todo, a)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	end := c.progress.Begin(fmt.Sprintf("loading %d images", len(todo)), time.Duration(len(todo))*2*time.Second)
	defer func() { end(err) }()
	n, err := c.node()
	if err != nil {
		return err
	}
	for _, archive := range todo {
		if err := ctx.Err(); err != nil {
			return err
		}
		file, err := os.Open(archive)
		if err != nil {
			return err
		}
		if err := errors.Join(nodeutils.LoadImageArchive(n, file), file.Close()); err != nil {
			return fmt.Errorf("loading %s: %w", archive, err)
		}
		if err := os.WriteFile(filepath.Join(marks, mark(archive)), nil, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// mark is a file name for an archive and its content: archives of the store are in a folder that is named by their key.
func mark(archive string) string {
	info, err := os.Stat(archive)
	if err != nil {
		return "missing"
	}
	return strings.ReplaceAll(strings.Trim(archive, "/"), "/", "_") + fmt.Sprintf("_%d_%d", info.Size(), info.ModTime().UnixNano())
}

// EnvtestAssets is a folder with etcd, kube-apiserver and kubectl of a Kubernetes version, for controller-runtime's envtest:
// the binaries that clusters run too.
func EnvtestAssets(ctx context.Context, store *artifact.Store, kubernetes string, progress artifact.Progress) (string, error) {
	if kubernetes == "" {
		kubernetes = artifact.DefaultKubernetes
	}
	kube, etcd := artifact.Kube(kubernetes), artifact.Etcd()
	made, err := store.Ensure(ctx, progress, kube, etcd)
	if err != nil {
		return "", err
	}
	state, err := stateDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(state, "envtest", kubernetes)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for name, target := range map[string]string{"etcd": made[etcd], "kube-apiserver": made[kube], "kubectl": made[kube]} {
		at := filepath.Join(dir, name)
		if there, err := os.Readlink(at); err == nil && there == target {
			continue
		}
		fresh := fmt.Sprintf("%s.%d", at, os.Getpid())
		if err := os.Symlink(target, fresh); err != nil {
			return "", err
		}
		if err := os.Rename(fresh, at); err != nil {
			return "", err
		}
	}
	return dir, nil
}
