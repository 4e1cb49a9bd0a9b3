// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
	"github.com/meshwright/meshwright/operator/facts"
)

// factory is what every command stands on.
type factory struct {
	// Flags are those of kubectl: --kubeconfig, --context, --as and so on.
	Flags *genericclioptions.ConfigFlags
	genericiooptions.IOStreams

	// OperatorNamespace is where the operator runs, as its flag says; operatorGiven says that the flag was given, and is nil where there is none.
	OperatorNamespace *string
	operatorGiven     func() bool
	// Clock tells ages, deadlines and expiries.
	Clock clock.Clock
}

// Config is where the cluster is, and as whom it is asked.
func (f *factory) Config() (*rest.Config, error) {
	config, err := f.Flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.UserAgent = "kubectl-mesh/" + Version
	config.QPS, config.Burst = 50, 300 // as kubectl's
	config.WarningHandler = rest.NewWarningWriter(f.ErrOut, rest.WarningWriterOptions{Deduplicate: true})
	return config, nil
}

// Client reads and writes at the API server; nothing is cached.
func (f *factory) Client() (client.WithWatch, error) {
	config, err := f.Config()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return client.NewWithWatch(config, client.Options{Scheme: scheme})
}

// operatorNamespace is where the operator runs, as the flag says or as it is found; empty where it is not. The default of the flag is no proof.
func (f *factory) operatorNamespace(ctx context.Context, c client.Reader) (string, error) {
	if f.operatorGiven != nil && f.operatorGiven() {
		return *f.OperatorNamespace, nil
	}
	return facts.OperatorNamespace(ctx, c)
}

// whereOperator is where the operator runs, as its flag says or as it is found; where it is not to be found, the namespace that the flag has by default.
func (f *factory) whereOperator(ctx context.Context, c client.Reader) (string, error) {
	namespace, err := f.operatorNamespace(ctx, c)
	return cmp.Or(namespace, *f.OperatorNamespace), err
}

// Mesh reads the mesh of a name; an empty name stands for the only one of the cluster.
func (f *factory) Mesh(ctx context.Context, c client.Reader, name string) (*v1alpha1.MeshInstallation, error) {
	if name != "" {
		mesh := &v1alpha1.MeshInstallation{}
		return mesh, f.named(ctx, c, name, mesh, &v1alpha1.MeshInstallationList{})
	}
	var all v1alpha1.MeshInstallationList
	if err := c.List(ctx, &all); err != nil {
		return nil, explain(err)
	}
	switch len(all.Items) {
	case 0:
		return nil, &notFoundError{"the cluster has no MeshInstallation: apply one, for example\n\n" + least}
	case 1:
		return &all.Items[0], nil
	}
	var names []string
	for i := range all.Items {
		names = append(names, all.Items[i].Name)
	}
	return nil, usagef("the cluster has %d meshes: say which by --mesh (%s)", len(names), strings.Join(names, ", "))
}

// least is the least MeshInstallation that works.
const least = `  apiVersion: meshwright.io/v1alpha1
  kind: MeshInstallation
  metadata:
    name: default
  spec:
    version: "1.29"
`

// Whoami is the user as the API server knows them. Approvals and waivers carry the name.
func (f *factory) Whoami(ctx context.Context, c client.Client) (string, error) {
	review := &authenticationv1.SelfSubjectReview{}
	if err := c.Create(ctx, review); err != nil {
		return "", fmt.Errorf("asking the API server who you are: %w", err)
	}
	return review.Status.UserInfo.Username, nil
}

// explain turns what the API server says into what a person can do about it.
func explain(err error) error {
	var unreachable *url.Error
	switch {
	case errors.As(err, &unreachable):
		return fmt.Errorf("unable to connect to the server: %w", unreachable.Err)
	case apimeta.IsNoMatchError(err):
		return &notFoundError{"this cluster does not know Meshwright's kinds: install the operator (" + v1alpha1.DocsURL + "install/), or choose another context"}
	case apierrors.IsNotFound(err):
		return &notFoundError{err.Error()}
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), v1alpha1.GroupVersion.Group):
		return fmt.Errorf("%w; the ClusterRole meshwright-reader has the rights to look", err)
	}
	return err
}
