// Copyright The Meshwright Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/meshwright/meshwright/operator/api/v1alpha1"
)

func newVersion(f *factory) *cobra.Command {
	alone := false
	var out *output
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Say the versions of the plugin, the operator, Kubernetes and Istio",
		Example: example("kubectl mesh version", "kubectl mesh version --client -o json"),
		Args:    cobra.NoArgs, ValidArgsFunction: nothing,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			return f.version(cmd.Context(), out, alone)
		},
	}
	out = addOutput(cmd)
	cmd.Flags().BoolVar(&alone, "client", false, "Only that of the plugin; no cluster is asked")
	return cmd
}

// version prints what it can find out, also when the cluster can't be asked.
func (f *factory) version(ctx context.Context, out *output, alone bool) error {
	view := &MeshVersion{TypeMeta: viewOf("MeshVersion"), Plugin: Version, Platform: runtime.GOOS + "/" + runtime.GOARCH}
	var asked error
	if !alone {
		asked = f.ask(ctx, view)
	}
	var names []string
	for _, m := range view.Meshes {
		names = append(names, nameOf("MeshInstallation", m.Name))
	}
	if err := f.view(out, view, names, view.says); err != nil {
		return err
	}
	return asked
}

func (f *factory) ask(ctx context.Context, view *MeshVersion) error {
	config, err := f.Config()
	if err != nil {
		return err
	}
	server, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return err
	}
	kubernetes, err := server.ServerVersion()
	if err != nil {
		return explain(err)
	}
	view.Kubernetes = kubernetes.GitVersion
	c, err := f.Client()
	if err != nil {
		return err
	}
	return f.installed(ctx, c, view)
}

// installed says what of Meshwright and Istio is in the cluster.
func (f *factory) installed(ctx context.Context, c client.Reader, view *MeshVersion) error {
	namespace, err := f.whereOperator(ctx, c)
	if err != nil {
		return explain(err)
	}
	deployment := &appsv1.Deployment{}
	err = c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: operatorName}, deployment)
	switch {
	case err == nil:
		view.Operator = operatorView(deployment)
	case apierrors.IsForbidden(err):
		view.Unreadable = append(view.Unreadable, "the operator's Deployment: you may not get it")
	case !apierrors.IsNotFound(err):
		return explain(err)
	}
	var meshes v1alpha1.MeshInstallationList
	if err := c.List(ctx, &meshes); err != nil {
		return explain(err)
	}
	for i := range meshes.Items {
		s, err := f.take(ctx, c, meshes.Items[i].Name)
		if err != nil {
			return err
		}
		mesh := MeshVersionView{Name: s.mesh.Name, Version: s.mesh.Spec.Version, Revisions: []RevisionVersionView{}}
		for _, r := range s.revisionViews() {
			mesh.Revisions = append(mesh.Revisions, RevisionVersionView{Name: r.Name, Version: r.Version, Role: r.Role})
		}
		view.Meshes = append(view.Meshes, mesh)
	}
	return nil
}

// operatorName is the operator's Deployment, and its label app.kubernetes.io/name.
const operatorName = "meshwright"

func operatorView(d *appsv1.Deployment) *OperatorView {
	wanted := int32(1)
	if d.Spec.Replicas != nil {
		wanted = *d.Spec.Replicas
	}
	out := &OperatorView{Namespace: d.Namespace, Version: d.Labels["app.kubernetes.io/version"], Ready: fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, wanted)}
	for _, c := range d.Spec.Template.Spec.Containers {
		if c.Name == operatorName || out.Image == "" {
			out.Image = c.Image
		}
	}
	if out.Version == "" {
		out.Version = tagOf(out.Image)
	}
	return out
}

// tagOf is the tag of an image; empty for none.
func tagOf(image string) string {
	image, _, _ = strings.Cut(image, "@")
	name := image[strings.LastIndex(image, "/")+1:]
	_, tag, _ := strings.Cut(name, ":")
	return tag
}

func (v *MeshVersion) says(p *page, wide bool) {
	rows := [][]cell{{say("kubectl mesh"), say(v.Plugin), say(v.Platform)}}
	if o := v.Operator; o != nil {
		rows = append(rows, []cell{say("operator"), say(cmp.Or(o.Version, "unknown")), say(o.Ready + " ready in namespace " + o.Namespace)})
		if wide {
			rows = append(rows, []cell{say(""), say(""), say(o.Image)})
		}
	} else if v.Kubernetes != "" {
		rows = append(rows, []cell{say("operator"), say("none"), say("no Deployment " + operatorName + " was found: --operator-namespace says where it runs")})
	}
	if v.Kubernetes != "" {
		rows = append(rows, []cell{say("Kubernetes"), say(v.Kubernetes), say("")})
	}
	for _, m := range v.Meshes {
		for _, r := range m.Revisions {
			rows = append(rows, []cell{say("Istio of mesh " + m.Name), say(r.Version), say(strings.ToLower(string(r.Role)) + " revision " + r.Name)})
		}
		if len(m.Revisions) == 0 {
			rows = append(rows, []cell{say("Istio of mesh " + m.Name), say("none"), say("spec.version is " + m.Version)})
		}
	}
	widths := widthsOf(rows)
	for _, row := range rows {
		p.row("", "", widths, row)
	}
	saysUnreadable(p, v.Unreadable)
}
