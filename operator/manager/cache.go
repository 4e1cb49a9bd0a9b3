// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package manager

import (
	"context"
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

// newMapper asks for all kinds of the cluster at once, in two requests, instead of group by group when the first mesh is
// installed. Kinds that come later, such as Istio's own and those of the Gateway API, are asked for when they are needed.
func newMapper(config *rest.Config, httpClient *http.Client) (meta.RESTMapper, error) {
	kinds, err := discovery.NewDiscoveryClientForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, err
	}
	groups, err := restmapper.GetAPIGroupResources(kinds)
	if err != nil {
		return nil, fmt.Errorf("asking for the kinds of the cluster: %w", err)
	}
	later, err := apiutil.NewDynamicRESTMapper(config, httpClient)
	if err != nil {
		return nil, err
	}
	return meta.FirstHitRESTMapper{MultiRESTMapper: meta.MultiRESTMapper{restmapper.NewDiscoveryRESTMapper(groups), later}}, nil
}

// newClient makes the client of the controllers. Reads of Meshwright's own kinds wait until the cache has seen the
// controllers' own writes. Writes of other kinds go straight to the API server: waiting for them would put a watch on
// each such kind, Secrets included.
func newClient(config *rest.Config, options client.Options) (client.Client, error) {
	others, err := client.New(config, options)
	if err != nil {
		return nil, err
	}
	consistent := *options.Cache
	consistent.EnableReadYourWritesConsistency = new(true)
	options.Cache = &consistent
	own, err := client.New(config, options)
	if err != nil {
		return nil, err
	}
	return &splitClient{Client: others, own: own}, nil
}

// splitClient sends Meshwright's own kinds to one client and all others to another.
type splitClient struct {
	client.Client
	own client.Client
}

func (c *splitClient) of(o runtime.Object) client.Client {
	switch o.(type) {
	case *v1alpha1.MeshInstallation, *v1alpha1.MeshRevision, *v1alpha1.MeshGateway, *v1alpha1.MeshRollout, *v1alpha1.MeshRotation,
		*v1alpha1.MeshInstallationList, *v1alpha1.MeshRevisionList, *v1alpha1.MeshGatewayList, *v1alpha1.MeshRolloutList,
		*v1alpha1.MeshRotationList:
		return c.own
	}
	return c.Client
}

func (c *splitClient) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	return c.of(o).Get(ctx, key, o, opts...)
}

func (c *splitClient) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	return c.of(list).List(ctx, list, opts...)
}

func (c *splitClient) Create(ctx context.Context, o client.Object, opts ...client.CreateOption) error {
	return c.of(o).Create(ctx, o, opts...)
}

func (c *splitClient) Update(ctx context.Context, o client.Object, opts ...client.UpdateOption) error {
	return c.of(o).Update(ctx, o, opts...)
}

func (c *splitClient) Patch(ctx context.Context, o client.Object, patch client.Patch, opts ...client.PatchOption) error {
	return c.of(o).Patch(ctx, o, patch, opts...)
}

func (c *splitClient) Delete(ctx context.Context, o client.Object, opts ...client.DeleteOption) error {
	return c.of(o).Delete(ctx, o, opts...)
}

// Status writes the status of Meshwright's own kinds; the operator writes no other.
func (c *splitClient) Status() client.SubResourceWriter { return c.own.Status() }
