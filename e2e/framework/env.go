// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package framework

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/go-logr/logr"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/meshwright/meshwright/e2e/cluster"
	"github.com/meshwright/meshwright/e2e/cluster/artifact"
	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// Images of the test applications, as the artefacts name them.
const (
	EchoImage = artifact.EchoImageName
	LoadImage = artifact.LoadImageName
)

// fieldManager is what the suites write as: neither the operator nor a person.
const fieldManager = "meshwright-e2e"

// Env is one cluster with the operator in it, and the clients of a cluster administrator.
type Env struct {
	Cluster *cluster.Cluster
	Store   *artifact.Store
	Config  *rest.Config
	Client  client.Client
	Kube    kubernetes.Interface
	// Root is the root folder of the source tree.
	Root string
	// Progress is told what takes long.
	Progress artifact.Progress
}

// Options of an environment.
type Options struct {
	// Name of the cluster. Default: e2e.
	Name string
	// Kubernetes version. Default: that of e2e/cluster.
	Kubernetes string
	// Istio versions whose images are loaded.
	Istio []string
	// InstallPackages lets Debian's package manager install what the cluster lacks on this machine.
	InstallPackages bool
	// Progress is told what takes long. Default: lines on standard error.
	Progress artifact.Progress
}

// Start brings up the cluster, loads every image that a suite needs and installs the operator from config/default. A
// cluster of that name which is up already is used again.
func Start(ctx context.Context, opts Options) (*Env, error) {
	if opts.Name == "" {
		opts.Name = "e2e"
	}
	if opts.Progress == nil {
		opts.Progress = artifact.NewProgress(os.Stderr)
	}
	c, err := cluster.Up(ctx, cluster.Options{
		Name:       opts.Name,
		Kubernetes: opts.Kubernetes,
		Istio:      opts.Istio,
		Images:     []artifact.Artifact{artifact.EchoImage(), artifact.LoadImage(), artifact.OperatorImage()},
		Progress:   opts.Progress,

		InstallPackages: opts.InstallPackages,
	})
	if err != nil {
		return nil, err
	}
	env, err := Attach(c, opts.Progress)
	if err != nil {
		return nil, err
	}
	return env, env.InstallOperator(ctx)
}

// Attach makes an environment of a cluster that is up, with nothing installed in it.
func Attach(c *cluster.Cluster, progress artifact.Progress) (*Env, error) {
	log.SetLogger(logr.Discard()) // what the clients have to say, they say in errors
	root, err := SourceRoot()
	if err != nil {
		return nil, err
	}
	store, err := artifact.Open("")
	if err != nil {
		return nil, err
	}
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	config.QPS = -1 // the API server bounds what it takes
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme, networkingv1.AddToScheme, securityv1.AddToScheme,
		gatewayv1.Install,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	cl, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	return &Env{Cluster: c, Store: store, Config: config, Client: cl, Kube: kube, Root: root, Progress: progress}, nil
}

// SourceRoot is the nearest folder at or above the working directory that holds this module's config/default.
func SourceRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "config", "default", "kustomization.yaml")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no config/default above the working directory: run this inside a checkout of meshwright")
		}
		dir = parent
	}
}

// apply writes objects by server-side apply, as this framework's own manager.
func (e *Env) apply(ctx context.Context, objects ...client.Object) error {
	for _, o := range objects {
		//nolint:staticcheck // typed objects of istio.io/client-go have no generated apply configurations that the client takes
		err := e.Client.Patch(ctx, o, client.Apply, client.FieldOwner(fieldManager), client.ForceOwnership)
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", o.GetObjectKind().GroupVersionKind().Kind, client.ObjectKeyFromObject(o), err)
		}
	}
	return nil
}

// Poll is how often a wait looks; Timeout is how long one waits for something that pods have to start for.
const (
	Poll    = 250 * time.Millisecond
	Timeout = 3 * time.Minute
)

// WaitFor looks until done says yes, and names what was awaited and the last reason why not when it takes too long.
func (e *Env) WaitFor(ctx context.Context, what string, done func(context.Context) (bool, string, error)) error {
	return e.waitWithin(ctx, Timeout, what, done)
}

func (e *Env) waitWithin(ctx context.Context, timeout time.Duration, what string, done func(context.Context) (bool, string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(Poll)
	defer tick.Stop()
	last := "never looked"
	for {
		ok, why, err := done(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			last = err.Error()
		case ok:
			return nil
		case why != "":
			last = why
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s: %s", timeout, what, last)
		case <-tick.C:
		}
	}
}
