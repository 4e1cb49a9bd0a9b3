// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/meshwright/meshwright/e2e/cluster/artifact"
)

// EngineMode says which container engine runs the nodes.
type EngineMode string

// The engines. Auto takes the host's where it answers, else a private one.
const (
	EngineAuto    EngineMode = "auto"
	EngineHost    EngineMode = "host"
	EnginePrivate EngineMode = "private"
)

// ImageSource says where images come from.
type ImageSource string

// The sources. Auto pulls where the node image can be pulled, else builds.
const (
	ImagesAuto  ImageSource = "auto"
	ImagesPull  ImageSource = "pull"
	ImagesBuild ImageSource = "build"
)

// Options of a cluster.
type Options struct {
	// Name of the cluster. Default: mesh.
	Name string
	// Kubernetes version. Default: artifact.DefaultKubernetes.
	Kubernetes string
	// Istio versions whose images are loaded.
	Istio []string
	// Images are loaded besides; they are built in any case.
	Images []artifact.Artifact
	// Engine and Source force what is looked up otherwise.
	Engine EngineMode
	Source ImageSource
	// InstallPackages lets apt-get install the distribution's packages that are missing.
	InstallPackages bool
	// Progress is told what is decided and what takes long. Default: standard error.
	Progress artifact.Progress
}

var clusterName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$`)

func (o Options) complete() (Options, error) {
	if o.Name == "" {
		o.Name = "mesh"
	}
	if o.Kubernetes == "" {
		o.Kubernetes = artifact.DefaultKubernetes
	}
	if o.Engine == "" {
		o.Engine = EngineAuto
	}
	if o.Source == "" {
		o.Source = ImagesAuto
	}
	if o.Progress == nil {
		o.Progress = artifact.NewProgress(os.Stderr)
	}
	switch {
	case !clusterName.MatchString(o.Name):
		return o, fmt.Errorf("cluster name %q: write lower-case letters, digits and dashes, 32 at most", o.Name)
	case !slices.Contains([]EngineMode{EngineAuto, EngineHost, EnginePrivate}, o.Engine):
		return o, fmt.Errorf("engine %q: choose auto, host or private", o.Engine)
	case !slices.Contains([]ImageSource{ImagesAuto, ImagesPull, ImagesBuild}, o.Source):
		return o, fmt.Errorf("image source %q: choose auto, pull or build", o.Source)
	case o.Engine == EnginePrivate && o.Source == ImagesPull:
		return o, errors.New("a private engine can't pull: its way out is closed; choose images auto or build, or engine host")
	}
	if o.Source == ImagesBuild && !slices.Contains(artifact.KubeVersions(), o.Kubernetes) {
		return o, fmt.Errorf("version %s of Kubernetes can't be built here: choose one of %s", o.Kubernetes, strings.Join(artifact.KubeVersions(), ", "))
	}
	for _, v := range o.Istio {
		if !slices.Contains(artifact.IstioVersions(), v) && o.Source != ImagesPull {
			return o, fmt.Errorf("version %s of Istio can't be built here: choose among %s", v, strings.Join(artifact.IstioVersions(), ", "))
		}
	}
	return o, nil
}
